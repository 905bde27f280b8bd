package room

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// crowded is a set of rooms under a clock that stands still, and what was told of
// it.
type crowded struct {
	*hall
	mu    sync.Mutex
	at    time.Time
	gone  []string
	stays map[string]bool
}

func newCrowded() *crowded {
	c := &crowded{at: time.UnixMilli(1_790_000_000_000), stays: map[string]bool{}}
	c.hall = newHall()
	c.now = func() time.Time {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.at
	}
	c.Watch(c)
	return c
}

// tellNews tells the news, and waits until it is handed out.
func (c *crowded) tellNews() {
	c.Rooms.tellNews()
	c.wait(time.Second)
}

func (c *crowded) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func (c *crowded) Gone(key Key, users []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range users {
		c.gone = append(c.gone, key.Channel+"/"+u)
	}
}

func (c *crowded) Stays(_ Key, user string) bool { return c.stays[user] }

func (c *crowded) wantHere(t *testing.T, key Key, users ...string) {
	t.Helper()
	list, total := c.Participants(key, 100, false)
	var here []string
	for _, p := range list {
		here = append(here, p.User)
	}
	slices.Sort(here)
	slices.Sort(users)
	if !slices.Equal(here, users) || total != len(users) || c.Count(key) != len(users) {
		t.Errorf("here are %q, %d in all, want %q", here, total, users)
	}
}

func (c *crowded) enter(key Key, l *listener) Entered { return c.Enter(key, l, nil, "") }

// Who lost their connection is counted until the 31st message after, or the first
// one after 30 seconds.
func TestThoseAway(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		before time.Duration // of the first message
		said   int
		here   bool
	}{
		{"30 messages", 0, 30, true},
		{"31 messages", 0, 31, false},
		{"no message for an hour", time.Hour, 0, true},
		{"a message within 30 seconds", 30*time.Second - time.Millisecond, 1, true},
		{"a message after 30 seconds", 30 * time.Second, 1, false},
	}
	for _, tt := range tests {
		c := newCrowded()
		c.stays["vip"] = true
		stay := &listener{user: "stay"}
		c.enter(lobby, stay)
		for _, user := range []string{"bob", "vip", "eve"} {
			l := &listener{user: user}
			c.enter(lobby, l)
			c.Leave(lobby, l, user != "eve")
		}
		c.pass(tt.before)
		for range tt.said {
			c.Publish(lobby, chat.UID{}, &chat.Message{From: "alice"})
		}
		// News is not a message.
		c.Publish(lobby, chat.UID{}, &chat.Message{Event: &chat.Event{}})
		want := []string{"stay", "vip"}
		if tt.here {
			want = append(want, "bob")
		}
		c.wantHere(t, lobby, want...)
		gone := []string{"lobby/eve"}
		if !tt.here {
			gone = append(gone, "lobby/bob")
		}
		if !slices.Equal(c.gone, gone) {
			t.Errorf("%s: gone are %q, want %q", tt.name, c.gone, gone)
		}
	}
}

// Who comes back in time has never left, and is counted anew when away again.
func TestComingBack(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	phone, tab := &listener{user: "bob"}, &listener{user: "bob"}
	at := c.enter(lobby, phone).At
	c.pass(time.Second)
	c.enter(lobby, tab)
	c.Leave(lobby, phone, true)
	publish(c.Rooms, 40) // there is the tab
	c.Leave(lobby, tab, true)
	publish(c.Rooms, 30)
	if e := c.enter(lobby, phone); e.At != at || e.Participants != 1 {
		t.Errorf("back since %d as one of %d, want %d of 1", e.At, e.Participants, at)
	}
	c.Leave(lobby, phone, true)
	publish(c.Rooms, 30)
	c.wantHere(t, lobby, "bob")
	publish(c.Rooms, 1)
	c.wantHere(t, lobby)
	if e := c.enter(lobby, phone); e.At == at {
		t.Error("they were never gone")
	}
	// In any case, where the app says so.
	c.Leave(lobby, phone, true)
	c.pass(5*time.Minute - time.Millisecond)
	away := func(chat.AppID) time.Duration { return 5 * time.Minute }
	c.DropAway(away)
	c.wantHere(t, lobby, "bob")
	c.pass(time.Millisecond)
	c.DropAway(func(chat.AppID) time.Duration { return 0 })
	c.wantHere(t, lobby, "bob")
	c.DropAway(away)
	c.wantHere(t, lobby)
}

