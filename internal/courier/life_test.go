package courier

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
)

type bystander struct{ room.Place }

func (*bystander) User() string                     { return "by" }
func (*bystander) Deliver(*room.Batch, uint64) bool { return false }
func (*bystander) Evict(room.Reason)                {}

// Open channels end when their time has come, whatever restarts there were
// meanwhile; those that are kept alive do not.
func TestOpenEndsOverRestarts(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	var ms atomic.Int64
	ms.Store(time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC).UnixMilli())
	now := func() time.Time { return time.UnixMilli(ms.Load()) }
	begun := now()

	var c *Courier
	var app *chat.App
	stop := func() {}
	restart := func() {
		t.Helper()
		stop()
		s, err := pebble.Open(t.Context(), pebble.Options{Dir: "data", FS: fs, Now: now, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		d, err := directory.Open(t.Context(), s, now)
		if err != nil {
			t.Fatal(err)
		}
		if app, _, err = d.EnsureApp(t.Context(), "app", "secret"); err != nil {
			t.Fatal(err)
		}
		c = New(Options{Store: s, Archive: s, Users: d, Open: d, Rooms: room.New(now), Sessions: &said{}, Now: now, Logger: slog.New(slog.DiscardHandler)})
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan struct{})
		go func() { c.Run(ctx); close(ended) }()
		stop = func() {
			cancel()
			<-ended
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	restart()
	t.Cleanup(func() { stop() })

	minutes := func(n int64) *int64 { return &n }
	fixed, idle := chat.EndsFixed, chat.EndsIdle
	for _, q := range []*OpenSpec{
		{Channel: "idle"}, {Channel: "used"}, {Channel: "longer", Minutes: minutes(180)},
		{Channel: "fixed", Ends: &fixed, Minutes: minutes(90)}, {Channel: "changed", Ends: &fixed, Minutes: minutes(600)},
		{Channel: "kept"}, {Channel: "kept-fixed", Ends: &fixed},
	} {
		if err := c.CreateOpen(t.Context(), app, q); err != nil {
			t.Fatal(err)
		}
	}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(c.KeepAlive(t.Context(), app, []string{"kept", "kept-fixed"}, true))
	at := func(after time.Duration, want ...string) {
		t.Helper()
		ms.Store(begun.Add(after).UnixMilli())
		must(c.tendOpen(t.Context()))
		var alive []string
		for _, id := range []string{"idle", "used", "longer", "fixed", "changed", "kept", "kept-fixed"} {
			ch, _, err := c.OpenNow(t.Context(), app, id)
			if err == nil {
				alive = append(alive, id)
			} else if chat.KindOf(err) != chat.KindNoOpenChannel || ch != nil {
				t.Fatal(err)
			}
		}
		if !slices.Equal(alive, want) {
			t.Errorf("after %v there are %q, want %q", after, alive, want)
		}
	}
	at(50*time.Minute, "idle", "used", "longer", "fixed", "changed", "kept", "kept-fixed")
	c.open.TouchOpenChannel(app.ID, "used")
	// A message to all is no activity.
	c.rooms.Enter(room.Key{App: app.ID, Channel: "idle"}, &bystander{}, nil, "")
	m := &chat.Message{App: app.ID, ChannelType: chat.Open, From: "host", Type: "app:t", Content: "to all"}
	if sent, err := c.BroadcastOpen(t.Context(), app, &Send{Message: m}); err != nil || len(sent.Placed) != 1 {
		t.Fatal(sent, err)
	}
	at(60*time.Minute-1, "idle", "used", "longer", "fixed", "changed", "kept", "kept-fixed")
	at(60*time.Minute, "used", "longer", "fixed", "changed", "kept", "kept-fixed")
	// Idle ones get one full period after a stop, for those who could not come.
	ms.Store(begun.Add(80 * time.Minute).UnixMilli())
	restart()
	at(90*time.Minute-1, "used", "longer", "fixed", "changed", "kept", "kept-fixed")
	at(90*time.Minute, "used", "longer", "changed", "kept", "kept-fixed")
	at(140*time.Minute-1, "used", "longer", "changed", "kept", "kept-fixed")
	at(140*time.Minute, "longer", "changed", "kept", "kept-fixed")
	// From a fixed end to one when idle: its time has come.
	must(c.SetOpenEnding(t.Context(), app, &OpenSpec{Channel: "changed", Ends: &idle, Minutes: minutes(60)}))
	at(140*time.Minute+1, "longer", "kept", "kept-fixed")
	restart()
	at(1000*time.Minute, "kept", "kept-fixed")
	must(c.KeepAlive(t.Context(), app, []string{"kept", "kept-fixed"}, false))
	at(1000*time.Minute+1, "kept")
	at(1060 * time.Minute)
}

// A hesitant directory waits a moment for somebody else after it was asked for
// something.
type hesitant struct {
	OpenChannels
	asked atomic.Int32
}

func (h *hesitant) ListOpenChannels(ctx context.Context, app chat.AppID, kind store.OpenKind, skip, limit int) ([]string, error) {
	list, err := h.OpenChannels.ListOpenChannels(ctx, app, kind, skip, limit)
	h.asked.Add(1)
	for end := time.Now().Add(50 * time.Millisecond); h.asked.Load() < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	return list, err
}

// ChangeOpenChannel waits a moment after the change for somebody else's.
func (h *hesitant) ChangeOpenChannel(ctx context.Context, app *chat.App, id string, missing bool, change func(*chat.OpenChannel) error) (*chat.OpenChannel, error) {
	ch, err := h.OpenChannels.ChangeOpenChannel(ctx, app, id, missing, change)
	first := h.asked.Add(1) == 1
	for end := time.Now().Add(50 * time.Millisecond); first && h.asked.Load() < 2 && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if first {
		time.Sleep(5 * time.Millisecond) // so that the other one comes to tell of it
	}
	return ch, err
}

// What is told of changes that are made at the same time is told in their order.
func TestNoticesTakeTurns(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	open := &hesitant{OpenChannels: p.open}
	c := New(Options{Store: p.store, Users: &registry{}, Open: open, Rooms: room.New(time.Now), Sessions: p.said, Now: time.Now, Logger: slog.New(slog.DiscardHandler)})
	done := make(chan error, 2)
	freeze := func(on bool) { done <- c.FreezeOpen(t.Context(), p.app, "c", on, Notice{Wanted: true}) }
	go freeze(true)
	for frozen := false; !frozen; time.Sleep(time.Millisecond) {
		var err error
		if frozen, err = c.OpenFrozen(t.Context(), p.app, "c"); err != nil {
			t.Fatal(err)
		}
	}
	go freeze(false)
	if err := errors.Join(<-done, <-done); err != nil {
		t.Fatal(err)
	}
	var told []bool
	for _, lane := range c.deliver.lanes {
		for len(lane) > 0 {
			told = append(told, (<-lane).m.Event.Room.On)
		}
	}
	if !slices.Equal(told, []bool{true, false}) {
		t.Errorf("told that it is frozen: %v", told)
	}
}

// Of two who would keep the last channel alive that there is room for, one does.
func TestKeepAliveTakesTurns(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	p.app.Settings.KeepAlive = 1
	p.open = &hesitant{OpenChannels: p.open}
	errs := make(chan error, 2)
	for _, id := range []string{"a", "b"} {
		go func() { errs <- p.KeepAlive(t.Context(), p.app, []string{id}, true) }()
	}
	first, second := <-errs, <-errs
	if first == nil {
		first = second
	} else if second != nil {
		t.Errorf("both are refused: %v, %v", first, second)
	}
	if chat.KindOf(first) != chat.KindKeepAliveFull {
		t.Errorf("nobody is refused: %v", first)
	}
}
