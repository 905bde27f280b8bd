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
	Cases []string      `arg:"" optional:"" help:"What to measure: direct, direct-1000, open, idle. All of them when absent."`
	Time  time.Duration `default:"10s" placeholder:"DURATION" help:"How long each case is under load."`
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
	r, err := bench.Run(ctx, bench.Options{Cases: c.Cases, Time: c.Time, Dir: c.Data}, out)
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
