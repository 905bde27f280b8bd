package push

import (
	"net/url"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// A Renderer is an adapter that says what it would send, without sending it. All of
// the providers' are.
type Renderer interface {
	// Render puts a notification in the provider's words. What proves who sends it is
	// not among them.
	Render(n *Notification) (Request, error)
}

// Masked is the request without the token of the device it is for: only as much of
// that is left as tells it from others. The request itself stays as it is.
func (r *Request) Masked(token string) Request {
	m := *r
	if token == "" {
		return m
	}
	short := chat.ShortToken(token)
	// It may stand as it is, or within JSON, itself perhaps text within JSON.
	pairs := []string{}
	for form := token; ; {
		pairs = append(pairs, form, short)
		quoted, err := jsontext.AppendQuote(nil, form)
		if err != nil || len(pairs) >= 6 || string(quoted[1:len(quoted)-1]) == form {
			break
		}
		form = string(quoted[1 : len(quoted)-1])
	}
	if form := url.QueryEscape(token); form != token {
		pairs = append(pairs, form, short)
	}
	if form := url.PathEscape(token); form != token {
		pairs = append(pairs, form, short)
	}
	mask := strings.NewReplacer(pairs...)
	m.Path, m.Body = mask.Replace(r.Path), []byte(mask.Replace(string(r.Body)))
	if r.Header != nil {
		m.Header = make(map[string]string, len(r.Header))
		for name, value := range r.Header {
			m.Header[name] = mask.Replace(value)
		}
	}
	if r.Form != nil {
		m.Form = make(url.Values, len(r.Form))
		for name, values := range r.Form {
			for _, v := range values {
				m.Form.Add(name, mask.Replace(v))
			}
		}
	}
	return m
}
