package serverapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// memory is as much of a store as a send needs. It keeps nothing, so that what
// is measured is the door and the courier.
type memory struct {
	noPush
	mu   sync.Mutex
	uids *chat.UIDSource
}

func (m *memory) Append(_ context.Context, a *store.Append) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	a.Placed.First = m.uids.Block(time.Now(), a.Message.ChannelType, len(a.Targets))
	if a.Done != nil {
		a.Done(nil)
	}
	return nil
}

func (m *memory) Once(context.Context, [16]byte) (*store.Once, error)          { return nil, nil }
func (m *memory) ListApps(context.Context) ([]*chat.App, error)                { return nil, nil }
func (m *memory) PutApp(_ context.Context, app *chat.App) error                { app.ID = 1; return nil }
func (m *memory) User(context.Context, chat.AppID, string) (*chat.User, error) { return nil, errNobody }
func (m *memory) UpdateUsers(context.Context, chat.AppID, []string, func(*chat.User)) error {
	return nil
}
func (m *memory) ListUsers(context.Context, chat.AppID, store.UserState, int, int) ([]store.Listed, int, error) {
	return nil, 0, nil
}
func (m *memory) OpenFacts(context.Context, chat.AppID, string) ([]store.OpenFact, error) {
	return nil, nil
}
func (m *memory) PutOpenFacts(context.Context, chat.AppID, string, store.OpenChange) error {
	return nil
}
func (m *memory) ListOpen(context.Context, chat.AppID, store.OpenKind, string, int) ([]string, error) {
	return nil, nil
}
func (m *memory) OpenDue(context.Context, int64, int) ([]store.DueChannel, error) { return nil, nil }
func (m *memory) Block(context.Context, chat.AppID, string, []string) error       { return nil }
func (m *memory) Unblock(context.Context, chat.AppID, string, []string) error     { return nil }
func (m *memory) Blocklist(context.Context, chat.AppID, string, store.BlockRange) ([]store.Block, error) {
	return nil, nil
}
func (m *memory) Blocked(context.Context, chat.AppID, string, []string) ([]string, error) {
	return nil, nil
}
func (m *memory) Blockers(context.Context, chat.AppID, string, []string) ([]string, error) {
	return nil, nil
}

// empty is an archive in which nothing is.
type empty struct{ courier.Archive }

func (empty) Broadcasts(context.Context, int64) ([]*chat.Broadcast, error) { return nil, nil }
func (empty) Broadcast(context.Context, chat.AppID, chat.UID) (*chat.Broadcast, error) {
	return nil, chat.Fail(chat.KindNotFound, "no such broadcast")
}

func (empty) View(context.Context, store.ChannelRef) (*chat.View, error)         { return nil, nil }
func (empty) Views(context.Context, chat.AppID, string) ([]store.OwnView, error) { return nil, nil }
func (empty) Preferences(context.Context, chat.AppID, string) (*chat.Preferences, error) {
	return nil, nil
}

var errNobody = chat.Fail(chat.KindNoUser, "no such user")

// A sink is the least a ResponseWriter can be.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { s.bytes += len(p); return len(p), nil }

// newDoor is the API over a courier that keeps nothing.
func newDoor(tb testing.TB) (http.Handler, *chat.App) {
	tb.Helper()
	m := &memory{uids: chat.NewUIDSource(1, 0)}
	d, err := directory.Open(context.Background(), m, time.Now)
	if err != nil {
		tb.Fatal(err)
	}
	app, _, err := d.EnsureApp(context.Background(), "uwd1c0sxdlx2", "s3cret-of-the-app")
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range []string{"limits.direct", "limits.system", "limits.open", "limits.open-broadcast", "limits.default", "limits.token",
		"limits.user-tags", "limits.broadcast-hour", "limits.broadcast-day", "limits.broadcast-online"} {
		if app, err = d.SetApp(context.Background(), app.Key, map[string]string{name: "0"}); err != nil {
			tb.Fatal(err)
		}
	}
	logger := slog.New(slog.DiscardHandler)
	said := &presence{}
	c := courier.New(courier.Options{Store: m, Archive: empty{}, Users: d, Open: d, Rooms: room.New(time.Now), Sessions: said, Now: time.Now, Logger: logger})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { c.Run(ctx) })
	tb.Cleanup(func() { cancel(); running.Wait() })
	return New(Options{Directory: d, Courier: c, Presence: said, Pushes: noPush{}, Logger: logger}), app
}

