package main

import (
	"encoding/json"
	"errors"
	"io"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
)

// The exit codes of every command.
const (
	exitDone    = 0
	exitFailed  = 1
	exitUsage   = 2
	exitNoNode  = 3
	exitRefused = 4
	exitSlow    = 5
)

// exitCodes describes them for the reference.
var exitCodes = []struct {
	code int
	doc  string
}{
	{exitDone, "Done."},
	{exitFailed, "Failed: the message says why. For `demo` and `bench`, perhaps that a promise was broken."},
	{exitUsage, "The command line, the environment or the configuration file is wrong."},
	{exitNoNode, "No running node could be reached."},
	{exitRefused, "The server answered with an error code."},
	{exitSlow, "`bench` reached less than the project promises."},
}

// A coded is an error with an exit code of its own.
type coded struct {
	error
	code int
}

func (e coded) Unwrap() error { return e.error }

// silent marks an error that was shown already.
type silent struct{ error }

func (e silent) Unwrap() error { return e.error }

func usage(err error) error { return coded{err, exitUsage} }

func exitCode(err error) int {
	if e, ok := errors.AsType[coded](err); ok {
		return e.code
	}
	if errors.Is(err, admin.ErrNotRunning) {
		return exitNoNode
	}
	// What the owner asked for breaks a rule.
	if chat.KindOf(err) == chat.KindInvalid || chat.KindOf(err) == chat.KindTooLong {
		return exitUsage
	}
	return exitFailed
}

// streams are where a command reads and writes.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// json prints v as one line.
func (s *streams) json(v any) error {
	e := json.NewEncoder(s.out)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
