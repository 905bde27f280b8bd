package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unique"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/websocket"
)

// Every kind of failure has an answer, every code is there once, and no code or
// reason is one that clients would misread.
func TestTables(t *testing.T) {
	t.Parallel()
	for _, k := range chat.Kinds() {
		if (errorsByKind[k] == nil) == (closesByKind[k] == nil) {
			t.Errorf("kind %s must have one of an error and a close code", k)
		}
	}
	seen := map[uint32]bool{}
	for _, row := range ErrorTable() {
		if seen[row.Code] || row.Code < 100 || row.Text == "" || row.When == "" {
			t.Errorf("bad row %+v", row)
		}
		seen[row.Code] = true
	}
	codes := map[uint16]bool{}
	for _, d := range DisconnectTable() {
		if codes[d.Code] || len(d.Reason) > 123 || json.Valid([]byte(d.Reason)) || d.When == "" {
			t.Errorf("bad row %+v", d)
		}
		codes[d.Code] = true
		if d.Code >= 3000 && d.Reconnect() != (d.Code < 3500) {
			t.Errorf("%d: reconnect %v", d.Code, d.Reconnect())
		}
	}
	if e := answerFor(chat.Because(chat.KindInternal, "secret detail", io.EOF)); e.text != "internal error" || !e.row.Temporary {
		t.Errorf("a fault of ours tells %q", e.text)
	}
	if e := answerFor(io.EOF); e.row.Code != 100 {
		t.Errorf("a foreign error is %d", e.row.Code)
	}
}

// What goes in comes out of the joined messages, in order, whatever the sizes.
func TestJoiner(t *testing.T) {
	t.Parallel()
	var j joiner
	for round := range 50 {
		j.reset()
		var want []string
		for range 1 + rand.IntN(100) {
			size := []int{2, 50, 124, 125, 126, 127, 300, 5000, 65500, 65535, 65536, 70000}[rand.IntN(6+round%7)]
			s := strings.Repeat("x", size)
			want = append(want, s)
			j.add(frame{[]byte(s), frameOpen})
			if rand.IntN(20) == 0 {
				j.add(frame{websocket.AppendFrame(nil, websocket.Pong, []byte("p")), frameControl})
			}
		}
		var got []string
		p := websocket.NewParser(websocket.Client, 1<<20)
		err := p.Feed(j.bytes(), handler(func(op websocket.Opcode, b []byte) error {
			if op == websocket.Text {
				lines := strings.Split(string(b), "\n")
				if len(lines) > maxJoinedObjects {
					t.Errorf("%d objects in a message", len(lines))
				}
				got = append(got, lines...)
			}
			return nil
		}))
		if err != nil || !p.Idle() || !slices.Equal(got, want) {
			t.Fatalf("%d objects in, %d out, %v", len(want), len(got), err)
		}
	}
}

type handler func(websocket.Opcode, []byte) error

func (h handler) Message(op websocket.Opcode, b []byte) error { return h(op, b) }

func TestQueue(t *testing.T) {
	t.Parallel()
	var q queue
	next, want := 0, 0
	for range 10000 {
		if rand.IntN(2) == 0 {
			kind := frameKind(rand.IntN(3))
			q.push(frame{fmt.Appendf(nil, "%d", next), kind})
			next++
		} else if q.waiting > 0 {
			if got := string(q.pop().b); got != fmt.Sprint(want) {
				t.Fatalf("got %s, want %d", got, want)
			}
			want++
		}
	}
	for q.waiting > 0 {
		q.pop()
	}
	if q.bytes != 0 || q.expend != 0 || q.rest != nil || q.first.b != nil {
		t.Errorf("an empty queue holds %+v", q)
	}
}

// A queue that always holds something stays as large as what it holds.
func TestQueueThatNeverEmpties(t *testing.T) {
	t.Parallel()
	var q queue
	for i := range 10 {
		q.push(frame{fmt.Appendf(nil, "%d", i), frameReply})
	}
	for i := range 100_000 {
		q.push(frame{fmt.Appendf(nil, "%d", i+10), frameReply})
		if got := string(q.pop().b); got != fmt.Sprint(i) {
			t.Fatalf("got %s, want %d", got, i)
		}
	}
	if cap(q.rest) > 64 {
		t.Errorf("%d places for 10 frames", cap(q.rest))
	}
}

