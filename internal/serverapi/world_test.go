package serverapi

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	openapi "github.com/parleychat/parley/api"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/dispatch"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
	"github.com/parleychat/parley/internal/trace"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	direct = "/v4/direct-channel/message/send"
	system = "/v4/system-channel/message/send"
	open   = "/v4/open-channel/message/send"
	issue  = "/v4/auth/access-token/issue"
	expire = "/v4/auth/access-token/expire"
	user   = "/v4/user/get"
	status = "/v4/user/connection-status/get"

	modify     = "/v4/user/update"
	ban        = "/v4/user/ban"
	unban      = "/v4/user/unban"
	banned     = "/v4/user/ban/list"
	mute       = "/v4/channel-type/mute/set"
	muted      = "/v4/channel-type/mute/list"
	softDelete = "/v4/user/soft-delete"
	restore    = "/v4/user/restore"
	deleted    = "/v4/user/soft-deleted/list"
	block      = "/v4/user/blocklist/add"
	unblock    = "/v4/user/blocklist/remove"
	blocklist  = "/v4/user/blocklist/get"
	setTags    = "/v4/user/tag/batch/set"
	getTags    = "/v4/user/tag/batch/get"
	castAll    = "/v4/system-channel/message/broadcast-all"
	castOnline = "/v4/system-channel/message/broadcast-online"
	castRecall = "/v4/system-channel/message/broadcast/delete"
	byTag      = "/v4/system-channel/tagged-users/send"
	byPackage  = "/v4/system-channel/app-package-users/send"
	tracePath  = "/v4x/message/trace"

	createRoom    = "/v4/open-channel/create"
	getRoom       = "/v4/open-channel/get"
	destroyRooms  = "/v4/open-channel/destroy"
	endRoom       = "/v4/open-channel/destroy-type/set"
	keepAlivePath = "/v4x/open-channel/keep-alive-list" // and /add, /remove, /get, as those below
	roomCast      = "/v4/open-channel/message/broadcast"

	participants    = "/v4/open-channel/participant/list"
	exist           = "/v4/open-channel/participant/exist"
	roomMute        = "/v4/open-channel/participant/mute-list"
	roomBan         = "/v4/open-channel/participant/ban-list"
	globalMute      = "/v4/open-channel/global-mute-list"
	freezeList      = "/v4/open-channel/freeze-list"
	frozen          = "/v4/open-channel/freeze/check"
	allowedSenders  = "/v4/open-channel/participant/allowed-sender-list"
	prioritySenders = "/v4/open-channel/priority-sender-list"
	priorityTypes   = "/v4/open-channel/priority-message-type-list"
	lowTypes        = "/v4/open-channel/low-priority-message-type-list"
)

// A world is a server API over everything real below it, on a disk in memory.
type world struct {
	t       *testing.T
	fs      *disk
	clock   *clock
	handler http.Handler
	dir     *directory.Directory
	store   *pebble.Store
	courier *gate
	tracer  *trace.Tracer
	rooms   *room.Rooms
	commit  func(*store.Commit)
	seats   []*seat
	seated  atomic.Int64 // when not 0, the time that rooms go by
	said    *presence
	app     *chat.App
	metrics *prometheus.Registry
	log     *lockedBuffer
	ready   atomic.Pointer[error]
	close   func()
	nonces  atomic.Int64
}

// A clock stands still unless told to move.
type clock struct{ ms atomic.Int64 }

func (c *clock) now() time.Time          { return time.UnixMilli(c.ms.Load()) }
func (c *clock) advance(d time.Duration) { c.ms.Add(d.Milliseconds()) }

// A disk is in memory, with as much room as it is told to have.
type disk struct {
	vfs.FS
	free atomic.Uint64
}

func newDisk() *disk {
	d := &disk{FS: vfs.NewMem()}
	d.free.Store(1 << 40)
	return d
}

func (d *disk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: d.free.Load(), TotalBytes: 1 << 41}, nil
}

// presence is a node's client connections, as far as this door sees them.
type presence struct {
	mu      sync.Mutex
	online  map[string]bool
	clients map[string]chat.Client
	expired []string
	shut    []string
	settle  func(users []string) error
}

func (p *presence) Online(app chat.AppID, user string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.online[strconv.Itoa(int(app))+"/"+user]
}

func (p *presence) Expire(app chat.AppID, users []string, before int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range users {
		p.expired = append(p.expired, strconv.Itoa(int(app))+"/"+u+"/"+strconv.FormatInt(before, 10))
	}
}

func (p *presence) Shut(app chat.AppID, users []string, why chat.Kind) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, u := range users {
		p.shut = append(p.shut, strconv.Itoa(int(app))+"/"+u+"/"+why.String())
	}
}

// Cursors are none: nobody here acknowledges anything.
func (p *presence) Cursors(app chat.AppID, user string) ([]push.Cursor, bool) {
	return nil, p.Online(app, user)
}

