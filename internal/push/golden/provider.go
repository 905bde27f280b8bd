package golden

import (
	"cmp"
	"context"
	"crypto/x509"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// A Provider is one as the tests of its adapter see it: what of it is not as with
// most others.
type Provider struct {
	Sim   func(pushtest.Options) *pushtest.Sim
	New   func(*chat.PushCredential, line.Options, func() time.Time) (push.Adapter, error)
	Spoil func(*chat.PushCredential) // makes one of it that the provider does not let in
	Set   func(*chat.PushCredential) // what all the tests' credentials have besides; may be nil

	Phone pushtest.Phone // which the simulators of rigs know; one with Token when it has none
	Many  string         // the form of the tokens of many phones, with %d in it; phone-%d when empty

	// Life is how long an access token is used; 0 where the adapter has none, or makes
	// them otherwise.
	Life time.Duration
	// Grants says that access tokens are asked for, and Good how long such a one lets
	// in. Otherwise the adapter makes them.
	Grants bool
	Good   time.Duration
	Least  time.Duration     // how old one is until a new one pays
	Bearer func(Seen) string // the access token of a request; that of Authorization when nil
	// Refusals are what comes of asking for access tokens in vain.
	Refusals map[string]Refusal

	// Accepts is an answer by which a notification is taken.
	Accepts string
	// Gone is one by which a token is dead or suspect: less or more than that is not.
	Gone       string
	GoneStatus int // 200 when 0
	// Otherwise are the faults whose outcome is another than with most.
	Otherwise map[string]Outcome
	HTTP2     bool // nothing else is spoken
	Shared    bool // all requests share few connections

	Speaks   bool          // it has silent notifications
	Once     bool          // it is given each message once, and says when it has it already
	Badge    bool          // it shows count
	LifeUnit time.Duration // what notifications' lifetimes are counted in; a second when 0
}

// An Outcome is what a notification comes to.
type Outcome struct {
	Class push.Class
	Code  string // any when empty
	After time.Duration
}

// A Refusal is a fault where access tokens are asked for, and what follows.
type Refusal struct {
	Fault pushtest.Fault
	Outcome
}

// OAuth are refusals of those who give access tokens as OAuth has it.
var OAuth = map[string]Refusal{
	"down":         {pushtest.Fault{Reset: true}, Outcome{push.Retry, "transport", 0}},
	"a page":       {pushtest.Fault{Status: 502, Body: "<html>"}, Outcome{push.Retry, "oauth http 502", 0}},
	"says nothing": {pushtest.Fault{Status: 200}, Outcome{push.Retry, "oauth unreadable", 0}},
	"unreadable":   {pushtest.Fault{Status: 200, Body: `{"access_token":"x`}, Outcome{push.Retry, "oauth unreadable", 0}},
	"no token":     {pushtest.Fault{Status: 200, Body: `{"access_token":""}`}, Outcome{push.Retry, "oauth unreadable", 0}},
	"not a token":  {pushtest.Fault{Status: 200, Body: `{"access_token":"a\r\nb"}`}, Outcome{push.Retry, "oauth unreadable", 0}},
	"busy":         {pushtest.Fault{Status: 503, Header: map[string]string{"Retry-After": "7"}}, Outcome{push.RetryAfter, "oauth http 503", 7 * time.Second}},
	"refused":      {pushtest.Fault{Status: 400, Body: `{"error":1101}`}, Outcome{push.ConfigHalt, "oauth 1101", 0}},
	"refused, 200": {pushtest.Fault{Status: 200, Body: `{"error":"invalid_client"}`}, Outcome{push.ConfigHalt, "oauth invalid_client", 0}},
	"in an object": {pushtest.Fault{Status: 400, Body: `{"error":{"code":400}}`}, Outcome{push.ConfigHalt, "oauth http 400", 0}},
	"forbidden":    {pushtest.Fault{Status: 403, Body: "<html>"}, Outcome{push.ConfigHalt, "oauth http 403", 0}},
	"elsewhere":    {pushtest.Fault{Status: 302, Header: map[string]string{"Location": "https://127.0.0.1:1/"}}, Outcome{push.ConfigHalt, "oauth http 302", 0}},
}

// A Rig is an adapter and the simulated provider behind it.
type Rig struct {
	push.Adapter
	Sim        *pushtest.Sim
	Server     *pushtest.Server
	Roots      line.Options // lets in to the simulator
	Credential chat.PushCredential

	p    Provider
	t    testing.TB
	raw  func() *line.Line // for requests that no adapter makes
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

// Start starts a simulator that knows one phone, and an adapter for it. When the test
// is over, nothing may be left of the adapter's connections.
func (p Provider) Start(t testing.TB, o Options) *Rig {
	t.Helper()
	p.Phone.Token = cmp.Or(p.Phone.Token, Token)
	p.Many = cmp.Or(p.Many, "phone-%d")
	r := &Rig{p: p, t: t, now: Now}
	if o.Sim.Now == nil {
		o.Sim.Now = r.Now
	}
	if !o.Sim.Forget {
		o.Sim.Seen = func(q *http.Request, body string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.seen = append(r.seen, Seen{q.Clone(context.Background()), body})
		}
	}
	r.Sim = p.Sim(o.Sim)
	r.Sim.Register(p.Phone)
	var err error
	if r.Server, err = pushtest.NewServer(); err != nil {
		t.Fatal(err)
	}
	address, err := r.Server.Serve(r.Sim, "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Server.Close)
	r.Credential = r.Sim.Credential(address)
	if p.Set != nil {
		p.Set(&r.Credential)
	}
	if o.Credential != nil {
		o.Credential(&r.Credential)
	}
	r.Roots = line.Options{Roots: r.Server.Roots, Timeout: o.Timeout}
	r.raw = sync.OnceValue(func() *line.Line {
		l := line.New(line.Options{Roots: r.Server.Roots, HTTP2: p.HTTP2})
		t.Cleanup(l.Close)
		return l
	})
	if r.Adapter, err = p.New(&r.Credential, r.Roots, o.Sim.Now); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.Adapter.Close()
		for deadline := time.Now().Add(10 * time.Second); r.Sim.Stats().Open > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("%d connections are left after Close", r.Sim.Stats().Open)
				return
			}
		}
	})
	return r
}

