package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
)

// withDemoNode shows something on a node of its own, which ends with it. The
// data of a node without a folder goes, too.
func withDemoNode(dir string, s *streams, show func(*childNode) error) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "parley-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	n, err := newChildNode(dir)
	if err != nil {
		return err
	}
	defer func() {
		if err = errors.Join(err, n.stop()); err != nil {
			fmt.Fprintf(s.err, "The node's log:\n%s", n.logged())
		}
	}()
	return show(n)
}

// promises are those that a showing is about, and what became of them.
type promises struct {
	streams *streams
	quiet   bool
	results []check
}

// A check is one promise and whether it was kept.
type check struct {
	Promise string `json:"promise"`
	Kept    bool   `json:"kept"`
	Detail  string `json:"detail"`
}

func (p *promises) say(format string, args ...any) {
	if !p.quiet {
		fmt.Fprintf(p.streams.out, format+"\n", args...)
	}
}

func (p *promises) check(promise string, kept bool, detail string) {
	p.results = append(p.results, check{promise, kept, detail})
}

// verdict prints which promises were kept; as JSON it has more beside them.
func (p *promises) verdict(asJSON bool, more map[string]any) error {
	broken := 0
	p.say("\nPromises:\n")
	for _, c := range p.results {
		word := "kept  "
		if !c.Kept {
			word, broken = "BROKEN", broken+1
		}
		p.say("  %s  %s (%s)", word, c.Promise, c.Detail)
	}
	if asJSON {
		told := map[string]any{"kept": broken == 0, "promises": p.results}
		maps.Copy(told, more)
		if err := p.streams.json(told); err != nil {
			return err
		}
	}
	if broken > 0 {
		return fmt.Errorf("%d promises were broken", broken)
	}
	p.say("\nAll of it as promised.")
	return nil
}
