package pebble

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// TestStateIsDurableWhenRead holds the disk: whoever reads a state meanwhile gets
// it only when its commit can no longer be taken back.
func TestStateIsDurableWhenRead(t *testing.T) {
	t.Parallel()
	var armed atomic.Bool
	held, release := make(chan struct{}, 16), make(chan struct{})
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			if armed.Load() && strings.Contains(op.Path, ".log") {
				held <- struct{}{}
				<-release
			}
		}
		return nil
	}))
	s := mustOpen(t, Options{Dir: "data", FS: fs})
	defer mustClose(t, s)
	a := direct("alice", "bob")
	mustAppend(t, s, a)
	uid := a.Placed.First

	armed.Store(true)
	written := make(chan error, 1)
	go func() {
		written <- s.Append(context.Background(), &store.Append{
			Message: &chat.Message{App: 1, ChannelType: chat.Direct, From: "alice"},
			States:  []store.StateChange{{UID: uid, History: a.History, State: &chat.State{Recall: &chat.Recall{At: 1}}}},
		})
	}()
	<-held
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Millisecond)
	defer cancel()
	if list, err := s.Overlays(ctx, 1, []chat.UID{uid}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("read %v, %v before the disk had it", list, err)
	}
	armed.Store(false)
	close(release)
	if list, err := s.Overlays(context.Background(), 1, []chat.UID{uid}); err != nil || list[0] == nil || list[0].Recall == nil {
		t.Errorf("read %v, %v", list, err)
	}
	if err := <-written; err != nil {
		t.Error(err)
	}
}
