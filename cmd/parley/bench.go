package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/parleychat/parley/internal/bench"
)

type benchCmd struct {
	fileFlag
	jsonFlag
	Data  string        `placeholder:"DIR" help:"Folder to make the servers' data folders in, so that the disk that matters is measured. They are removed. Without it the system's folder for temporary files is used."`
	Cases []string      `arg:"" optional:"" help:"What to measure: direct, direct-1000, live, open (which is open-one, open-steady, open-rooms and open-flood), push (which is push-enqueue, push-apns, push-fcm and push-drain), idle. All of them when absent."`
	Time  time.Duration `default:"10s" placeholder:"DURATION" help:"How long each case is under load."`

	Set     []string `sep:"none" placeholder:"NAME=VALUE" help:"A setting of the servers that is not to be at its default, such as trace=false. Can be repeated."`
	Compare int      `placeholder:"N" help:"Measure each case N times with what --set says and N times without, in turn, and print what the one is of the other."`
}

// Run measures servers that it starts itself, and holds what they reach against
// what the project promises.
func (c *benchCmd) Run(ctx context.Context, s *streams) error {
	if c.Time <= 0 {
		return usage(errors.New("--time: must be more than 0"))
	}
	if c.Data != "" {
		if err := os.MkdirAll(c.Data, 0o700); err != nil {
			return err
		}
	}
	out := s.out
	if c.JSON {
		out = s.err // standard output has the report only
	}
	r, err := bench.Run(ctx, bench.Options{Cases: c.Cases, Time: c.Time, Dir: c.Data, Settings: c.Set, Compare: c.Compare}, out)
	if r == nil {
		return usage(err) // refused before anything was measured
	}
	if c.JSON {
		err = errors.Join(err, s.json(r))
	}
	switch {
	case err != nil:
		return err
	case !r.Kept():
		return errors.New("promises were broken: see BROKEN above")
	case !r.Fast():
		return coded{errors.New("slower than promised: see MISSED above"), exitSlow}
	}
	return nil
}
