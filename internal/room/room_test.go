package room

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/chat"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listener remembers what it was given.
type listener struct {
	Place
	user   string
	behind bool
	during func() // called with each batch

	mu      sync.Mutex
	got     []uint64
	batches int
	news    []*chat.RoomNews
	evicted []Reason
}

func (l *listener) User() string { return l.user }
func (l *listener) Deliver(b *Batch, after uint64) bool {
	if l.during != nil {
		l.during()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	said := 0
	for _, p := range b.Since(after) {
		if e := p.Message.Event; e != nil && e.Room != nil {
			l.news = append(l.news, e.Room)
			continue
		}
		l.got = append(l.got, p.Offset)
		said++
	}
	if said > 0 {
		l.batches++
	}
	return l.behind
}

func (l *listener) Evict(why Reason) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.evicted = append(l.evicted, why)
}

func (l *listener) offsets() []uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]uint64(nil), l.got...)
}

var lobby = Key{App: 1, Channel: "lobby"}

func publish(r *Rooms, n int) {
	for range n {
		r.Publish(lobby, chat.UID{}, &chat.Message{From: "alice"})
	}
}

// waiting is how many publications are in the room's window.
func (r *Rooms) waiting(key Key) int {
	rm := r.lock(key, false)
	defer rm.mu.Unlock()
	return len(rm.window)
}

// A hall is rooms whose clock and only pump are the test.
type hall struct {
	*Rooms
	time time.Duration
}

func newHall() *hall {
	h := &hall{Rooms: New(time.Now), time: time.Hour}
	h.pumps.clock = func() time.Duration { return h.time }
	return h
}

// step serves one slice, and reports whether there was one.
func (h *hall) step() bool {
	h.pumps.ripen()
	if h.pumps.head == nil {
		return false
	}
	h.pumps.serve(h.pumps.popLocked(), new(hand))
	return true
}

// settle hands out all that is due.
func (h *hall) settle() {
	for h.step() {
	}
}

// wait lets time pass.
func (h *hall) wait(d time.Duration) {
	h.time += d
	h.settle()
}

func TestEnterSeesExactlyWhatFollows(t *testing.T) {
	t.Parallel()
	r := newHall()
	r.Enter(lobby, &listener{user: "first"}, nil, "")
	publish(r.Rooms, 3)
	l := &listener{user: "bob"}
	e := r.Enter(lobby, l, nil, "")
	if e.Offset != 3 || e.Participants != 2 || e.Missed != nil {
		t.Fatalf("entered at %d with %d participants and %d missed; want 3, 2 and none", e.Offset, e.Participants, len(e.Missed))
	}
	publish(r.Rooms, 2)
	r.wait(time.Second)
	if got := fmt.Sprint(l.offsets()); got != "[4 5]" {
		t.Fatalf("delivered %s, want [4 5]", got)
	}
}

func TestRecoverFromTheRing(t *testing.T) {
	t.Parallel()
	r := newHall()
	stay, l := &listener{user: "stay"}, &listener{user: "bob"}
	r.Enter(lobby, stay, nil, "")
	epoch := r.Enter(lobby, l, nil, "").Epoch
	publish(r.Rooms, 2)
	r.Leave(lobby, l, false)
	publish(r.Rooms, 5)

	tests := []struct {
		name      string
		from      Position
		recovered bool
		missed    int
	}{
		{"where it left", Position{epoch, 2}, true, 5},
		{"at the head", Position{epoch, 7}, true, 0},
		{"ahead of the head", Position{epoch, 8}, false, 0},
		{"another epoch", Position{"other", 2}, false, 0},
	}
	for _, tt := range tests {
		e := r.Enter(lobby, l, &tt.from, "")
		if e.Recovered != tt.recovered || len(e.Missed) != tt.missed {
			t.Errorf("%s: recovered %v with %d, want %v with %d", tt.name, e.Recovered, len(e.Missed), tt.recovered, tt.missed)
		}
		for i, p := range e.Missed {
			if want := tt.from.Offset + 1 + uint64(i); p.Offset != want {
				t.Errorf("%s: missed[%d] has offset %d, want %d", tt.name, i, p.Offset, want)
			}
		}
	}
	publish(r.Rooms, ringSize)
	if e := r.Enter(lobby, l, &Position{epoch, 6}, ""); e.Recovered {
		t.Error("recovered from before the ring")
	}
	if e := r.Enter(lobby, l, &Position{epoch, 7}, ""); !e.Recovered || len(e.Missed) != ringSize {
		t.Errorf("recovered %v with %d from the ring's edge, want all %d", e.Recovered, len(e.Missed), ringSize)
	}
}