func TestWheel(t *testing.T) {
	t.Parallel()
	w := newWheel(time.Hour) // time does not pass by itself
	conns := make([]conn, 2000)
	due := map[*conn]uint32{}
	for i := range conns {
		at := 2 + rand.Uint32N(3*wheelSlots)
		w.set(&conns[i], at)
		due[&conns[i]] = at
	}
	for i := 0; i < len(conns); i += 3 {
		c := &conns[i]
		if i%2 == 0 {
			w.remove(c)
			delete(due, c)
		} else if at := 2 + rand.Uint32N(wheelSlots); at < due[c] {
			w.set(c, at)
			due[c] = at
		} else {
			w.set(c, at) // later: stays
		}
	}
	for tick := uint32(2); tick < 3*wheelSlots+4; tick++ {
		w.start = time.Now().Add(-time.Duration(tick-1) * time.Hour)
		for _, c := range w.advance(nil) {
			if due[c] != tick {
				t.Fatalf("due at %d, came at %d", due[c], tick)
			}
			delete(due, c)
		}
	}
	if len(due) > 0 {
		t.Errorf("%d never came", len(due))
	}
}

func TestBucket(t *testing.T) {
	t.Parallel()
	l := limit{burst: 5, perMs: 0.01, debt: 3}
	var b bucket
	at := time.Hour
	for i := range 5 {
		if !b.take(l, at) {
			t.Fatalf("token %d refused", i)
		}
	}
	if b.take(l, at) || b.empty(l) {
		t.Error("a sixth token was given, or the first refusal used up the debt")
	}
	b.take(l, at)
	b.take(l, at)
	if !b.empty(l) {
		t.Error("the debt is not used up")
	}
	if b.take(l, at+300*time.Millisecond) || !b.take(l, at+500*time.Millisecond) {
		t.Error("tokens do not come back at the rate")
	}
	// A slow limit that is asked about all the time.
	l = limit{burst: 1, perMs: 1 / float32(24*time.Hour/time.Millisecond)}
	b, given := bucket{}, 0
	for at := time.Hour; at < 49*time.Hour; at += 100 * time.Millisecond {
		if b.take(l, at) {
			given++
		}
	}
	if given != 2 && given != 3 {
		t.Errorf("one a day gave %d in two days", given)
	}
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := newRegistry(func() time.Time { return now })
	k := userKey{1, "bob"}
	var cs []*conn
	for i := range 5 {
		c := &conn{app: 1, user: "bob", issuedAt: int64(i)}
		cs = append(cs, c)
		if r.add(c, 5, r.turn()) != nil {
			t.Fatal("not added")
		}
	}
	if r.add(&conn{app: 1, user: "bob"}, 5, r.turn()) != closeConnLimit {
		t.Error("one too many")
	}
	if got := r.void(k, 3); len(got) != 3 {
		t.Errorf("%d sessions are on older tokens", len(got))
	}
	if r.add(&conn{app: 1, user: "bob", issuedAt: 2}, 50, r.turn()) != errVoided || !r.voided(k, 2) || r.voided(k, 3) {
		t.Error("the cutoff is not known")
	}
	// Who was let in before the user was shut out does not become a session,
	// who comes later does.
	before := r.turn()
	if got := r.shut(k, closeBanned); len(got) != 5 {
		t.Errorf("%d sessions are shut out", len(got))
	}
	late := &conn{app: 1, user: "bob", issuedAt: 3}
	if r.add(late, 50, before) != closeBanned || r.add(&conn{app: 1, user: "eve"}, 50, before) != nil {
		t.Error("the bar is not known, or is somebody else's")
	}
	if r.add(late, 50, r.turn()) != nil {
		t.Error("the bar keeps out who comes later")
	}
	r.remove(late)
	now = now.Add(2 * cutoffLife)
	r.sweep()
	if r.voided(k, 2) || len(r.shard(k).bars) != 0 {
		t.Error("the cutoff or the bar is kept for ever")
	}
	for _, i := range []int{2, 0, 4, 1, 3} {
		if !r.online(k) {
			t.Error("offline too early")
		}
		r.remove(cs[i])
		n := 0
		r.each(k, func(c *conn) {
			n++
			if c == cs[i] {
				t.Error("removed and still there")
			}
		})
	}
	if r.online(k) {
		t.Error("online without sessions")
	}
}

// faulty lets a store fail on purpose.
type faulty struct {
	Store
	mu   sync.Mutex
	fail error
	hide bool // the body
	skip uint64
}

func (f *faulty) set(change func(*faulty)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(f)
}