// With is another adapter for the simulator, whose credential is changed. It is
// closed when the test is over.
func (r *Rig) With(t testing.TB, o line.Options, change func(*chat.PushCredential)) push.Adapter {
	t.Helper()
	c := r.Credential
	c.Fields = maps.Clone(c.Fields)
	if change != nil {
		change(&c)
	}
	a, err := r.p.New(&c, o, r.Now)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// Ask sends a request as it is.
func (r *Rig) Ask(t testing.TB, q push.Request) *line.Answer {
	t.Helper()
	a, err := r.raw().Do(context.Background(), r.Credential.BaseURL, &q, nil)
	if err != nil {
		t.Fatal(err)
	}
	return a
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

// Example is the example for the phone with the token, good for an hour from now.
func (r *Rig) Example(token string) push.Notification {
	n := Example(r.t, pushtest.Registered(r.Sim.Provider, token))
	n.To.Environment = r.p.Phone.Environment
	n.Expires = r.Now().Add(time.Hour)
	return n
}

// Tell sends the example to the phone with the token.
func (r *Rig) Tell(token string) push.Attempt { return r.Try(r.Example(token)) }

// Try sends a notification.
func (r *Rig) Try(n push.Notification) push.Attempt { return Try(r.Adapter, n) }

// Try sends a notification by an adapter.
func Try(a push.Adapter, n push.Notification) push.Attempt {
	return a.Send(context.Background(), []*push.Notification{&n})[0]
}

// Is reports whether the attempt came to this, and says it where it did not.
func (o Outcome) Is(t testing.TB, name string, a push.Result) {
	t.Helper()
	if a.Class != o.Class || o.Code != "" && a.Code != o.Code || a.After != o.After {
		t.Errorf("%s: %s %+v, want %s %s after %v", name, a.Class, a, o.Class, o.Code, o.After)
	}
}

// bearers is with how many access tokens requests came.
func (r *Rig) bearers() int {
	all := map[string]bool{}
	for _, q := range r.Seen() {
		if b := r.p.Token(q); b != "" {
			all[b] = true
		}
	}
	return len(all)
}

// Token is the access token that the request came with.
func (p Provider) Token(q Seen) string {
	if p.Bearer != nil {
		return p.Bearer(q)
	}
	_, token, _ := strings.Cut(q.Request.Header.Get("Authorization"), " ") // behind the word Bearer
	return token
}

// All are the tests that are the same for all providers.
func (p Provider) All(t *testing.T) {
	t.Parallel()
	t.Run("faults", p.Faults)
	t.Run("access", p.Access)
	t.Run("shown", p.Shown)
	t.Run("connections", p.Connections)
	t.Run("unsent", p.Unsent)
}

// protocols are those that are spoken: whether they are HTTP/1.
func (p Provider) protocols() []bool {
	if p.HTTP2 {
		return []bool{false}
	}
	return []bool{false, true}
}

// Faults are what goes wrong on the way, and what follows. None of it says anything
// of a token.
func (p Provider) Faults(t *testing.T) {
	t.Parallel()
	elsewhere := p.Start(t, Options{})
	wait := func(status int, after string) pushtest.Fault {
		return pushtest.Fault{Status: status, Header: map[string]string{"Date": "Sun, 22 Nov 2026 10:00:00 GMT", "Retry-After": after}}
	}
	faults := map[string]Refusal{
		"hangs":            {pushtest.Fault{Hang: true}, Outcome{push.Retry, "timeout", 0}},
		"drips":            {pushtest.Fault{Status: 200, Body: "{", Drip: true}, Outcome{push.Retry, "timeout", 0}},
		"breaks":           {pushtest.Fault{Reset: true}, Outcome{push.Retry, "transport", 0}},
		"answer gets lost": {pushtest.Fault{Lost: true}, Outcome{push.Retry, "transport", 0}},
		"cut short":        {pushtest.Fault{Status: 200, Body: `{"code":"80`}, Outcome{push.Retry, "unreadable", 0}},
		"says nothing":     {pushtest.Fault{Status: 200}, Outcome{push.Retry, "unreadable", 0}},
		"says too much":    {pushtest.Fault{Status: 200, Body: strings.Repeat(" ", line.MaxAnswer) + cmp.Or(p.Accepts, "{}")}, Outcome{push.Retry, "unreadable", 0}},
		"says just enough": {pushtest.Fault{Status: 200, Body: strings.Repeat(" ", line.MaxAnswer-len(p.Accepts)) + p.Accepts}, Outcome{Class: push.Accepted}},
		"a page of 200":    {pushtest.Fault{Status: 200, Body: "<html>Please log in</html>"}, Outcome{push.Retry, "unreadable", 0}},
		"a page":           {pushtest.Fault{Status: 502, Body: "<html>Bad gateway</html>"}, Outcome{push.Retry, "http 502", 0}},
		"a page of 404":    {pushtest.Fault{Status: 404, Body: "<html>Not found</html>"}, Outcome{push.ConfigHalt, "http 404", 0}},
		"a page of 403":    {pushtest.Fault{Status: 403, Body: "<html>Forbidden</html>"}, Outcome{push.ConfigHalt, "http 403", 0}},
		"a page of 400":    {pushtest.Fault{Status: 400, Body: "<html>Bad request</html>"}, Outcome{push.PayloadBad, "http 400", 0}},
		"sent elsewhere":   {pushtest.Fault{Status: 301, Header: map[string]string{"Location": elsewhere.Credential.BaseURL}}, Outcome{push.ConfigHalt, "http 301", 0}},
		"sent on":          {pushtest.Fault{Status: 307, Header: map[string]string{"Location": elsewhere.Credential.BaseURL}}, Outcome{push.ConfigHalt, "http 307", 0}},
		"wait":             {pushtest.Fault{Status: 429}, Outcome{push.RetryAfter, "http 429", 0}},
		"wait so long":     {wait(429, "3"), Outcome{push.RetryAfter, "http 429", 3 * time.Second}},
		"wait until":       {wait(503, "Sun, 22 Nov 2026 10:01:00 GMT"), Outcome{push.RetryAfter, "http 503", time.Minute}},
		"wait for days":    {wait(503, "864000"), Outcome{push.RetryAfter, "http 503", push.MaxRetryAfter}},
		"slow":             {pushtest.Fault{Delay: 10 * time.Millisecond}, Outcome{Class: push.Accepted}},
		"says goodbye":     {pushtest.Fault{GoAway: true}, Outcome{Class: push.Accepted}},
	}
	if p.Accepts == "" {
		delete(faults, "says just enough")
	}
	gone := pushtest.Fault{Status: cmp.Or(p.GoneStatus, http.StatusOK)}
	or := push.ByStatus(gone.Status, 0)
	for name, body := range map[string]string{
		"gone, cut short": p.Gone[:max(len(p.Gone)-2, 0)], "gone, says too much": strings.Repeat(" ", line.MaxAnswer) + p.Gone,
	} {
		gone.Body = body
		if p.Gone != "" {
			faults[name] = Refusal{gone, Outcome{or.Class, or.Code, 0}}
		}
	}
	for name := range p.Otherwise {
		if _, known := faults[name]; !known {
			t.Errorf("there is no fault %q", name)
		}
	}
	for name, c := range faults {
		if o, other := p.Otherwise[name]; other {
			c.Outcome = o
		}
		for _, old := range p.protocols() {
			t.Run(name+map[bool]string{true: ", HTTP/1"}[old], func(t *testing.T) {
				t.Parallel()
				o := Options{Sim: pushtest.Options{HTTP1: old}}
				short := c.Code == "timeout"
				if short {
					o.Timeout = 200 * time.Millisecond
				}
				r := p.Start(t, o)
				mend := r.Sim.Fail(c.Fault)
				a, sent := r.Tell(r.p.Phone.Token), 1
				for ; short && r.Sim.Stats().Requests == 0 && sent < 100; sent++ {
					a = r.Tell(r.p.Phone.Token) // its time was over on the way
				}
				c.Is(t, name, a.Result)
				if c.Fault.Status == 403 && p.Life > 0 && p.Least == 0 {
					sent = 2 // with another access token
				}
				if got := r.Sim.Stats().Requests; got == 0 || got > sent {
					t.Errorf("%d requests, sent %d", got, sent)
				}
				mend()
				if short {
					return
				}
				if a := r.Tell(r.p.Phone.Token); a.Class != push.Accepted {
					t.Errorf("afterwards: %s %+v", a.Class, a)
				}
				// What was sent twice is seen once.
				if got := r.Sim.Screen(r.p.Phone.Token); len(got) != 1 {
					t.Errorf("the phone shows %+v", got)
				}
				if s := r.Sim.Stats(); old != (s.Protocol1 > 0) {
					t.Errorf("%+v", s)
				}
			})
		}
	}
	t.Run("the other address", func(t *testing.T) {
		if got := elsewhere.Seen(); len(got) > 0 {
			t.Errorf("a redirect was followed: %s", got[0].Request.URL)
		}
	})
}

// Together has many tell a phone of their own thrice.
func (r *Rig) Together(t *testing.T, senders int) {
	var wg sync.WaitGroup
	for i := range senders {
		token := fmt.Sprintf(r.p.Many, i+1)
		r.Sim.Register(pushtest.Phone{Token: token})
		wg.Go(func() {
			for range 3 {
				a := r.Tell(token)
				for tries := 1; a.Code == "timeout" && tries < 20; tries++ {
					a = r.Tell(token) // that many connections at once take a while on a busy machine
				}
				if a.Class != push.Accepted {
					t.Errorf("%s %+v", a.Class, a)
				}
			}
		})
	}
	wg.Wait()
}

// Access tries who is let in. Of access tokens there is one for all, and a new one
// where it pays.
func (p Provider) Access(t *testing.T) {
	t.Parallel()
	const senders = 100
	count := func(t *testing.T, r *Rig, want int) {
		t.Helper()
		if p.Life == 0 {
			want = 0
		} else if got := r.bearers(); got != want {
			t.Errorf("%d access tokens were used, want %d", got, want)
		}
		if !p.Grants {
			want = 0
		}
		if got := r.Sim.Stats().Auths; got != want {
			t.Errorf("access tokens were asked for %d times, want %d", got, want)
		}
	}
	for _, old := range p.protocols() {
		t.Run("many"+map[bool]string{true: ", HTTP/1"}[old], func(t *testing.T) {
			t.Parallel()
			r := p.Start(t, Options{Sim: pushtest.Options{HTTP1: old}})
			senders := senders
			if old {
				senders = 16 // each with a connection of its own
			}
			r.Together(t, senders)
			count(t, r, 1)
			for i := range senders {
				if got := r.Sim.Screen(fmt.Sprintf(r.p.Many, i+1)); len(got) != 1 {
					t.Errorf("phone %d shows %d", i, len(got))
				}
			}
			if s := r.Sim.Stats(); p.Shared && !old && s.Conns != 1 || s.Open > 256 {
				t.Errorf("%d connections, %d open", s.Conns, s.Open)
			}
		})
	}
	t.Run("not let in", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{Credential: p.Spoil})
		if a := r.Tell(r.p.Phone.Token); a.Class != push.ConfigHalt {
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
		r.Sim.Fail(pushtest.Fault{Reset: true, Auth: true})
		if a := r.Check(context.Background()); a.Class != push.Retry {
			t.Errorf("%s %+v", a.Class, a)
		}
	})
	if p.Life == 0 {
		return
	}
	t.Run("revoked", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{})
		if p.Least > 0 {
			r.Tell(r.p.Phone.Token)
			r.Pass(p.Least)
		}
		r.Sim.Fail(pushtest.Fault{Revoke: true, Skip: senders, Times: 1})
		r.Together(t, senders)
		count(t, r, 2)
	})
	t.Run("renewed", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{})
		holder, ok := r.Adapter.(push.PassHolder)
		if !ok {
			t.Fatal("it does not say how old its access token is")
		}
		if age, has := holder.PassAge(); has {
			t.Errorf("none is there yet, and it is %s old", age)
		}
		for _, c := range []struct {
			pass time.Duration
			want int
		}{{0, 1}, {p.Life - time.Minute, 1}, {time.Minute, 2}, {p.Life - time.Minute, 2}, {time.Hour, 3}} {
			r.Pass(c.pass)
			if a := r.Tell(r.p.Phone.Token); a.Class != push.Accepted {
				t.Errorf("%s %+v", a.Class, a)
			}
			count(t, r, c.want)
		}
		r.Pass(time.Minute)
		if age, has := holder.PassAge(); !has || age != time.Minute {
			t.Errorf("%s, %t after a minute", age, has)
		}
	})
	if !p.Grants {
		return
	}
	t.Run("kept", func(t *testing.T) {
		t.Parallel()
		r := p.Start(t, Options{})
		tell := func(want push.Class) {
			t.Helper()
			if a := r.Tell(r.p.Phone.Token); a.Class != want {
				t.Errorf("%s %+v, want %s", a.Class, a, want)
			}
		}
		tell(push.Accepted)
		r.Pass(p.Life)
		mend := r.Sim.Fail(pushtest.Fault{Auth: true, Status: 502})
		for range 5 {
			tell(push.Accepted) // with the one there is, which is still good
		}
		if got := r.Sim.Stats().Auths; r.bearers() != 1 || got != 2 {
			t.Errorf("asked %d times, used %d", got, r.bearers())
		}
		r.Pass(p.Good - p.Life)
		tell(push.Retry)
		mend()
		tell(push.Accepted)
	})
	if len(p.Refusals) == 0 {
		t.Error("nobody knows what comes of asking for access tokens in vain")
	}
	for name, c := range p.Refusals {
		t.Run("tokens "+name, func(t *testing.T) {
			t.Parallel()
			r := p.Start(t, Options{})
			c.Fault.Auth = true
			mend := r.Sim.Fail(c.Fault)
			a := r.Tell(r.p.Phone.Token)
			if c.Is(t, name, a.Result); a.Unknown && c.Class != push.ConfigHalt {
				t.Errorf("%+v", a)
			}
			c.Is(t, "checked", r.Check(context.Background()))
			if got := len(r.Sim.Log(r.p.Phone.Token)); got != 0 || r.Sim.Stats().Requests != 0 {
				t.Errorf("sent without an access token")
			}
			mend()
			if a := r.Tell(r.p.Phone.Token); a.Class != push.Accepted {
				t.Errorf("afterwards: %s %+v", a.Class, a)
			}
		})
	}
}

