package pebble

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

var (
	errDisk    = errors.New("the disk is on fire")
	errNoSpace = syscall.ENOSPC
)

// failing wraps fs so that operations of the kind on files whose name contains
// part fail once armed.
func failing(fs vfs.FS, armed *atomic.Bool, part string, kinds ...errorfs.OpKind) vfs.FS {
	return errorfs.Wrap(fs, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if !armed.Load() || !strings.Contains(op.Path, part) {
			return nil
		}
		for _, k := range kinds {
			if op.Kind == k {
				return errDisk
			}
		}
		return nil
	}))
}

// TestSyncFails breaks the disk under the log: what was under way is unknown, what
// comes later is refused, nothing of either is ever read, and the next open finds
// every answered append.
func TestSyncFails(t *testing.T) {
	t.Parallel()
	for _, kind := range []struct {
		name string
		ops  []errorfs.OpKind
	}{
		{"sync", []errorfs.OpKind{errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo}},
		{"write", []errorfs.OpKind{errorfs.OpFileWrite}},
	} {
		t.Run(kind.name, func(t *testing.T) {
			t.Parallel()
			mem := vfs.NewCrashableMem()
			var armed atomic.Bool
			s := mustOpen(t, Options{Dir: "data", FS: failing(mem, &armed, ".log", kind.ops...)})
			mustAppend(t, s, direct("alice", "bob"))

			armed.Store(true)
			var wg sync.WaitGroup
			var unknown, unavailable, done atomic.Int64
			for i := range 8 {
				wg.Go(func() {
					for range 5 {
						a := direct(fmt.Sprint("w", i), "bob", "carol")
						a.Done = func(error) { done.Add(1) }
						switch err := s.Append(context.Background(), a); chat.KindOf(err) {
						case chat.KindUnknown:
							unknown.Add(1)
						case chat.KindUnavailable:
							unavailable.Add(1)
						default:
							t.Errorf("append on a broken disk: %v", err)
						}
					}
				})
			}
			wg.Wait()
			if unknown.Load() == 0 || unknown.Load()+unavailable.Load() != 40 || done.Load() != 40 {
				t.Errorf("%d unknown, %d unavailable, %d done", unknown.Load(), unavailable.Load(), done.Load())
			}
			select {
			case <-s.Failed():
			default:
				t.Error("the store does not say that it failed")
			}
			if err := s.Health(); chat.KindOf(err) != chat.KindUnavailable || !errors.Is(err, errDisk) {
				t.Errorf("health is %v", err)
			}
			for name, err := range map[string]error{
				"PutApp":       s.PutApp(context.Background(), &chat.App{Key: "k"}),
				"UpdateUsers":  s.UpdateUsers(context.Background(), 1, []string{"bob"}, func(*chat.User) {}),
				"Block":        s.Block(context.Background(), 1, "bob", []string{"eve"}),
				"Unblock":      s.Unblock(context.Background(), 1, "bob", []string{"eve"}),
				"PutDevices":   s.PutDevices(context.Background(), []store.UserDevice{{App: 1, User: "bob"}}),
				"ChangePush":   s.ChangePush(context.Background(), &store.PushChange{Put: pushJobs(1)}),
				"SetWatermark": s.SetWatermark(context.Background(), store.IndexConsumer, 1),
			} {
				if chat.KindOf(err) != chat.KindUnavailable {
					t.Errorf("%s on a broken store: %v", name, err)
				}
			}
			// What was durable before is served.
			if n, err := s.Head(context.Background(), 1, "bob"); n != 1 || err != nil {
				t.Errorf("head is %d, %v, want 1", n, err)
			}
			got, err := s.Read(context.Background(), 1, "bob", store.Range{Limit: 10}, nil)
			if len(got) != 1 || err != nil {
				t.Errorf("%d entries, %v, want 1", len(got), err)
			}
			if s.LogHead() != 1 {
				t.Errorf("log head is %d, want 1", s.LogHead())
			}
			clone := mem.CrashClone(vfs.CrashCloneCfg{})
			if err := s.Close(); err == nil {
				t.Error("a broken store closed as if nothing were")
			}
			s = mustOpen(t, Options{Dir: "data", FS: clone})
			defer mustClose(t, s)
			if n, err := s.Head(context.Background(), 1, "bob"); n != 1 || err != nil {
				t.Errorf("head is %d, %v after opening again, want 1", n, err)
			}
			mustAppend(t, s, direct("alice", "bob"))
		})
	}
}