func (f *faulty) Read(ctx context.Context, app chat.AppID, user string, r store.Range, dst []store.Entry) ([]store.Entry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return dst, f.fail
	}
	r.After = max(r.After, f.skip)
	return f.Store.Read(ctx, app, user, r, dst)
}

func (f *faulty) Message(ctx context.Context, ref chat.UID) (*chat.Message, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.hide {
		return nil, chat.Fail(chat.KindNotFound, "gone")
	}
	return f.Store.Message(ctx, ref)
}

func (f *faulty) PutDevices(ctx context.Context, d []store.UserDevice) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fail != nil {
		return f.fail
	}
	return f.Store.PutDevices(ctx, d)
}

func faultyHouse(t testing.TB) (*house, *faulty) {
	f := &faulty{}
	h := newHouse(t, func(o *Options) { f.Store = o.Store; o.Store = f })
	return h, f
}

// A store that cannot be read delays delivery and loses nothing.
func TestStoreFailureDelays(t *testing.T) {
	t.Parallel()
	h, f := faultyHouse(t)
	p, _ := h.connect("bob", `{"deviceId":"d"}`)
	f.set(func(f *faulty) { f.fail = errors.New("disk on fire") })
	h.send(chat.Direct, "alice", "late", "bob")
	q := h.dial()
	q.send(`{"connect":{"token":"`+h.token("bob")+`","data":{"from":"oldest"}},"id":1}`, `{"id":9}`)
	if r := q.reply(); r.Error == nil || r.Error.Code != 100 || !r.Error.Temporary || strings.Contains(r.Error.Message, "fire") {
		t.Errorf("connect without a store: %+v", r)
	}
	time.Sleep(100 * time.Millisecond)
	f.set(func(f *faulty) { f.fail = nil })
	if got := p.reply().Push; got.Pub.Data.Message.Content != "late" {
		t.Errorf("%+v", got)
	}
}

// A message whose body is gone leaves a mark, not a hole.
func TestGoneBody(t *testing.T) {
	t.Parallel()
	h, f := faultyHouse(t)
	f.set(func(f *faulty) { f.hide = true })
	uid := h.send(chat.Direct, "alice", "x", "bob")[0]
	_, r := h.connect("bob", `{"from":"oldest"}`)
	pubs := r.Connect.Subs["me"].Publications
	if len(pubs) != 1 || pubs[0].Offset != 1 || pubs[0].Data.Event != "gone" {
		t.Errorf("%+v, want %s gone", pubs, uid)
	}
}

// Entries that pass their retention while a session lags make a hole, which it
// must be told of.
func TestRetentionOvertakesASession(t *testing.T) {
	t.Parallel()
	h, f := faultyHouse(t)
	p, _ := h.connect("bob", "")
	f.set(func(f *faulty) { f.skip = 2 })
	for range 3 {
		h.send(chat.Direct, "alice", "x", "bob")
	}
	if code := p.closed(); code != 3010 {
		t.Errorf("closed with %d", code)
	}
}

// Cursors that could not be stored are stored later, and known meanwhile.
func TestCursorsSurviveAFailure(t *testing.T) {
	t.Parallel()
	h, f := faultyHouse(t)
	k := deviceKey{userKey{h.app.ID, "bob"}, "d"}
	cs := newCursors(f, time.Now)
	f.set(func(f *faulty) { f.fail = errors.New("no") })
	client := unique.Make(chat.Client{Platform: "ios"})
	other := deviceKey{k.userKey, "e"}
	cs.note(k, client, 7)
	cs.note(other, unique.Make(chat.Client{Platform: "web"}), 3)
	cs.note(other, unique.Make(chat.Client{Platform: "web"}), 1)
	if cs.flush(context.Background()) == nil {
		t.Fatal("flushed into a store that fails")
	}
	cs.note(k, client, 5)
	cs.note(other, unique.Make(chat.Client{Platform: "web"}), 2)
	if list := cs.append(nil, k.userKey); len(list) != 2 || push.ReachOf(7, list) != push.Phone || push.ReachOf(8, list) != push.Away {
		t.Errorf("in memory are %+v", list)
	}
	if at, known, err := cs.read(context.Background(), k); at != 7 || !known || err != nil {
		t.Errorf("cursor is %d, %v, %v", at, known, err)
	}
	f.set(func(f *faulty) { f.fail = nil })
	if err := cs.flush(context.Background()); err != nil {
		t.Fatal(err)
	}
	if at, known, err := newCursors(f, time.Now).read(context.Background(), k); at != 7 || !known || err != nil {
		t.Errorf("stored cursor is %d, %v, %v", at, known, err)
	}
	if at, known, err := newCursors(f, time.Now).read(context.Background(), other); at != 3 || !known || err != nil {
		t.Errorf("the other device's is %d, %v, %v", at, known, err)
	}
	devices, err := f.Devices(context.Background(), h.app.ID, "bob")
	if err != nil || len(devices) != 2 {
		t.Fatalf("%+v, %v", devices, err)
	}
	for _, d := range devices {
		if want := map[string]string{"d": "ios", "e": "web"}[d.ID]; d.Platform != want {
			t.Errorf("%s is stored with the platform %q", d.ID, d.Platform)
		}
	}
	if list := cs.append(nil, k.userKey); len(list) != 0 {
		t.Errorf("still in memory are %+v", list)
	}
}