// Received has the example, changed or not, sent by an adapter whose credential is
// changed, and compares what phone and provider get with what was sent: the request
// with the file of this name, and one for an access token with that of the other. hide
// is what of them is secret or changes.
func (p Provider) Received(t *testing.T, name, auth string, o Options, change func(*push.Notification), hide func(*Rig) map[string]string) *Rig {
	t.Helper()
	r := p.Start(t, o)
	n := Example(t, pushtest.Registered(r.Sim.Provider, r.p.Phone.Token))
	n.To.Environment = p.Phone.Environment
	if change != nil {
		change(&n)
	}
	a := r.Try(n)
	if a.Class != push.Accepted || a.ID == "" || a.Cut != 0 || a.Unknown {
		t.Fatalf("%s %+v", a.Class, a)
	}
	seen := r.Seen()
	last := seen[len(seen)-1]
	mask := map[string]string{}
	if b := p.Token(last); b != "" && p.Life > 0 {
		mask[b] = "access token"
	}
	if hide != nil {
		maps.Copy(mask, hide(r))
	}
	CheckText(t, name, Received(last.Request, last.Body, mask))
	if p.Grants {
		CheckText(t, auth, Received(seen[0].Request, seen[0].Body, mask))
	}
	want := 1
	if p.Grants {
		want = 2
	}
	if len(seen) != want {
		t.Errorf("%d requests, want %d", len(seen), want)
	}
	badge := -1
	if p.Badge {
		badge = n.Badge
	}
	expires := Now.Add(n.Expires.Sub(Now).Truncate(cmp.Or(p.LifeUnit, time.Second)))
	got := r.Sim.Screen(r.p.Phone.Token)
	if len(got) != 1 || got[0].Title != n.Title || got[0].Body != n.Body || got[0].Data != n.Data || got[0].Badge != badge || got[0].ID != a.ID ||
		got[0].Key == "" || !strings.Contains(got[0].Card, `"tId":"alice"`) || !got[0].Expires.Equal(expires) || got[0].Silent {
		t.Errorf("the phone shows %+v", got)
	}
	if s := r.Sim.Stats(); s.Taken != 1 || s.Refused != 0 || s.Odd != 0 {
		t.Errorf("%+v", s)
	}
	return r
}

