package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/parleychat/parley/internal/node"
)

type restoreCmd struct {
	common
}

// Run makes restored data a new life of the store.
func (c *restoreCmd) Run(ctx context.Context, s *streams) error {
	// An empty folder would become a store, which is not what was meant.
	if _, err := os.Stat(filepath.Join(c.Data, "FORMAT")); err != nil {
		return fmt.Errorf("%s holds no data of a server: %w", c.Data, err)
	}
	was, is, err := node.Restore(ctx, c.Data)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(map[string]string{"was": was, "epoch": is})
	}
	fmt.Fprintf(s.out, "The data in %s is a new life of the store: epoch %s, before %s.\n", c.Data, is, was)
	fmt.Fprintln(s.out, "Clients that come back start from the oldest message that is kept.")
	return nil
}