func (p *presence) Probe(chat.AppID, string, uint64) {}

func (p *presence) Wake(chat.AppID, string)                                     {}
func (p *presence) Whisper(chat.AppID, string, *chat.Message, chat.UID, string) {}

// Connected are the users who are online and have said from what (goOnline), in
// one part. Of others nobody is given broadcasts here, so that tests which are not
// about them see nothing change by itself.
func (p *presence) Connected(app chat.AppID, _ int) (list []courier.Session, parts int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, client := range p.clients {
		if user, of := strings.CutPrefix(key, strconv.Itoa(int(app))+"/"); of {
			list = append(list, courier.Session{User: user, Client: client})
		}
	}
	return list, 1
}

// Settle does what the gateway does for sessions: it stores what they know.
func (p *presence) Settle(ctx context.Context, app chat.AppID, users []string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settle == nil {
		return nil
	}
	return p.settle(users)
}

// A gate is a courier that remembers what was sent and can be made to wait or
// fail before it sends.
type gate struct {
	Courier
	mu     sync.Mutex
	sent   []*courier.Send
	before func(context.Context) error
}

func (g *gate) Send(ctx context.Context, app *chat.App, s *courier.Send) (*courier.Sent, error) {
	g.mu.Lock()
	g.sent = append(g.sent, s)
	before := g.before
	g.mu.Unlock()
	if before != nil {
		if err := before(ctx); err != nil {
			return nil, err
		}
	}
	return g.Courier.Send(ctx, app, s)
}

