package node

import "testing"

func TestCollectAt(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, c := range []struct{ live, arenas, want int64 }{
		{0, 0, 100},
		{10 * mb, 0, 100},         // a small heap is left alone
		{10 * mb, 8 * mb, 100},    // this one too
		{100 * mb, 0, 100},        // nothing of it is the store's
		{250 * mb, 210 * mb, 22},  // 40 MB of our own, and some room
		{250 * mb, 260 * mb, 10},  // measured at different times
		{1000 * mb, 990 * mb, 10}, // not all the time
	} {
		if got := collectAt(c.live, c.arenas, 100); got != int(c.want) {
			t.Errorf("%d MB live, %d MB of them the store's: %d %%, want %d %%", c.live/mb, c.arenas/mb, got, c.want)
		}
	}
	if got := collectAt(100*mb, 0, 50); got != 50 {
		t.Errorf("%d %%, want what is usual", got)
	}
}
