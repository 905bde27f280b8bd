package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/parleychat/parley/internal/admin"
)

type demoLinkCmd struct {
	common
}

// Run prints a link alone, for use in scripts.
func (c *demoLinkCmd) Run(ctx context.Context, s *streams) error {
	o, err := admin.Connect(ctx, c.Data)
	if err != nil {
		if errors.Is(err, admin.ErrNotRunning) {
			err = fmt.Errorf("%w (%s); start it with parley serve", err, c.Data)
		}
		return err
	}
	defer o.Close()
	link, err := o.DemoLink(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return s.json(link)
	}
	fmt.Fprintln(s.out, link.URL)
	return nil
}