// The same over TLS, where reading and writing wait.
func TestTLS(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	srv := httptest.NewTLSServer(h.Gateway)
	defer srv.Close()
	ws, err := websocket.Dial(context.Background(), "wss"+strings.TrimPrefix(srv.URL, "https")+Path, websocket.DialOptions{TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Abort()
	p := &peer{t: t, ws: ws}
	p.send(`{"connect":{"token":"`+h.token("bob")+`"},"id":1}`, `{"subscribe":{"channel":"open:c"},"id":2}`)
	p.reply()
	p.reply()
	// More than a socket holds.
	const n = 100
	for range n {
		h.send(chat.Direct, "alice", strings.Repeat("x", 100<<10), "bob")
	}
	for i := range n {
		if got := p.reply().Push; got.Pub.Offset != uint64(i+1) {
			t.Fatalf("got %d, want %d", got.Pub.Offset, i+1)
		}
	}
	p.send(`{}`)
	if code := p.closed(); code != 3501 {
		t.Errorf("closed with %d", code)
	}
}

// A memWire keeps what is written, and has nothing to read.
type memWire struct {
	mu     sync.Mutex
	b      bytes.Buffer
	closed bool
}

func (w *memWire) read() (*inbound, error) { return nil, io.EOF }
func (w *memWire) try(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return 0, net.ErrClosed
	}
	n := min(len(b), 1+rand.IntN(2*len(b)))
	w.b.Write(b[:n])
	if n < len(b) {
		return n, errAgain
	}
	return n, nil
}
func (w *memWire) write(b []byte, progress func()) error {
	w.mu.Lock()
	w.b.Write(b)
	w.mu.Unlock()
	progress()
	return nil
}
func (w *memWire) unread() int { return 0 }
func (w *memWire) finish()     {}
func (w *memWire) abort() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
}

func (h *house) fake() (*conn, *memWire) {
	w := &memWire{}
	c := &conn{g: h.Gateway, wire: w, parser: websocket.NewParser(websocket.Server, limitBefore), runner: h.runners[0]}
	h.everyone.add(c)
	return c, w
}

// Whatever comes, cut anywhere, must leave the server as it was.
func FuzzFeed(f *testing.F) {
	h := newHouse(f)
	tok := h.token("bob")
	hello := `{"connect":{"token":"` + tok + `"},"id":1}`
	for _, s := range []string{
		hello, hello + "\n{}", `{"id":1}`, "{}\n{}", `{"connect":null,"id":1}`, `{"connect":{"token":1},"id":1}`,
		`{"connect":{"subs":{"me":{"recover":true,"offset":18446744073709551615}},"token":"x"},"id":4294967295}`,
	} {
		f.Add([]byte(s), []byte(`{"subscribe":{"channel":"open:c","recover":true,"epoch":"e","offset":1},"id":2}`), uint8(3))
	}
	f.Add([]byte(hello), []byte(`{"rpc":{"method":"message.send","data":{"channelType":"direct","channelId":"eve","messageType":"t","content":"c","metadata":{"a":1}}},"id":2}`), uint8(1))
	f.Add([]byte(hello), []byte(`{"history":{"channel":"me","limit":-1,"since":{"offset":1},"reverse":true},"id":2}`), uint8(1))
	f.Add([]byte(hello), []byte(`{"rpc":{"method":"ack","data":{"offset":9223372036854775807}},"id":2}`), uint8(1))
	f.Fuzz(func(t *testing.T, first, second []byte, cut uint8) {
		c, w := h.fake()
		for _, msg := range [][]byte{[]byte(hello), first, second} {
			stream := websocket.AppendMasked(nil, websocket.Text, msg)
			for len(stream) > 0 {
				n := min(int(cut)+1, len(stream))
				c.feed(bytes.Clone(stream[:n]))
				stream = stream[n:]
			}
		}
		c.feed([]byte{0x81}) // half a frame is left behind
		c.end()
		w.mu.Lock()
		defer w.mu.Unlock()
		p := websocket.NewParser(websocket.Client, 4<<20)
		_ = p.Feed(w.b.Bytes(), handler(func(op websocket.Opcode, b []byte) error {
			if op != websocket.Text {
				return nil
			}
			for line := range bytes.SplitSeq(b, newline) {
				if !json.Valid(line) {
					t.Errorf("not JSON: %s", line)
				}
			}
			return nil
		}))
		p.Release()
	})
}

