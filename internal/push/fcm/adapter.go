package fcm

import (
	"cmp"
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
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
	// renewal is how long before its end an access token is renewed.
	renewal = 5 * time.Minute
)

type adapter struct {
	options Options
	account account
	key     *rsa.PrivateKey
	address string
	tokens  string // where access tokens are
	line    *line.Line
	token   line.Token
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
	a := &adapter{address: home, now: now}
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
	if c.BaseURL != "" {
		a.address = strings.TrimRight(c.BaseURL, "/")
		a.tokens = a.address + "/token"
	}
	a.options = Options{
		ProjectID: a.account.ProjectID, ChannelID: c.Fields["channelId"], ShowsBadge: c.Fields["showBadge"] == "1",
	}
	o.Shared = true
	a.line = line.New(o)
	a.token = line.Token{Make: a.pass, Now: now}
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
		"iat": now.Unix(), "exp": now.Add(assertionAge).Unix(),
	})
	if a.account.PrivateKeyID != "" {
		t.Header["kid"] = a.account.PrivateKeyID
	}
	assertion, err := t.SignedString(a.key)
	if err != nil {
		return line.Pass{}, line.Fail(push.Result{Class: push.ConfigHalt, Code: "sign"}, nil)
	}
	r := push.FormRequest("", url.Values{"grant_type": {grant}, "assertion": {assertion}}, 0)
	answer, err := a.line.Do(ctx, a.tokens, &r, nil)
	if err != nil {
		return line.Pass{}, err
	}
	var v struct {
		AccessToken string     `json:"access_token"`
		ExpiresIn   int64      `json:"expires_in"`
		Error       push.Loose `json:"error"` // a word, and of some ways that it can go an object
	}
	readable := push.ReadJSON(answer.Body, &v)
	if answer.Status == http.StatusOK && readable && v.AccessToken != "" {
		age := time.Duration(v.ExpiresIn) * time.Second
		return line.Pass{Value: "Bearer " + v.AccessToken, Made: now, Until: now.Add(max(age-renewal, age/2))}, nil
	}
	result := push.ByStatus(answer.Status, push.ParseRetryAfter(answer.Header.Get))
	switch result.Class {
	case push.Retry, push.RetryAfter:
	default:
		// Whatever else is wrong is wrong with the account, and with none of the
		// notifications that wait for the answer.
		result.Class, result.Unknown = push.ConfigHalt, false
		var word string
		if readable && v.Error.Into(&word) {
			result.Code = word
		}
	}
	return line.Pass{}, line.Fail(result, nil)
}

func (a *adapter) Batch() int { return 1 }

func (a *adapter) Close() { a.line.Close() }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	attempts := make([]push.Attempt, len(batch))
	for i, n := range batch {
		r, err := Render(n, &a.options, a.now())
		if err != nil {
			attempts[i] = push.Refused(err)
			continue
		}
		attempts[i] = push.Attempt{Result: a.ask(ctx, &r), Cut: r.Cut}
	}
	return attempts
}

func (a *adapter) ask(ctx context.Context, r *push.Request) push.Result {
	return a.token.Ask(ctx, func(token string) push.Result {
		r.Header["Authorization"] = token
		answer, err := a.line.Do(ctx, a.address, r, nil)
		if err != nil {
			return line.ResultOf(err)
		}
		return Classify(answer.Status, answer.Header, answer.Body)
	})
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
	result := a.ask(ctx, &r)
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
func (a *adapter) PassAge() (time.Duration, bool) { return a.token.PassAge() }
