package apns

import (
	"cmp"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

// Apple's own addresses.
const (
	production = "https://api.push.apple.com"
	sandbox    = "https://api.sandbox.push.apple.com"
)

// SandboxPath is before the path of requests for the sandbox where one address
// stands for both environments.
const SandboxPath = "/sandbox"

const (
	// A provider token is good for an hour.
	renewal = 45 * time.Minute
	// Apple takes new ones for an attack that come sooner.
	least = 20 * time.Minute
)

type adapter struct {
	options     Options
	environment chat.PushEnvironment // of the credential
	addresses   [3]string            // by environment
	bundle      string               // of the credential, to check it with
	sign        func(now time.Time) (string, error)
	caller      line.Caller
	now         func() time.Time
}

// New makes an adapter of an app's credential.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	key, err := parseKey(c.Fields["p8"])
	if err != nil {
		return nil, err
	}
	a := &adapter{
		options: Options{
			Topic: c.Fields["topic"], Sound: c.Fields["sound"], Category: c.Fields["category"],
		},
		environment: c.Environment, bundle: c.Package, now: now,
	}
	a.addresses = [...]string{chat.Production: production, chat.Sandbox: sandbox}
	if c.BaseURL != "" {
		base := strings.TrimRight(c.BaseURL, "/")
		if !strings.HasPrefix(base, "https://") {
			return nil, chat.Invalid("baseUrl", "must begin with https:// for APNs, which speaks nothing but HTTP/2 over TLS")
		}
		a.addresses = [...]string{chat.Production: base, chat.Sandbox: base + SandboxPath}
	}
	a.sign = func(now time.Time) (string, error) {
		t := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"iss": c.Fields["teamId"], "iat": now.Add(-line.Skew).Unix()})
		t.Header = map[string]any{"alg": "ES256", "kid": c.Fields["keyId"]}
		return t.SignedString(key)
	}
	if _, err := a.sign(now()); err != nil {
		return nil, chat.Invalid("p8", "cannot sign")
	}
	o.HTTP2, o.Shared, o.Literal = true, true, true
	a.caller = line.Caller{
		Line: line.New(o), Header: "authorization", Classify: Classify, Token: line.Token{Make: a.pass, Now: now, Least: least},
	}
	return a, nil
}

func parseKey(p8 string) (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode([]byte(p8))
	if block != nil {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			if key, ok := k.(*ecdsa.PrivateKey); ok && key.Curve == elliptic.P256() {
				return key, nil
			}
		}
	}
	return nil, chat.Invalid("p8", "must be the text of the .p8 file from Apple: a private key of the curve P-256 in PEM")
}

// pass signs a provider token. All requests share it.
func (a *adapter) pass(context.Context) (line.Pass, error) {
	now := a.now()
	token, err := a.sign(now)
	if err != nil {
		return line.Pass{}, line.Fail(push.Result{Class: push.ConfigHalt, Code: "sign"}, nil)
	}
	return line.Pass{Value: "bearer " + token, Made: now, Until: now.Add(renewal)}, nil
}

func (a *adapter) Batch() int { return 1 }

func (a *adapter) Close() { a.caller.Line.Close() }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	return line.Each(batch, a.Render, func(n *push.Notification, r *push.Request) push.Result { return a.send(ctx, n, r) })
}

// badToken is what Apple says of a token of the other environment, as of one that
// never was.
const badToken = "BadDeviceToken"

// ofTopic is what Apple says of topics that are none, or not of the key.
var ofTopic = map[string]bool{"BadTopic": true, "TopicDisallowed": true}

func (a *adapter) send(ctx context.Context, n *push.Notification, r *push.Request) push.Result {
	of := n.To.Environment
	env := cmp.Or(of, a.environment, chat.Production)
	result := a.ask(ctx, env, r)
	certain := of != chat.NoEnvironment && a.environment != chat.NoEnvironment
	if result.Class == push.Accepted && of == chat.NoEnvironment {
		result.Environment = env
	}
	if ofTopic[result.Code] && a.options.Topic == "" && a.bundle == "" {
		// The topic is what the device says of itself: that stops nobody else's.
		result.Class = push.TokenStrike
	}
	if result.Code != badToken || certain {
		return result
	}
	other := chat.Production + chat.Sandbox - env
	second := a.ask(ctx, other, r)
	switch second.Class {
	case push.Accepted:
		second.Environment = other
		return second
	case push.TokenDead, push.Retry, push.RetryAfter:
		// The other environment knows the token, or may: what is said of it here
		// counts for nothing.
		return second
	}
	return result
}

func (a *adapter) ask(ctx context.Context, env chat.PushEnvironment, r *push.Request) push.Result {
	return a.caller.CallAt(ctx, a.addresses[env], r)
}

// nobody is a token that no device has.
var nobody = strings.Repeat("0", 64)

// Check sends to a token that cannot be: when that is all that Apple finds fault
// with, it takes the credential. So it does when it misses the topic, where none is
// known.
func (a *adapter) Check(ctx context.Context) push.Result {
	r := push.JSONRequest("/3/device/"+nobody, []byte(`{"aps":{"content-available":1}}`), 0)
	r.Header["apns-push-type"], r.Header["apns-priority"], r.Header["apns-expiration"] = "background", "5", "0"
	topic := cmp.Or(a.options.Topic, a.bundle)
	if topic != "" {
		r.Header["apns-topic"] = topic
	}
	result := a.ask(ctx, cmp.Or(a.environment, chat.Production), &r)
	if result.Code == badToken || result.Class == push.TokenDead || topic == "" && result.Code == "MissingTopic" {
		return push.Result{Class: push.Accepted, Code: result.Code}
	}
	return result
}

// Render implements push.Renderer.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	return Render(n, &a.options, a.now())
}

// PassAge implements push.PassHolder.
func (a *adapter) PassAge() (time.Duration, bool) { return a.caller.Token.PassAge() }
