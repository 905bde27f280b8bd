package honor

import (
	"cmp"
	"context"
	"net/url"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

// Where Honor is. Access tokens are another host's business.
const (
	sendHost  = "https://push-api.cloud.honor.com"
	tokenHost = "https://iam.developer.honor.com"
	tokenPath = "/auth/token"
)

type adapter struct {
	caller  line.Caller
	options Options
	now     func() time.Time
}

// New makes the adapter of a credential. Nothing is connected before its first use.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	base := strings.TrimRight(c.BaseURL, "/")
	form := url.Values{"grant_type": {"client_credentials"}, "client_id": {c.Fields["clientId"]}, "client_secret": {c.Fields["clientSecret"]}}
	l := line.New(o)
	return &adapter{
		now: now,
		options: Options{
			AppID: c.Fields["appId"], Importance: c.Fields["importance"], Intent: c.Fields["intent"],
			BadgeClass: c.Fields["badgeClass"], Test: c.Fields["testMessages"] == "1",
		},
		caller: line.Caller{
			Line: l, Address: cmp.Or(base, sendHost), Classify: Classify,
			Token: line.Token{Now: now, Make: func(ctx context.Context) (line.Pass, error) {
				return l.Grant(ctx, cmp.Or(base, tokenHost), tokenPath, form, now())
			}},
		},
	}, nil
}

// Batch is 1: requests take several tokens, but one message for all of them.
func (a *adapter) Batch() int { return 1 }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	return line.Each(batch, a.Render, func(_ *push.Notification, r *push.Request) push.Result { return a.caller.Call(ctx, r) })
}

// Check sends a test message to nobody. An access token alone would say nothing of
// the app, whose number is easily taken for the client's.
func (a *adapter) Check(ctx context.Context) push.Result {
	o := a.options
	o.Test = true
	r, err := Render(push.Nobody(), &o, a.now())
	if err != nil {
		return push.Refused(err).Result
	}
	result := a.caller.Call(ctx, &r)
	if result.Class == push.TokenDead || result.Code == failTokens || result.Code == notSent {
		// Whoever is told what is wrong with the token has been let in.
		result.Class = push.Accepted
	}
	return result
}

func (a *adapter) Close() { a.caller.Line.Close() }

// Render implements push.Renderer.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	return Render(n, &a.options, a.now())
}

// PassAge implements push.PassHolder.
func (a *adapter) PassAge() (time.Duration, bool) { return a.caller.Token.PassAge() }
