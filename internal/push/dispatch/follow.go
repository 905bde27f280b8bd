package dispatch

import "context"

// follow decides upon what was accepted, record by record of the log.
func (d *Dispatcher) follow(ctx context.Context) { <-ctx.Done() }