// What is no JSON object is never taken for a command, and what is taken keeps
// its id.
func FuzzParseCommand(f *testing.F) {
	for _, s := range []string{`{}`, `{"id":1,"rpc":{}}`, `{"id":1.5}`, `{"id":"1"}`, `{"id":1,"id":2}`, `[]`, `{"id":4294967296}`, ` {"\u0069d":7,"ping":null} `, `{"id":1}x`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		cmd, err := parseCommand(line)
		if err != nil {
			return
		}
		var want struct {
			ID json.Number `json:"id"`
		}
		d := map[string]json.RawMessage{}
		if json.Unmarshal(line, &d) != nil {
			t.Fatalf("taken though it is no object: %q", line)
		}
		if json.Unmarshal(d["id"], &want.ID) == nil && want.ID != "" && want.ID.String() != fmt.Sprint(cmd.id) {
			t.Errorf("id %d of %s", cmd.id, line)
		}
	})
}

// Every M is JSON and says what was sent, for any content.
func TestRenderedMessagesAreJSON(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"plain", "", "quote \" and \\", "line\nbreak\ttab\x00", "ünï\u2028cödé 😀", "</script>", strings.Repeat("\x1f", 1000)} {
		m := &chat.Message{
			ChannelType: chat.Direct, From: "a" + s, Type: "t" + s, Content: s, Persist: true, HasMetadata: true,
			Metadata: map[string]string{"b": s, "a": s}, Push: chat.PushOptions{Content: s},
		}
		b := render(m, 1234, m.From)
		for _, peer := range []string{"", "peer" + s} {
			out := b.appendTo(nil, chat.NewUID(1234, chat.Direct, 1, 1), peer != "", peer, 7)
			if len(out) > b.size(peer) {
				t.Errorf("%d bytes, said to be at most %d", len(out), b.size(peer))
			}
			if bytes.IndexByte(out, '\n') >= 0 {
				t.Error("a raw newline would break the framing")
			}
			var p pub
			if err := json.Unmarshal(out, &p); err != nil {
				t.Fatalf("%v in %s", err, out)
			}
			want := m.From
			if peer != "" {
				want = peer
			}
			if g := p.Data.Message; g.Content != s || g.ChannelID != want || g.FromUserID != m.From || p.Offset != 7 {
				t.Errorf("%+v", p)
			}
		}
	}
}

// A room's publication is encoded once for all, and once more for its sender.
func TestOpenFormsAreShared(t *testing.T) {
	t.Parallel()
	p := &room.Publication{Offset: 3, Channel: `c"`, Message: &chat.Message{From: "alice", ChannelType: chat.Open, Content: "x", Echo: true}}
	a, b, own := openForm(p, "bob"), openForm(p, "eve"), openForm(p, "alice")
	if &a[0] != &b[0] {
		t.Error("encoded twice")
	}
	for who, form := range map[string][]byte{"in": a, "out": own} {
		if r := decodeReply(t, string(form)); r.Push.Channel != `open:c"` || r.Push.Pub.Offset != 3 || r.Push.Pub.Data.Message.Direction != who {
			t.Errorf("%s: %s", who, form)
		}
	}
}

// The write path of a delivery must not grow garbage unnoticed.
func TestDeliveryAllocations(t *testing.T) {
	g := New(Options{Store: noStore{}, Rooms: room.New(time.Now), Logger: slog.New(slog.DiscardHandler)})
	r := newRunner(g)
	c := benchConn(g, "bob")
	p := &room.Publication{Seq: 3, Offset: 3, Channel: "c", Message: &chat.Message{From: "alice", ChannelType: chat.Open, Content: "x"}}
	b := &room.Batch{Publications: []*room.Publication{p}}
	s := &seat{Place: room.Place{Live: true}, c: c, channel: "c"}
	if allocs := testing.AllocsPerRun(1000, func() { s.Deliver(b, 0) }); allocs > 0 {
		t.Errorf("%v allocations per delivery", allocs)
	}
	if n := c.wire.(*nullWire).n.Load(); n == 0 {
		t.Error("nothing was written")
	}
	allocs := testing.AllocsPerRun(1000, func() {
		c.sched.Store(schedRunning) // busy
		s.Deliver(b, 0)
		r.turn(c)
	})
	if allocs > 0 {
		t.Errorf("%v allocations per delivery to a busy connection", allocs)
	}
}

