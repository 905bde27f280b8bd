package oppo

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

const (
	addressCN       = "https://api.push.oppomobile.com"
	addressGlobal   = "https://api-intl.push.oppomobile.com"
	addressFeedback = "https://feedback.push.oppomobile.com"
)

// maxBatch is a tenth of what OPPO takes. A longer batch saves little, and all of
// it is sent again when its answer gets lost.
const maxBatch = 100

// An access token is good for a day, and renewed before that is over.
const (
	renewal  = 20 * time.Hour
	lifetime = 24 * time.Hour
)

// maxFeedback is as much of the list of dead tokens as is read, in bytes.
const maxFeedback = 4 << 20

// A side is one of OPPO's two: China's and that of everywhere else. Neither knows
// the other's phones, nor its access tokens.
type side struct {
	address string
	token   line.Token
}

type adapter struct {
	options     Options
	key, secret string
	now         func() time.Time
	timeout     time.Duration // of all of a batch

	cn, global *side // the same where one address takes the place of both
	other      *side // of tokens that do not say it
	check      *side // where is asked whether the credential is good
	line       *line.Line

	feedbackAddress string
	feedback        *line.Line
}

// New makes an adapter for the app with this credential.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	a, err := newAdapter(c, o, now)
	if err != nil {
		return nil, err
	}
	if base := strings.TrimRight(c.BaseURL, "/"); base != "" {
		a.reach(base, base, base)
	} else {
		a.reach(addressCN, addressGlobal, addressFeedback)
	}
	return a, nil
}

func newAdapter(c *chat.PushCredential, o line.Options, now func() time.Time) (*adapter, error) {
	if c.Provider != chat.OPPO {
		return nil, chat.Invalid("provider", "must be OPPO")
	}
	if err := c.Check(); err != nil {
		return nil, err
	}
	a := &adapter{
		options: Options{ChannelID: c.Fields["channelId"], Category: c.Fields["category"]},
		key:     c.Fields["appKey"], secret: c.Fields["masterSecret"], now: now, timeout: o.Timeout,
		cn: &side{}, global: &side{}, line: line.New(o),
	}
	if a.timeout <= 0 {
		a.timeout = line.DefaultTimeout
	}
	a.options.NotifyLevel, _ = strconv.Atoi(c.Fields["notifyLevel"]) // it was checked
	if id := c.Fields["vendorTemplateId"]; id != "" {
		a.options.Template = &Template{ID: id, Title: c.Fields["vendorTemplateTitle"], Body: c.Fields["vendorTemplateBody"]}
	}
	lists := o
	lists.Answer = maxFeedback
	a.feedback = line.New(lists)
	// Without a region: OPPO says that what is not China's by its parts is not
	// China's, and credentials are given out there.
	a.other, a.check = a.global, a.cn
	switch c.Fields["region"] {
	case "cn":
		a.other = a.cn
	case "global":
		a.check = a.global
	}
	return a, nil
}

// reach sets where OPPO is.
func (a *adapter) reach(cn, global, feedback string) {
	if cn == global {
		a.global, a.other, a.check = a.cn, a.cn, a.cn
	}
	a.cn.address, a.global.address, a.feedbackAddress = cn, global, feedback
	for _, s := range [...]*side{a.cn, a.global} {
		s.token.Now = a.now
		s.token.Make = func(ctx context.Context) (line.Pass, error) { return a.auth(ctx, s) }
	}
}

// sideOf is where the token's phone is, which its parts say: CN_x and OPPO_CN_x
// are in China, and so is what has no parts.
func (a *adapter) sideOf(token string) *side {
	first, rest, two := strings.Cut(token, "_")
	second, rest, three := strings.Cut(rest, "_")
	switch {
	case strings.Contains(rest, "_"):
		return a.other
	case !two, !three && first == "CN", three && second == "CN":
		return a.cn
	}
	return a.global
}

func (a *adapter) Batch() int { return maxBatch }

// A part of a batch is a notification in OPPO's words.
type part struct {
	*push.Notification
	text    []byte
	attempt *push.Attempt
}

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	attempts := make([]push.Attempt, len(batch))
	now := a.now()
	var cn, global []part
	for i, n := range batch {
		text, cut, err := compose(n, &a.options, now)
		if err != nil {
			attempts[i] = push.Refused(err)
			continue
		}
		attempts[i].Cut = cut
		p := part{n, text, &attempts[i]}
		if a.sideOf(n.To.Token) == a.cn {
			cn = append(cn, p)
		} else {
			global = append(global, p)
		}
	}
	// One side's trouble is its own: the other does not wait for it.
	var wg sync.WaitGroup
	if len(cn) > 0 && len(global) > 0 {
		wg.Go(func() { a.send(ctx, a.cn, cn) })
	} else {
		a.send(ctx, a.cn, cn)
	}
	a.send(ctx, a.global, global)
	wg.Wait()
	return attempts
}

// send sends the parts to one side and sets what came of each.
func (a *adapter) send(ctx context.Context, s *side, parts []part) {
	switch len(parts) {
	case 0:
		return
	case 1:
		parts[0].settle(oneOf(a.exchange(ctx, s, s.address, a.line, single(parts[0].text))))
		return
	}
	r, data := a.exchange(ctx, s, s.address, a.line, several(parts))
	if ofOne(r) {
		// It does not say whose fault it was, and nobody else is to pay for that.
		half := len(parts) / 2
		a.send(ctx, s, parts[:half])
		a.send(ctx, s, parts[half:])
		return
	}
	var each []push.Result
	if r.Code == "0" {
		tokens := make([]string, len(parts))
		for i := range parts {
			tokens[i] = parts[i].To.Token
		}
		each = eachOf(data, tokens)
	}
	for i, p := range parts {
		if each != nil {
			r = each[i]
		}
		p.settle(r)
	}
}

