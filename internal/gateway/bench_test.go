package gateway

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// A nullWire takes everything at once.
type nullWire struct{ n atomic.Int64 }

func (w *nullWire) read() (*inbound, error) { select {} }
func (w *nullWire) try(b []byte) (int, error) {
	w.n.Add(int64(len(b)))
	return len(b), nil
}
func (w *nullWire) write([]byte, func()) error { return nil }
func (w *nullWire) unread() int                { return 0 }
func (w *nullWire) finish()                    {}
func (w *nullWire) abort()                     {}

func benchConn(g *Gateway, user string) *conn {
	return &conn{g: g, wire: &nullWire{}, runner: g.runners[0], app: 1, user: user, state: stateLive}
}

// One entry read, rendered from the cache and written, per session: what a
// message to a thousand people costs for each.
func BenchmarkPumpEntry(b *testing.B) {
	h := newHouse(b)
	const users = 1000
	var to []string
	for i := range users {
		to = append(to, fmt.Sprint("u", i))
	}
	h.set("limits.direct", "0")
	h.send(chat.Direct, "alice", strings.Repeat("x", 200), to...)
	r := newRunner(h.Gateway)
	conns := make([]*conn, users)
	for i := range conns {
		conns[i] = benchConn(h.Gateway, to[i])
		conns[i].app = h.app.ID
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c := conns[i%users]
		c.pos = 0
		c.behind.Store(true)
		r.turn(c)
		if c.pos != 1 {
			b.Fatal("nothing was delivered")
		}
	}
}

// A long backlog, per entry.
func BenchmarkPumpBacklog(b *testing.B) {
	h := newHouse(b)
	h.set("limits.direct", "0")
	const n = 5000
	for range n {
		h.send(chat.Direct, "alice", strings.Repeat("x", 200), "bob")
	}
	r := newRunner(h.Gateway)
	c := benchConn(h.Gateway, "bob")
	c.app = h.app.ID
	b.ReportAllocs()
	for done := 0; done < b.N; {
		if c.pos == n {
			c.pos = 0
		}
		from := c.pos
		c.behind.Store(true)
		r.turn(c)
		done += int(c.pos - from)
	}
}

// One message to a room: encoded once and written to each.
func BenchmarkRoomFanOut(b *testing.B) {
	const members = 1000
	g := New(Options{Store: noStore{}, Rooms: room.New(time.Now)})
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { g.opts.Rooms.Run(ctx) })
	defer wg.Wait()
	defer cancel()
	key := room.Key{App: 1, Channel: "c"}
	var wires []*nullWire
	for i := range members {
		c := benchConn(g, fmt.Sprint("u", i))
		wires = append(wires, c.wire.(*nullWire))
		g.opts.Rooms.Enter(key, &seat{Place: room.Place{Live: true}, c: c, channel: "c"}, nil, "")
	}
	m := &chat.Message{App: 1, ChannelType: chat.Open, From: "alice", Type: "app:text", Content: strings.Repeat("x", 200), Persist: true}
	uid := chat.NewUID(time.Now().UnixMilli(), chat.Open, 1, 1)
	b.ReportAllocs()
	n := 0
	for ; b.Loop(); n++ {
		// What one window joins; its last byte tells that it is written.
		const window = 64
		before := wires[members-1].n.Load()
		for range window {
			g.opts.Rooms.Publish(key, uid, m)
		}
		for wires[members-1].n.Load() < before+window*200 {
			runtime.Gosched()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n)/members, "ns/member")
}

type noStore struct{ Store }

func (noStore) Head(context.Context, chat.AppID, string) (uint64, error) { return 0, nil }
func (noStore) Read(_ context.Context, _ chat.AppID, _ string, _ store.Range, dst []store.Entry) ([]store.Entry, error) {
	return dst, nil
}

func BenchmarkParseCommand(b *testing.B) {
	for name, line := range map[string]string{
		"unsubscribe": `{"unsubscribe":{"channel":"open:lobby"},"id":17}`,
		"send":        `{"rpc":{"method":"message.send","data":{"channelType":"direct","channelId":"bob","messageType":"app:text","content":"` + strings.Repeat("x", 200) + `","clientMsgId":"0123456789"}},"id":17}`,
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				cmd, err := parseCommand([]byte(line))
				if err != nil || cmd.id != 17 {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkRender(b *testing.B) {
	m := &chat.Message{ChannelType: chat.Direct, From: "alice", Type: "app:text", Content: strings.Repeat("x", 200), Persist: true}
	b.ReportAllocs()
	for b.Loop() {
		render(m, 1, m.From)
	}
}

// An idle connection must not keep more than the smallest stack: what handles
// its commands grows one, and a stack that has grown to 8 KiB stays at 4 at
// least. PARLEY_CONNECTIONS sets how many are measured.
func TestIdleStacks(t *testing.T) {
	n, _ := strconv.Atoi(os.Getenv("PARLEY_CONNECTIONS"))
	if n == 0 {
		n = 200
	}
	h := newHouse(t, func(o *Options) { o.PingInterval = 3 * time.Second })
	used := func() (stacks, heap uint64) {
		for range 3 {
			debug.FreeOSMemory()
			time.Sleep(20 * time.Millisecond)
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.StackInuse, m.HeapAlloc
	}
	s0, h0 := used()
	var raws []*rawPeer
	for i := range n {
		r := rawDial(t, h)
		r.write(masked(`{"connect":{"token":"` + h.token(fmt.Sprint("u", i)) + `"},"id":1}`))
		r.frame()
		raws = append(raws, r)
	}
	for _, r := range raws { // through a ping each
		if _, b := r.frame(); string(b) != "{}" {
			t.Fatalf("%s", b)
		}
		r.write(masked("{}"))
	}
	s1, h1 := used()
	stack, heap := (int(s1)-int(s0))/n, (int(h1)-int(h0))/n
	t.Logf("%d connections: stacks %d B, heap %d B each, with the clients' heap", n, stack, heap)
	if stack > 3<<10 && !raceEnabled {
		t.Errorf("stacks of %d bytes each", stack)
	}
}
