//go:build !linux

package bench

import (
	"context"
	"time"
)

// A bare writer is known on Linux only.
type bare struct{}

func newBare(context.Context, int, []byte) (*bare, error)      { return &bare{}, nil }
func (*bare) round(context.Context, time.Duration, bool) error { return nil }
func (*bare) sockets() int                                     { return 0 }
func (*bare) perCore() float64                                 { return 0 }
func (*bare) close()                                           {}
