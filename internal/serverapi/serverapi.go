// Package serverapi is the door for apps' backends: the signed HTTP API under
// /v4.
//
// A call goes through the same steps whatever it asks for: request id, path and
// method and media type, signature, body, idempotency key, replay guard,
// decoding, rate limit, verb, answer. The order is in [api.serve]; what differs
// between operations is a row of the table in operations.go.
package serverapi

import (
	"cmp"
	"context"
	"io"
	"log/slog"
	"math/rand/v2"
	"mime"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/budget"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/dispatch"
	"github.com/parleychat/parley/internal/trace"
)

const (
	defaultMaxBody = 4 << 20
	maxRequestID   = 36 // characters (platform-chat-api/auth)
)

// Courier sends messages.
type Courier interface {
	Archive
	Channels
	Cleaner
	OpenChannels
	Pairs
	Begin(ctx context.Context, app *chat.App, scope, field, key string, body []byte) (*courier.Claim, error)
	Send(ctx context.Context, app *chat.App, s *courier.Send) (*courier.Sent, error)
	Vet(ctx context.Context, app *chat.App, s *courier.Send) (to, left []string, err error)
	SendChunk(ctx context.Context, app *chat.App, q *courier.StreamChunk) (*courier.Sent, error)
	Broadcast(ctx context.Context, app *chat.App, q *courier.BroadcastRequest) (*courier.Sent, error)
	RecallBroadcast(ctx context.Context, app *chat.App, q *courier.BroadcastRecallRequest) error
	BroadcastReport(ctx context.Context, app *chat.App, uid chat.UID) (*courier.BroadcastReport, error)
}

// Presence knows who is connected.
type Presence interface {
	// Online reports whether the user has a connection.
	Online(app chat.AppID, user string) bool
	// Expire ends the users' connections made with tokens issued before the
	// given time (Unix ms).
	Expire(app chat.AppID, users []string, before int64)
	// Shut ends the users' connections because of what they now are: KindBanned
	// or KindDeleted.
	Shut(app chat.AppID, users []string, why chat.Kind)
}

// Tracer tells what became of messages.
type Tracer interface {
	Trace(ctx context.Context, app *chat.App, uid chat.UID, p trace.Page) (*trace.Report, error)
}

// Pushes notifies those who are away.
type Pushes interface {
	Preview(ctx context.Context, app *chat.App, m *chat.Message, users []string) ([]dispatch.Preview, error)
	// Check asks the provider whether it takes the credential.
	Check(ctx context.Context, c *chat.PushCredential) push.Verdict
	// CheckAll asks about those of the app's credentials.
	CheckAll(ctx context.Context, app *chat.App, about func(*chat.PushCredential) bool) ([]push.Checked, error)
}

// Options are what the API works with. Directory, Courier, Presence, Tracer and
// Pushes must be set.
type Options struct {
	Directory *directory.Directory
	Courier   Courier
	Presence  Presence
	Tracer    Tracer
	Pushes    Pushes

	// Ready is nil while the node takes calls, and otherwise why it does not.
	Ready func() error

	Now     func() time.Time      // time.Now when nil
	Logger  *slog.Logger          // slog.Default() when nil
	Metrics prometheus.Registerer // nil for none

	MaxBody        int // largest body in bytes; 4 MiB when 0
	ReplayCapacity int // calls the replay guard remembers per app; 2^20 when 0
}

type api struct {
	directory *directory.Directory
	courier   Courier
	presence  Presence
	tracer    Tracer
	pushes    Pushes
	ready     func() error
	now       func() time.Time
	log       *slog.Logger
	maxBody   int

	operations map[string]*operation // by path
	budgets    *budget.Book[budgetKey]
	replay     *replayGuard
	metrics    metrics
}

type budgetKey struct {
	app       chat.AppID
	operation string
}

// New makes the handler. It answers every path, those that are none of the API
// with an error in the API's form.
//
// Base URLs that end in a slash make paths such as //v4/user/get. The handler
// takes them, but http.ServeMux in front of it would answer with a redirect.
func New(o Options) http.Handler {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	a := &api{
		directory: o.Directory, courier: o.Courier, presence: o.Presence, tracer: o.Tracer, pushes: o.Pushes,
		ready: o.Ready, now: o.Now, log: o.Logger,
		maxBody:    cmp.Or(o.MaxBody, defaultMaxBody),
		operations: map[string]*operation{},
		budgets:    budget.NewBook[budgetKey](o.Now),
		metrics:    newMetrics(o.Metrics),
	}
	a.replay = newReplayGuard(cmp.Or(o.ReplayCapacity, defaultReplayCapacity), a.metrics.replayEvicted)
	for i := range operations {
		a.operations[operations[i].path] = &operations[i]
		if alias := operations[i].alias; alias != "" {
			a.operations[alias] = &operations[i]
		}
	}
	return a
}