// A pong may be late where the ping has not got through, or where we have not
// come to read.
func TestOverduePong(t *testing.T) {
	t.Parallel()
	g := New(Options{Store: noStore{}, Rooms: room.New(time.Now)})
	for _, tt := range []struct {
		name           string
		before, unread int32
		resting        int32
		busy, closed   bool
	}{
		{name: "nothing is on the way", closed: true},
		{name: "the socket holds something", unread: 1000},
		{name: "the socket empties", before: 1000, unread: 900},
		{name: "the socket does not empty", before: 1000, unread: 1000, closed: true},
		{name: "a turn waits for the socket", before: 1000, unread: 1000, resting: 5},
		{name: "a command is under way", busy: true},
	} {
		c := benchConn(g, "bob")
		c.beat, c.beatAt, c.unread, c.resting = beatPong, 1, tt.before, tt.resting
		c.busy.Store(tt.busy)
		c.mu.Lock()
		c.overdueLocked(int(tt.unread))
		c.mu.Unlock()
		if (c.closing == closeNoPong) != tt.closed || !tt.closed && c.beatAt <= 1 {
			t.Errorf("%s: closing %v, again at %d", tt.name, c.closing, c.beatAt)
		}
	}
}

func TestCrowd(t *testing.T) {
	t.Parallel()
	var c crowd
	var settled []int
	for i, n := range []int{0, 500, 500, 8000, 15000, 15000, 15000, 15400, 15400, 9000, 3000, 2990, 2990} {
		if c.settled(n) {
			settled = append(settled, i)
		}
	}
	if !slices.Equal(settled, []int{5, 11}) {
		t.Errorf("settled at %v", settled)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p, _ := h.connect("bob", "")
	p.send(`{"presence":{"channel":"open:c"},"id":2}`)
	p.reply()
	h.send(chat.Direct, "alice", "x", "bob")
	p.reply()
	if problems, err := testutil.GatherAndLint(h.metrics); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	err := testutil.GatherAndCompare(h.metrics, strings.NewReader(`
# HELP parley_connections Client connections open.
# TYPE parley_connections gauge
parley_connections 1
# HELP parley_sessions_opened_total Successful connect commands.
# TYPE parley_sessions_opened_total counter
parley_sessions_opened_total 1
# HELP parley_commands_refused_total Client commands answered with an error, by code.
# TYPE parley_commands_refused_total counter
parley_commands_refused_total{code="108"} 1
# HELP parley_deliveries_total Publications written to connections: timeline entries, open channel messages, ephemeral messages.
# TYPE parley_deliveries_total counter
parley_deliveries_total{kind="ephemeral"} 0
parley_deliveries_total{kind="open"} 0
parley_deliveries_total{kind="timeline"} 1
`), "parley_connections", "parley_sessions_opened_total", "parley_commands_refused_total", "parley_deliveries_total")
	if err != nil {
		t.Error(err)
	}
}

// There are many connections: growing past a size class of the allocator should
// be meant. 32 bytes of it are what traces need (trail).
func TestConnSize(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(conn{}); n > 416 && unsafe.Sizeof(uintptr(0)) == 8 {
		t.Errorf("a conn has %d bytes", n)
	}
}

func TestPace(t *testing.T) {
	t.Parallel()
	const ms, day = time.Millisecond, 24 * time.Hour
	var p pace
	at := func(since time.Duration, want ...bool) {
		t.Helper()
		for i, w := range want {
			if got := p.take(3, since); got != w {
				t.Errorf("at %s, %d: %t", since, i, got)
			}
		}
	}
	at(0, true, true, true, false, false)
	at(999*ms, false)
	at(1000*ms, true, false)
	at(3500*ms, true, true, false)
	at(time.Minute, true, true, true, false)
	// After weeks of silence, in which the clock of 32 bits has gone round.
	at(30*day, true, true, true, false)
	at(70*day, true, true, true, false)
	at(70*day+2500*ms, true, true, false)
}
