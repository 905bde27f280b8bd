package room

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// listener remembers what it was given and checks the order as it comes.
type listener struct {
	user string
	mu   sync.Mutex
	got  []uint64
	news []*chat.RoomNews

	evicted []Reason
}

func (l *listener) User() string { return l.user }
func (l *listener) Deliver(p *Publication) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e := p.Message.Event; e != nil && e.Room != nil {
		l.news = append(l.news, e.Room)
		return
	}
	l.got = append(l.got, p.Offset)
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

func TestEnterSeesExactlyWhatFollows(t *testing.T) {
	t.Parallel()
	r := New(time.Now)
	r.Enter(lobby, &listener{user: "first"}, nil, "")
	publish(r, 3)
	l := &listener{user: "bob"}
	e := r.Enter(lobby, l, nil, "")
	if e.Offset != 3 || e.Participants != 2 || e.Missed != nil {
		t.Fatalf("entered at %d with %d participants and %d missed; want 3, 2 and none", e.Offset, e.Participants, len(e.Missed))
	}
	publish(r, 2)
	if got := fmt.Sprint(l.offsets()); got != "[4 5]" {
		t.Fatalf("delivered %s, want [4 5]", got)
	}
}

func TestRecoverFromTheRing(t *testing.T) {
	t.Parallel()
	r := New(time.Now)
	stay, l := &listener{user: "stay"}, &listener{user: "bob"}
	r.Enter(lobby, stay, nil, "")
	epoch := r.Enter(lobby, l, nil, "").Epoch
	publish(r, 2)
	r.Leave(lobby, l, false)
	publish(r, 5)

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
	publish(r, ringSize)
	if e := r.Enter(lobby, l, &Position{epoch, 6}, ""); e.Recovered {
		t.Error("recovered from before the ring")
	}
	if e := r.Enter(lobby, l, &Position{epoch, 7}, ""); !e.Recovered || len(e.Missed) != ringSize {
		t.Errorf("recovered %v with %d from the ring's edge, want all %d", e.Recovered, len(e.Missed), ringSize)
	}
}

func TestCountsAreOfUsers(t *testing.T) {
	t.Parallel()
	r := New(time.Now)
	phone, tab := &listener{user: "bob"}, &listener{user: "bob"}
	r.Enter(lobby, phone, nil, "")
	r.Enter(lobby, tab, nil, "")
	r.Enter(lobby, tab, nil, "") // again: no second membership
	if n := r.Count(lobby); n != 1 {
		t.Fatalf("%d participants, want 1", n)
	}
	publish(r, 1)
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
	r := New(time.Now)
	other := &listener{user: "bob"}
	r.Enter(Key{App: 2, Channel: "lobby"}, other, nil, "")
	publish(r, 1)
	if len(other.offsets()) != 0 {
		t.Fatal("a message crossed between apps")
	}
}

// Members come and go while messages flow: each stay sees a run of offsets
// without a hole, starting right after the offset it entered at.
func TestChurnLeavesNoHoles(t *testing.T) {
	t.Parallel()
	r := New(time.Now)
	stop := make(chan struct{})
	var wg sync.WaitGroup
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
				for j, o := range l.offsets() {
					if want := e.Offset + 1 + uint64(j); o != want {
						t.Errorf("delivery %d has offset %d, want %d", j, o, want)
						return
					}
				}
			}
		})
	}
	publish(r, 20000)
	close(stop)
	wg.Wait()
	if n := r.Count(lobby); n != 0 {
		t.Fatalf("%d participants left", n)
	}
}

// A member costs a queue operation, not an encoding: what Publish itself adds
// per member.
func BenchmarkPublish10000(b *testing.B) {
	r := New(time.Now)
	for i := range 10000 {
		r.Enter(lobby, &sink{user: fmt.Sprint(i)}, nil, "")
	}
	m := &chat.Message{From: "alice"}
	b.ReportAllocs()
	for b.Loop() {
		r.Publish(lobby, chat.UID{}, m)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/10000, "ns/member")
}

type sink struct{ user string }

func (s *sink) User() string         { return s.user }
func (s *sink) Deliver(*Publication) {}

func (*sink) Evict(Reason) {}