// trimSlashes leaves one of the slashes in front.
func trimSlashes(path string) string {
	for len(path) > 1 && path[0] == '/' && path[1] == '/' {
		path = path[1:]
	}
	return path
}

// A call is one request on its way through.
type call struct {
	api *api
	w   http.ResponseWriter
	r   *http.Request

	id    string
	op    *operation // nil for an unknown path
	app   *chat.App  // nil before the signature was verified
	cred  credentials
	body  []byte
	out   []byte
	claim *courier.Claim

	status    int
	forgiving bool // see remember

	// Of the operation, here so that they come with the pooled call.
	sendRequest sendRequest
	account     accountRequest
}

var calls = sync.Pool{New: func() any { return new(call) }}

// keepBuffer is the largest buffer kept for the next call. Most bodies are of a
// few KB; a thousand recipients make an answer of 130 KB.
const keepBuffer = 256 << 10

func (a *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := calls.Get().(*call)
	*c = call{api: a, w: w, r: r, body: c.body[:0], out: c.out[:0]}
	started := a.now()
	c.id = requestID(r.Header)
	w.Header()["X-Request-Id"] = []string{c.id}
	c.run()
	a.metrics.served(c.operation(), c.status, a.now().Sub(started))

	if cap(c.body) > keepBuffer {
		c.body = nil
	}
	if cap(c.out) > keepBuffer {
		c.out = nil
	}
	*c = call{body: c.body, out: c.out}
	calls.Put(c)
}

// run serves the call and answers it whatever happens. Nothing is written
// before the outcome is known, so a panic still finds a clean connection.
func (c *call) run() {
	defer func() {
		c.claim.Release()
		p := recover()
		if p == nil {
			return
		}
		if p == http.ErrAbortHandler || c.status != 0 {
			panic(http.ErrAbortHandler)
		}
		c.api.log.LogAttrs(c.r.Context(), slog.LevelError, "panic", slog.String("request_id", c.id),
			slog.String("operation", c.operation()), slog.Any("panic", p), slog.String("stack", string(debug.Stack())))
		c.fail(chat.Fail(chat.KindInternal, internalText))
	}()
	if err := c.api.serve(c); err != nil {
		c.forgive(err)
		c.fail(err)
		return
	}
	c.sendStatus(http.StatusOK)
}

// serve is the order of a call.
func (a *api) serve(c *call) error {
	if err := a.route(c); err != nil {
		return err
	}
	if a.ready != nil {
		if err := a.ready(); err != nil {
			if chat.KindOf(err) == chat.KindInternal {
				err = chat.Because(chat.KindUnavailable, "the server does not take calls now", err)
			}
			return err
		}
	}
	if err := c.authenticate(); err != nil {
		return err
	}
	if err := c.readBody(); err != nil {
		return err
	}
	// HTTP libraries resend a call whose answer was lost with the same headers:
	// who sent a key is answered from memory before the replay guard and the
	// rate limit have a say.
	if c.op.idempotent {
		if err := c.beginOnce(); err != nil {
			return err
		}
	}
	if !c.claim.Repeats() {
		if err := c.remember(); err != nil {
			return err
		}
	}
	return c.op.serve(c)
}

// route finds the operation and checks what the call is before who it is from.
func (a *api) route(c *call) error {
	path := trimSlashes(c.r.URL.Path)
	c.op = a.operations[path]
	if c.op == nil {
		return &refusal{&noSuchPath, "no such operation: the path must be one of the API, such as " + operations[0].path}
	}
	if c.r.Method != http.MethodPost {
		c.w.Header()["Allow"] = allowPost
		return &refusal{&wrongMethod, "the method must be POST, got " + c.r.Method}
	}
	if v := c.r.Header["Content-Encoding"]; len(v) > 0 && v[0] != "" && v[0] != "identity" {
		return &refusal{&mediaType, "Content-Encoding: a compressed body is not taken"}
	}
	types := c.r.Header["Content-Type"]
	if len(types) == 0 || types[0] == "" {
		return &refusal{&mediaType, "Content-Type: must be application/json, got none"}
	}
	if !isJSON(types[0]) {
		return &refusal{&mediaType, "Content-Type: must be application/json, in UTF-8"}
	}
	return nil
}

var (
	allowPost   = []string{http.MethodPost}
	contentType = []string{"application/json; charset=utf-8"}
	replayed    = []string{"true"}
)

