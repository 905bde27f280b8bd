package fcm

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/url"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

// Google's own addresses.
const (
	home   = "https://fcm.googleapis.com"
	tokens = "https://oauth2.googleapis.com/token"
)

const (
	grant = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	scope = "https://www.googleapis.com/auth/firebase.messaging"

	assertionAge = time.Hour
)

type adapter struct {
	options Options
	account account
	key     *rsa.PrivateKey
	tokens  string // where access tokens are
	caller  line.Caller
	now     func() time.Time
}

// An account is a service account as its file has it.
type account struct {
	ProjectID    string `json:"project_id"`
	PrivateKeyID string `json:"private_key_id"`
	PrivateKey   string `json:"private_key"`
	ClientEmail  string `json:"client_email"`
	TokenURI     string `json:"token_uri"`
}

// New makes an adapter of an app's credential.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	const field = "serviceAccount"
	a := &adapter{now: now}
	if !push.ReadJSON([]byte(c.Fields[field]), &a.account) {
		return nil, chat.Invalid(field, "must be the text of the service account's file, which is a JSON object")
	}
	for _, f := range [...]struct{ name, value string }{
		{"project_id", a.account.ProjectID}, {"client_email", a.account.ClientEmail}, {"private_key", a.account.PrivateKey},
	} {
		if f.value == "" {
			return nil, chat.Invalid(field, f.name+" is missing from it")
		}
	}
	if a.key = parseKey(a.account.PrivateKey); a.key == nil {
		return nil, chat.Invalid(field, "private_key must be an RSA key in PEM")
	}
	a.account.TokenURI = cmp.Or(a.account.TokenURI, tokens)
	a.tokens = a.account.TokenURI
	base := strings.TrimRight(c.BaseURL, "/")
	if base != "" {
		a.tokens = base + "/token"
	}
	a.options = Options{
		ProjectID: a.account.ProjectID, ChannelID: c.Fields["channelId"], ShowsBadge: c.Fields["showBadge"] == "1",
	}
	o.Shared = true
	a.caller = line.Caller{
		Line: line.New(o), Address: cmp.Or(base, home), Classify: Classify, Token: line.Token{Make: a.pass, Now: now},
	}
	return a, nil
}

func parseKey(text string) *rsa.PrivateKey {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		key, _ := k.(*rsa.PrivateKey)
		return key
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil
	}
	return key
}

// pass asks for an access token.
func (a *adapter) pass(ctx context.Context) (line.Pass, error) {
	now := a.now()
	t := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{
		"iss": a.account.ClientEmail, "scope": scope, "aud": a.account.TokenURI,
		"iat": now.Add(-line.Skew).Unix(), "exp": now.Add(assertionAge - line.Skew).Unix(),
	})
	if a.account.PrivateKeyID != "" {
		t.Header["kid"] = a.account.PrivateKeyID
	}
	assertion, err := t.SignedString(a.key)
	if err != nil {
		return line.Pass{}, line.Fail(push.Result{Class: push.ConfigHalt, Code: "sign"}, nil)
	}
	return a.caller.Line.Grant(ctx, a.tokens, "", url.Values{"grant_type": {grant}, "assertion": {assertion}}, now)
}

func (a *adapter) Batch() int { return 1 }

func (a *adapter) Close() { a.caller.Line.Close() }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	return line.Each(batch, a.Render, func(_ *push.Notification, r *push.Request) push.Result { return a.caller.Call(ctx, r) })
}

// nobody is no token of a device.
const nobody = "not/a/token"

// Check has a message to a token that cannot be looked at and not sent: when the
// token is all that the service finds fault with, it takes the credential.
func (a *adapter) Check(ctx context.Context) push.Result {
	body := push.JSON(envelope{ValidateOnly: true, Message: message{
		Token: nobody, Data: map[string]string{}, Android: android{Priority: "NORMAL", TTL: "0s"},
	}})
	r := push.JSONRequest(path(&a.options), body, 0)
	result := a.caller.Call(ctx, &r)
	if result.Class == push.TokenDead || result.Class == push.TokenStrike {
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