func TestEvict(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	hall := Key{App: 1, Channel: "hall"}
	phone, tab, other, away := &listener{user: "bob"}, &listener{user: "bob"}, &listener{user: "carol"}, &listener{user: "dave"}
	for _, l := range []*listener{phone, tab, other, away} {
		c.enter(lobby, l)
	}
	c.enter(hall, &listener{user: "bob"})
	c.Leave(lobby, away, true)
	if got := c.Elsewhere(lobby, "bob"); !reflect.DeepEqual(got, []Key{hall}) {
		t.Errorf("elsewhere are %v", got)
	}
	if got := c.Elsewhere(Key{App: 2, Channel: "lobby"}, "bob"); got != nil {
		t.Errorf("in another app: %v", got)
	}
	if got := c.Evict(lobby, Barred, "bob", "nobody", "dave"); !slices.Equal(got, []string{"bob", "dave"}) {
		t.Errorf("evicted are %q", got)
	}
	c.wantHere(t, lobby, "carol")
	c.wantHere(t, hall, "bob")
	publish(c.Rooms, 1)
	c.wait(time.Second)
	if len(phone.offsets())+len(tab.offsets()) != 0 || len(other.offsets()) != 1 {
		t.Error("those evicted were given a message, or another one was not")
	}
	if !slices.Equal(phone.evicted, []Reason{Barred}) || !slices.Equal(tab.evicted, []Reason{Barred}) || len(other.evicted) > 0 {
		t.Errorf("told were %v, %v and %v", phone.evicted, tab.evicted, other.evicted)
	}
	c.Leave(lobby, phone, true) // late
	c.wantHere(t, lobby, "carol")

	phone = &listener{user: "bob"}
	epoch := c.enter(lobby, phone).Epoch
	c.End(lobby)
	c.wantHere(t, lobby)
	if !slices.Equal(other.evicted, []Reason{Ended}) {
		t.Errorf("told of the end were %v", other.evicted)
	}
	if e := c.enter(lobby, &listener{user: "bob"}); e.Epoch == epoch || e.Offset != 0 || e.Participants != 1 {
		t.Errorf("after the end: %+v", e)
	}
	if !slices.Equal(c.gone, []string{"lobby/bob", "lobby/dave", "lobby/bob", "lobby/carol"}) {
		t.Errorf("gone are %q", c.gone)
	}
}

func TestNews(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	l := &listener{user: "stay"}
	c.enter(lobby, l)
	c.tellNews()
	if len(l.news) != 0 {
		t.Fatal("somebody is told of their own coming")
	}
	c.tellNews()
	var crowd []*listener
	for i := range 12 {
		crowd = append(crowd, &listener{user: "u" + strconv.Itoa(i)})
		c.Enter(lobby, crowd[i], nil, "x"+strconv.Itoa(i))
	}
	c.Leave(lobby, crowd[3], false)
	c.Leave(lobby, crowd[4], true)
	c.tellNews()
	c.tellNews() // nothing new
	if len(l.news) != 1 {
		t.Fatalf("told %d times", len(l.news))
	}
	n := l.news[0]
	if n.Count != 12 || n.EnteredCount != 12 || n.LeftCount != 1 || len(n.Entered) != newsNames ||
		n.Entered[0] != (chat.Comer{User: "u0", Extra: "x0"}) || !slices.Equal(n.Left, []string{"u3"}) {
		t.Errorf("told %+v", n)
	}
	if got := fmt.Sprint(l.offsets()); got != "[]" {
		t.Errorf("news has offsets %s", got)
	}
}

