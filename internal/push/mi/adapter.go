package mi

import (
	"context"
	"net/http"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

// An address is where Xiaomi is, for apps of one region.
type address struct{ send, feedback string }

var addresses = map[string]address{
	"cn":     {"https://api.xmpush.xiaomi.com", "https://feedback.xmpush.xiaomi.com"},
	"global": {"https://api.xmpush.global.xiaomi.com", "https://feedback.xmpush.global.xiaomi.com"},
}

// maxFeedback is as much of the list of dead tokens as is read, in bytes. A
// thousand tokens at once do not fit in what other answers may have, and what is
// cut off cannot be asked for again.
const maxFeedback = 4 << 20

type adapter struct {
	address
	options  Options
	header   map[string]string // what proves who we are, the same each time
	now      func() time.Time
	line     *line.Line
	feedback *line.Line
}

// New makes an adapter for the app with this credential.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	if c.Provider != chat.MI {
		return nil, chat.Invalid("provider", "must be MI")
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	at := addresses["cn"]
	if region := c.Fields["region"]; region != "" {
		at = addresses[region]
	}
	if base := strings.TrimRight(c.BaseURL, "/"); base != "" {
		at = address{base, base}
	}
	lists := o
	lists.Answer = maxFeedback
	return &adapter{
		address: at, options: optionsOf(c), now: now,
		header: map[string]string{"Authorization": "key=" + c.Fields["appSecret"]},
		line:   line.New(o), feedback: line.New(lists),
	}, nil
}

// optionsOf are those that were set with the credential.
func optionsOf(c *chat.PushCredential) Options {
	o := Options{Package: c.Package, ChannelID: c.Fields["channelId"]}
	if id := c.Fields["vendorTemplateId"]; id != "" {
		o.Template = &Template{ID: id, Title: c.Fields["vendorTemplateTitle"], Body: c.Fields["vendorTemplateBody"]}
	}
	return o
}

// Batch is 1: what can be sent to several at once is the same for all of them, and
// notifications of a chat differ by their rc.
func (a *adapter) Batch() int { return 1 }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	return line.Each(batch, a.Render, func(_ *push.Notification, r *push.Request) push.Result {
		answer, err := a.line.Do(ctx, a.address.send, r, a.header)
		if err != nil {
			return line.ResultOf(err)
		}
		result := line.Settled(Classify(answer.Status, answer.Header, answer.Body))
		if ofPackage[result.Code] && a.options.Package == "" {
			// The package is what the device says of itself: that stops nobody else's.
			result.Class = push.TokenStrike
		}
		return result
	})
}

// ofPackage are codes of packages that are none, or not of the secret.
var ofPackage = map[string]bool{"22000": true, "22006": true, "22007": true, "22022": true}

// Check asks for what became of a message that never was: nobody is notified by
// that, and whoever is not let in gets no further than that.
func (a *adapter) Check(ctx context.Context) push.Result {
	answer, err := a.line.Do(ctx, a.address.send, &push.Request{Method: http.MethodGet, Path: "/v1/trace/message/status?msg_id=parley"}, a.header)
	if err != nil {
		return line.ResultOf(err)
	}
	r := line.Settled(Classify(answer.Status, answer.Header, answer.Body))
	var v struct {
		Result push.Code `json:"result"`
	}
	// What Xiaomi itself says of the message, whatever it is, it says to one it knows.
	if (r.Class == push.PayloadBad || r.Class == push.TokenStrike) && push.ReadJSON(answer.Body, &v) && v.Result != "" {
		r = push.Result{Class: push.Accepted, Code: r.Code}
	}
	return r
}

// Dead asks for the list of dead tokens. Xiaomi calls it retired in favour of
// callbacks, so it may be gone: then there is an error, and tokens that are dead
// collect strikes only.
func (a *adapter) Dead(ctx context.Context) ([]string, error) {
	answer, err := a.feedback.Do(ctx, a.address.feedback, &push.Request{Method: http.MethodGet, Path: "/v1/feedback/fetch_invalid_regids"}, a.header)
	if err != nil {
		return nil, err
	}
	r := line.Settled(Classify(answer.Status, answer.Header, answer.Body))
	if r.Class != push.Accepted {
		return nil, line.Fail(r, nil)
	}
	var v struct {
		Data struct {
			List []string `json:"list"`
		} `json:"data"`
	}
	if !push.ReadJSON(answer.Body, &v) {
		return nil, line.Fail(push.Result{Class: push.Retry, Code: "unreadable"}, nil)
	}
	return v.Data.List, nil
}

func (a *adapter) Close() {
	a.line.Close()
	a.feedback.Close()
}

// Render implements push.Renderer.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	return Render(n, &a.options, a.now())
}
