package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/alecthomas/kong"
)

type docCmd struct {
	common
	Dir string `arg:"" optional:"" help:"Folder to write the pages to. Without it they are printed."`
}

// pages are those that are made from the program's own tables. Each is
// committed, and a test compares.
var pages = []struct {
	name string
	make func(*kong.Application) string
}{
	{"cli.md", cliPage},
	{"settings.md", settingsPage},
	{"errors.md", errorsPage},
}

// Run writes the generated pages.
func (c *docCmd) Run(k *kong.Context, s *streams) error {
	var errs []error
	for _, p := range pages {
		text := p.make(k.Model)
		if c.Dir == "" {
			_, err := fmt.Fprintln(s.out, text)
			errs = append(errs, err)
			continue
		}
		errs = append(errs, os.WriteFile(filepath.Join(c.Dir, p.name), []byte(text), 0o644))
	}
	return errors.Join(errs...)
}