// TestPebbleGivesUp makes Pebble call Fatalf, which must not end the process and
// not leave a caller waiting.
func TestPebbleGivesUp(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	s := mustOpen(t, Options{Dir: "data", FS: mem})
	mustAppend(t, s, direct("alice", "bob"))
	// The writer stands where Pebble would have parked it.
	park := make(chan struct{})
	var once sync.Once
	s.beforeApply = func(*commit) {
		once.Do(func() { go pebbleLog{quiet, s.failure}.Fatalf("no %s", "more") })
		<-park
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			err := s.Append(context.Background(), direct("alice", "bob"))
			if k := chat.KindOf(err); k != chat.KindUnknown && k != chat.KindUnavailable {
				t.Errorf("append is %v", err)
			}
		})
	}
	wg.Wait()
	<-s.Failed()
	if n, err := s.Head(context.Background(), 1, "bob"); n != 1 || err != nil {
		t.Errorf("head is %d, %v, want 1", n, err)
	}
	if err := s.WaitLog(context.Background(), 100); chat.KindOf(err) != chat.KindUnavailable {
		t.Errorf("waiting in a store that gave up: %v", err)
	}
	if err := s.Close(); !errors.Is(err, errFatal) {
		t.Errorf("close is %v", err)
	}
	close(park)
	s.writing.Wait()
	if err := s.db.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenGivesUp has Pebble meet a broken manifest while it opens.
func TestOpenGivesUp(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	armed.Store(true)
	fs := failing(vfs.NewMem(), &armed, "MANIFEST", errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData)
	s, err := Open(context.Background(), Options{Dir: "data", FS: fs, Logger: quiet})
	if err == nil {
		mustClose(t, s)
		t.Fatal("opened without a manifest")
	}
}

// lowDisk is a file system whose free space a test sets.
type lowDisk struct {
	vfs.FS
	free atomic.Uint64
}

func (d *lowDisk) GetDiskUsage(string) (vfs.DiskUsage, error) {
	free := d.free.Load()
	return vfs.DiskUsage{AvailBytes: free, TotalBytes: 1 << 40, UsedBytes: 1<<40 - free}, nil
}

func (d *lowDisk) has(name string) bool {
	_, err := d.Stat(name)
	return err == nil
}

func TestLittleSpace(t *testing.T) {
	t.Parallel()
	const mb = 1 << 20
	disk := &lowDisk{FS: vfs.NewMem()}
	disk.free.Store(1000 * mb)
	ctx := context.Background()
	s := mustOpen(t, Options{Dir: "data", FS: disk, MinFree: 100 * mb, Ballast: 10 * mb})
	defer mustClose(t, s)
	mustAppend(t, s, direct("alice", "bob"))
	if !disk.has("data/ballast") {
		t.Error("no ballast with room for it")
	}
	steps := []struct {
		free          uint64
		open, ballast bool
	}{
		{100 * mb, true, true},
		{99 * mb, false, true},
		{120 * mb, false, true}, // not yet: it would go back and forth
		{40 * mb, false, false},
		{0, false, false},
		{160 * mb, true, false},
		{1000 * mb, true, true},
	}
	for _, step := range steps {
		disk.free.Store(step.free)
		s.space.check()
		err := s.Append(ctx, direct("alice", "bob"))
		app := s.PutApp(ctx, &chat.App{Key: fmt.Sprint(step.free, step.ballast), Settings: chat.DefaultSettings()})
		users := s.UpdateUsers(ctx, 1, []string{"bob"}, func(u *chat.User) { u.TokensFrom++ })
		push := s.ChangePush(ctx, &store.PushChange{Put: pushJobs(1)})
		for _, err := range []error{err, app, users, push, s.Health()} {
			if step.open && err != nil {
				t.Errorf("with %d free: %v", step.free, err)
			}
			if e := (*chat.Error)(nil); !step.open && (!errors.As(err, &e) || e.Kind != chat.KindUnavailable || e.RetryAfter <= 0) {
				t.Errorf("with %d free: %v, want it unavailable with a time to come back", step.free, err)
			}
		}
		if disk.has("data/ballast") != step.ballast {
			t.Errorf("with %d free the ballast is there: %v", step.free, !step.ballast)
		}
		if _, err := s.Read(ctx, 1, "bob", store.Range{Limit: 1}, nil); err != nil {
			t.Errorf("with %d free reading: %v", step.free, err)
		}
	}
	if n, err := s.Head(ctx, 1, "bob"); err != nil || n != 4 {
		t.Errorf("head is %d, %v, want the 4 that were accepted", n, err)
	}
}