// settle sets what came of the part.
func (p *part) settle(r push.Result) {
	// What was left out already is not to be left out again.
	r.Without &^= p.Notification.Without
	p.attempt.Result = r
}

// ofOne reports whether what is said of all of a batch can be true of single
// notifications only.
func ofOne(r push.Result) bool {
	switch r.Class {
	case push.PayloadBad, push.TokenDead, push.TokenStrike, push.UserCap:
		return true
	case push.Accepted:
		return r.Code != "0" // one was sent before
	}
	return false
}

// A call is a request with an access token.
type call func(token string) (r push.Request, header map[string]string)

func formWith(path, token, name, text string) push.Request {
	var b bytes.Buffer
	b.Grow(len("auth_token=&messages=") + len(token) + len(text) + len(text)/2)
	b.WriteString("auth_token=")
	b.WriteString(url.QueryEscape(token))
	b.WriteString("&")
	b.WriteString(name)
	b.WriteString("=")
	b.WriteString(url.QueryEscape(text))
	return push.Request{Method: http.MethodPost, Path: path, Header: formHeader, Body: b.Bytes()}
}

var formHeader = map[string]string{"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"}

// single sends one message.
func single(text []byte) call {
	return func(token string) (push.Request, map[string]string) {
		return formWith(sendPath, token, "message", string(text)), nil
	}
}

// several sends messages that need not have anything in common.
func several(parts []part) call {
	texts := make([][]byte, len(parts))
	for i := range parts {
		texts[i] = parts[i].text
	}
	text := "[" + string(bytes.Join(texts, []byte(","))) + "]"
	return func(token string) (push.Request, map[string]string) {
		return formWith(batchPath, token, "messages", text), nil
	}
}

// exchange makes a call with the side's access token, and once more with a new one
// when it is refused. It gives what the answer says of the call as a whole, and
// what else there is in it.
func (a *adapter) exchange(ctx context.Context, s *side, address string, l *line.Line, c call) (r push.Result, data push.Loose) {
	r = s.token.Ask(ctx, func(token string) push.Result {
		q, header := c(token)
		v, err := l.Do(ctx, address, &q, header)
		if err != nil {
			return line.ResultOf(err)
		}
		var r push.Result
		r, data = answer(v.Status, v.Header, v.Body)
		return r
	})
	return r, data
}

// auth asks for an access token.
func (a *adapter) auth(ctx context.Context, s *side) (line.Pass, error) {
	now := a.now()
	stamp := strconv.FormatInt(now.UnixMilli(), 10)
	sum := sha256.Sum256([]byte(a.key + stamp + a.secret))
	form := url.Values{}
	form.Set("app_key", a.key)
	form.Set("timestamp", stamp)
	form.Set("sign", hex.EncodeToString(sum[:]))
	q := push.FormRequest(authPath, form, 0)
	v, err := a.line.Do(ctx, s.address, &q, nil)
	if err != nil {
		return line.Pass{}, err
	}
	r, data := answer(v.Status, v.Header, v.Body)
	var token struct {
		Value string `json:"auth_token"`
	}
	switch r.Class {
	case push.Retry, push.RetryAfter, push.QuotaDay, push.ConfigHalt:
	case push.Accepted:
		if data.Into(&token) && token.Value != "" {
			return line.Pass{Value: token.Value, Made: now, Until: now.Add(renewal), Good: now.Add(lifetime)}, nil
		}
		r = push.Result{Class: push.Retry, Code: "unreadable"}
	default:
		// Whatever is wrong with what proves who we are, it is no notification's fault.
		r.Class = push.ConfigHalt
	}
	return line.Pass{}, line.Fail(r, nil)
}

// Check asks for an access token of its own: the one in use may be older than what
// is wrong with the credential.
func (a *adapter) Check(ctx context.Context) push.Result {
	if _, err := a.auth(ctx, a.check); err != nil {
		return line.ResultOf(err)
	}
	return push.Result{Class: push.Accepted, Code: "0"}
}

// Dead asks for the list of dead tokens, which China's side has.
func (a *adapter) Dead(ctx context.Context) ([]string, error) {
	r, data := a.exchange(ctx, a.cn, a.feedbackAddress, a.feedback, func(token string) (push.Request, map[string]string) {
		// Where it is read from is not agreed upon.
		return push.Request{Method: http.MethodGet, Path: "/server/v1/feedback/fetch_invalid_regidList?auth_token=" + url.QueryEscape(token)},
			map[string]string{"auth_token": token}
	})
	var list struct {
		Tokens []string `json:"registration_ids"`
	}
	switch {
	case r.Class != push.Accepted:
		return nil, line.Fail(r, nil)
	case r.Code != "0", !data.Into(&list):
		return nil, line.Fail(push.Result{Class: push.Retry, Code: "unreadable"}, nil)
	}
	return list.Tokens, nil
}

func (a *adapter) Close() {
	a.line.Close()
	a.feedback.Close()
}

// Render implements push.Renderer.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	return Render(n, &a.options, a.now())
}

// PassAge implements push.PassHolder: of the older of the two sides' tokens.
func (a *adapter) PassAge() (time.Duration, bool) {
	cn, has := a.cn.token.PassAge()
	global, too := a.global.token.PassAge()
	return max(cn, global), has || too
}