// A driver makes one call again and again, signed anew each time.
type driver struct {
	handler http.Handler
	app     *chat.App
	sink    sink
	request *http.Request
	body    []byte
	reader  *bytes.Reader
	signed  [4096][3]string
	calls   int
}

func newDriver(tb testing.TB, path, body string) *driver {
	d := &driver{sink: sink{header: http.Header{}}, body: []byte(body), reader: bytes.NewReader(nil)}
	d.handler, d.app = newDoor(tb)
	d.request = (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: path}, Body: io.NopCloser(d.reader), ContentLength: int64(len(body)),
		Header: http.Header{"App-Key": {d.app.Key}, "Content-Type": {"application/json"}},
	}).WithContext(context.Background())
	return d
}

// sign signs the next calls ahead, so that it can be left out of what is
// measured.
func (d *driver) sign() {
	stamp := strconv.FormatInt(time.Now().UnixMilli(), 10)
	for k := range d.signed {
		nonce := strconv.Itoa(d.calls + k)
		d.signed[k] = [3]string{nonce, stamp, sha1Hex(d.app.Secret + nonce + stamp)}
	}
}

var signingHeaders = [3]string{"Nonce", "Timestamp", "Signature"}

func (d *driver) call() int {
	signed := &d.signed[d.calls%len(d.signed)]
	for k, name := range signingHeaders {
		d.request.Header[name] = signed[k : k+1]
	}
	d.calls++
	d.reader.Reset(d.body)
	clear(d.sink.header)
	d.handler.ServeHTTP(&d.sink, d.request)
	return d.sink.status
}

func benchSend(b *testing.B, path, body string) {
	d := newDriver(b, path, body)
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if d.calls%len(d.signed) == 0 {
			b.StopTimer()
			d.sign()
			b.StartTimer()
		}
		if status := d.call(); status != 200 {
			b.Fatal(status)
		}
	}
}

// The budget of a send through this door and the courier: the message, its
// texts and the header lines of the answer, nothing in between.
func TestSendAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	d := newDriver(t, direct, sendBody(`"pushContent":"thisisapush","shouldPersist":1`))
	d.sign()
	if n := testing.AllocsPerRun(1000, func() {
		if status := d.call(); status != 200 {
			t.Fatal(status)
		}
	}); n > 20 {
		t.Errorf("%v allocations in a send to one", n)
	}
}

func BenchmarkDirectSend(b *testing.B) {
	body := set(sendBody(`"pushContent":"thisisapush","pushData":"{\"pushData\":\"hello\"}","shouldPersist":1,"isEchoToSender":0`), "toUserIds", `["2193"]`)
	b.Run("recipients=1", func(b *testing.B) { benchSend(b, direct, body) })
	b.Run("recipients=1000", func(b *testing.B) { benchSend(b, direct, set(body, "toUserIds", ids(1000))) })
	b.Run("content=64KB", func(b *testing.B) {
		benchSend(b, direct, set(body, "content", quote(`{"content":"`+string(bytes.Repeat([]byte("x"), 64<<10))+`"}`)))
	})
}

func BenchmarkReplayGuard(b *testing.B) {
	g := newReplayGuard(defaultReplayCapacity, prometheus.NewCounter(prometheus.CounterOpts{Name: "evicted"}))
	app := &chat.App{ID: 1, Settings: chat.DefaultSettings()}
	start := time.Now()
	cr := &credentials{timestamp: start.String(), signature: "45beb7cc7307889a8e711219a47b7cf6a5b000e8"}
	var nonce [18]byte
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		// 3,000 calls a second.
		now := start.Add(time.Duration(n/3) * time.Millisecond)
		cr.nonce, cr.at = string(strconv.AppendInt(nonce[:0], int64(n), 10)), now.UnixMilli()
		n++
		if !g.first(app, cr, now) {
			b.Fatal("a first use was refused")
		}
	}
	b.StopTimer()
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/float64(max(g.apps[1].size, 1)), "B/call")
}
