package room

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

const ms = time.Millisecond

func TestCadence(t *testing.T) {
	t.Parallel()
	type flush struct {
		took   time.Duration
		behind bool
		want   time.Duration // the interval after it
	}
	for name, flushes := range map[string][]flush{
		"a small room":          {{took: ms / 10, want: shortest}, {took: ms, want: shortest}},
		"as slow as writing is": {{took: 40 * ms, want: 80 * ms}, {took: 60 * ms, want: 120 * ms}},
		"no slower than this":   {{took: 150 * ms, want: longest}, {took: time.Second, want: longest}},
		"faster little by little": {
			{took: 50 * ms, want: 100 * ms}, {took: 10 * ms, want: 80 * ms}, {took: 10 * ms, want: 65 * ms},
			{took: 40 * ms, want: 80 * ms},
		},
		"members that do not keep up": {
			{took: ms, behind: true, want: shortest}, {took: ms, behind: true, want: 2 * shortest}, {took: ms, behind: true, want: 4 * shortest},
			{took: ms, want: 16250 * time.Microsecond},
		},
	} {
		var c cadence
		now := time.Hour
		for i, f := range flushes {
			c.flushed(now, now+ms/2, now+f.took, f.behind)
			if c.interval != f.want || c.next != now+ms/2+f.want {
				t.Errorf("%s: after batch %d the interval is %v and the next one %v after this one, want %v", name, i, c.interval, c.next-now-ms/2, f.want)
			}
			now += time.Second
		}
	}
}

// When what is published is handed out, and in how many batches.
func TestWindows(t *testing.T) {
	t.Parallel()
	h := newHall()
	l := &listener{user: "bob"}
	h.Enter(lobby, l, nil, "")
	expect := func(when string, offsets, batches int) {
		t.Helper()
		h.settle()
		if len(l.got) != offsets || l.batches != batches {
			t.Fatalf("%s: %d publications in %d batches, want %d in %d", when, len(l.got), l.batches, offsets, batches)
		}
	}
	publish(h.Rooms, 1)
	expect("an idle room's goes at once", 1, 1)
	publish(h.Rooms, 2)
	expect("a busy room's wait", 1, 1)
	h.wait(shortest - 1)
	expect("until the interval is over", 1, 1)
	publish(h.Rooms, 1)
	h.wait(1)
	expect("and go together", 4, 2)
	publish(h.Rooms, fullCount-1)
	expect("almost a full frame waits", 4, 2)
	publish(h.Rooms, 1)
	expect("a full frame does not", 4+fullCount, 3)
	h.Publish(lobby, chat.UID{}, &chat.Message{Content: string(make([]byte, fullBytes))})
	expect("nor do many bytes", 5+fullCount, 4)
	publish(h.Rooms, 1)
	h.wait(time.Second)
	expect("", 6+fullCount, 5)
	h.wait(time.Second)
	publish(h.Rooms, 1)
	expect("after a while it is idle again", 7+fullCount, 6)

	h.Leave(lobby, l, false)
	publish(h.Rooms, 5)
	h.wait(time.Second)
	expect("who has left gets nothing", 7+fullCount, 6)
	if len(h.pumps.waiting) > 0 {
		t.Error("a room with nothing to say waits for its time")
	}
}

// A slow walk makes the next window longer, and what comes meanwhile is its.
func TestSlowWalkLengthensTheWindow(t *testing.T) {
	t.Parallel()
	h := newHall()
	l := &listener{user: "bob"}
	l.during = func() {
		publish(h.Rooms, 1)
		h.time += 30 * ms
		l.during = nil
	}
	h.Enter(lobby, l, nil, "")
	publish(h.Rooms, 1)
	h.settle()
	h.wait(29 * ms)
	if l.batches != 1 {
		t.Fatal("the second batch came before twice the time that the first one took")
	}
	h.wait(ms)
	if got := fmt.Sprint(l.got); got != "[1 2]" {
		t.Errorf("given %s", got)
	}
}

// Who enters while a window is open has what is in it from the answer, not from
// the batch.
func TestEnteringWhileAWindowIsOpen(t *testing.T) {
	t.Parallel()
	h := newHall()
	h.Enter(lobby, &listener{user: "first"}, nil, "")
	publish(h.Rooms, 1)
	h.settle()
	publish(h.Rooms, 2) // 2 and 3 wait
	back, fresh := &listener{user: "back"}, &listener{user: "fresh"}
	epoch := h.Enter(lobby, fresh, nil, "").Epoch
	e := h.Enter(lobby, back, &Position{epoch, 1}, "")
	if !e.Recovered || len(e.Missed) != 2 || e.Offset != 3 {
		t.Fatalf("recovered %v with %d, at %d", e.Recovered, len(e.Missed), e.Offset)
	}
	h.wait(time.Second)
	if len(back.got)+len(fresh.got)+back.batches > 0 {
		t.Fatalf("given twice: %v, %v", back.got, fresh.got)
	}
	publish(h.Rooms, 1)
	late := &listener{user: "late"}
	h.Enter(lobby, late, nil, "")
	publish(h.Rooms, 1)
	h.wait(time.Second)
	if got := fmt.Sprint(back.got, fresh.got, late.got); got != "[4 5] [4 5] [5]" {
		t.Errorf("given %s", got)
	}
}

