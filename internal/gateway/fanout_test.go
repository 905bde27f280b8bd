package gateway

import (
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/websocket"
)

// batch makes a batch of messages with the given priorities and content of so
// many bytes, from the offset on.
func batch(offset uint64, size int, priorities ...chat.Priority) *room.Batch {
	b := &room.Batch{}
	for i, p := range priorities {
		b.Publications = append(b.Publications, &room.Publication{
			Seq: offset + uint64(i), Offset: offset + uint64(i), Channel: "c",
			Message: &chat.Message{From: "alice", ChannelType: chat.Open, Type: "app:text", Priority: p, Content: strings.Repeat("x", size)},
		})
	}
	return b
}

// collect parses what was written and gives the objects of each message.
type collect struct{ frames [][]string }

func (c *collect) Message(_ websocket.Opcode, b []byte) error {
	c.frames = append(c.frames, strings.Split(string(b), "\n"))
	return nil
}

func TestJoinBatch(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		size, n    int
		wantFrames int
	}{
		{"one", 10, 1, 1},
		{"as many as a message may have", 10, maxJoinedObjects, 1},
		{"one more", 10, maxJoinedObjects + 1, 2},
		{"as much as a message may have", 20_000, 4, 2},
		{"longer than that", 100_000, 2, 2},
	} {
		b := batch(7, tt.size, make([]chat.Priority, tt.n)...)
		out := b.Form(formJoined, joinBatch)
		var c collect
		p := websocket.NewParser(websocket.Client, 1<<20)
		if err := p.Feed(slices.Clone(out), &c); err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		next := uint64(7)
		for _, f := range c.frames {
			for _, line := range f {
				if got := decodeReply(t, line).Push.Pub.Offset; got != next {
					t.Fatalf("%s: offset %d, want %d", tt.name, got, next)
				}
				next++
			}
		}
		if len(c.frames) != tt.wantFrames || next != uint64(7+tt.n) {
			t.Errorf("%s: %d frames with %d objects, want %d with %d", tt.name, len(c.frames), next-7, tt.wantFrames, tt.n)
		}
		if again := b.Form(formJoined, joinBatch); &again[0] != &out[0] {
			t.Errorf("%s: joined twice", tt.name)
		}
	}
}

// What a member is given of a batch, and how.
func TestDeliver(t *testing.T) {
	t.Parallel()
	g := New(Options{Store: noStore{}, Rooms: room.New(time.Now)})
	written := func(c *conn) int64 { return c.wire.(*nullWire).n.Load() }
	b := batch(5, 10, 0, 0, 0)
	for _, tt := range []struct {
		name   string
		user   string
		after  uint64
		change func(*seat)
		direct bool // written at once
		queued int
		early  int
		behind bool
	}{
		{name: "an idle connection", user: "bob", direct: true},
		{name: "one that came within the window", user: "bob", after: 5, queued: 2},
		{name: "the sender's own", user: "alice"},
		{name: "the sender's own with echo", user: "eve", queued: 3},
		{name: "a busy one", user: "bob", change: func(s *seat) { s.c.sched.Store(schedRunning) }, queued: 3},
		{name: "one whose socket is full", user: "bob", change: func(s *seat) { s.c.sched.Store(schedBlocked) }, queued: 3, behind: true},
		{name: "one that does not know yet", user: "bob", change: func(s *seat) { s.Live = false }, early: 3},
		{name: "one that has left", user: "bob", change: func(s *seat) { s.Left = true }},
		{name: "one that is closing", user: "bob", change: func(s *seat) { s.c.closing = closeSlow }},
		{name: "one that is gone", user: "bob", change: func(s *seat) { s.c.state = stateClosed }},
	} {
		c := benchConn(g, tt.user)
		s := &seat{Place: room.Place{Live: true}, c: c, channel: "c"}
		if tt.change != nil {
			tt.change(s)
		}
		give := b
		if tt.user == "eve" {
			give = batch(5, 10, 0, 0, 0)
			for _, p := range give.Publications {
				p.Message.From, p.Message.Echo = "eve", true
			}
		}
		behind := s.Deliver(give, tt.after)
		early := 0
		if s.early != nil {
			early = len(s.early.list)
		}
		if behind != tt.behind || (written(c) > 0) != tt.direct || int(c.queue.waiting) != tt.queued || early != tt.early {
			t.Errorf("%s: behind %v, %d bytes written, %d queued, %d early", tt.name, behind, written(c), c.queue.waiting, early)
		}
		if tt.direct && c.sched.Load() != schedIdle {
			t.Errorf("%s: the turn was not given back", tt.name)
		}
	}
}