// Who is taken out, and everybody when the room ends, has had what was said
// before, in order, even while it is being handed out.
func TestEvictedHaveWhatWasSaid(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	var all []*listener
	for i := range 2*slice + 1 {
		all = append(all, &listener{user: strconv.Itoa(i)})
		c.enter(lobby, all[i])
	}
	expect := func(i int, why string, want string) {
		t.Helper()
		if got := fmt.Sprint(all[i].offsets(), all[i].evicted); got != want {
			t.Errorf("%s: %s, want %s", why, got, want)
		}
	}
	publish(c.Rooms, 1)
	c.Evict(lobby, Barred, "5")
	expect(5, "before anything was handed out", "[1] [1]")
	c.step() // the first slice
	publish(c.Rooms, 1)
	c.Evict(lobby, Barred, "7", strconv.Itoa(slice+3))
	expect(7, "had the batch", "[1 2] [1]")
	expect(slice+3, "was still to be given it", "[1 2] [1]")
	c.End(lobby)
	expect(8, "not before the others", "[1] []")
	c.wantHere(t, lobby)
	publish(c.Rooms, 1) // nobody's
	c.settle()
	for i := range all {
		if i != 5 && i != 7 && i != slice+3 {
			expect(i, "at the end", "[1 2] [2]")
		}
	}
}

// The larger the room, the rarer the news.
func TestNewsOfLargeRooms(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	l := &listener{user: "stay"}
	c.enter(lobby, l)
	for i := range 2 * newsCrowd {
		c.enter(lobby, &listener{user: strconv.Itoa(i)})
	}
	for range 3 {
		if len(l.news) != 0 {
			t.Fatal("told too early")
		}
		c.tellNews()
	}
	if len(l.news) != 1 || l.news[0].EnteredCount != 2*newsCrowd+1 {
		t.Errorf("told %d times", len(l.news))
	}
}

func TestParticipantsInOrder(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	for _, user := range []string{"c", "a", "b"} {
		c.enter(lobby, &listener{user: user})
		c.pass(time.Second)
	}
	for newest, want := range map[bool]string{false: "c a b", true: "b a c"} {
		list, total := c.Participants(lobby, 2, newest)
		if total != 3 || list[0].User+" "+list[1].User != want[:3] {
			t.Errorf("newest first %v: %v of %d, want %s", newest, list, total, want)
		}
	}
	if got := c.Here(lobby, []string{"a", "x", "b"}); !slices.Equal(got, []bool{true, false, true}) {
		t.Errorf("here are %v", got)
	}
}

// Coming, going, being evicted and rooms that end, all at once: in the end the
// counts are exact.
func TestCrowdComesAndGoes(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 200 {
				l := &listener{user: "u" + strconv.Itoa(i%8)}
				key := Key{App: 1, Channel: strconv.Itoa((i + n) % 3)}
				c.enter(key, l)
				switch n % 5 {
				case 0:
					c.Evict(key, Barred, l.user)
				case 1:
					c.Publish(key, chat.UID{}, &chat.Message{From: l.user})
				case 2:
					if n%50 == 2 {
						c.End(key)
					}
				}
				c.Leave(key, l, n%2 == 0)
			}
		})
	}
	wg.Wait()
	for i := range 3 {
		key := Key{App: 1, Channel: strconv.Itoa(i)}
		for range 2 * awayMessages {
			c.Publish(key, chat.UID{}, &chat.Message{From: "x"})
		}
		c.wantHere(t, key)
	}
	for i := range c.crowds {
		if n := len(c.crowds[i].users); n != 0 {
			t.Errorf("%d users are still somewhere", n)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	c := newCrowded()
	other := Key{App: 1, Channel: "other"}
	bob, eve := &listener{user: "bob"}, &listener{user: "eve"}
	c.enter(lobby, bob)
	c.enter(lobby, eve)
	again := &listener{user: "bob"}
	c.enter(other, again)
	if n := c.Size(); n != (Size{Rooms: 2, Participants: 3, Parts: 3}) {
		t.Errorf("%+v", n)
	}
	c.Leave(lobby, bob, false)
	c.Leave(lobby, eve, true) // is in it still
	c.Leave(other, again, false)
	c.pass(2 * linger)
	c.sweep()
	if n := c.Size(); n != (Size{Rooms: 1, Participants: 1, Parts: 1}) {
		t.Errorf("%+v", n)
	}
}
