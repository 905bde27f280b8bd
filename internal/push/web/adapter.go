package web

import (
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

const (
	passLifetime = 12 * time.Hour // push services take up to a day
	passEarly    = time.Hour
	// maxOrigins is how many push services have passes at once. There are a few; of
	// hosts below a name there may be as many as browsers make up.
	maxOrigins = 64
	// lost is for how long a browser is left alone whose push service's host is not found.
	lost = time.Minute
)

type adapter struct {
	line    *line.Line
	options Options
	address string // in place of the push services'
	hosts   []string
	now     func() time.Time
	key     *ecdsa.PrivateKey
	public  string
	subject string

	mu     sync.Mutex
	passes map[string]*line.Token // by origin
}

// New makes the adapter of a credential. Nothing is connected before its first use.
// hosts are those of push services besides those that browsers have.
func New(c *chat.PushCredential, o line.Options, now func() time.Time, hosts ...string) (push.Adapter, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	wrong := chat.Invalid("privateKey", "must be a private key of the curve P-256")
	pair, ok := chat.WebKey(c.Fields["privateKey"])
	if !ok {
		return nil, wrong
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), pair.Bytes())
	if err != nil {
		return nil, wrong
	}
	o.Shared = true
	return &adapter{
		line: line.New(o), now: now, hosts: hosts, address: strings.TrimRight(c.BaseURL, "/"),
		options: Options{Icon: c.Fields["icon"], Badge: c.Fields["badge"], Link: c.Fields["link"]},
		key:     key, public: base64.RawURLEncoding.EncodeToString(pair.PublicKey().Bytes()), subject: c.Fields["subject"],
		passes: map[string]*line.Token{},
	}, nil
}

// Batch is 1: each browser has an address of its own.
func (a *adapter) Batch() int { return 1 }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	attempts := make([]push.Attempt, len(batch))
	for i, n := range batch {
		attempts[i] = a.send(ctx, n)
	}
	return attempts
}

func (a *adapter) send(ctx context.Context, n *push.Notification) push.Attempt {
	s, err := a.subscription(n.To.Token)
	if err != nil {
		return push.Refused(err)
	}
	r, err := render(n, &s, &a.options, a.now())
	if err != nil {
		return push.Refused(err)
	}
	return push.Attempt{Result: a.call(ctx, &s, &r), Cut: r.Cut}
}

// subscription is that of the token. What was registered once may be of a host that
// is not called any more.
func (a *adapter) subscription(token string) (chat.WebSubscription, error) {
	s, ok := chat.OfWebToken(token)
	if !ok {
		return s, push.ErrToken
	}
	if _, known := chat.WebService(s.Host(), a.hosts...); !known {
		return s, push.ErrToken
	}
	return s, nil
}

// call encrypts the request's body and takes it to the subscription's push service.
func (a *adapter) call(ctx context.Context, s *chat.WebSubscription, r *push.Request) push.Result {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return push.Result{Class: push.Retry, Code: "key"}
	}
	var salt [saltSize]byte
	_, _ = rand.Read(salt[:]) // never fails
	if r.Body, err = seal(r.Body, s, key, salt[:]); err != nil {
		return push.Refused(err).Result
	}
	pass, err := a.pass(ctx, s.Origin)
	if err != nil {
		return line.ResultOf(err)
	}
	r.Header["Content-Encoding"] = "aes128gcm"
	r.Header["Authorization"] = pass
	address := s.Origin
	if a.address != "" {
		address = a.address
	}
	answer, err := a.line.Do(ctx, address, r, nil)
	if err != nil {
		// A browser can make up hosts below a name. That is its own trouble.
		if e, ok := errors.AsType[*net.DNSError](err); ok && e.IsNotFound {
			return push.Result{Class: push.RetryAfter, Device: true, After: lost, Code: "host"}
		}
		return line.ResultOf(err)
	}
	return Classify(answer.Status, answer.Header, answer.Body)
}

// pass is what proves to the push service who notifies: signed once for all.
func (a *adapter) pass(ctx context.Context, origin string) (string, error) {
	a.mu.Lock()
	t := a.passes[origin]
	if t == nil {
		if len(a.passes) >= maxOrigins {
			clear(a.passes)
		}
		t = &line.Token{Now: a.now, Make: func(context.Context) (line.Pass, error) { return a.sign(origin) }}
		a.passes[origin] = t
	}
	a.mu.Unlock()
	return t.Get(ctx)
}

func (a *adapter) sign(origin string) (line.Pass, error) {
	made := a.now()
	value, err := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{
		"aud": origin, "exp": made.Add(passLifetime).Unix(), "sub": a.subject,
	}).SignedString(a.key)
	if err != nil {
		return line.Pass{}, line.Fail(push.Result{Class: push.ConfigHalt, Code: "key"}, err)
	}
	return line.Pass{Value: "vapid t=" + value + ", k=" + a.public, Made: made, Until: made.Add(passLifetime - passEarly)}, nil
}

// Check calls a browser that cannot be, at the push service of most. There is no
// account that could be asked for: whoever is told that there is no such browser has
// been let in.
func (a *adapter) Check(ctx context.Context) push.Result {
	browser, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return push.Result{Class: push.Retry, Code: "key"}
	}
	s := chat.WebSubscription{
		Origin: "https://fcm.googleapis.com", Path: "/fcm/send/" + push.Nobody().To.Token,
		P256dh: base64.RawURLEncoding.EncodeToString(browser.PublicKey().Bytes()),
		Auth:   base64.RawURLEncoding.EncodeToString(make([]byte, 16)),
	}
	r, err := render(push.Nobody(), &s, &a.options, a.now())
	if err != nil {
		return push.Refused(err).Result
	}
	result := a.call(ctx, &s, &r)
	switch {
	case result.Class == push.TokenDead, result.Code == "400":
		result.Class = push.Accepted
	case result.Class == push.TokenStrike:
		result.Class = push.ConfigHalt // it is no subscription's fault
	}
	return result
}

func (a *adapter) Close() { a.line.Close() }

// Render implements push.Renderer. What it gives shows where the notification goes,
// but not the whole address, which is as good as a password.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	s, err := a.subscription(n.To.Token)
	if err != nil {
		return push.Request{}, err
	}
	r, err := render(n, &s, &a.options, a.now())
	r.Path = s.Origin + "/" + chat.ShortToken(s.Path)
	return r, err
}

// PassAge implements push.PassHolder: of several passes it is that of the oldest.
func (a *adapter) PassAge() (oldest time.Duration, has bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, t := range a.passes {
		if age, is := t.PassAge(); is {
			oldest, has = max(oldest, age), true
		}
	}
	return oldest, has
}