// Entering and leaving between the slices of a walk: everybody who was in the
// room when it began and still is gets the batch, once.
func TestComingAndGoingDuringAWalk(t *testing.T) {
	t.Parallel()
	h := newHall()
	var all []*listener
	for i := range 3*slice + 10 {
		all = append(all, &listener{user: fmt.Sprint(i)})
		h.Enter(lobby, all[i], nil, "")
	}
	publish(h.Rooms, 1)
	h.step() // the first slice
	gone := map[int]bool{}
	for _, i := range []int{0, 5, slice - 1, slice, slice + 7, 2 * slice, 3*slice + 9, 3*slice + 8} {
		h.Leave(lobby, all[i], false)
		gone[i] = true
	}
	publish(h.Rooms, 1)
	late := &listener{user: "late"}
	h.Enter(lobby, late, nil, "")
	h.wait(time.Second)
	publish(h.Rooms, 1)
	h.wait(time.Second)
	for i, l := range all {
		want := "[1 2 3]"
		if gone[i] {
			if want = "[]"; i < slice {
				want = "[1]"
			}
		}
		if got := fmt.Sprint(l.got); got != want {
			t.Errorf("member %d was given %s, want %s", i, got, want)
		}
	}
	if got := fmt.Sprint(late.got); got != "[3]" {
		t.Errorf("who came late was given %s", got)
	}
	rm := h.lock(lobby, false)
	defer rm.mu.Unlock()
	if len(rm.list) != rm.seated || rm.seated != len(all)-len(gone)+1 || slices.Contains(rm.list, nil) {
		t.Errorf("%d places for %d members", len(rm.list), rm.seated)
	}
	for i, m := range rm.list {
		if m.place().index != int32(i)+1 {
			t.Errorf("the member at %d thinks it is at %d", i, m.place().index-1)
		}
	}
}

// A large room does not keep a small one waiting for more than a slice.
func TestSlicesTakeTurns(t *testing.T) {
	t.Parallel()
	h := newHall()
	for i := range 10 * slice {
		h.Enter(lobby, &listener{user: fmt.Sprint(i)}, nil, "")
	}
	den, l := Key{App: 1, Channel: "den"}, &listener{user: "bob"}
	h.Enter(den, l, nil, "")
	publish(h.Rooms, 1)
	h.Publish(den, chat.UID{}, &chat.Message{})
	h.step()
	h.step()
	if len(l.got) != 1 {
		t.Fatal("the small room waits for the large one")
	}
}

// When handing out cannot keep up at all, a window gives up the least first.
func TestWindowsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHall()
	l := &listener{user: "bob"}
	h.Enter(lobby, l, nil, "")
	publish(h.Rooms, 1)
	h.settle()
	say := func(n int, p chat.Priority) {
		for range n {
			h.Publish(lobby, chat.UID{}, &chat.Message{Priority: p})
		}
	}
	say(mostCount-40, chat.PriorityHigh)
	say(10, chat.PriorityLow)
	say(10, chat.PriorityStandard)
	say(10, chat.PriorityLow)
	say(10, chat.PriorityAllowlisted)
	say(25, chat.PriorityHigh)
	if n := h.Overflowed(); n != 25 {
		t.Errorf("%d given up, want 25", n)
	}
	h.wait(time.Second)
	// Given up: 20 low ones, and the first 5 standard ones.
	lost, next := []uint64{}, uint64(1)
	for _, o := range l.got {
		for ; next < o; next++ {
			lost = append(lost, next)
		}
		next++
	}
	base := uint64(1 + mostCount - 40)
	var want []uint64
	for i := uint64(1); i <= 30; i++ {
		if i <= 15 || i > 20 {
			want = append(want, base+i)
		}
	}
	if !slices.Equal(lost, want) || next != base+66 {
		t.Errorf("lost %v up to %d, want %v", lost, next, want)
	}
	big := &chat.Message{Content: string(make([]byte, mostBytes/4))}
	for range 8 {
		h.Publish(lobby, chat.UID{}, big)
	}
	rm := h.lock(lobby, false)
	defer rm.mu.Unlock()
	if rm.bytes > mostBytes {
		t.Errorf("a window of %d bytes", rm.bytes)
	}
}

// A member that takes its time holds up neither those who publish nor those who
// come and go, nor other rooms.
func TestNobodyWaitsForAWalk(t *testing.T) {
	t.Parallel()
	r := New(time.Now)
	r.pumps.size = 2
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { r.Run(ctx) })
	release, entered := make(chan struct{}), make(chan struct{})
	stuck := &listener{user: "stuck"}
	stuck.during = sync.OnceFunc(func() {
		close(entered)
		<-release
	})
	r.Enter(lobby, stuck, nil, "")
	publish(r, 1)
	<-entered
	publish(r, 100)
	l := &listener{user: "bob"}
	if e := r.Enter(lobby, l, nil, ""); e.Offset != 101 || e.Participants != 2 {
		t.Errorf("%+v", e)
	}
	r.Leave(lobby, l, false)
	den, other := Key{App: 1, Channel: "den"}, &listener{user: "eve"}
	heard := make(chan struct{})
	other.during = sync.OnceFunc(func() { close(heard) })
	r.Enter(den, other, nil, "")
	r.Publish(den, chat.UID{}, &chat.Message{})
	<-heard
	close(release)
	cancel()
	running.Wait()
	if len(stuck.got) != 101 || len(l.got) != 0 {
		t.Errorf("given %d and %d, want 101 and none", len(stuck.got), len(l.got))
	}
}

func TestBatchSenders(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, fewSenders, fewSenders + 1, 50} {
		b := &Batch{}
		for i := range n {
			b.Publications = append(b.Publications, &Publication{Seq: uint64(i + 5), Message: &chat.Message{From: fmt.Sprint("u", i)}})
		}
		if !b.From("u0") || !b.From(fmt.Sprint("u", n-1)) || b.From("u") {
			t.Errorf("senders of %d are mistaken", n)
		}
		if !b.Whole(4) || b.Whole(5) || len(b.Since(5)) != n-1 || len(b.Since(0)) != n || len(b.Since(uint64(n+4))) != 0 {
			t.Errorf("parts of %d are mistaken", n)
		}
	}
}
