package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/node"
)

type appCmd struct {
	List   appListCmd   `cmd:"" help:"List the apps and the settings they changed."`
	Create appCreateCmd `cmd:"" help:"Create an app and print its key and secret."`
	Set    appSetCmd    `cmd:"" help:"Change settings of an app, in force at once."`
}

type appListCmd struct {
	common
	Secrets bool `help:"Show the app secrets, too."`
	All     bool `help:"Show every setting, not only those that were changed."`
}

// Run prints the apps.
func (c *appListCmd) Run(ctx context.Context, s *streams) error {
	o, err := reachExisting(ctx, c.Data)
	if err != nil {
		return err
	}
	apps, err := o.Apps(ctx)
	if err = errors.Join(err, o.close()); err != nil {
		return err
	}
	for i := range apps {
		if !c.Secrets {
			apps[i].Secret = ""
		}
	}
	if c.JSON {
		return s.json(apps)
	}
	for _, a := range apps {
		printApp(s, a, c.All)
	}
	if len(apps) == 0 {
		fmt.Fprintln(s.out, "There is no app yet. The server makes one when it starts; parley app create makes one, too.")
	}
	return nil
}

type appCreateCmd struct {
	common
	Key    string `arg:"" optional:"" help:"Key of the new app. One is made up when absent."`
	Secret string `env:"PARLEY_APP_SECRET" placeholder:"SECRET" help:"Secret of the new app. One is made up when absent."`
}

// Run makes an app, also in a data folder that does not exist yet.
func (c *appCreateCmd) Run(ctx context.Context, s *streams) error {
	o, err := reach(ctx, c.Data)
	if err != nil {
		return err
	}
	a, err := o.CreateApp(ctx, c.Key, c.Secret)
	if err = errors.Join(err, o.close()); err != nil {
		return err
	}
	if c.JSON {
		return s.json(a)
	}
	printApp(s, a, false)
	return nil
}

type appSetCmd struct {
	common
	Key    string   `arg:"" help:"Key of the app."`
	Values []string `arg:"" name:"name=value" help:"Settings, such as limits.direct=6000/m. docs/settings.md lists them."`
}

// Run changes settings, all or none.
func (c *appSetCmd) Run(ctx context.Context, s *streams) error {
	values := map[string]string{}
	for _, pair := range c.Values {
		name, value, ok := strings.Cut(pair, "=")
		if _, double := values[name]; !ok || double {
			return usage(fmt.Errorf("want each setting once, as name=value, got %q", pair))
		}
		values[name] = value
	}
	o, err := reachExisting(ctx, c.Data)
	if err != nil {
		return err
	}
	a, err := o.SetApp(ctx, c.Key, values)
	if err = errors.Join(err, o.close()); err != nil {
		return err
	}
	a.Secret = ""
	if c.JSON {
		return s.json(a)
	}
	printApp(s, a, false)
	return nil
}

func printApp(s *streams, a admin.App, all bool) {
	w := tabwriter.NewWriter(s.out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintf(w, "app key\t%s\n", a.Key)
	if a.Secret != "" {
		fmt.Fprintf(w, "app secret\t%s\n", a.Secret)
	}
	shown := a.Changed
	if all {
		shown = a.Settings
	}
	for _, name := range slices.Sorted(maps.Keys(shown)) {
		fmt.Fprintf(w, "%s\t%s\n", name, shown[name])
	}
}

// An owner is the admin API of a data folder: of the node that runs on it, or
// of the folder itself.
type owner struct {
	admin.API
	close func() error
}

// reach gives the admin API of a data folder. When no node runs it opens the
// folder, and makes it when it does not exist.
func reach(ctx context.Context, dir string) (*owner, error) {
	c, err := admin.Connect(ctx, dir)
	if err == nil {
		return &owner{c, func() error { c.Close(); return nil }}, nil
	}
	if !errors.Is(err, admin.ErrNotRunning) {
		return nil, err
	}
	api, closeStore, err := node.OpenData(ctx, dir)
	if err != nil {
		return nil, err
	}
	return &owner{api, closeStore}, nil
}

// reachExisting is reach for commands that make sense only where there is data:
// they do not leave a new store behind in a folder that was misspelt.
func reachExisting(ctx context.Context, dir string) (*owner, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, fmt.Errorf("no data folder: %w; start the server first, or name its folder with --data", err)
	}
	return reach(ctx, dir)
}

// pickApp is the app with this key, or without one the only app there is.
func pickApp(ctx context.Context, api admin.API, key string) (admin.App, error) {
	apps, err := api.Apps(ctx)
	if err != nil {
		return admin.App{}, err
	}
	if key == "" {
		if len(apps) == 1 {
			return apps[0], nil
		}
		return admin.App{}, usage(fmt.Errorf("there are %d apps: name one with --app-key", len(apps)))
	}
	for _, a := range apps {
		if a.Key == key {
			return a, nil
		}
	}
	return admin.App{}, usage(fmt.Errorf("no app has the key %q", key))
}
