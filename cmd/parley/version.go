package main

import (
	"fmt"

	"github.com/parleychat/parley/internal/node"
)

type versionCmd struct {
	common
}

// Run prints which build this is.
func (c *versionCmd) Run(s *streams) error {
	b := node.ThisBuild()
	if c.JSON {
		return s.json(b)
	}
	fmt.Fprintf(s.out, "parley %s\n", b.Version)
	if b.Commit != "" {
		changed := ""
		if b.Modified {
			changed = ", with changes that were not committed"
		}
		fmt.Fprintf(s.out, "commit %s%s\n", b.Commit, changed)
	}
	fmt.Fprintf(s.out, "built with %s for %s\n", b.Go, b.Platform)
	return nil
}
