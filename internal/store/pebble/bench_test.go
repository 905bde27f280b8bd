package pebble

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"golang.org/x/sys/unix"
)

// index follows the log as a node does, until stop.
func followIndex(b *testing.B, s *Store) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			at := s.marks[store.IndexConsumer].Load()
			if s.WaitLog(ctx, at) != nil {
				return
			}
			records, err := s.ReadLog(ctx, at, 256)
			if err == nil {
				err = s.IndexLog(ctx, records)
			}
			if ctx.Err() != nil {
				return
			}
			if err != nil {
				b.Error(err)
				return
			}
		}
	})
	return func() { cancel(); wg.Wait() }
}

func benchUsers(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("user-%08d", i)
	}
	// In no order, as recipients come.
	rng := rand.New(rand.NewPCG(1, 1))
	rng.Shuffle(n, func(i, j int) { ids[i], ids[j] = ids[j], ids[i] })
	return ids
}

// BenchmarkAppend1000Recipients has 8 writers send to 1000 of 100,000 users at a
// time, durably, with the index following when indexed.
func BenchmarkAppend1000Recipients(b *testing.B) {
	for _, indexed := range []bool{false, true} {
		b.Run(fmt.Sprintf("indexed=%v", indexed), func(b *testing.B) {
			benchAppend(b, 8, 1000, 200, indexed)
		})
	}
}

// BenchmarkAppend1 has 256 writers send to one user at a time.
func BenchmarkAppend1(b *testing.B) {
	for _, indexed := range []bool{false, true} {
		b.Run(fmt.Sprintf("indexed=%v", indexed), func(b *testing.B) {
			benchAppend(b, 256, 1, 200, indexed)
		})
	}
}

func benchAppend(b *testing.B, writers, recipients, content int, indexed bool) {
	s := mustOpen(b, Options{Dir: b.TempDir()})
	defer mustClose(b, s)
	if indexed {
		defer followIndex(b, s)()
	}
	ids := benchUsers(100_000)
	text := `{"text":"` + strings.Repeat("x", content) + `"}`
	var left sync.Mutex
	n := b.N
	var slowest time.Duration
	cpu := cpuTime(b)
	b.ResetTimer()
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			at := w * 7919
			for {
				left.Lock()
				n--
				done := n < 0
				left.Unlock()
				if done {
					return
				}
				at = (at + 104729) % (len(ids) - recipients)
				a := direct("sender", ids[at:at+recipients]...)
				a.Message.Content = text
				start := time.Now()
				if err := s.Append(context.Background(), a); err != nil {
					b.Error(err)
					return
				}
				took := time.Since(start)
				left.Lock()
				slowest = max(slowest, took)
				left.Unlock()
			}
		})
	}
	wg.Wait()
	b.StopTimer()
	b.ReportMetric(float64(b.N*recipients)/b.Elapsed().Seconds(), "entries/s")
	b.ReportMetric(float64(slowest.Milliseconds()), "slowest-ms")
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N*recipients), "cpu-ns/entry")
	b.ReportMetric(0, "ns/op")
}

// cpuTime is what the process has used. On a shared machine it says more than
// the time that went by.
func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkDisk reports what a recipient of a 10 KB message to a thousand takes
// on disk, with history and channel list.
func BenchmarkDisk(b *testing.B) {
	dir := b.TempDir()
	s := mustOpen(b, Options{Dir: dir, Ballast: 1})
	defer mustClose(b, s)
	stop := followIndex(b, s)
	ids := benchUsers(100_000)
	recipients := 0
	for i := range b.N {
		at := i * 7919 % (len(ids) - 1000)
		a := direct(fmt.Sprint("sender", i%100), ids[at:at+1000]...)
		a.Message.Content = incompressible(10_000, i)
		mustAppend(b, s, a)
		recipients += 1000
	}
	b.StopTimer()
	if _, err := s.Channels(context.Background(), 1, ids[0], 1); err != nil {
		b.Fatal(err)
	}
	stop()
	if err := s.checkpointHeads(); err != nil {
		b.Fatal(err)
	}
	if err := s.db.Flush(); err != nil {
		b.Fatal(err)
	}
	m := s.db.Metrics()
	b.ReportMetric(float64(m.Total().TablesSize+int64(m.BlobFiles.LiveSize))/float64(recipients), "table-B/recipient")
	b.ReportMetric(float64(treeSize(b, dir))/float64(recipients), "folder-B/recipient")
	b.ReportMetric(0, "ns/op")
}