func isJSON(mediaType string) bool {
	if mediaType == "application/json" {
		return true
	}
	name, params, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return false
	}
	switch charset := params["charset"]; {
	case charset == "", strings.EqualFold(charset, "utf-8"), strings.EqualFold(charset, "utf8"), strings.EqualFold(charset, "us-ascii"):
	default:
		return false
	}
	return name == "application/json" || strings.HasPrefix(name, "application/") && strings.HasSuffix(name, "+json")
}

// requestID is the caller's, when it is one to 36 visible ASCII characters, or
// one made up. It need not be secret, so the cheap source of randomness does.
func requestID(h http.Header) string {
	if v := h["X-Request-Id"]; len(v) > 0 && len(v[0]) > 0 && len(v[0]) <= maxRequestID {
		visible := true
		for i := range len(v[0]) {
			visible = visible && v[0][i] > ' ' && v[0][i] <= '~'
		}
		if visible {
			return v[0]
		}
	}
	const digits = "0123456789abcdefghijklmnopqrstuv"
	var b [24]byte
	hi, lo := rand.Uint64(), rand.Uint64()
	for i := range 12 {
		b[i], b[12+i] = digits[hi&31], digits[lo&31]
		hi, lo = hi>>5, lo>>5
	}
	return string(b[:])
}

func (c *call) readBody() error {
	limit := c.api.maxBody
	if c.r.ContentLength > int64(limit) {
		return c.tooLarge(strconv.FormatInt(c.r.ContentLength, 10))
	}
	if n := int(c.r.ContentLength); n > cap(c.body) {
		c.body = make([]byte, 0, n+1) // one more, so that the end is found without growing
	}
	b := c.body
	for {
		if len(b) == cap(b) {
			b = slices.Grow(b, 1024) // a body of unknown length
		}
		n, err := c.r.Body.Read(b[len(b):cap(b)])
		b = b[:len(b)+n]
		if len(b) > limit {
			return c.tooLarge("more than " + strconv.Itoa(limit))
		}
		if err == io.EOF {
			c.body = b
			return nil
		}
		if err != nil {
			c.w.Header()["Connection"] = []string{"close"}
			return chat.Because(chat.KindInvalid, "body: could not be read to its end", err)
		}
	}
}

func (c *call) tooLarge(got string) error {
	c.w.Header()["Connection"] = []string{"close"} // the rest of the body is not waited for
	return &refusal{&bodyTooLong, "body: at most " + strconv.Itoa(c.api.maxBody) + " bytes, got " + got}
}

const idempotencyKey = "Idempotency-Key"

func (c *call) beginOnce() (err error) {
	v, given := c.r.Header[idempotencyKey]
	if !given || len(v) == 0 {
		return nil
	}
	c.claim, err = c.api.courier.Begin(c.r.Context(), c.app, c.op.path, idempotencyKey, v[0], c.body)
	return err
}

// remember refuses a call whose signing headers were used before.
func (c *call) remember() error {
	s := &c.app.Settings
	if s.AuthWindow == 0 || !s.AuthReplay {
		return nil
	}
	if !c.api.replay.first(c.app, &c.cred, c.api.now()) {
		return c.refuse(refusedReplay, chat.Fail(chat.KindSignature,
			"these signing headers were used before; each call needs a Nonce of its own and a new Signature"))
	}
	c.forgiving = true
	return nil
}

// forgive takes the signing headers of a call back that had no effect and may
// succeed later: HTTP libraries repeat such calls with the same headers. One
// whose outcome is not known can be repeated so only with an idempotency key.
func (c *call) forgive(err error) {
	if !c.forgiving {
		return
	}
	switch chat.KindOf(err) {
	case chat.KindRate, chat.KindUnavailable:
	case chat.KindUnknown:
		if c.claim == nil {
			return
		}
	default:
		return
	}
	c.api.replay.forget(c.app, &c.cred)
}

// spend takes the call from the budget of its operation.
func (c *call) spend() error { return c.spendFor(1, "") }

// spendFor takes as much as the field holds items, where the limit counts them.
func (c *call) spendFor(n int, field string) error {
	return c.api.budgets.Take(budgetKey{c.app.ID, cmp.Or(c.op.budget, c.op.name)}, c.op.limit(&c.app.Settings), n, field)
}

func (c *call) operation() string {
	if c.op == nil {
		return unknownOperation
	}
	return c.op.name
}

// sendStatus writes the answer that is in out.
func (c *call) sendStatus(status int) {
	c.status = status
	h := c.w.Header()
	h["Content-Type"] = contentType
	h["Content-Length"] = []string{strconv.Itoa(len(c.out))}
	c.w.WriteHeader(status)
	_, _ = c.w.Write(c.out) // the caller has gone away: there is nobody to tell
}
