package courier

import (
	"context"
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store/pebble"
)

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
