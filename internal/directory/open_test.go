package directory

import (
	"errors"
	"reflect"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func (h *house) known(app *chat.App, id string) *chat.OpenChannel {
	h.t.Helper()
	c, err := h.OpenChannel(h.t.Context(), app.ID, id)
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) change(app *chat.App, id string, f func(*chat.OpenChannel)) *chat.OpenChannel {
	h.t.Helper()
	c, err := h.ChangeOpenChannel(h.t.Context(), app, id, true, func(c *chat.OpenChannel) error { f(c); return nil })
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *house) ended() (ids []string) {
	h.t.Helper()
	list, _, err := h.OpenEnded(h.t.Context(), 100)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, q := range list {
		ids = append(ids, q.Channel)
	}
	return ids
}

func TestOpenChannelsAreKept(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, b := h.app(), h.app()
	if c := h.known(a, "room"); c != nil {
		t.Fatalf("there is %+v", c)
	}
	_, err := h.ChangeOpenChannel(t.Context(), a, "room", false, func(*chat.OpenChannel) error { return nil })
	wantKind(t, "a change of none", err, chat.KindNoOpenChannel)

	at := h.clock().UnixMilli()
	h.change(a, "room", func(c *chat.OpenChannel) {
		c.Frozen, c.KeepAlive, c.Ends, c.TTL = true, true, chat.EndsFixed, 2*time.Hour
		c.Muted["bob"] = chat.Restriction{Since: 1, Until: at + 2}
		c.Banned["eve"] = chat.Restriction{Since: 3, Until: at + 4}
		c.Allowed["carol"], c.Priority["dave"] = 5, 6
		c.Pairs["k"] = chat.OpenPair{Value: "v", Owner: "bob", AutoDelete: true, UpdatedAt: 7}
	})
	h.change(a, "", func(c *chat.OpenChannel) {
		c.Muted["mallory"] = chat.Restriction{Since: 1, Until: 9}
		c.PriorityTypes["app:gift"], c.LowTypes["app:like"] = 1, 2
	})
	want := *h.known(a, "room")
	if want.CreatedAt != at || want.ActiveAt != at {
		t.Errorf("it began at %d and was active at %d, want %d", want.CreatedAt, want.ActiveAt, at)
	}
	wide := *h.known(a, "")
	for range 2 {
		if c := h.known(a, "room"); !reflect.DeepEqual(*c, want) {
			t.Errorf("it is %+v, want %+v", *c, want)
		}
		if c := h.known(a, ""); !reflect.DeepEqual(*c, wide) {
			t.Errorf("all are %+v, want %+v", *c, wide)
		}
		if c := h.known(b, "room"); c != nil {
			t.Errorf("the other app has %+v", c)
		}
		h.reopen()
	}
	// What a change refuses, and what it takes away.
	sorry := errors.New("sorry")
	if _, err := h.ChangeOpenChannel(t.Context(), a, "room", false, func(c *chat.OpenChannel) error {
		c.Frozen = false
		delete(c.Pairs, "k")
		return sorry
	}); !errors.Is(err, sorry) {
		t.Error(err)
	}
	if c := h.known(a, "room"); !reflect.DeepEqual(*c, want) {
		t.Errorf("a refused change made it %+v", *c)
	}
	h.change(a, "room", func(c *chat.OpenChannel) { c.Frozen = false; delete(c.Pairs, "k"); delete(c.Muted, "bob") })
	h.reopen()
	if c := h.known(a, "room"); c.Frozen || len(c.Pairs)+len(c.Muted) != 0 || len(c.Banned) != 1 {
		t.Errorf("it is %+v", *c)
	}
	// A new life has nothing of the old one.
	if c, err := h.DropOpenChannel(t.Context(), a.ID, "room", nil); err != nil || len(c.Banned) != 1 {
		t.Fatalf("dropped %+v, %v", c, err)
	}
	h.pass(time.Hour)
	if c := h.known(a, "room"); c != nil {
		t.Errorf("dropped it is %+v", c)
	}
	if c := h.change(a, "room", func(*chat.OpenChannel) {}); len(c.Banned)+len(c.Allowed) != 0 || c.CreatedAt != h.clock().UnixMilli() {
		t.Errorf("its new life is %+v", *c)
	}
}

func TestOpenChannelsEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	h.change(a, "idle", func(*chat.OpenChannel) {})
	h.change(a, "busy", func(*chat.OpenChannel) {})
	h.change(a, "fixed", func(c *chat.OpenChannel) { c.Ends, c.TTL = chat.EndsFixed, 2*time.Hour })
	h.change(a, "kept", func(c *chat.OpenChannel) { c.KeepAlive = true })
	step := func(d time.Duration, want ...string) {
		t.Helper()
		h.pass(d)
		h.TouchOpenChannel(a.ID, "busy")
		h.TouchOpenChannel(a.ID, "fixed")
		if err := h.StoreOpenActivity(t.Context()); err != nil {
			t.Fatal(err)
		}
		got := h.ended()
		if !reflect.DeepEqual(got, want) {
			t.Errorf("ended are %q, want %q", got, want)
		}
		for _, id := range got {
			if c, err := h.DropOpenChannel(t.Context(), a.ID, id, h.HasEnded); err != nil || c == nil {
				t.Errorf("%s: %v, %v", id, c, err)
			}
		}
	}
	step(59 * time.Minute)
	step(time.Minute, "idle")
	step(time.Minute)
	step(59*time.Minute, "fixed")
	// After a stop the idle ones get a full period; those with a fixed end do not.
	h.change(a, "fixed", func(c *chat.OpenChannel) { c.Ends, c.TTL = chat.EndsFixed, time.Hour })
	h.pass(3 * time.Hour)
	h.reopen()
	if got := h.ended(); !reflect.DeepEqual(got, []string{"fixed"}) {
		t.Errorf("after a stop ended are %q", got)
	}
	h.pass(59 * time.Minute)
	if got := h.ended(); !reflect.DeepEqual(got, []string{"fixed"}) {
		t.Errorf("within the period ended are %q", got)
	}
	h.pass(time.Minute)
	if got := h.ended(); len(got) != 2 {
		t.Errorf("after a period without activity ended are %q", got)
	}
	// Somebody comes between the list and the end.
	h.TouchOpenChannel(a.ID, "busy")
	if c, err := h.DropOpenChannel(t.Context(), a.ID, "busy", h.HasEnded); err != nil || c != nil {
		t.Errorf("%+v, %v", c, err)
	}
	if c := h.known(a, "kept"); c == nil {
		t.Error("the one to be kept is gone")
	}
}

// Changes of one channel lose nothing of each other.
func TestOpenChangesTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			if _, err := h.ChangeOpenChannel(t.Context(), a, "room", true, func(c *chat.OpenChannel) error {
				c.Pairs[strconv.Itoa(i)] = chat.OpenPair{Value: "v"}
				return nil
			}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := len(h.known(a, "room").Pairs); n != 40 {
		t.Errorf("%d pairs", n)
	}
	h.reopen()
	if n := len(h.known(a, "room").Pairs); n != 40 {
		t.Errorf("%d pairs after a restart", n)
	}
}

// What is out of memory comes back, activity and all.
func TestOpenChannelsComeBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	const n = 3 * maxOpenKnown / 64 / 64 // of one shard's room
	h.change(a, "first", func(c *chat.OpenChannel) { c.Frozen = true })
	for i := range n {
		h.change(a, strconv.Itoa(i), func(*chat.OpenChannel) {})
	}
	if c := h.known(a, "first"); c == nil || !c.Frozen {
		t.Errorf("it came back as %+v", c)
	}
	list, err := h.store.ListOpen(t.Context(), a.ID, store.OpenLife, "", 1000)
	if err != nil || len(list) != n+1 {
		t.Errorf("%d channels, %v", len(list), err)
	}
}