// A queue gives up the lowest ranks first, of each the oldest, and nothing where
// that is not enough. It is held against doing it frame by frame.
func TestGiveUp(t *testing.T) {
	t.Parallel()
	kinds := []frameKind{frameReply, frameOpenLow, frameOpen, frameOpenHigh, frameOpenKept, frameEphemeral}
	for round := range 2000 {
		var q queue
		var model []frame
		for i := range rand.IntN(12) {
			f := frame{make([]byte, 1+rand.IntN(5)), kinds[rand.IntN(len(kinds))]}
			f.b[0] = byte(i)
			q.push(f)
			model = append(model, f)
		}
		for range rand.IntN(3) {
			if len(model) > 0 {
				q.pop()
				model = model[1:]
			}
		}
		below, need := room.Rank(rand.IntN(int(room.Ranks))), 1+rand.IntN(10)

		want := slices.Clone(model)
		left, lost := need, [room.Ranks]int{}
		for r := range below {
			want = slices.DeleteFunc(want, func(f frame) bool {
				if left <= 0 || !f.kind.expendable() || f.kind.rank() != r {
					return false
				}
				left -= len(f.b)
				lost[r]++
				return true
			})
		}
		if left > 0 {
			want, lost = model, [room.Ranks]int{}
		}

		got, count := []frame{}, [room.Ranks]int{}
		if ok := q.giveUp(below, need, func(r room.Rank) { count[r]++ }); ok != (left <= 0) {
			t.Fatalf("round %d: %v with %d bytes left to find", round, ok, left)
		}
		var bytes, expend int32
		for _, f := range want {
			bytes += int32(len(f.b))
			if f.kind.expendable() {
				expend += int32(len(f.b))
			}
		}
		if q.bytes != bytes || q.expend != expend || int(q.waiting) != len(want) {
			t.Fatalf("round %d: %d bytes, %d expendable, %d frames; want %d, %d, %d", round, q.bytes, q.expend, q.waiting, bytes, expend, len(want))
		}
		for q.waiting > 0 {
			got = append(got, q.pop())
		}
		same := slices.EqualFunc(got, want, func(a, b frame) bool { return &a.b[0] == &b.b[0] })
		if !same || count != lost {
			t.Fatalf("round %d: kept %v, want %v; lost %v, want %v", round, got, want, count, lost)
		}
	}
}

// A participant that reads nothing loses low priority first, then standard, then
// high, and is let go before it loses what is allowlisted.
func TestSlowParticipant(t *testing.T) {
	t.Parallel()
	g := New(Options{Store: noStore{}, Rooms: room.New(time.Now), QueueBytes: 20_000})
	c := benchConn(g, "bob")
	c.sched.Store(schedBlocked)
	s := &seat{Place: room.Place{Live: true}, c: c, channel: "c"}
	const low, standard, high, kept = chat.PriorityLow, chat.PriorityStandard, chat.PriorityHigh, chat.PriorityAllowlisted
	offset := uint64(1)
	give := func(p ...chat.Priority) {
		s.Deliver(batch(offset, 4_500, p...), 0) // four fit
		offset += uint64(len(p))
	}
	expect := func(what string, want ...int) {
		t.Helper()
		var got []int
		for r := range room.Ranks {
			got = append(got, int(testutil.ToFloat64(g.metrics.given[r])))
		}
		if !slices.Equal(got, want) {
			t.Fatalf("%s: given up %v, want %v", what, got, want)
		}
	}
	give(standard, low, low, high)
	expect("four fit", 0, 0, 0, 0)
	give(low)
	expect("a low one is no reason to give up low ones", 1, 0, 0, 0)
	give(standard)
	expect("a standard one is", 2, 0, 0, 0)
	give(high, high)
	expect("low ones go first", 3, 1, 0, 0)
	give(high)
	expect("then standard ones", 3, 2, 0, 0)
	give(high, standard)
	expect("then nothing gives way", 3, 3, 1, 0)
	give(kept, kept, kept, kept)
	expect("what is allowlisted comes on top", 3, 3, 1, 0)
	if c.closing != nil {
		t.Fatal("closed too soon")
	}
	var left []uint64
	for q := c.queue; q.waiting > 0; {
		left = append(left, decodeReply(t, string(q.pop().b)).Push.Pub.Offset)
	}
	if got := fmt.Sprint(left); got != "[4 7 8 9 12 13 14 15]" {
		t.Errorf("in the queue: %s", got)
	}
	give(kept)
	give(kept)
	if c.closing != closeSlow {
		t.Errorf("closing %v, want %v", c.closing, closeSlow)
	}
	expect("and is never given up", 3, 3, 1, 0)
}

