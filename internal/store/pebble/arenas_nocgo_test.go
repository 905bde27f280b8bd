//go:build !cgo

package pebble

import (
	"runtime"
	"strings"
	"testing"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// TestRest has memtables pile up as under a load that the disk does not keep up
// with. When they are in files and the store has come to rest, none but those that
// Pebble still uses may be in the heap; with cgo they never are. It looks at the
// whole heap, so it is not parallel.
func TestRest(t *testing.T) {
	const piled = 6
	held := make(chan struct{})
	fs := errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
		if op.Kind == errorfs.OpCreate && strings.HasSuffix(op.Path, ".sst") {
			<-held
		}
		return nil
	}))
	s := mustOpen(t, Options{Dir: t.TempDir(), FS: fs})
	defer mustClose(t, s)
	value := make([]byte, 1<<20)
	for n := 0; s.db.Metrics().MemTable.Size < piled*memTableSize; n++ {
		if err := s.db.Set([]byte{0xff, byte(n >> 8), byte(n)}, value, pdb.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	close(held)
	for s.db.Metrics().MemTable.Count > 1 {
		time.Sleep(time.Millisecond)
	}
	kept := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc) - s.Arenas()
	}
	if got := kept(); got < memTableSize {
		t.Logf("Pebble lets go of memtables by itself now: %d bytes are kept", got)
	}
	if !s.Rest(t.Context()) {
		t.Error("there was nothing to do")
	}
	if got := kept(); got > memTableSize {
		t.Errorf("%d bytes of the heap are not what Pebble uses, want less than a memtable, %d", got, memTableSize)
	}
	if s.Rest(t.Context()) {
		t.Error("there was something to do, though nothing was written")
	}
}
