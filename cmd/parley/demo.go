package main

import "context"

type demoCmd struct {
	common
}

// Run shows.
func (c *demoCmd) Run(ctx context.Context, s *streams) error { return nil }