func TestCountsAreOfUsers(t *testing.T) {
	t.Parallel()
	r := newHall()
	phone, tab := &listener{user: "bob"}, &listener{user: "bob"}
	r.Enter(lobby, phone, nil, "")
	r.Enter(lobby, tab, nil, "")
	r.Enter(lobby, tab, nil, "") // again: no second membership
	if n := r.Count(lobby); n != 1 {
		t.Fatalf("%d participants, want 1", n)
	}
	publish(r.Rooms, 1)
	r.settle()
	if len(tab.offsets()) != 1 {
		t.Fatal("a session that entered twice was given a publication twice")
	}
	r.Leave(lobby, tab, false)
	if n := r.Count(lobby); n != 1 {
		t.Fatalf("%d participants after one of two sessions left, want 1", n)
	}
	r.Leave(lobby, phone, false)
	r.Leave(lobby, phone, false)
	if n := r.Count(lobby); n != 0 {
		t.Fatalf("%d participants in an empty room", n)
	}
}

func TestEmptyRoomLingersThenGoesWithItsEpoch(t *testing.T) {
	t.Parallel()
	now := time.Now()
	r := New(func() time.Time { return now })
	l := &listener{user: "bob"}
	epoch := r.Enter(lobby, l, nil, "").Epoch
	r.Leave(lobby, l, false)
	publish(r, 1)
	now = now.Add(linger - time.Second)
	r.sweep()
	if e := r.Enter(lobby, l, &Position{epoch, 0}, ""); !e.Recovered || len(e.Missed) != 1 {
		t.Fatal("a session that came back in time did not recover")
	}
	r.Leave(lobby, l, false)
	now = now.Add(linger + time.Second)
	r.sweep()
	if e := r.Enter(lobby, l, &Position{epoch, 0}, ""); e.Recovered || e.Epoch == epoch {
		t.Fatal("a dropped room came back under its old epoch")
	}
}

func TestRoomsOfAppsAreApart(t *testing.T) {
	t.Parallel()
	r := newHall()
	other := &listener{user: "bob"}
	r.Enter(Key{App: 2, Channel: "lobby"}, other, nil, "")
	publish(r.Rooms, 1)
	r.settle()
	if len(other.offsets()) != 0 {
		t.Fatal("a message crossed between apps")
	}
}

// Members come and go while messages flow: each stay sees a run of offsets
// without a hole, starting right after the offset it entered at, and who stays
// all the time sees everything.
func TestChurnLeavesNoHoles(t *testing.T) {
	t.Parallel()
	r := New(time.Now)
	ctx, cancel := context.WithCancel(t.Context())
	var running, wg sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	var staying []*listener
	for i := range 3 * slice { // several slices, so that pumps share the room
		l := &listener{user: fmt.Sprint("stay", i)}
		staying = append(staying, l)
		r.Enter(lobby, l, nil, "")
	}
	check := func(l *listener, after uint64) {
		for j, o := range l.offsets() {
			if want := after + 1 + uint64(j); o != want {
				t.Errorf("delivery %d to %s has offset %d, want %d", j, l.user, o, want)
				return
			}
		}
	}
	stop := make(chan struct{})
	for i := range 8 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				l := &listener{user: fmt.Sprint(i)}
				e := r.Enter(lobby, l, nil, "")
				time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
				r.Leave(lobby, l, false)
				check(l, e.Offset)
			}
		})
	}
	const n = 20000
	for range n / 100 {
		publish(r, 100)
		for r.waiting(lobby) > mostCount-100 {
			time.Sleep(100 * time.Microsecond)
		}
	}
	close(stop)
	wg.Wait()
	cancel()
	running.Wait() // hands out what is left
	for _, l := range staying {
		if check(l, 0); len(l.got) != n {
			t.Fatalf("%s was given %d of %d", l.user, len(l.got), n)
		}
		r.Leave(lobby, l, false)
	}
	if n := r.Count(lobby); n != 0 {
		t.Fatalf("%d participants left", n)
	}
}

// What publishing itself costs: an append, whatever the number of members.
func BenchmarkPublish(b *testing.B) {
	h := newHall()
	h.Enter(lobby, &listener{user: "bob"}, nil, "")
	m := &chat.Message{From: "alice"}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if h.Publish(lobby, chat.UID{}, m); i%fullCount == 0 {
			h.time += time.Second
			h.settle()
		}
	}
}
