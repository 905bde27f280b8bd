package node

import (
	"slices"
	"testing"
)

func TestCollectAt(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, c := range []struct{ live, arenas, want int64 }{
		{0, 0, 100},
		{10 * mb, 0, 100},         // a small heap is left alone
		{10 * mb, 8 * mb, 100},    // this one too
		{60 * mb, 40 * mb, 100},   // and this one
		{110 * mb, 80 * mb, 28},   // this one may grow by 31 MB
		{100 * mb, 0, 84},         // nothing of it is the store's
		{250 * mb, 210 * mb, 14},  // 40 MB of our own, and some room
		{900 * mb, 100 * mb, 87},  // so much of our own is not collected much earlier
		{250 * mb, 260 * mb, 10},  // measured at different times
		{1000 * mb, 990 * mb, 10}, // not all the time
	} {
		if got := collectAt(c.live, c.arenas, 100); got != int(c.want) {
			t.Errorf("%d MB live, %d MB of them the store's: %d %%, want %d %%", c.live/mb, c.arenas/mb, got, c.want)
		}
	}
	if got := collectAt(100*mb, 0, 30); got != 30 {
		t.Errorf("%d %%, want what is usual", got)
	}
}

func TestRest(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	r := rest{allocated: 100 * mb}
	at := uint64(100 * mb)
	var got []bool
	for _, grown := range []uint64{
		0, 1 * mb, 0, 2 * mb, 0, // little
		0, 0, 5 * mb, 0, 0, // much at once
		1 * mb, 1 * mb, 1 * mb, 1 * mb, 1 * mb, // much in all
		0, 0, 0, 0, 0,
	} {
		at += grown
		got = append(got, r.at(heapView{allocated: at}))
	}
	want := make([]bool, 4*restTicks)
	want[restTicks-1], want[4*restTicks-1] = true, true
	if !slices.Equal(got, want) {
		t.Errorf("at rest: %v, want %v", got, want)
	}
}

func TestSpare(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	for _, c := range []struct {
		what string
		v    heapView
		want bool
	}{
		{"nothing", heapView{live: 200 * mb, objects: 200 * mb}, false},
		{"garbage", heapView{live: 80 * mb, objects: 100 * mb}, true},
		{"free pages", heapView{live: 80 * mb, objects: 80 * mb, free: 20 * mb}, true},
		{"some of both", heapView{live: 80 * mb, objects: 89 * mb, free: 9 * mb}, true},
		{"little of a large heap", heapView{live: 800 * mb, objects: 850 * mb, free: 40 * mb}, false},
		{"little of a small one", heapView{live: 8 * mb, objects: 16 * mb, free: 4 * mb}, false},
		{"a heap that shrinks while it is read", heapView{live: 90 * mb, objects: 60 * mb}, false},
	} {
		if got := c.v.spare() > c.v.room(); got != c.want {
			t.Errorf("%s: worth giving back: %t, want %t", c.what, got, c.want)
		}
	}
}
