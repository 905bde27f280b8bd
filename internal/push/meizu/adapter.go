package meizu

import (
	"context"
	"crypto/md5"
	"encoding/hex"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

const home = "https://server-api-push.meizu.com"

type adapter struct {
	options Options
	secret  string
	address string
	line    *line.Line
	now     func() time.Time
}

// New makes an adapter of an app's credential.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	for _, name := range [...]string{"appId", "appSecret"} {
		if c.Fields[name] == "" {
			return nil, chat.Invalid(name, "is required")
		}
	}
	a := &adapter{
		options: Options{AppID: c.Fields["appId"], Public: c.Fields["noticeMsgType"] == "2"},
		secret:  c.Fields["appSecret"], address: home, line: line.New(o), now: now,
	}
	if c.BaseURL != "" {
		a.address = strings.TrimRight(c.BaseURL, "/")
	}
	return a, nil
}

func (a *adapter) Batch() int { return 1 }

func (a *adapter) Close() { a.line.Close() }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	return line.Each(batch, a.Render, func(_ *push.Notification, r *push.Request) push.Result { return a.send(ctx, r) })
}

func (a *adapter) send(ctx context.Context, r *push.Request) push.Result {
	// A signature in hexadecimal is the same in a form.
	r.Body = append(append(r.Body, "&sign="...), sign(r.Form, a.secret)...)
	answer, err := a.line.Do(ctx, a.address, r, nil)
	if err != nil {
		return line.ResultOf(err)
	}
	return line.Settled(Classify(answer.Status, answer.Header, answer.Body))
}

// nobody is no phone's: Meizu's tokens are far longer.
const nobody = "0"

// Check sends something to nobody. Meizu has no other way to ask, and looks at who
// sends before it looks for whom.
func (a *adapter) Check(ctx context.Context) push.Result {
	n := push.Notification{To: chat.PushDevice{Token: nobody}, Title: "Check", Body: "Check"}
	r, err := Render(&n, &a.options, a.now())
	if err != nil {
		return push.Refused(err).Result
	}
	result := a.send(ctx, &r)
	switch result.Class {
	case push.TokenDead, push.TokenStrike:
		return push.Result{Class: push.Accepted, Code: result.Code}
	}
	return result
}

// sign is what proves who sends a form: the hash of its fields in the order of their
// names, as they are before they are escaped, and the secret.
func sign(form url.Values, secret string) string {
	h := md5.New()
	for _, name := range slices.Sorted(maps.Keys(form)) {
		_, _ = h.Write([]byte(name + "=" + form.Get(name)))
	}
	_, _ = h.Write([]byte(secret))
	return hex.EncodeToString(h.Sum(nil))
}

// Render implements push.Renderer.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	return Render(n, &a.options, a.now())
}
