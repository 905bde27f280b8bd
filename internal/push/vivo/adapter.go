package vivo

import (
	"cmp"
	"context"
	"crypto/md5"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"golang.org/x/time/rate"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

const home = "https://api-push.vivo.com.cn"

const (
	// An access token lives for a day. vivo wants it to be kept, and renewed after
	// one or two hours; the old one lives on meanwhile.
	renewal  = 90 * time.Minute
	lifetime = 24 * time.Hour
	// vivo gives an app ten of them a second, whichever node asks. Asking for more
	// than these is a standstill that goes round in circles.
	authsPerSecond = 3
)

type adapter struct {
	options Options
	key     string // of the app
	secret  string
	caller  line.Caller
	auths   *rate.Limiter
	now     func() time.Time
}

// New makes an adapter of an app's credential.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	id, err := strconv.ParseInt(c.Fields["appId"], 10, 64)
	if err != nil {
		return nil, chat.Invalid("appId", "must be a number")
	}
	a := &adapter{
		options: Options{AppID: id, Category: c.Fields["category"], Test: c.Fields["pushMode"] == "1"},
		key:     c.Fields["appKey"], secret: c.Fields["appSecret"],
		auths: rate.NewLimiter(authsPerSecond, authsPerSecond), now: now,
	}
	if c.Fields["classification"] == "1" {
		a.options.Classification = 1
	}
	a.caller = line.Caller{
		Line: line.New(o), Address: cmp.Or(strings.TrimRight(c.BaseURL, "/"), home), Header: "authToken",
		Classify: Classify, Token: line.Token{Make: a.pass, Now: now},
	}
	return a, nil
}

func (a *adapter) Batch() int { return 1 }

func (a *adapter) Close() { a.caller.Line.Close() }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	return line.Each(batch, a.Render, func(_ *push.Notification, r *push.Request) push.Result { return a.caller.Call(ctx, r) })
}

// Check asks for an access token: without a phone nothing more can be asked. It
// asks for one of its own, as the one in use says nothing of whether the secret is
// still the app's.
func (a *adapter) Check(ctx context.Context) push.Result {
	if _, err := a.pass(ctx); err != nil {
		return line.ResultOf(err)
	}
	return push.Result{Class: push.Accepted, Code: "0"}
}

type authRequest struct {
	AppID     int64  `json:"appId"`
	AppKey    string `json:"appKey"`
	Timestamp int64  `json:"timestamp"`
	Sign      string `json:"sign"`
}

// pass asks for an access token.
func (a *adapter) pass(ctx context.Context) (line.Pass, error) {
	now := a.now()
	if !a.auths.AllowN(now, 1) {
		return line.Pass{}, line.Fail(push.Result{Class: push.RetryAfter, Code: "auth rate", After: time.Second}, nil)
	}
	at := now.UnixMilli()
	r := push.JSONRequest("/message/auth", push.JSON(authRequest{
		AppID: a.options.AppID, AppKey: a.key, Timestamp: at, Sign: sign(a.options.AppID, a.key, at, a.secret),
	}), 0)
	answer, err := a.caller.Line.Do(ctx, a.caller.Address, &r, nil)
	if err != nil {
		return line.Pass{}, err
	}
	result := Classify(answer.Status, answer.Header, answer.Body)
	switch result.Class {
	case push.Accepted:
		var v struct {
			Token string `json:"authToken"`
		}
		if !push.ReadJSON(answer.Body, &v) || !line.Bearable(v.Token) {
			return line.Pass{}, line.Fail(push.Result{Class: push.Retry, Code: "unreadable"}, nil)
		}
		return line.Pass{Value: v.Token, Made: now, Until: now.Add(renewal), Good: now.Add(lifetime)}, nil
	case push.Retry, push.RetryAfter, push.QuotaDay:
	default:
		// Whatever else is wrong with asking is wrong with the credential, and with
		// no notification that waits for the answer.
		result.Class = push.ConfigHalt
	}
	return line.Pass{}, line.Fail(result, nil)
}

func sign(appID int64, key string, at int64, secret string) string {
	sum := md5.Sum([]byte(strconv.FormatInt(appID, 10) + key + strconv.FormatInt(at, 10) + secret))
	return hex.EncodeToString(sum[:])
}

// Render implements push.Renderer.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	return Render(n, &a.options, a.now())
}

// PassAge implements push.PassHolder.
func (a *adapter) PassAge() (time.Duration, bool) { return a.caller.Token.PassAge() }
