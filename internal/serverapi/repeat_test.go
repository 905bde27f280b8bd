package serverapi

import (
	"context"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// repeats opens a world with an estate that nothing was done to yet with keys,
// but for what settle does.
func repeats(t *testing.T) (*world, *estate) {
	t.Helper()
	w := newWorld(t)
	w.limit(w.app.ID, "0")
	w.app = w.dir.AppByID(w.app.ID)
	e := settle(w, w.app, "A", 0, sameUsers[:3])
	w.clock.advance(time.Second)
	return w, e
}

// within is a call whose caller waits only as long as ctx.
func (w *world) within(ctx context.Context, path string, h http.Header, body string) *reply {
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, path, strings.NewReader(body))
	r.Header = h
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	return &reply{rec.Code, rec.Result().Header, rec.Body.String()}
}

// Every operation that sends does so once per Idempotency-Key.
func TestEverySendIsDoneOnce(t *testing.T) {
	t.Parallel()
	for _, o := range operations {
		if proofOf(t, &o).effect != sends {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			w, e := repeats(t)
			body := e.bodies(o.name)[0]
			key := with(idempotencyKey, "order-17")

			// What is refused is not remembered, not even as another body.
			e.as(o.path, `{}`, key).want(t, 400, 1002, "")
			was := e.picture()
			first := e.must(o.path, body, key)
			if first.Header.Get("Idempotency-Replayed") != "" {
				t.Errorf("the first call is answered as a repeat")
			}
			is := e.picture()
			if slices.Equal(was, is) {
				t.Fatal("the call did nothing that can be seen")
			}
			same := func(when string, edits ...func(http.Header)) {
				t.Helper()
				r := e.as(o.path, body, append(edits, key)...)
				if r.Status != 200 || r.Body != first.Body || r.Header.Get("Idempotency-Replayed") != "true" {
					t.Errorf("%s: %d %s, want %s", when, r.Status, r.Body, first.Body)
				}
				sameLines(t, when, is, e.picture())
			}
			same("a repeat")
			w.clock.advance(time.Hour)
			same("a repeat much later")
			signed := w.signed(e.app)
			for range 2 { // as HTTP libraries repeat: with the same signature
				same("a repeat with the same headers", func(h http.Header) {
					for name, v := range signed {
						h[name] = v
					}
				})
			}
			e.as(o.path, body+" ", key).want(t, 409, 1002, "Idempotency-Key: was used before with another request body")
			sameLines(t, "another body", is, e.picture())

			// Of the rate limit a repeat costs nothing.
			w.limit(e.app.ID, "1/d")
			e.app = w.dir.AppByID(e.app.ID)
			for range 3 {
				if r := e.as(o.path, body, key); r.Body != first.Body {
					t.Errorf("%s: a repeat is limited: %s", o.name, r.Body)
				}
			}
			w.limit(e.app.ID, "0")

			w.restart()
			e.app = w.dir.AppByID(e.app.ID)
			same("a repeat after a restart")

			// At another path it is another key.
			for _, other := range operations {
				if other.idempotent && other.name != o.name {
					if r := e.must(other.path, e.bodies(other.name)[0], key); r.Header.Get("Idempotency-Replayed") != "" {
						t.Errorf("%s is answered as a repeat of %s", other.name, o.name)
					}
				}
			}

			// While one is under way, another body is refused and an equal one waits.
			claim, err := w.courier.Begin(t.Context(), e.app, o.path, idempotencyKey, "twin", []byte(body))
			if err != nil {
				t.Fatal(err)
			}
			key = with(idempotencyKey, "twin")
			e.as(o.path, body+" ", key).want(t, 409, 1002, "")
			gaveUp, stop := context.WithCancel(t.Context())
			stop()
			h := w.signed(e.app)
			key(h)
			w.within(gaveUp, o.path, h, body).want(t, 503, 1050, "")
			waiting := make(chan *reply, 4)
			var wg sync.WaitGroup
			for range cap(waiting) {
				wg.Go(func() { waiting <- e.as(o.path, body, key) })
			}
			claim.Release()
			wg.Wait()
			close(waiting)
			fresh, answer := 0, ""
			for r := range waiting {
				r.want(t, 200, 0, "")
				if r.Header.Get("Idempotency-Replayed") == "" {
					fresh++
				}
				if answer == "" {
					answer = r.Body
				}
				if r.Body != answer {
					t.Errorf("two answers: %s and %s", r.Body, answer)
				}
			}
			if fresh != 1 {
				t.Errorf("%d of equal calls at the same time were carried out", fresh)
			}
		})
	}
}

// Every operation that changes something does the same however often it is
// called: whoever has no answer repeats the call, signed anew.
func TestEveryChangeCanBeRepeated(t *testing.T) {
	t.Parallel()
	for _, o := range operations {
		p := proofOf(t, &o)
		if p.effect != changes {
			continue
		}
		t.Run(o.name, func(t *testing.T) {
			t.Parallel()
			w, e := repeats(t)
			for i, body := range e.bodies(o.name) {
				first := e.must(o.path, body)
				was := e.picture()
				if !p.sinceNow {
					w.clock.advance(5 * time.Second)
				}
				// A key is not asked for, and in nobody's way.
				for _, edit := range []func(http.Header){with("Accept", "*/*"), with(idempotencyKey, "k"), with(idempotencyKey, "k")} {
					r := e.as(o.path, body, edit)
					if r.Status != 200 || plain(r.Body) != plain(first.Body) {
						t.Errorf("a repeat is answered with %s, the first call was with %s", r.Body, first.Body)
					}
				}
				if i == 0 {
					w.restart()
					e.app = w.dir.AppByID(e.app.ID)
					e.must(o.path, body)
				}
				// Closing connections again is no change.
				closes := func(s string) bool { return strings.HasPrefix(s, "connections:") }
				sameLines(t, "after a repeat", slices.DeleteFunc(was, closes), slices.DeleteFunc(e.picture(), closes))
			}
		})
	}
}