// TestSpaceWatchRuns sees that the store looks by itself.
func TestSpaceWatchRuns(t *testing.T) {
	t.Parallel()
	disk := &lowDisk{FS: vfs.NewMem()}
	disk.free.Store(1 << 40)
	s := mustOpen(t, Options{Dir: "data", FS: disk})
	defer mustClose(t, s)
	disk.free.Store(1)
	for deadline := time.Now().Add(time.Minute); s.Health() == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("little space was not noticed")
		}
	}
}

// TestDiskFull has a write of the log meet a full disk: the ballast goes, the
// write is repeated, and later ones are refused.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	var full atomic.Bool
	fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && op.Kind == errorfs.OpFileWrite && strings.HasSuffix(op.Path, ".log") {
			if _, err := mem.Stat("data/ballast"); err == nil {
				return errNoSpace
			}
		}
		return nil
	}))
	disk := &lowDisk{FS: fs}
	disk.free.Store(1 << 40)
	s := mustOpen(t, Options{Dir: "data", FS: disk})
	defer mustClose(t, s)
	full.Store(true)
	mustAppend(t, s, direct("alice", "bob"))
	if disk.has("data/ballast") {
		t.Error("the ballast is still there")
	}
}

func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem()})
	defer mustClose(t, s)
	release := make(chan struct{})
	s.writer.limit = 1 << 20
	s.beforeApply = func(*commit) { <-release }
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var refused atomic.Int64
	const tried = 100
	for range tried {
		wg.Go(func() {
			a := direct("alice", "bob")
			a.Message.Content = strings.Repeat("x", 100_000)
			err := s.Append(ctx, a)
			if e := (*chat.Error)(nil); errors.As(err, &e) && e.Kind == chat.KindUnavailable && e.RetryAfter > 0 {
				refused.Add(1)
				return
			}
			if err != nil {
				t.Errorf("append: %v", err)
			}
		})
	}
	for deadline := time.Now().Add(time.Minute); refused.Load() == 0 && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	close(release)
	wg.Wait()
	if refused.Load() == 0 || refused.Load() == tried {
		t.Errorf("%d of %d refused", refused.Load(), tried)
	}
	n, err := s.Head(context.Background(), 1, "bob")
	if err != nil || int64(n) != tried-refused.Load() {
		t.Errorf("head is %d, %v, with %d refused of %d", n, err, refused.Load(), tried)
	}
}

// TestCanceledUnderWay cancels an append that the writer has taken: its outcome is
// unknown to the caller, and Done tells it later.
func TestCanceledUnderWay(t *testing.T) {
	t.Parallel()
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem()})
	defer mustClose(t, s)
	taken, release := make(chan struct{}, 1), make(chan struct{})
	s.beforeApply = func(*commit) {
		taken <- struct{}{}
		<-release
	}
	ctx, cancel := context.WithCancel(context.Background())
	settled := make(chan error, 2)
	a := direct("alice", "bob")
	a.Done = func(err error) { settled <- err }
	go func() {
		<-taken
		cancel()
	}()
	err := s.Append(ctx, a)
	if chat.KindOf(err) != chat.KindUnknown || !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want an unknown outcome", err)
	}
	select {
	case err := <-settled:
		t.Errorf("settled with %v while under way", err)
	default:
	}
	close(release)
	if err := <-settled; err != nil {
		t.Errorf("settled with %v", err)
	}
	if n, err := s.Head(context.Background(), 1, "bob"); n != 1 || err != nil {
		t.Errorf("head is %d, %v, want 1", n, err)
	}
}
