package golden

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// A Provider is one that lets in whoever bears an access token, as the tests of its
// adapter see it.
type Provider struct {
	Sim   func(pushtest.Options) *pushtest.Sim
	New   func(*chat.PushCredential, line.Options, func() time.Time) (push.Adapter, error)
	Spoil func(*chat.PushCredential) // makes one of it that the provider does not let in
	// Grants says that access tokens are asked for. Otherwise the adapter makes them.
	Grants bool
}

// A Rig is an adapter and the simulated provider behind it.
type Rig struct {
	push.Adapter
	Sim        *pushtest.Sim
	Roots      line.Options // lets in to the simulator
	Credential chat.PushCredential

	t    *testing.T
	mu   sync.Mutex
	now  time.Time
	seen []Seen
}

// Seen is a request as the simulator had it.
type Seen struct {
	Request *http.Request
	Body    string
}

// Options of a rig.
type Options struct {
	Sim        pushtest.Options
	Timeout    time.Duration // of a request
	Credential func(*chat.PushCredential)
}

// Token is that of the phone which the simulators of rigs know.
const Token = "token-of-the-phone"

// Start starts a simulator that knows one phone, and an adapter for it.
func (p Provider) Start(t *testing.T, o Options) *Rig {
	t.Helper()
	r := &Rig{t: t, now: Now}
	o.Sim.Now = r.Now
	o.Sim.Seen = func(q *http.Request, body string) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, Seen{q.Clone(context.Background()), body})
	}
	r.Sim = p.Sim(o.Sim)
	r.Sim.Register(pushtest.Phone{Token: Token})
	s, err := pushtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	address, err := s.Serve(r.Sim, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r.Credential = r.Sim.Credential(address)
	if o.Credential != nil {
		o.Credential(&r.Credential)
	}
	r.Roots = line.Options{Roots: s.Roots, Timeout: o.Timeout}
	if r.Adapter, err = p.New(&r.Credential, r.Roots, r.Now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Adapter.Close()
		s.Close()
	})
	return r
}

// Now is the time of adapter and simulator.
func (r *Rig) Now() time.Time {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.now
}

// Pass lets time pass.
func (r *Rig) Pass(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.now = r.now.Add(d)
}

// Seen are the requests so far.
func (r *Rig) Seen() []Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Seen(nil), r.seen...)
}

// Tell sends the example to the phone with the token.
func (r *Rig) Tell(token string) push.Attempt {
	n := Example(r.t, token)
	n.Expires = r.Now().Add(time.Hour)
	return r.Adapter.Send(context.Background(), []*push.Notification{&n})[0]
}

// bearers is with how many access tokens requests came.
func (r *Rig) bearers() int {
	all := map[string]bool{}
	for _, q := range r.Seen() {
		if b := q.Request.Header.Get("Authorization"); b != "" {
			all[b] = true
		}
	}
	return len(all)
}

// Faults are what goes wrong on the way, and what follows. None of it says anything
// of a token.
func (p Provider) Faults(t *testing.T) {
	t.Parallel()
	elsewhere := p.Start(t, Options{})
	const date = "Sun, 22 Nov 2026 10:00:00 GMT"
	for name, c := range map[string]struct {
		fault pushtest.Fault
		want  push.Class
		code  string
		after time.Duration
		short bool // the adapter does not wait long
	}{
		"hangs":            {fault: pushtest.Fault{Hang: true}, want: push.Retry, code: "timeout", short: true},
		"drips":            {fault: pushtest.Fault{Status: 200, Body: "{", Drip: true}, want: push.Retry, code: "timeout", short: true},
		"breaks":           {fault: pushtest.Fault{Reset: true}, want: push.Retry, code: "transport"},
		"answer gets lost": {fault: pushtest.Fault{Lost: true}, want: push.Retry, code: "transport"},
		"cut short":        {fault: pushtest.Fault{Status: 200, Body: `{"code":"80`}, want: push.Retry, code: "unreadable"},
		"says nothing":     {fault: pushtest.Fault{Status: 200}, want: push.Retry, code: "unreadable"},
		"a page":           {fault: pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, want: push.Retry, code: "http 502"},
		"a page of 404":    {fault: pushtest.Fault{Status: 404, Body: "<html>Not found</html>"}, want: push.ConfigHalt, code: "http 404"},
		"a page of 400":    {fault: pushtest.Fault{Status: 400, Body: "<html>Bad request</html>"}, want: push.PayloadBad, code: "http 400"},
		"sent elsewhere":   {fault: pushtest.Fault{Status: 301, Header: map[string]string{"Location": elsewhere.Credential.BaseURL}}, want: push.ConfigHalt, code: "http 301"},
		"wait":             {fault: pushtest.Fault{Status: 429}, want: push.RetryAfter, code: "http 429"},
		"wait so long":     {fault: pushtest.Fault{Status: 429, Header: map[string]string{"Retry-After": "3"}}, want: push.RetryAfter, code: "http 429", after: 3 * time.Second},
		"wait until": {fault: pushtest.Fault{Status: 503, Header: map[string]string{"Date": date, "Retry-After": "Sun, 22 Nov 2026 10:01:00 GMT"}},
			want: push.RetryAfter, code: "http 503", after: time.Minute},
		"slow":         {fault: pushtest.Fault{Delay: 10 * time.Millisecond}, want: push.Accepted},
		"says goodbye": {fault: pushtest.Fault{GoAway: true}, want: push.Accepted},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{}
			if c.short {
				o.Timeout = 200 * time.Millisecond
			}
			r := p.Start(t, o)
			mend := r.Sim.Fail(c.fault)
			a := r.Tell(Token)
			if a.Class != c.want || c.code != "" && a.Code != c.code || a.After != c.after {
				t.Errorf("%s %+v, want %s %s after %v", a.Class, a, c.want, c.code, c.after)
			}
			mend()
			if c.short {
				return
			}
			if a := r.Tell(Token); a.Class != push.Accepted {
				t.Errorf("afterwards: %s %+v", a.Class, a)
			}
			// What was sent twice is seen once.
			if got := r.Sim.Screen(Token); len(got) != 1 {
				t.Errorf("the phone shows %+v", got)
			}
		})
	}
	t.Run("the other address", func(t *testing.T) {
		if got := elsewhere.Seen(); len(got) > 0 {
			t.Errorf("a redirect was followed: %s", got[0].Request.URL)
		}
	})
}