// incompressible is text that no compression makes smaller than three quarters.
func incompressible(n, seed int) string {
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	x := uint64(seed)*0x9e3779b97f4a7c15 + 1
	text := make([]byte, n)
	for i := range text {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		text[i] = letters[x>>32&63]
	}
	return string(text)
}

func treeSize(b *testing.B, dir string) (size int64) {
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			size += info.Size()
		}
		return nil
	})
	if err != nil {
		b.Fatal(err)
	}
	return size
}

// BenchmarkBlocks asks for the blocks between a sender and 1000 recipients, in
// both directions, as a send with verifyBlocklist does: where there are none,
// where somebody else's are, and where the lists are long.
func BenchmarkBlocks(b *testing.B) {
	recipients := benchUsers(1000)
	ctx := context.Background()
	for _, lines := range []int{0, 10, 3000} {
		b.Run(fmt.Sprint("lines=", lines), func(b *testing.B) {
			s, err := Open(ctx, Options{Dir: b.TempDir(), Logger: quiet})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			if err := s.Block(ctx, 1, "somebody", recipients); err != nil {
				b.Fatal(err)
			}
			var others []string
			for i := range lines {
				others = append(others, fmt.Sprintf("user-%08d", i*7))
			}
			if err := s.Block(ctx, 1, "sender", others); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if _, err := s.Blocked(ctx, 1, "sender", recipients); err != nil {
					b.Fatal(err)
				}
				if _, err := s.Blockers(ctx, 1, "sender", recipients); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkIndex indexes the log of requests to 1000 of 100,000 users each, or
// to one, written before.
func BenchmarkIndex(b *testing.B) {
	for _, recipients := range []int{1, 1000} {
		b.Run(fmt.Sprint("recipients=", recipients), func(b *testing.B) {
			s := mustOpen(b, Options{Dir: "data", FS: vfs.NewMem()})
			defer mustClose(b, s)
			ids := benchUsers(100_000)
			for i := range b.N {
				at := i * 7919 % (len(ids) - recipients)
				mustAppend(b, s, direct("sender", ids[at:at+recipients]...))
			}
			records, err := s.ReadLog(b.Context(), 0, b.N)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			cpu := cpuTime(b)
			b.ResetTimer()
			if err := s.IndexLog(b.Context(), records); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N*recipients), "cpu-ns/entry")
		})
	}
}

// pushJobs are n jobs of one lane that come due one after the other, a thousand with
// each request.
func pushJobs(n int) []store.PushJob {
	users := benchUsers(1000)
	lane := store.PushLane{App: 1, Provider: chat.APNs, Environment: chat.Production, Package: "com.example.chat"}
	jobs := make([]store.PushJob, n)
	for i := range jobs {
		ref := chat.NewUID(1773144000000+int64(i/1000), chat.Direct, 0, 7)
		jobs[i] = store.PushJob{
			Lane: lane, Ref: ref, MadeAt: ref.Millis() + 3000, Expires: ref.Millis() + 86_400_000, Collapse: rand.Uint64(),
			PushPlace: store.PushPlace{Due: ref.Millis() + 3000, UID: ref.Plus(i % 1000), User: users[i%1000], Device: "3F2504E04F8911D3"},
		}
	}
	return jobs
}

// BenchmarkPushPut has a follower make a thousand jobs at a time, in no order.
func BenchmarkPushPut(b *testing.B) {
	s := mustOpen(b, Options{Dir: b.TempDir(), Consumers: []string{store.PushConsumer}})
	defer mustClose(b, s)
	jobs := pushJobs(1000 * b.N)
	b.ReportAllocs()
	cpu := cpuTime(b)
	b.ResetTimer()
	for i := range b.N {
		c := &store.PushChange{Put: jobs[i*1000 : i*1000+1000], Watermark: uint64(i + 1)}
		if err := s.ChangePush(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((cpuTime(b)-cpu).Nanoseconds())/float64(b.N*1000), "cpu-ns/job")
}

// BenchmarkPushDrain has a lane take 200,000 jobs in pages of a thousand and drop
// them, on disk and with all of it behind it still in the way.
func BenchmarkPushDrain(b *testing.B) {
	const n = 200_000
	jobs := pushJobs(n)
	for range b.N {
		b.StopTimer()
		s := mustOpen(b, Options{Dir: b.TempDir()})
		for i := 0; i < n; i += 1000 {
			if err := s.ChangePush(b.Context(), &store.PushChange{Put: jobs[i : i+1000]}); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		var read, dropped, slowest time.Duration
		var behind store.PushPlace
		for range n / 1000 {
			start := time.Now()
			page, err := s.PushJobs(b.Context(), &jobs[0].Lane, 0, behind, 1<<60, 1000)
			if err != nil || len(page) != 1000 {
				b.Fatal(len(page), err)
			}
			took := time.Since(start)
			read, slowest = read+took, max(slowest, took)
			behind = page[999].PushPlace
			start = time.Now()
			if err := s.ChangePush(b.Context(), &store.PushChange{Drop: page}); err != nil {
				b.Fatal(err)
			}
			dropped += time.Since(start)
		}
		b.StopTimer()
		b.ReportMetric(float64(read.Nanoseconds())/n, "read-ns/job")
		b.ReportMetric(float64(slowest.Nanoseconds())/1000, "slowest-read-ns/job")
		b.ReportMetric(float64(dropped.Nanoseconds())/n, "drop-ns/job")
		start := time.Now()
		if list, err := s.PushJobs(b.Context(), &jobs[0].Lane, 0, store.PushPlace{}, 1<<60, 1); err != nil || len(list) > 0 {
			b.Fatal(len(list), err)
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "from-zero-ms")
		mustClose(b, s)
	}
}

// BenchmarkPushMillion counts a million jobs, reads them from the start, and looks
// from the start when all of them are dropped.
func BenchmarkPushMillion(b *testing.B) {
	const n = 1_000_000
	jobs := pushJobs(n)
	s := mustOpen(b, Options{Dir: b.TempDir()})
	defer mustClose(b, s)
	for i := 0; i < n; i += 1000 {
		if err := s.ChangePush(b.Context(), &store.PushChange{Put: jobs[i : i+1000]}); err != nil {
			b.Fatal(err)
		}
	}
	timed := func(what string, f func() error) {
		start := time.Now()
		if err := f(); err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, what+"-ms")
	}
	lane := &jobs[0].Lane
	count := func() error {
		got, err := s.CountPushJobs(b.Context(), lane)
		if err == nil && got[0] != n {
			err = fmt.Errorf("%v jobs", got)
		}
		return err
	}
	first := func() error {
		_, err := s.PushJobs(b.Context(), lane, 0, store.PushPlace{}, 1<<60, 1)
		return err
	}
	timed("count", count)
	timed("count-again", count)
	for i := 0; i < n; i += 1000 {
		if err := s.ChangePush(b.Context(), &store.PushChange{Drop: jobs[i : i+1000]}); err != nil {
			b.Fatal(err)
		}
	}
	timed("dropped", first)
	timed("dropped-again", first)
	timed("lanes", func() error { _, err := s.PushLanes(b.Context()); return err })
	b.ReportMetric(0, "ns/op")
}
