package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
	"github.com/parleychat/parley/internal/websocket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A house is a whole node but for the server API: the real engine in memory,
// the real courier, and the gateway behind a real listener.
type house struct {
	*Gateway
	t       testing.TB
	store   *pebble.Store
	dir     *directory.Directory
	courier *courier.Courier
	rooms   *room.Rooms
	app     *chat.App
	url     string
	metrics *prometheus.Registry
	stop    func() // ends the gateway's Run; the rest follows with the test
}

// newHouse opens a house. Options may be changed before the gateway is made.
func newHouse(t testing.TB, change ...func(*Options)) *house {
	t.Helper()
	return newHouseOn(t, vfs.NewMem(), change...)
}

// newHouseOn opens a house on what the file system holds.
func newHouseOn(t testing.TB, fs vfs.FS, change ...func(*Options)) *house {
	t.Helper()
	h := &house{t: t, metrics: prometheus.NewRegistry()}
	logger := slog.New(slog.DiscardHandler)
	if os.Getenv("PARLEY_TEST_LOG") != "" {
		logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	var c *courier.Courier
	s, err := pebble.Open(context.Background(), pebble.Options{
		Dir: "data", FS: fs, Logger: logger,
		OnCommit: func(cm *store.Commit) { c.OnCommit(cm) },
	})
	if err != nil {
		t.Fatal(err)
	}
	h.store = s
	if h.dir, err = directory.Open(context.Background(), s, time.Now); err != nil {
		t.Fatal(err)
	}
	if apps := h.dir.Apps(); len(apps) > 0 {
		h.app = apps[0]
	} else if h.app, err = h.dir.CreateApp(context.Background()); err != nil {
		t.Fatal(err)
	}
	h.rooms = room.New(time.Now)
	o := Options{
		Directory: h.dir, Store: s, Rooms: h.rooms, Logger: logger, Metrics: h.metrics, Version: "parley test",
	}
	for _, f := range change {
		f(&o)
	}
	g := New(o)
	h.Gateway = g
	c = courier.New(courier.Options{Store: s, Archive: s, Users: h.dir, Open: h.dir, Rooms: h.rooms, Sessions: g, Now: time.Now, Logger: logger})
	h.courier = c
	g.Attach(c)

	var wg, run sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	gctx, gstop := context.WithCancel(context.Background())
	wg.Go(func() { c.Run(ctx) })
	wg.Go(func() { h.rooms.Run(ctx) })
	run.Go(func() { g.Run(gctx) })
	run.Go(func() { c.RunDue(gctx) })
	run.Go(func() { c.RunBroadcasts(gctx) })
	run.Go(func() { courier.NewIndexer(s, logger).Run(gctx) })
	h.stop = func() { gstop(); run.Wait() }
	srv := httptest.NewServer(g)
	h.url = "ws" + strings.TrimPrefix(srv.URL, "http") + Path
	t.Cleanup(func() {
		h.stop()
		srv.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	})
	return h
}

// set changes settings of the house's app.
func (h *house) set(name, value string) {
	h.t.Helper()
	app, err := h.dir.SetApp(context.Background(), h.app.Key, map[string]string{name: value})
	if err != nil {
		h.t.Fatal(err)
	}
	h.app = app
}

func (h *house) token(user string) string {
	h.t.Helper()
	tok, err := h.dir.IssueToken(context.Background(), h.app, user, "Name of "+user, "")
	if err != nil {
		h.t.Fatal(err)
	}
	return tok
}

// send sends a message through the courier and gives the UIDs.
func (h *house) send(ct chat.ChannelType, from, content string, to ...string) []chat.UID {
	h.t.Helper()
	return h.post(&chat.Message{ChannelType: ct, From: from, Type: "app:text", Content: content, Persist: true}, to...)
}

func (h *house) post(m *chat.Message, to ...string) []chat.UID {
	h.t.Helper()
	m.App = h.app.ID
	sent, err := h.courier.Send(context.Background(), h.app, &courier.Send{Message: m, Targets: to})
	if err != nil {
		h.t.Fatal(err)
	}
	var uids []chat.UID
	for _, p := range sent.Placed {
		uids = append(uids, p.UID)
	}
	return uids
}

// A peer is a client that sees frames.
type peer struct {
	t     testing.TB
	ws    *websocket.Conn
	lines []string // of the last frame, not yet read
}

func (h *house) dial() *peer {
	h.t.Helper()
	ws, err := websocket.Dial(context.Background(), h.url, websocket.DialOptions{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(func() { ws.Abort() })
	return &peer{t: h.t, ws: ws}
}

// connect dials and connects as the user; data is the JSON of connect.data or
// empty.
func (h *house) connect(user, data string) (*peer, reply) {
	h.t.Helper()
	p := h.dial()
	if data != "" {
		data = `,"data":` + data
	}
	p.send(`{"connect":{"token":"` + h.token(user) + `"` + data + `},"id":1}`)
	r := p.reply()
	if r.ID != 1 || r.Connect == nil {
		h.t.Fatalf("connecting %s: %+v", user, r)
	}
	return p, r
}

func (p *peer) send(lines ...string) {
	p.t.Helper()
	if err := p.ws.WriteText([]byte(strings.Join(lines, "\n"))); err != nil {
		p.t.Fatal(err)
	}
}

func (p *peer) next(wait time.Duration) (string, error) {
	for len(p.lines) == 0 {
		if err := p.ws.SetReadDeadline(time.Now().Add(wait)); err != nil {
			return "", err
		}
		_, b, err := p.ws.ReadMessage()
		if err != nil {
			return "", err
		}
		p.lines = strings.Split(string(b), "\n")
	}
	line := p.lines[0]
	p.lines = p.lines[1:]
	return line, nil
}

// line is the next object that comes, pings answered and left out.
func (p *peer) line() string {
	p.t.Helper()
	for {
		line, err := p.next(10 * time.Second)
		if err != nil {
			p.t.Fatalf("waiting for a frame: %v", err)
		}
		if line != "{}" {
			return line
		}
		p.send("{}")
	}
}

func (p *peer) reply() reply {
	p.t.Helper()
	return decodeReply(p.t, p.line())
}

func decodeReply(t testing.TB, line string) (r reply) {
	t.Helper()
	if err := json.Unmarshal([]byte(line), &r); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	return r
}

// said is the next publication that has an offset: not who came and went.
func (p *peer) said() *pushed {
	p.t.Helper()
	for {
		if r := p.reply(); r.Push == nil || r.Push.Pub.Offset > 0 {
			return r.Push
		}
	}
}

// closed waits for the server to close, and gives the code.
func (p *peer) closed() uint16 {
	p.t.Helper()
	for {
		_, err := p.next(10 * time.Second)
		if ce, ok := errors.AsType[*websocket.CloseError](err); ok {
			return ce.Code
		}
		if err != nil {
			p.t.Fatalf("waiting for the close: %v", err)
		}
	}
}

type reply struct {
	ID          uint32          `json:"id"`
	Error       *errorReply     `json:"error"`
	Connect     *connectResult  `json:"connect"`
	Subscribe   *subResult      `json:"subscribe"`
	Unsubscribe *struct{}       `json:"unsubscribe"`
	History     *historyResult  `json:"history"`
	RPC         *rpcResult      `json:"rpc"`
	Refresh     json.RawMessage `json:"refresh"`
	Push        *pushed         `json:"push"`
}

type errorReply struct {
	Code      uint32
	Message   string
	Temporary bool
}

type connectResult struct {
	Client, Version string
	Data            json.RawMessage
	Subs            map[string]subResult
	Ping            int
	Pong            bool
	Expires         bool
	TTL             int
}

type subResult struct {
	Recoverable, Positioned, Recovered bool
	WasRecovering                      bool `json:"was_recovering"`
	Epoch                              string
	Offset                             uint64
	Publications                       []pub
	Data                               json.RawMessage
}

type historyResult struct {
	Publications []pub
	Epoch        string
	Offset       uint64
}

type rpcResult struct{ Data json.RawMessage }

type pushed struct {
	Channel string
	Pub     pub

	Unsubscribe *struct {
		Code   int
		Reason string
	}
}

type pub struct {
	Offset uint64
	Data   event
}

type event struct {
	Event   string
	Message message
}

type message struct {
	MessageUID, ChannelType, ChannelID, FromUserID, Direction, MessageType, Content string
	SentAt                                                                          int64
}

// eventually waits until ok, which others are on the way to make true.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never: %s", what)
		}
	}
}
