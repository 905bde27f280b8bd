package pebble

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// crashRounds is how often the power is cut: PARLEY_CRASH_ROUNDS for a soak.
func crashRounds(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("PARLEY_CRASH_ROUNDS"))
	switch {
	case err == nil:
		return n
	case testing.Short():
		return 5
	}
	return 15
}

// TestCrash cuts the power under load on a file system that forgets what was not
// synced.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, violation := range crash(t, crashRounds(t), nil) {
		t.Error(violation)
	}
}

// TestCrashIsNoticed is the witness of the witness: a store that breaks its
// promise must be seen to fail in the same rounds.
func TestCrashIsNoticed(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		cheat func(*Store)
	}{
		{"no syncs", func(s *Store) { s.noSync = true }},
		{"reads before the sync", func(s *Store) {
			s.beforeApply = func(c *commit) {
				for _, j := range c.jobs {
					s.publishEntries(j)
					j.heads = nil // not again when it is time
				}
				time.Sleep(2 * time.Millisecond)
			}
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			violations := crash(t, 40, tt.cheat)
			if len(violations) == 0 {
				t.Error("the crash test did not notice")
			}
			t.Logf("noticed, as it should: %.200q", violations)
		})
	}
}

// A ledger is what clients and readers know at one moment. Requests are named by
// their content.
type ledger struct {
	mu       sync.Mutex
	tried    map[string]*store.Append // as asked, by content
	answered map[string]store.Placed
	read     map[string][]store.Entry // per user, from offset 1
}

func (l *ledger) clone() *ledger {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := newLedger()
	for k, v := range l.tried {
		c.tried[k] = v
	}
	for k, v := range l.answered {
		c.answered[k] = v
	}
	for k, v := range l.read {
		c.read[k] = v[:len(v):len(v)]
	}
	return c
}

func newLedger() *ledger {
	return &ledger{tried: map[string]*store.Append{}, answered: map[string]store.Placed{}, read: map[string][]store.Entry{}}
}

const crashUsers = 25

func crashUser(i int) string { return fmt.Sprint("user", i) }

// crash runs rounds of load, cut and check, each on what the one before left, and
// returns what was broken. It stops at the first bad round.
func crash(t *testing.T, rounds int, cheat func(*Store)) []string {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	fs := vfs.NewCrashableMem()
	known := newLedger()
	next := atomic.Uint64{}
	for round := range rounds {
		s, err := open(context.Background(), Options{Dir: "data", FS: fs, Logger: quiet}.withDefaults(), cheat)
		if err != nil {
			return []string{fmt.Sprintf("round %d: %v", round, err)}
		}
		if bad := checkLedger(s, known); len(bad) > 0 {
			mustClose(t, s)
			return append([]string{fmt.Sprintf("after %d cuts:", round)}, bad...)
		}
		stop := loadForCrash(t, s, known, &next, rng)
		time.Sleep(time.Duration(1+rng.IntN(40)) * time.Millisecond)

		// What is in the ledger now was answered or read before the cut.
		live := known
		known = live.clone()
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		// What was begun in between may be on the disk, unanswered.
		known.tried = live.clone().tried
		stop()
		mustClose(t, s)
	}
	s := mustOpen(t, Options{Dir: "data", FS: fs})
	defer mustClose(t, s)
	t.Logf("%d requests in %d rounds, %d answered before their cut", next.Load(), rounds, len(known.answered))
	if len(known.answered) < rounds {
		return []string{"hardly anything was tried"}
	}
	return checkLedger(s, known)
}

// loadForCrash sends and reads until it is stopped, with everything else a store
// does in the background going on as well.
func loadForCrash(t *testing.T, s *Store, l *ledger, next *atomic.Uint64, rng *rand.Rand) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for range 6 {
		rng := rand.New(rand.NewPCG(rng.Uint64(), 1))
		wg.Go(func() {
			for ctx.Err() == nil {
				a := randomAppend(next.Add(1), rng)
				content := a.Message.Content
				l.mu.Lock()
				l.tried[content] = a
				l.mu.Unlock()
				// On a copy: the request as asked must not change under a repeat.
				mine := *a
				once := *a.Once
				mine.Once = &once
				if err := s.Append(context.Background(), &mine); err != nil {
					t.Errorf("append: %v", err)
					return
				}
				l.mu.Lock()
				l.answered[content] = mine.Placed
				l.mu.Unlock()
			}
		})
	}
	for i := range crashUsers {
		wg.Go(func() {
			for user := crashUser(i); ctx.Err() == nil; time.Sleep(time.Millisecond) {
				l.mu.Lock()
				n := uint64(len(l.read[user]))
				l.mu.Unlock()
				got, err := s.Read(context.Background(), 1, user, store.Range{After: n, Limit: 64}, nil)
				if err != nil {
					t.Errorf("read: %v", err)
					return
				}
				l.mu.Lock()
				l.read[user] = append(l.read[user], got...)
				l.mu.Unlock()
			}
		})
	}
	chores := []func() error{
		s.checkpointHeads, s.db.Flush,
		func() error { return s.Expire(context.Background()) },
		func() error {
			records, err := s.ReadLog(context.Background(), s.marks[store.IndexConsumer].Load(), 100)
			if err == nil {
				err = s.IndexLog(context.Background(), records)
			}
			return err
		},
	}
	order := rng.Perm(len(chores))
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			if err := chores[order[i%len(order)]](); err != nil {
				t.Errorf("chore: %v", err)
				return
			}
			time.Sleep(2 * time.Millisecond)
		}
	})
	return func() { cancel(); wg.Wait() }
}

