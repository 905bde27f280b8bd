// Command parley is the chat server and everything that goes with it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// A cli is the whole command line. Its tags are also the source of
// docs/cli.md and docs/settings.md.
type cli struct {
	Serve    serveCmd    `cmd:"" help:"Run the server."`
	App      appCmd      `cmd:"" help:"List, create and change apps."`
	Push     pushCmd     `cmd:"" help:"Credentials of push providers, templates, and what a message would be pushed as."`
	PushSim  pushSimCmd  `cmd:"" help:"Simulate the push providers, to see notifications without an account with any."`
	Token    tokenCmd    `cmd:"" help:"Issue an access token for a user."`
	Send     sendCmd     `cmd:"" help:"Sign and send a message, and print the answer."`
	Trace    traceCmd    `cmd:"" help:"Tell what became of a message."`
	Tail     tailCmd     `cmd:"" help:"Connect as a user and print events as they come."`
	Demo     demoCmd     `cmd:"" help:"See it work, and see that promises are kept. Without a name: demo story."`
	DemoLink demoLinkCmd `cmd:"" help:"Print a new link to the live page of the running server."`
	Bench    benchCmd    `cmd:"" help:"Measure a server on this machine."`
	Restore  restoreCmd  `cmd:"" help:"Make data that was put back from a backup a new life of the store."`
	Version  versionCmd  `cmd:"" help:"Print the version."`
	Doc      docCmd      `cmd:"" hidden:"" help:"Write the generated pages of docs/."`
}

func main() {
	ctx, release := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// The first signal asks to stop. A second one finds the default action and
	// ends the process.
	context.AfterFunc(ctx, release)
	code := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	release()
	os.Exit(code)
}

// A finished is the panic with which kong's --help ends a parse.
type finished int

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) (code int) {
	defer func() {
		if p := recover(); p != nil {
			f, ok := p.(finished)
			if !ok {
				panic(p)
			}
			code = int(f)
		}
	}()
	parser, err := newParser(&cli{}, kong.Writers(stdout, stderr))
	if err != nil {
		fmt.Fprintln(stderr, "parley:", err)
		return exitFailed
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		fmt.Fprintln(stderr, "parley:", err)
		if e, ok := errors.AsType[*kong.ParseError](err); ok && e.Context != nil {
			fmt.Fprintf(stderr, "Run \"%s --help\" for what it takes.\n", commandName(e.Context))
		}
		return exitUsage
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	err = parsed.Run(&streams{in: stdin, out: stdout, err: stderr})
	if err == nil {
		return exitDone
	}
	if !errors.As(err, new(silent)) {
		fmt.Fprintln(stderr, "parley:", err)
	}
	return exitCode(err)
}

func newParser(c *cli, options ...kong.Option) (*kong.Kong, error) {
	file := &fileResolver{}
	return kong.New(c, append([]kong.Option{
		kong.Name("parley"),
		kong.Description("Parley is a self-hosted chat messaging server."),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100}),
		kong.ValueFormatter(explain),
		kong.Resolvers(file),
		kong.WithBeforeApply(file.failed),
		kong.Exit(func(code int) { panic(finished(code)) }),
	}, options...)...)
}

// explain is a flag's help with its default and its environment variable.
func explain(v *kong.Value) string {
	var more []string
	if v.HasDefault && v.Default != "" {
		more = append(more, "default "+v.Default)
	}
	for _, env := range v.Tag.Envs {
		more = append(more, "$"+env)
	}
	if len(more) == 0 {
		return v.Help
	}
	return v.Help + " (" + strings.Join(more, ", ") + ")"
}

func commandName(c *kong.Context) string {
	if n := c.Selected(); n != nil {
		return n.FullPath()
	}
	return c.Model.Name
}
