package line

import (
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
	Classify func(status int, header http.Header, body []byte) push.Result
}

// Call makes one attempt, with a new access token if the provider takes the one
// there is no more.
func (c *Caller) Call(ctx context.Context, r *push.Request) push.Result {
	return c.Token.Ask(ctx, func(value string) push.Result {
		a, err := c.Line.Do(ctx, c.Address, r, map[string]string{"Authorization": "Bearer " + value})
		if err != nil {
			return ResultOf(err)
		}
		return c.Classify(a.Status, a.Header, a.Body)
	})
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
	if a.Status == http.StatusOK && bearable(v.Token) {
		good := time.Hour
		if n, err := strconv.ParseInt(string(v.Expires), 10, 32); err == nil && n > 0 {
			good = time.Duration(n) * time.Second
		}
		return Pass{Value: v.Token, Made: now, Until: now.Add(max(good-early, good/2))}, nil
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

// bearable reports whether the token can be in a header.
func bearable(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return token != ""
}