// Shown is what a phone shows: one that is sent again takes its own place, even if the
// first answer was lost, and a recall that of what it recalls. What is silent is not
// shown.
func (p Provider) Shown(t *testing.T) {
	t.Parallel()
	r := p.Start(t, Options{})
	taken := 0
	send := func(want Outcome, again bool, change func(*push.Notification)) {
		t.Helper()
		n := With(t, pushtest.Registered(r.Sim.Provider, r.p.Phone.Token), `{}`)
		n.To.Environment = p.Phone.Environment
		change(&n)
		if want.Is(t, "sent", r.Try(n).Result); !again || !p.Once {
			taken++
		}
	}
	good := Outcome{Class: push.Accepted}
	silent := func(n *push.Notification) { n.Silent, n.Title, n.Body = true, "", "" }
	if p.Speaks {
		send(good, false, silent)
		if got := r.Sim.Log(r.p.Phone.Token); len(got) != 1 || !got[0].Silent || got[0].Data == "" || got[0].Card == "" {
			t.Errorf("taken: %+v", got)
		}
	} else {
		send(Outcome{push.PayloadBad, "silent", 0}, false, silent)
		taken--
	}
	if got := r.Sim.Screen(r.p.Phone.Token); len(got) != 0 {
		t.Errorf("shown: %+v", got)
	}
	mend := r.Sim.Fail(pushtest.Fault{Lost: true})
	send(Outcome{push.Retry, "transport", 0}, false, func(*push.Notification) {})
	mend()
	send(good, true, func(*push.Notification) {})
	send(good, true, func(*push.Notification) {})
	other := chat.NewUID(Now.UnixMilli(), chat.Direct, 3, 8)
	send(good, false, func(n *push.Notification) { n.UID, n.Title = other, "other" })
	recall := chat.NewUID(Now.UnixMilli(), chat.Direct, 3, 9)
	var recalled chat.UID
	send(good, false, func(n *push.Notification) {
		n.Type, n.Title, n.UID, n.Removes, recalled = push.Recall, "recalled", recall, n.UID, n.UID
	})
	got := r.Sim.Screen(r.p.Phone.Token)
	if len(got) != 2 || got[0].Title != "other" || got[1].Title != "recalled" || got[1].Removes != recalled.String() {
		t.Errorf("shown: %+v", got)
	}
	if got := r.Sim.Log(r.p.Phone.Token); len(got) != taken {
		t.Errorf("%d were taken, want %d", len(got), taken)
	}
}

