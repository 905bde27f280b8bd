package pebble

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Place {
		fs := vfs.NewCrashableMem()
		return storetest.Place{
			Open: func(c storetest.Config) (store.Store, error) {
				return Open(context.Background(), Options{
					Dir: "data", FS: fs, Logger: quiet,
					Now: c.Now, OnCommit: c.OnCommit, Consumers: c.Consumers,
				})
			},
			Expire: func(s store.Store) error { return s.(*Store).Expire(context.Background()) },
			Crash: func(s store.Store) {
				clone := fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(1, 2))})
				// Closed after the cut: none of this is in the clone.
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				fs = clone
			},
		}
	})
}