// Access tries access tokens: one for all, a new one where it pays.
func (p Provider) Access(t *testing.T) {
	t.Parallel()
	const senders = 100
	all := func(t *testing.T, r *Rig) {
		var wg sync.WaitGroup
		for i := range senders {
			token := fmt.Sprint("phone-", i)
			r.Sim.Register(pushtest.Phone{Token: token})
			wg.Go(func() {
				for range 3 {
					if a := r.Tell(token); a.Class != push.Accepted {
						t.Errorf("%s %+v", a.Class, a)
					}
				}
			})
		}
		wg.Wait()
	}
	count := func(t *testing.T, r *Rig, want int) {
		t.Helper()
		if got := r.bearers(); got != want {
			t.Errorf("%d access tokens were used, want %d", got, want)
		}
		if got := r.Sim.Stats().Auths; p.Grants && got != want || !p.Grants && got != 0 {
			t.Errorf("access tokens were asked for %d times, want %d", got, want)
		}
	}
	t.Run("made once", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{})
		all(t, r)
		count(t, r, 1)
	})
	t.Run("revoked", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{})
		r.Sim.Fail(pushtest.Fault{Revoke: true, Skip: senders, Times: 1})
		all(t, r)
		count(t, r, 2)
	})
	t.Run("renewed", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{})
		for _, c := range []struct {
			pass time.Duration
			want int
		}{{0, 1}, {54 * time.Minute, 1}, {2 * time.Minute, 2}, {54 * time.Minute, 2}, {time.Hour, 3}} {
			r.Pass(c.pass)
			if a := r.Tell(Token); a.Class != push.Accepted {
				t.Errorf("%s %+v", a.Class, a)
			}
			count(t, r, c.want)
		}
	})
	t.Run("not let in", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{Credential: p.Spoil})
		if a := r.Tell(Token); a.Class != push.ConfigHalt {
			t.Errorf("%s %+v", a.Class, a)
		}
		if a := r.Check(context.Background()); a.Class != push.ConfigHalt {
			t.Errorf("check: %s %+v", a.Class, a)
		}
		if s := r.Sim.Stats(); s.Taken != 0 {
			t.Errorf("%+v", s)
		}
	})
	t.Run("checked", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{Sim: pushtest.Options{Strangers: true}})
		strict := p.Start(t, Options{})
		for _, r := range []*Rig{r, strict} {
			if a := r.Check(context.Background()); a.Class != push.Accepted {
				t.Errorf("%s %+v", a.Class, a)
			}
		}
		if got := strict.Sim.Stats().Taken; got != 0 {
			t.Errorf("somebody was notified")
		}
		r.Sim.Fail(pushtest.Fault{Reset: true})
		if a := r.Check(context.Background()); a.Class != push.Retry {
			t.Errorf("%s %+v", a.Class, a)
		}
	})
	if !p.Grants {
		return
	}
	for name, c := range map[string]struct {
		fault pushtest.Fault
		want  push.Class
		code  string
		after time.Duration
	}{
		"down":         {fault: pushtest.Fault{Reset: true}, want: push.Retry, code: "transport"},
		"a page":       {fault: pushtest.Fault{Status: 502, Body: "<html>"}, want: push.Retry, code: "oauth http 502"},
		"unreadable":   {fault: pushtest.Fault{Status: 200, Body: `{"access_token":"x`}, want: push.Retry, code: "oauth unreadable"},
		"no token":     {fault: pushtest.Fault{Status: 200, Body: `{"access_token":""}`}, want: push.Retry, code: "oauth unreadable"},
		"not a token":  {fault: pushtest.Fault{Status: 200, Body: `{"access_token":"a\r\nb"}`}, want: push.Retry, code: "oauth unreadable"},
		"busy":         {fault: pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, want: push.RetryAfter, code: "oauth http 503", after: 7 * time.Second},
		"refused":      {fault: pushtest.Fault{Status: 400, Body: `{"error":1101}`}, want: push.ConfigHalt, code: "oauth 1101"},
		"refused, 200": {fault: pushtest.Fault{Status: 200, Body: `{"error":"invalid_client"}`}, want: push.ConfigHalt, code: "oauth invalid_client"},
		"forbidden":    {fault: pushtest.Fault{Status: 403, Body: "<html>"}, want: push.ConfigHalt, code: "oauth http 403"},
		"elsewhere":    {fault: pushtest.Fault{Status: 302, Header: map[string]string{"Location": "https://127.0.0.1:1/"}}, want: push.ConfigHalt, code: "oauth http 302"},
	} {
		t.Run("tokens "+name, func(t *testing.T) {
			t.Parallel()
			r := p.Start(t, Options{})
			c.fault.Auth = true
			mend := r.Sim.Fail(c.fault)
			if a := r.Tell(Token); a.Class != c.want || a.Code != c.code || a.After != c.after || a.Unknown {
				t.Errorf("%s %+v, want %s %s after %v", a.Class, a, c.want, c.code, c.after)
			}
			if got := len(r.Sim.Screen(Token)); got != 0 || r.Sim.Stats().Requests != 0 {
				t.Errorf("sent without an access token")
			}
			mend()
			if a := r.Tell(Token); a.Class != push.Accepted {
				t.Errorf("afterwards: %s %+v", a.Class, a)
			}
		})
	}
}