func (g *gate) hold(before func(context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.before = before
}

// last is the message sent last.
func (g *gate) last() *chat.Message {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.sent[len(g.sent)-1].Message
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func newWorld(t *testing.T, settings ...string) *world {
	t.Helper()
	w := &world{t: t, fs: newDisk(), clock: new(clock), said: &presence{online: map[string]bool{}}}
	w.clock.ms.Store(time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC).UnixMilli())
	w.open()
	w.app = w.newApp("uwd1c0sxdlx2", "s3cret-of-the-app")
	for i := 0; i < len(settings); i += 2 {
		w.set(settings[i], settings[i+1])
	}
	t.Cleanup(func() { w.close() })
	return w
}

func (w *world) open() {
	w.t.Helper()
	w.metrics, w.log = prometheus.NewRegistry(), new(lockedBuffer)
	logger := slog.New(slog.NewJSONHandler(w.log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var c *courier.Courier
	s, err := pebble.Open(w.t.Context(), pebble.Options{
		Dir: "data", FS: w.fs, Now: w.clock.now, Logger: slog.New(slog.DiscardHandler), MinFree: 1, Ballast: 1,
		CacheBytes: 1 << 20, OnCommit: func(cm *store.Commit) { c.OnCommit(cm) },
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = s
	if w.dir, err = directory.Open(w.t.Context(), s, w.clock.now); err != nil {
		w.t.Fatal(err)
	}
	tr := trace.New(s, w.said, w.clock.now)
	w.tracer = tr
	w.rooms = room.New(func() time.Time {
		if at := w.seated.Load(); at != 0 {
			return time.UnixMilli(at)
		}
		return w.clock.now()
	})
	c = courier.New(courier.Options{
		Store: s, Archive: s, Users: w.dir, Open: w.dir, Rooms: w.rooms, Sessions: w.said, Reach: tr, Now: w.clock.now, Logger: logger,
	})
	w.courier, w.commit = &gate{Courier: c}, c.OnCommit
	pushes := dispatch.New(dispatch.Options{
		Store: s, Directory: w.dir, Sessions: w.said, Now: w.clock.now, Logger: logger,
		Adapter: func(c *chat.PushCredential) (push.Adapter, error) { return newSpeller(c, w.clock.now) },
	})
	w.handler = New(Options{
		Directory: w.dir, Courier: w.courier, Presence: w.said, Tracer: tr, Pushes: pushes, Now: w.clock.now, Logger: logger, Metrics: w.metrics,
		Ready: func() error {
			if err := w.ready.Load(); err != nil {
				return *err
			}
			return nil
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	running.Go(func() { w.rooms.Run(ctx) })
	running.Go(func() { c.RunDue(ctx) })
	rooms := w.rooms
	running.Go(func() { rooms.Run(ctx) })
	running.Go(func() { c.RunBroadcasts(ctx) })
	running.Go(func() { courier.NewIndexer(s, logger).Run(ctx) })
	running.Go(func() { tr.Run(ctx) })
	w.close = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		if err := s.Close(); err != nil {
			w.t.Error(err)
		}
	})
	for _, s := range w.seats { // clients come back by themselves
		w.takeSeat(s)
	}
}

// restart ends the process and starts it again on the same disk.
func (w *world) restart() {
	w.t.Helper()
	w.close()
	w.open()
	w.app = w.dir.App(w.app.Key)
}

func (w *world) newApp(key, secret string) *chat.App {
	w.t.Helper()
	app, _, err := w.dir.EnsureApp(w.t.Context(), key, secret)
	if err != nil {
		w.t.Fatal(err)
	}
	return app
}

func (w *world) set(name, value string) {
	w.t.Helper()
	app, err := w.dir.SetApp(w.t.Context(), w.app.Key, map[string]string{name: value})
	if err != nil {
		w.t.Fatal(err)
	}
	w.app = app
}

// signed is what a caller of the app puts into the headers.
func (w *world) signed(app *chat.App) http.Header {
	nonce := strconv.FormatInt(w.nonces.Add(1), 10)
	ts := strconv.FormatInt(w.clock.ms.Load(), 10)
	return http.Header{
		"App-Key": {app.Key}, "Nonce": {nonce}, "Timestamp": {ts}, "Signature": {sha1Hex(app.Secret + nonce + ts)},
		"Content-Type": {"application/json"},
	}
}

func sha1Hex(s string) string {
	sum := sha1.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

// A reply is an answer.
type reply struct {
	Status int
	Header http.Header
	Body   string
}

func (r *reply) code() int {
	var v struct {
		Code *int `json:"code"`
	}
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || v.Code == nil {
		return -1
	}
	return *v.Code
}

func (r *reply) message() string {
	var v struct {
		Message string `json:"errorMessage"`
	}
	_ = json.Unmarshal([]byte(r.Body), &v)
	return v.Message
}

// call makes a signed call. Edits change its headers before it goes out.
func (w *world) call(path, body string, edits ...func(http.Header)) *reply {
	w.t.Helper()
	h := w.signed(w.app)
	for _, edit := range edits {
		edit(h)
	}
	return w.do(http.MethodPost, path, h, body)
}

func with(name, value string) func(http.Header) {
	return func(h http.Header) { h.Set(name, value) }
}

func without(name string) func(http.Header) {
	return func(h http.Header) { h.Del(name) }
}

// do makes a call and checks the answer against the published description.
func (w *world) do(method, path string, h http.Header, body string) *reply {
	w.t.Helper()
	r := httptest.NewRequestWithContext(w.t.Context(), method, path, strings.NewReader(body))
	r.Header = h
	rec := httptest.NewRecorder()
	w.handler.ServeHTTP(rec, r)
	out := &reply{rec.Code, rec.Result().Header, rec.Body.String()}
	bad := validate(method, path, h, body, out)
	if bad != nil {
		w.t.Errorf("%s %s: the OpenAPI document does not describe this: %v\nbody: %.300s\nanswer: %d %.300s", method, path, bad, body, out.Status, out.Body)
	}
	return out
}

// want fails unless the call was answered with this status, code and message.
func (r *reply) want(t *testing.T, status, code int, message string) {
	t.Helper()
	if r.Status != status || r.code() != code || message != "" && r.message() != message {
		t.Errorf("got %d %s\nwant %d, code %d, %q", r.Status, r.Body, status, code, message)
	}
}

var loadDocument = sync.OnceValues(func() (*openapi3.T, error) {
	doc, err := openapi3.NewLoader().LoadFromData(openapi.Document)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(context.Background())
})

var document = sync.OnceValues(func() (routers.Router, error) {
	doc, err := loadDocument()
	if err != nil {
		return nil, err
	}
	return gorillamux.NewRouter(doc)
})

// validate checks an answer, and the request when it was answered with 200,
// against the document. Paths the document does not have are not checked.
func validate(method, path string, h http.Header, body string, out *reply) error {
	router, err := document()
	if err != nil {
		return err
	}
	// The document has each operation once, as a POST.
	r := httptest.NewRequest(http.MethodPost, "/"+strings.TrimLeft(path, "/"), strings.NewReader(body))
	r.Header = h.Clone()
	route, params, err := router.FindRoute(r)
	if err != nil {
		return nil
	}
	in := &openapi3filter.RequestValidationInput{
		Request: r, PathParams: params, Route: route,
		Options: &openapi3filter.Options{
			AuthenticationFunc: func(_ context.Context, in *openapi3filter.AuthenticationInput) error {
				// The document has both spellings; a mixture is taken besides.
				name := strings.TrimPrefix(in.SecurityScheme.Name, "RC-")
				if r.Header.Get(name) == "" && r.Header.Get("RC-"+name) == "" {
					return errMissing
				}
				return nil
			},
			IncludeResponseStatus: true,
		},
	}
	if out.Status == http.StatusOK {
		if err := openapi3filter.ValidateRequest(context.Background(), in); err != nil {
			return err
		}
	}
	return openapi3filter.ValidateResponse(context.Background(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: in, Status: out.Status, Header: out.Header,
		Body: io.NopCloser(strings.NewReader(out.Body)), Options: in.Options,
	})
}

var errMissing = os.ErrNotExist
