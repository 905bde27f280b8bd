package courier

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// Where there are no broadcasts, connecting costs nothing more; where there are
// some and the user has them, one look.
func TestTouchAllocations(t *testing.T) {
	h := newHall(t)
	u := &chat.User{ID: "ann", CreatedAt: time.UnixMilli(1)}
	touch := func() {
		if n, err := h.Touch(t.Context(), h.app, u, chat.Client{Platform: "web"}); n != 0 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
	}
	touch()
	if n := testing.AllocsPerRun(100, touch); n != 0 {
		t.Errorf("%v allocations without broadcasts", n)
	}
}

func TestPassDue(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		given, pace int
		share       float64
		want        time.Duration
	}{
		{0, 2000, 0.5, 0},
		{500, 2000, 0.5, 250 * time.Millisecond},
		{100_000, 2000, 1, 50 * time.Second},
		{1_000_000, 2000, 1, passTime},
		{500_000, 2000, 0.5, passTime / 2},
		{500, 1_000_000, 1, 500 * time.Microsecond},
	} {
		if got := passDue(tt.given, tt.pace, tt.share); got != tt.want {
			t.Errorf("%d given at %d/s, %v of all: %v, want %v", tt.given, tt.pace, tt.share, got, tt.want)
		}
	}
	// What comes while a pass is under way is given by the next.
	if 2*passTime > 3*time.Minute {
		t.Error("broadcasts may take longer than is documented")
	}
}

func TestBatchOf(t *testing.T) {
	t.Parallel()
	list := []Session{{User: "a"}, {User: "a"}, {User: "b"}}
	if n := batchOf(list); n != 3 {
		t.Errorf("%d sessions", n)
	}
	list = nil
	for i := range giveBatch + 2 {
		u := Session{User: string(rune('a' + i))}
		list = append(list, u, u)
	}
	if n := batchOf(list); n != 2*giveBatch {
		t.Errorf("%d sessions, want those of %d users", n, giveBatch)
	}
}

// A flaky store takes nothing for a while.
type flaky struct {
	Store
	fails atomic.Int32
}

func (f *flaky) Append(ctx context.Context, a *store.Append) error {
	if a.Taking != nil && f.fails.Add(-1) >= 0 {
		err := chat.Fail(chat.KindUnavailable, "not now")
		if a.Done != nil {
			a.Done(err)
		}
		return err
	}
	return f.Store.Append(ctx, a)
}

// A pass goes on when the store does.
func TestPassTriesAgain(t *testing.T) {
	t.Parallel()
	h := newHall(t)
	f := &flaky{Store: h.Courier.store}
	f.fails.Store(3)
	h.Courier.store = f
	h.connect(Session{User: "ann"}, Session{User: "bob"})
	h.broadcast(chat.BroadcastAll, "one")
	h.eventually("ann", "one")
	h.eventually("bob", "one")
	if n := f.fails.Load(); n >= 0 {
		t.Error("nothing failed")
	}
}
