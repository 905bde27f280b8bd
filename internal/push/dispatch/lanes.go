package dispatch

import (
	"context"

	"github.com/parleychat/parley/internal/store"
)

// lanes are where jobs wait for their providers.
type lanes struct{}

func (l *lanes) written(*store.PushChange) {}

func (d *Dispatcher) runLanes(ctx context.Context) { <-ctx.Done() }
