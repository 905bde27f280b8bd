package serverapi

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

func (w *world) head(user string) uint64 {
	w.t.Helper()
	head, err := w.store.Head(w.t.Context(), w.app.ID, user)
	if err != nil {
		w.t.Fatal(err)
	}
	return head
}

func TestIdempotency(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.direct", "2/m")
	key := with("Idempotency-Key", "order-17")
	h := w.signed(w.app)
	h.Set("Idempotency-Key", "order-17")
	body := set(sendBody(""), "toUserIds", `["b","a","b"]`)

	first := w.do(http.MethodPost, direct, h, body)
	first.want(t, 200, 0, "")
	same := func(r *reply) {
		t.Helper()
		if r.Status != 200 || r.Body != first.Body || r.Header.Get("Idempotency-Replayed") != "true" {
			t.Errorf("got %d %v %s\nwant %s", r.Status, r.Header, r.Body, first.Body)
		}
	}
	if first.Header.Get("Idempotency-Replayed") != "" {
		t.Error("the first answer says it is a repeat")
	}
	same(w.call(direct, body, key))              // signed anew, and over the rate limit
	same(w.do(http.MethodPost, direct, h, body)) // as HTTP libraries resend: the same headers
	w.restart()
	same(w.do(http.MethodPost, direct, h, body))
	same(w.call(direct, body, key))
	w.clock.advance(24*time.Hour - time.Second)
	same(w.call(direct, body, key))

	w.call(direct, body+" ", key).want(t, 409, 1002, "Idempotency-Key: was used before with another request body")
	// The scope is the operation, however its path is written.
	same(w.call("//v4/direct-channel/message/send", body, key))
	w.call(system, body, key).want(t, 200, 0, "")
	if w.head("a") != 2 || w.head("b") != 2 {
		t.Errorf("heads %d and %d: want a direct and a system message each", w.head("a"), w.head("b"))
	}

	w.clock.advance(2 * time.Second)
	if r := w.call(direct, body, key); r.Status != 200 || r.Header.Get("Idempotency-Replayed") != "" {
		t.Errorf("after a day: %v", r)
	}
}

func TestIdempotencyKeyForm(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for key, message := range map[string]string{
		"":                       "Idempotency-Key: 1 to 128 characters, got 0",
		strings.Repeat("k", 129): "Idempotency-Key: 1 to 128 characters, got 129",
		"a b":                    "Idempotency-Key: may hold only visible ASCII characters",
		"ä":                      "Idempotency-Key: may hold only visible ASCII characters",
	} {
		w.call(direct, sendBody(""), with("Idempotency-Key", key)).want(t, 400, 1002, message)
	}
	w.call(direct, sendBody(""), with("Idempotency-Key", strings.Repeat("k", 128))).want(t, 200, 0, "")
	// Other operations do the same however often they are called.
	w.call(status, sample, with("Idempotency-Key", "")).want(t, 200, 0, "")
}

// Only successes are remembered: what was refused can be repeated, also with
// another body.
func TestIdempotencyAfterRefusal(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.direct", "1/s")
	key := with("Idempotency-Key", "k")
	w.call(direct, sendBody(`"count":"x"`), key).want(t, 400, 1002, "")
	w.call(direct, set(sendBody(""), "content", `"no object"`), key).want(t, 400, 1002, "")
	w.call(direct, sendBody("")).want(t, 200, 0, "")
	h := w.signed(w.app)
	h.Set("Idempotency-Key", "k")
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 429, 1008, "")
	w.clock.advance(time.Second)
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 200, 0, "")
	if w.head("u2") != 2 {
		t.Error("head", w.head("u2"))
	}
}

// Twins in flight: one is carried out, the others wait and get its answer.
func TestIdempotencyTwins(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	release := make(chan struct{})
	var held sync.Once
	begun := make(chan struct{})
	w.courier.hold(func(context.Context) error {
		held.Do(func() { close(begun) })
		<-release
		return nil
	})
	h := w.signed(w.app)
	h.Set("Idempotency-Key", "k")
	answers := make(chan *reply, 8)
	var wg sync.WaitGroup
	wg.Go(func() { answers <- w.do(http.MethodPost, direct, h.Clone(), sendBody("")) })
	<-begun
	for i := range 7 {
		wg.Go(func() {
			if i%2 == 0 {
				answers <- w.do(http.MethodPost, direct, h.Clone(), sendBody(""))
			} else {
				answers <- w.call(direct, sendBody(""), with("Idempotency-Key", "k"))
			}
		})
	}
	// Another body under the same key does not wait for the outcome.
	w.call(direct, sendBody(`"count":1`), with("Idempotency-Key", "k")).want(t, 409, 1002, "")
	close(release)
	wg.Wait()
	close(answers)
	bodies, fresh := map[string]int{}, 0
	for r := range answers {
		bodies[r.Body]++
		if r.Status != 200 {
			t.Error(r.Status, r.Body)
		}
		if r.Header.Get("Idempotency-Replayed") == "" {
			fresh++
		}
	}
	if len(bodies) != 1 || fresh != 1 || w.head("u2") != 1 {
		t.Errorf("%d different answers, %d fresh ones, head %d", len(bodies), fresh, w.head("u2"))
	}
}

// When the outcome is not known the answer says how to repeat the call, and a
// repeat with the same headers is let through to find out.
func TestIdempotencyUnknownOutcome(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	fail := chat.Fail(chat.KindUnknown, "the commit was interrupted")
	w.courier.hold(func(context.Context) error { return fail })
	h := w.signed(w.app)
	h.Set("Idempotency-Key", "k")
	const text = "the commit was interrupted" + unknownAdvice
	r := w.do(http.MethodPost, direct, h, sendBody(""))
	r.want(t, 503, 1050, text)
	if r.Header.Get("Retry-After") != "1" {
		t.Error(r.Header)
	}
	bare := w.signed(w.app)
	w.do(http.MethodPost, direct, bare, sendBody("")).want(t, 503, 1050, text)
	w.courier.hold(nil)
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 200, 0, "")
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 200, 0, "")
	// Without a key a repeat might do it twice.
	w.do(http.MethodPost, direct, bare, sendBody("")).want(t, 401, 1004, usedBefore)
	if w.head("u2") != 1 {
		t.Error("head", w.head("u2"))
	}
}

// With little space writes are refused as "later", reads are not, and the very
// same call gets through when there is room again.
func TestLittleSpace(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(issue, `{"userId":"u1","name":"n"}`).want(t, 200, 0, "")
	w.fs.free.Store(0)
	w.restart()
	h := w.signed(w.app)
	h.Set("Idempotency-Key", "k")
	for range 2 {
		r := w.do(http.MethodPost, direct, h, sendBody(""))
		r.want(t, 503, 1050, "little free disk space, writes are refused until there is more")
		if r.Header.Get("Retry-After") != "5" {
			t.Error(r.Header)
		}
	}
	w.call(issue, `{"userId":"u2","name":"n"}`).want(t, 503, 1050, "")
	w.call(user, `{"userId":"u1"}`).want(t, 200, 0, "")
	w.fs.free.Store(1 << 40)
	w.restart()
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 200, 0, "")
	if w.head("u2") != 1 {
		t.Error("head", w.head("u2"))
	}
}
