package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/node"
)

type serveCmd struct {
	node.Config `embed:""`
	fileFlag    `embed:""`

	JSON   bool  `name:"json" help:"Log as JSON, and print what is printed at the start as JSON."`
	Check  bool  `help:"Check the settings, say what is wrong with them, and exit."`
	Banner *bool `negatable:"" help:"Print a call to try out and a link to the live page at the start. Done anyway when standard output is a terminal."`
}

// Run serves until a signal, or until the node cannot go on.
func (c *serveCmd) Run(ctx context.Context, s *streams) error {
	if c.JSON {
		c.LogFormat = "json"
	}
	if err := c.Config.Check(); err != nil {
		return usage(err)
	}
	if c.Check {
		fmt.Fprintln(s.out, "The settings are good.")
		return nil
	}
	logger := c.Logger(s.err)
	n, err := node.Start(ctx, c.Config, logger)
	if err != nil {
		return err
	}
	if err := c.greet(ctx, s, n); err != nil {
		logger.Warn("cannot write to standard output", "error", err)
	}
	patience := c.ShutdownTimeout
	select {
	case <-ctx.Done():
		logger.Info("stopping; a second signal ends the process at once")
	case <-n.Done():
		// What has failed may never come to an end, and a restart is what helps.
		patience = min(patience, brokenPatience)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	if err := n.Stop(ctx); err != nil {
		return err
	}
	logger.Info("stopped")
	return nil
}

// brokenPatience is how long a node that cannot go on may take to stop.
const brokenPatience = 5 * time.Second

const defaultData = "./parley-data"

// A greeting is what a start prints: the first app's secret, once, and for
// people a call to paste and a link to open.
type greeting struct {
	URL  string     `json:"url"`
	App  *admin.App `json:"app,omitempty"` // only when it was made just now
	Curl string     `json:"curl,omitempty"`
	Demo string     `json:"demo,omitempty"`
}

func (c *serveCmd) greet(ctx context.Context, s *streams, n *node.Node) error {
	info, err := n.Admin().Node(ctx)
	if err != nil {
		return err
	}
	g := greeting{URL: info.URL(), App: n.FirstApp()}
	banner := isTerminal(s.out)
	if c.Banner != nil {
		banner = *c.Banner
	}
	if banner {
		if g.Curl, err = c.curl(ctx, n.Admin(), info); err != nil {
			return err
		}
		// Without the live page there is no link, which is no fault.
		link, err := n.Admin().DemoLink(ctx)
		if err != nil && chat.KindOf(err) != chat.KindFeatureOff {
			return err
		}
		g.Demo = link.URL
	}
	if c.JSON {
		if g.App == nil && g.Curl == "" {
			return nil
		}
		return s.json(g)
	}
	if g.App != nil {
		fmt.Fprintf(s.out, "A first app was made. Its secret is not shown again by itself (%s shows it):\n\n  app key     %s\n  app secret  %s\n\n", c.command("app list --secrets"), g.App.Key, g.App.Secret)
	}
	if g.Curl != "" {
		fmt.Fprintf(s.out, "Parley %s serves at %s. To send a first message, paste this into a shell; it signs itself:\n\n%s\n\nThe message waits for bob. To see it arrive: %s\n\n", node.Version, g.URL, g.Curl, c.command("tail bob --from oldest"))
	}
	if g.Demo != "" {
		fmt.Fprintf(s.out, "To see it all work, open this link in a browser (it works once, within an hour; %s makes another):\n\n  %s\n\n", c.command("demo-link"), g.Demo)
	}
	return nil
}

// command is one to type about this server.
func (c *serveCmd) command(words string) string {
	if c.Data != defaultData {
		words += " --data " + quote(c.Data)
	}
	return program() + " " + words
}

// program is how this one was called where that says where it is, as from a
// checkout, so that what is printed can be typed.
func program() string {
	if name := os.Args[0]; strings.Contains(name, "/") && !filepath.IsAbs(name) {
		return name
	}
	return "parley"
}

// curl is a call that anybody can paste. It is of the app that the settings
// name, else of the first one.
func (c *serveCmd) curl(ctx context.Context, api admin.API, info admin.Node) (string, error) {
	apps, err := api.Apps(ctx)
	if err != nil || len(apps) == 0 {
		return "", err
	}
	app := apps[0]
	for _, a := range apps {
		if a.Key == c.AppKey {
			app = a
		}
	}
	return pasteable(info.URL(), app.Key, app.Secret, info.TLS), nil
}

// isTerminal reports whether a person is likely to read what is written to w.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	fi, err := f.Stat()
	return err == nil && fi.Mode()&os.ModeCharDevice != 0 && !isNull(fi)
}

// isNull tells the null device, which is a character device as terminals are.
func isNull(fi os.FileInfo) bool {
	null, err := os.Stat(os.DevNull)
	return err == nil && os.SameFile(fi, null)
}