// The same over a socket that nobody reads from.
func TestStalledSocketKeepsWhatMatters(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.QueueBytes = 128 << 10 })
	slow, _ := h.connect("slow", "")
	slow.send(`{"subscribe":{"channel":"open:c"},"id":2}`)
	slow.reply()
	h.set("limits.open", "0")
	h.set("open.intake", "false")
	post := func(p chat.Priority) chat.UID {
		return h.post(&chat.Message{ChannelType: chat.Open, From: "alice", Type: "app:text", Priority: p, Content: strings.Repeat("z", 30<<10)}, "c")[0]
	}
	given := func(r room.Rank) float64 { return testutil.ToFloat64(h.Gateway.metrics.given[r]) }
	for given(room.RankLow) < 10 {
		post(chat.PriorityLow)
	}
	want := map[string]bool{}
	for range 2 {
		for _, p := range []chat.Priority{chat.PriorityHigh, chat.PriorityAllowlisted} {
			want[post(p).String()] = true
		}
	}
	last := post(chat.PriorityAllowlisted).String()
	eventually(t, "low ones give way", func() bool { return given(room.RankLow) >= 12 })
	for offset := uint64(0); ; {
		m := slow.said().Pub
		if m.Offset <= offset {
			t.Fatalf("%d after %d", m.Offset, offset)
		}
		offset = m.Offset
		uid := m.Data.Message.MessageUID
		if delete(want, uid); uid == last {
			break
		}
	}
	if len(want) > 0 || given(room.RankHigh)+given(room.RankKept) > 0 {
		t.Errorf("%d did not arrive; %v high and %v allowlisted ones were given up", len(want), given(room.RankHigh), given(room.RankKept))
	}
}

// A wire that is aborted while it is written to is closed by whoever is last,
// and nobody writes to its descriptor afterwards.
func TestAbortWhileWriting(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 50 {
		far, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		near, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		w := newWire(near)
		if _, lean := w.(*streamWire); lean {
			t.Skip("the wire has no descriptor of its own here")
		}
		var wg sync.WaitGroup
		wg.Go(func() { // sees the end
			b := make([]byte, 64<<10)
			for {
				if _, err := far.Read(b); err != nil {
					return
				}
			}
		})
		for range 2 {
			wg.Go(func() {
				for {
					if _, err := w.try([]byte("x")); err != nil && err != errAgain {
						return
					}
				}
			})
		}
		wg.Go(w.abort)
		wg.Go(w.abort)
		wg.Wait()
		if _, err := near.Write([]byte("x")); err == nil {
			t.Fatal("the socket is open")
		}
		far.Close()
	}
}

// A participant may cost 200 bytes beyond the connection.
func TestParticipantSize(t *testing.T) {
	const n = 20_000
	g := New(Options{Store: noStore{}, Rooms: room.New(time.Now)})
	conns := make([]*conn, n)
	for i := range conns {
		conns[i] = benchConn(g, fmt.Sprint("u", i))
	}
	used := func() uint64 {
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	for _, rooms := range []int{1, n / 100} {
		before := used()
		for i, c := range conns {
			s := &seat{Place: room.Place{Live: true}, c: c, channel: "c"}
			c.seats = append(c.seats, s)
			g.opts.Rooms.Enter(room.Key{App: chat.AppID(rooms + i%rooms), Channel: "c"}, s, nil, "")
		}
		each := (int(used()) - int(before)) / n
		t.Logf("%d participants in %d rooms: %d bytes each", n, rooms, each)
		if each > 200 && !raceEnabled {
			t.Errorf("%d bytes per participant in %d rooms", each, rooms)
		}
		for _, c := range conns {
			c.seats = nil
		}
	}
	runtime.KeepAlive(conns)
	runtime.KeepAlive(g)
}
