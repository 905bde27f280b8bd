package line

import (
	"cmp"
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// A Caller takes requests to a provider that lets in whoever bears an access token.
type Caller struct {
	Line     *Line
	Address  string
	Token    Token
	Header   string // the field that the token goes in; Authorization when empty
	Classify func(status int, header http.Header, body []byte) push.Result
}

// Call makes one attempt, with a new access token if the provider takes the one
// there is no more.
func (c *Caller) Call(ctx context.Context, r *push.Request) push.Result {
	return c.CallAt(ctx, c.Address, r)
}

// CallAt is Call at another address.
func (c *Caller) CallAt(ctx context.Context, address string, r *push.Request) push.Result {
	field := cmp.Or(c.Header, "Authorization")
	return c.Token.Ask(ctx, func(value string) push.Result {
		r.Header[field] = value
		a, err := c.Line.Do(ctx, address, r, nil)
		if err != nil {
			return ResultOf(err)
		}
		return c.Classify(a.Status, a.Header, a.Body)
	})
}

// Each makes one attempt for each notification of a batch, of adapters that send
// them one by one.
func Each(batch []*push.Notification, render func(*push.Notification) (push.Request, error), send func(*push.Notification, *push.Request) push.Result) []push.Attempt {
	attempts := make([]push.Attempt, len(batch))
	for i, n := range batch {
		r, err := render(n)
		if err != nil {
			attempts[i] = push.Refused(err)
			continue
		}
		attempts[i] = push.Attempt{Result: send(n, &r), Cut: r.Cut}
		attempts[i].Without &^= n.Without // what is left out already was not it
	}
	return attempts
}

// Settled is the result where there is no access token that could be made anew.
func Settled(r push.Result) push.Result {
	if r.Class == push.AuthRefresh {
		r.Class = push.ConfigHalt
	}
	return r
}

// early is how long before its end a token is used no more: a request may be under
// way for a while, and clocks differ.
const early = 5 * time.Minute

// Grant asks for an access token as OAuth 2 has it: with a form, at an address of
// the provider's. Who does not get one for a reason of its own is not let in.
func (l *Line) Grant(ctx context.Context, address, path string, form url.Values, now time.Time) (Pass, error) {
	r := push.FormRequest(path, form, 0)
	a, err := l.Do(ctx, address, &r, nil)
	if err != nil {
		return Pass{}, err
	}
	var v struct {
		Token   string    `json:"access_token"`
		Expires push.Code `json:"expires_in"`
		Error   push.Code `json:"error"`
	}
	if !push.ReadJSON(a.Body, &v) {
		v.Token, v.Error = "", ""
	}
	if a.Status == http.StatusOK && Bearable(v.Token) {
		good := time.Hour
		if n, err := strconv.ParseInt(string(v.Expires), 10, 32); err == nil && n > 0 {
			good = time.Duration(n) * time.Second
		}
		return Pass{Value: "Bearer " + v.Token, Made: now, Until: now.Add(max(good-early, good/2)), Good: now.Add(good)}, nil
	}
	result := push.ByStatus(a.Status, push.ParseRetryAfter(a.Header.Get))
	if v.Error != "" && len(v.Error) <= 64 && a.Status < 500 {
		result.Code = string(v.Error)
		if result.Class != push.RetryAfter {
			result.Class = push.ConfigHalt
		}
	}
	switch result.Class {
	case push.Retry, push.RetryAfter:
	default:
		result.Class = push.ConfigHalt
	}
	result.Code, result.Unknown = "oauth "+result.Code, false
	return Pass{}, Fail(result, nil)
}

// Bearable reports whether the access token can be in a header.
func Bearable(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return token != ""
}