// Connections has one request after the other make do with one connection, whatever
// is answered.
func (p Provider) Connections(t *testing.T) {
	t.Parallel()
	for _, old := range p.protocols() {
		r := p.Start(t, Options{Sim: pushtest.Options{HTTP1: old}})
		for i := range 20 {
			mend := func() {}
			switch i % 4 {
			case 1:
				mend = r.Sim.Fail(pushtest.Fault{Status: 502, Body: strings.Repeat("<html>Bad gateway</html>", 2000)})
			case 2:
				mend = r.Sim.Fail(pushtest.Fault{Status: 400, Body: `{"code":1}`})
			case 3:
				mend = r.Sim.Fail(pushtest.Fault{Status: 429})
			}
			if a := r.Tell(r.p.Phone.Token); i%4 == 0 && a.Class != push.Accepted {
				t.Errorf("%s %+v", a.Class, a)
			}
			mend()
		}
		if s := r.Sim.Stats(); s.Conns != 1 || s.Open != 1 || s.Requests != 20 {
			t.Errorf("HTTP/1 %t: %+v", old, s)
		}
		// An answer that is not read to its end takes its connection with it, at most.
		r.Sim.Fail(pushtest.Fault{Status: 502, Body: strings.Repeat("<html>Bad gateway</html>", 50_000)})
		for range 5 {
			Outcome{push.Retry, "http 502", 0}.Is(t, "a long page", r.Tell(r.p.Phone.Token).Result)
		}
		for deadline := time.Now().Add(10 * time.Second); r.Sim.Stats().Open > 1; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("HTTP/1 %t: %d connections are open", old, r.Sim.Stats().Open)
			}
		}
	}
}

