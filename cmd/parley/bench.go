package main

import "context"

type benchCmd struct {
	common
}

// Run measures.
func (c *benchCmd) Run(ctx context.Context, s *streams) error { return nil }
