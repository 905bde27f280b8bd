package main

import (
	"context"
	"errors"
	"fmt"
)

type tokenCmd struct {
	common
	appFlags
	User string `arg:"" help:"Id of the user."`
	Name string `placeholder:"NAME" help:"Name of the user. Without it a known user keeps theirs, and a new one is called by the id."`
}

// Run issues a token and prints it alone, for use in scripts.
func (c *tokenCmd) Run(ctx context.Context, s *streams) error {
	o, err := reachExisting(ctx, c.Data)
	if err != nil {
		return err
	}
	app, err := pickApp(ctx, o, c.AppKey)
	if err != nil {
		return errors.Join(err, o.close())
	}
	t, err := o.IssueToken(ctx, app.Key, c.User, c.Name)
	if err = errors.Join(err, o.close()); err != nil {
		return err
	}
	if c.JSON {
		return s.json(t)
	}
	fmt.Fprintln(s.out, t.Token)
	return nil
}