func randomAppend(n uint64, rng *rand.Rand) *store.Append {
	count := 1 + rng.IntN(3)
	if rng.IntN(10) == 0 {
		count = crashUsers - 1 // more than stand in the body row
	}
	var targets []string
	for _, i := range rng.Perm(crashUsers)[:count] {
		targets = append(targets, crashUser(i))
	}
	a := direct(crashUser(rng.IntN(crashUsers)), targets...)
	a.Message.Content = fmt.Sprint("request ", n)
	a.Once = &store.Once{}
	binary.BigEndian.PutUint64(a.Once.Key[:], n)
	switch rng.IntN(6) {
	case 0:
		a.Message.Echo = true
	case 1:
		a.Message.ChannelType = chat.System
	case 2:
		a.Message.Flags = 0 // status: UIDs and a once, nothing else
	case 3:
		a.History = false
	}
	return a
}

// checkLedger compares the store with what is known, and repeats every request
// that has no known answer, as a client would.
func checkLedger(s *Store, l *ledger) (bad []string) {
	ctx := context.Background()
	report := func(format string, args ...any) { bad = append(bad, fmt.Sprintf(format, args...)) }
	for content, a := range l.tried {
		placed, answered := l.answered[content]
		o, err := s.Once(ctx, a.Once.Key)
		switch {
		case err != nil:
			report("once of %q: %v", content, err)
		case answered && (o == nil || o.First != placed.First):
			report("%q was answered with %v, its once is %+v", content, placed.First, o)
		case answered:
		case o != nil:
			l.answered[content] = store.Placed{First: o.First}
		default:
			again := *a
			once := *a.Once
			again.Once = &once
			if err := s.Append(ctx, &again); err != nil {
				report("repeat of %q: %v", content, err)
			}
			l.answered[content] = again.Placed
		}
		if a.Message.Ephemeral() {
			continue
		}
		found, err := s.Find(ctx, 1, l.answered[content].First)
		if err != nil || found.Message.Content != content {
			report("%q is not found: %+v, %v", content, found, err)
			continue
		}
		if answered && !equalEntries(found.Placed.Entries, placed.Entries) && len(placed.Entries) > 0 {
			report("%q was answered with %+v and is %+v", content, placed.Entries, found.Placed.Entries)
		}
		l.answered[content] = found.Placed
	}
	want := map[string]map[uint64]store.Entry{}
	for _, p := range l.answered {
		for _, e := range p.Entries {
			if want[e.User] == nil {
				want[e.User] = map[uint64]store.Entry{}
			}
			if other, taken := want[e.User][e.Offset]; taken {
				report("offset %d of %s was given to %v and %v", e.Offset, e.User, other.UID, e.UID)
			}
			want[e.User][e.Offset] = e
		}
	}
	for i := range crashUsers {
		user := crashUser(i)
		got, err := s.Read(ctx, 1, user, store.Range{Limit: 1 << 30}, nil)
		if err != nil {
			report("read: %v", err)
		}
		// Exactly what was asked: everything answered, nothing twice.
		if len(got) != len(want[user]) {
			report("%s has %d entries, want %d", user, len(got), len(want[user]))
		}
		for j, e := range got {
			if e.Offset != uint64(j+1) {
				report("%s has offset %d at place %d", user, e.Offset, j+1)
				break
			}
			if e != want[user][e.Offset] {
				report("%s has %+v, want %+v", user, e, want[user][e.Offset])
			}
			if j > 0 && e.UID.Compare(got[j-1].UID) <= 0 {
				report("%s has %v after %v", user, e.UID, got[j-1].UID)
			}
		}
		for j, e := range l.read[user] {
			if j >= len(got) || got[j] != e {
				report("%s once read %+v, which is gone", user, e)
				break
			}
		}
		if len(bad) > 5 {
			break
		}
	}
	return bad
}

func equalEntries(a, b []store.Entry) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}
