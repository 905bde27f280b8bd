package pebble

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/store"
)

// TestHeadsAreBounded has many more users than heads fit in memory: heads are
// dropped and come back from their rows, with no offset lost or given twice.
func TestHeadsAreBounded(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem(), Heads: 1})
	defer mustClose(t, s)
	const users, rounds = 3000, 3
	limit := int64(headShards * s.heads.limit)
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for range rounds {
				// Twice before a checkpoint: a head that was dropped in between
				// would come back from a row that is behind.
				for range 2 {
					for u := w; u < users; u += 40 {
						var targets []string
						for i := u; i < min(u+40, users); i += 4 {
							targets = append(targets, fmt.Sprint("user", i))
						}
						if err := s.Append(context.Background(), direct("alice", targets...)); err != nil {
							t.Error(err)
							return
						}
					}
				}
				if err := s.checkpointHeads(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	if err := s.checkpointHeads(); err != nil {
		t.Fatal(err)
	}
	if n := s.heads.count.Load(); n > limit {
		t.Errorf("%d heads in memory after a checkpoint, the limit is %d", n, limit)
	}
	for u := range users {
		if n, err := s.Head(context.Background(), 1, fmt.Sprint("user", u)); err != nil || n != 2*rounds {
			t.Fatalf("head of user%d is %d, %v", u, n, err)
		}
		if got, err := s.Read(context.Background(), 1, fmt.Sprint("user", u), store.Range{Limit: 100}, nil); err != nil || len(got) != 2*rounds {
			t.Fatalf("user%d has %d entries, %v", u, len(got), err)
		}
	}
	// Reading alone makes room too, some heads at a time, so
	// here the bound is a soft one.
	if n := s.heads.count.Load(); n > 2*limit {
		t.Errorf("%d heads in memory, the limit is %d", n, limit)
	}
	for i := range s.heads.shards {
		for id, h := range s.heads.shards[i].m {
			if h.pins.Load() != 0 || h.dirty {
				t.Fatalf("%s is pinned %d times, dirty %v", id.user, h.pins.Load(), h.dirty)
			}
		}
	}
}

// TestReplay sees that heads are exact after a cut whatever the checkpointer had
// done, and that the log is not read from its beginning.
func TestReplay(t *testing.T) {
	t.Parallel()
	fs := vfs.NewCrashableMem()
	now := time.Date(2026, 3, 10, 23, 59, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	for life := range 4 {
		s := mustOpen(t, Options{Dir: "data", FS: fs, Now: clock})
		mark := s.marks[headsConsumer].Load()
		if mark != s.LogHead() {
			t.Errorf("life %d begins with heads at %d of %d", life, mark, s.LogHead())
		}
		for i := range 20 {
			a := direct("alice", "bob", "carol")
			a.Message.Echo = true
			mustAppend(t, s, a)
			if i == 10 {
				if err := s.checkpointHeads(); err != nil {
					t.Fatal(err)
				}
				now = now.Add(time.Hour)
			}
		}
		want := map[string]headState{}
		for _, user := range []string{"alice", "bob", "carol"} {
			h, err := s.heads.pin(1, user)
			if err != nil {
				t.Fatal(err)
			}
			want[user] = h.durable()
			h.unpin()
		}
		fs2 := fs.CrashClone(vfs.CrashCloneCfg{})
		mustClose(t, s)
		fs = fs2
		s = mustOpen(t, Options{Dir: "data", FS: fs, Now: clock})
		for user, state := range want {
			got, err := readHead(s.db, 1, user)
			if err != nil || got != state {
				t.Errorf("life %d: the row of %s is %+v, %v, want %+v", life, user, got, err, state)
			}
		}
		mustClose(t, s)
	}
}

// TestTailAndRowsAgree reads every stretch from memory and from rows.
func TestTailAndRowsAgree(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem()})
	defer mustClose(t, s)
	const n = tailLen + 5
	for i := range n {
		a := direct("bob", fmt.Sprint("user", i%3), "bob")
		a.Message.Echo = i%2 == 0
		mustAppend(t, s, a)
	}
	read := func() (all [][]store.Entry) {
		for lo := range uint64(n + 2) {
			for limit := 1; limit < n+2; limit += 3 {
				for _, reverse := range []bool{false, true} {
					got, err := s.Read(context.Background(), 1, "bob", store.Range{After: lo, Limit: limit, Reverse: reverse}, nil)
					if err != nil {
						t.Fatal(err)
					}
					all = append(all, got)
				}
			}
		}
		return all
	}
	h, err := s.heads.pin(1, "bob")
	if err != nil {
		t.Fatal(err)
	}
	defer h.unpin()
	if _, ok := h.readTail(h.state.offset, h.state.offset, false, nil); !ok {
		t.Error("the newest entry is not in memory")
	}
	fromMemory := read()
	if err := s.checkpointHeads(); err != nil {
		t.Fatal(err)
	}
	if _, ok := h.readTail(h.state.offset, h.state.offset, false, nil); ok {
		t.Error("a clean head keeps its tail")
	}
	for i, got := range read() {
		if !equalEntries(got, fromMemory[i]) {
			t.Errorf("read %d: rows give %+v, memory gave %+v", i, got, fromMemory[i])
		}
	}
}

// TestLiveReadsAllocateNothing guards the path that every delivery takes.
func TestLiveReadsAllocateNothing(t *testing.T) {
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem()})
	defer mustClose(t, s)
	ctx := context.Background()
	a := direct("alice", "bob")
	mustAppend(t, s, a)
	dst := make([]store.Entry, 0, 4)
	if n := testing.AllocsPerRun(100, func() {
		got, err := s.Read(ctx, 1, "bob", store.Range{Limit: 4}, dst)
		if err != nil || len(got) != 1 {
			t.Fatalf("%d entries, %v", len(got), err)
		}
		if _, err := s.Message(ctx, got[0].Ref); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Head(ctx, 1, "bob"); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("%v allocations to read what was just sent", n)
	}
}