// Provoke has the simulator answer each code of a table, and looks for its class.
// What asks for a new access token is not let in with the new one either.
func (p Provider) Provoke(t *testing.T, classes push.Classes) {
	t.Parallel()
	for code, want := range classes {
		t.Run(code, func(t *testing.T) {
			t.Parallel()
			r := p.Start(t, Options{})
			r.Sim.Fail(pushtest.Fault{Code: code})
			class, requests := want.Class, 1
			if class == push.AuthRefresh {
				class, requests = push.ConfigHalt, 2
			}
			a := r.Tell(Token)
			if a.Class != class || a.Code != code || a.Without != want.Without || a.Alert != want.Alert || a.Unknown != want.Unknown {
				t.Errorf("%s %+v, want %s", a.Class, a, class)
			}
			if got := r.Sim.Stats().Requests; got != requests {
				t.Errorf("%d requests, want %d", got, requests)
			}
			if got := len(r.Sim.Log(Token)); got != 0 {
				t.Errorf("the phone got %d notifications", got)
			}
		})
	}
}

// A Bad request is a good one with something changed, which the provider refuses.
type Bad struct {
	Header map[string]string // in place of what was there; "" takes it away
	Path   string
	Method string
	Change []string // of the body: old, new, old, new…
	Want   string   // the code in the answer
}

// Good sends a notification, and gives what sends the adapter's own request again
// with something changed.
func (r *Rig) Good(n *push.Notification) (again func(t *testing.T, b Bad) *line.Answer) {
	r.t.Helper()
	if a := r.Send(context.Background(), []*push.Notification{n})[0]; a.Class != push.Accepted {
		r.t.Fatalf("%s %+v", a.Class, a)
	}
	seen := r.Seen()
	good := seen[len(seen)-1]
	l := line.New(r.Roots)
	r.t.Cleanup(l.Close)
	return func(t *testing.T, b Bad) *line.Answer {
		t.Helper()
		q := push.Request{
			Method: cmp.Or(b.Method, good.Request.Method), Path: cmp.Or(b.Path, good.Request.URL.Path), Header: map[string]string{},
		}
		for name := range good.Request.Header {
			q.Header[name] = good.Request.Header.Get(name)
		}
		for name, v := range b.Header {
			name = http.CanonicalHeaderKey(name)
			if q.Header[name] = v; v == "" {
				delete(q.Header, name)
			}
		}
		body := strings.NewReplacer(b.Change...).Replace(good.Body)
		if len(b.Change) > 0 && body == good.Body {
			t.Fatalf("%q is not in %s", b.Change[0], good.Body)
		}
		q.Body = []byte(body)
		a, err := l.Do(context.Background(), r.Credential.BaseURL, &q, nil)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

// Refuses sends the adapter's own request again, with one thing changed, and looks
// for what the simulator says: it must not be blind. The request is taken as it is
// too, or nothing would be proved.
func (r *Rig) Refuses(t *testing.T, n *push.Notification, code func(status int, body []byte) string, taken string, table map[string]Bad) {
	again := r.Good(n)
	if a := again(t, Bad{}); code(a.Status, a.Body) != taken {
		t.Fatalf("the request as it was: %s", a.Body)
	}
	before := r.Sim.Stats().Taken
	t.Run("table", func(t *testing.T) {
		for name, b := range table {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				a := again(t, b)
				if got := code(a.Status, a.Body); got != b.Want {
					t.Errorf("%s, want %s", got, b.Want)
				}
			})
		}
	})
	if got := r.Sim.Stats(); got.Taken != before || got.Refused != len(table) {
		t.Errorf("something got through: %+v", got)
	}
}