// Unsent are notifications that come to nobody.
func (p Provider) Unsent(t *testing.T) {
	t.Parallel()
	r := p.Start(t, Options{})
	late, nobodys := r.Example(r.p.Phone.Token), r.Example("")
	late.Expires = r.Now()
	a := r.Send(context.Background(), []*push.Notification{&late, &nobodys})
	Outcome{push.PayloadBad, "expired", 0}.Is(t, "too late", a[0].Result)
	Outcome{push.PayloadBad, "token", 0}.Is(t, "without a token", a[1].Result)
	if a := r.Send(context.Background(), nil); len(a) != 0 {
		t.Errorf("%+v of nothing", a)
	}
	if n := r.Batch(); n < 1 || n > 1000 {
		t.Errorf("batches of %d", n)
	}
	if len(r.Seen()) != 0 {
		t.Errorf("%d requests", len(r.Seen()))
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	n := r.Example(r.p.Phone.Token)
	Outcome{push.Retry, "timeout", 0}.Is(t, "given up", r.Send(gone, []*push.Notification{&n})[0].Result)
	Outcome{push.Retry, "certificate", 0}.Is(t, "nobody vouches", Try(r.With(t, line.Options{Roots: x509.NewCertPool()}, nil), n).Result)
	nowhere := r.With(t, r.Roots, func(c *chat.PushCredential) { c.BaseURL = "https://127.0.0.1:1" })
	Outcome{push.Retry, "connect", 0}.Is(t, "nobody there", Try(nowhere, n).Result)
	slash := r.With(t, r.Roots, func(c *chat.PushCredential) { c.BaseURL += "/" })
	Outcome{Class: push.Accepted}.Is(t, "an address with a slash", Try(slash, n).Result)
}

// Provoke has the simulator answer each code of a table, and looks for its class.
// What asks for a new access token is not let in with the new one either. A code that
// the simulator knows by another name has its own as Code.
func (p Provider) Provoke(t *testing.T, classes push.Classes) {
	t.Parallel()
	r := p.Start(t, Options{})
	token := r.p.Phone.Token
	if a := r.Tell(token); a.Class != push.Accepted {
		t.Fatalf("%s %+v", a.Class, a)
	}
	if p.Gone != "" {
		mend := r.Sim.Fail(pushtest.Fault{Status: cmp.Or(p.GoneStatus, http.StatusOK), Body: p.Gone})
		if a := r.Tell(token); a.Class != push.TokenDead && a.Class != push.TokenStrike {
			t.Errorf("gone: %s %+v", a.Class, a)
		}
		mend()
	}
	log := len(r.Sim.Log(token))
	for _, code := range slices.Sorted(maps.Keys(classes)) {
		want := classes[code]
		r.Pass(max(p.Least, time.Second)) // until there may be another access token
		mend := r.Sim.Fail(pushtest.Fault{Code: code})
		class, requests := want.Class, 1
		if class == push.AuthRefresh {
			class, requests = push.ConfigHalt, 2
		}
		before := r.Sim.Stats().Requests
		a := r.Tell(token)
		if a.Class != class || a.Code != cmp.Or(want.Code, code) || a.Without != want.Without || a.Alert != want.Alert || a.Unknown != want.Unknown || a.Device != want.Device || a.After != want.After {
			t.Errorf("%s: %s %+v, want %s", code, a.Class, a, class)
		}
		if got := r.Sim.Stats().Requests - before; got != requests {
			t.Errorf("%s: %d requests, want %d", code, got, requests)
		}
		mend()
	}
	if got := len(r.Sim.Log(token)) - log; got != 0 {
		t.Errorf("the phone got %d notifications", got)
	}
	if a := r.Tell(token); a.Class != push.Accepted {
		t.Errorf("afterwards: %s %+v", a.Class, a)
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
		return r.Ask(t, q)
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

// Want reports an attempt that did not come to this.
func Want(t testing.TB, what string, got push.Result, class push.Class, code string) {
	t.Helper()
	if got.Class != class || got.Code != code {
		t.Errorf("%s: %s %s, want %s %s", what, got.Class, got.Code, class, code)
	}
}

// Adverts are notifications of no class that the app has a right to: a phone shows two
// of them a day, and the others are accepted for nothing. class makes one of a
// class, or of none.
func (p Provider) Adverts(t *testing.T, class func(n *push.Notification, has bool)) {
	t.Parallel()
	r := p.Start(t, Options{Sim: pushtest.Options{Strict: true}})
	for i := range 5 {
		n := r.Example(r.p.Phone.Token)
		n.UID = chat.NewUID(Now.UnixMilli(), chat.Direct, 3, uint32(i))
		class(&n, i == 4)
		Outcome{Class: push.Accepted}.Is(t, "an advertisement", r.Try(n).Result)
	}
	if got := r.Sim.Screen(r.p.Phone.Token); len(got) != 3 {
		t.Errorf("%d are shown", len(got))
	}
}

// Secret is what nothing that is said of a credential has in it.
const Secret = "SECRET"

// Fields are credentials that cannot be, by the field that is to blame: that is said,
// and nothing of what is in it.
func (p Provider) Fields(t *testing.T, spoil map[string]func(*chat.PushCredential)) {
	t.Parallel()
	for field, spoil := range spoil {
		c := p.Sim(pushtest.Options{}).Credential("https://127.0.0.1:1")
		spoil(&c)
		_, err := p.New(&c, line.Options{}, time.Now)
		if e, ok := err.(*chat.Error); !ok || e.Field != field || strings.Contains(err.Error(), Secret) {
			t.Errorf("%s: %v", field, err)
		}
	}
}

// FieldsOf are credentials with one field changed to this.
func FieldsOf(values map[string]string) map[string]func(*chat.PushCredential) {
	all := map[string]func(*chat.PushCredential){}
	for name, v := range values {
		all[name] = func(c *chat.PushCredential) { c.Fields[name] = v }
	}
	return all
}
