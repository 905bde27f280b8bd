package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/alecthomas/kong"
	"go.yaml.in/yaml/v3"
)

// A fileResolver fills in flags from the configuration file. It stands behind
// the command line and the environment.
type fileResolver struct {
	path   string // of the file that was read
	values map[string]string
	err    error // what is wrong with it
}

// failed is for a hook after all flags were resolved: kong would put the name
// of the first flag in front of an error from Resolve.
func (r *fileResolver) failed() error { return r.err }

// Validate implements kong.Resolver.
func (*fileResolver) Validate(*kong.Application) error { return nil }

// Resolve implements kong.Resolver. Only settings are looked up: those flags
// that the environment can set, too.
func (r *fileResolver) Resolve(c *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	if len(flag.Envs) == 0 || flag.Name == "config" {
		return nil, nil
	}
	if _, set := os.LookupEnv(flag.Envs[0]); set {
		return nil, nil
	}
	path := configPath(c)
	if path == "" {
		return nil, nil
	}
	if r.path != path {
		r.path = path
		r.values, r.err = readSettings(path, settingNames(c.Model))
	}
	if v, ok := r.values[flag.Name]; ok {
		return v, nil
	}
	return nil, nil
}

// configPath is what --config or its environment variable says.
func configPath(c *kong.Context) string {
	for _, f := range c.Flags() {
		if f.Name == "config" {
			if path, ok := c.FlagValue(f).(string); ok {
				return path
			}
		}
	}
	return ""
}

// settingNames are the keys that a file may have: the process settings.
func settingNames(app *kong.Application) map[string]bool {
	names := map[string]bool{}
	for _, f := range settings(app) {
		names[f.Name] = true
	}
	return names
}

// settings are the process settings in the order of the struct: the flags of
// serve that the environment can set, too.
func settings(app *kong.Application) []*kong.Flag {
	var list []*kong.Flag
	for _, n := range app.Children {
		if n.Name != "serve" {
			continue
		}
		for _, f := range n.Flags {
			if len(f.Envs) > 0 && f.Name != "config" {
				list = append(list, f)
			}
		}
	}
	return list
}

// readSettings reads a YAML file of one value per name. A key that is not
// known is an error: most are misspelt, and the server would silently run with
// a default.
func readSettings(path string, known map[string]bool) (map[string]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("config: %s: %s", path, strings.TrimPrefix(err.Error(), "yaml: "))
	}
	values := map[string]string{}
	if len(doc.Content) == 0 {
		return values, nil // an empty file
	}
	root := doc.Content[0]
	if root.Kind != yaml.MappingNode {
		return nil, fmt.Errorf("config: %s:%d: want lines of the form name: value", path, root.Line)
	}
	var errs []error
	for i := 0; i+1 < len(root.Content); i += 2 {
		key, value := root.Content[i], root.Content[i+1]
		wrong := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("config: %s:%d: %s", path, key.Line, fmt.Sprintf(format, args...)))
		}
		_, double := values[key.Value]
		switch {
		case !known[key.Value]:
			wrong("unknown setting %q%s", key.Value, suggestion(key.Value, known))
		case double:
			wrong("%s is set twice", key.Value)
		case value.Kind != yaml.ScalarNode:
			wrong("%s: want one value", key.Value)
		case value.Tag == "!!null":
			wrong("%s: has no value; leave the line out for the default", key.Value)
		default:
			values[key.Value] = value.Value
		}
	}
	return values, errors.Join(errs...)
}

// suggestion names the setting that was probably meant.
func suggestion(key string, known map[string]bool) string {
	plain := strings.TrimPrefix(strings.ReplaceAll(strings.ToLower(key), "_", "-"), "parley-")
	if known[plain] {
		return fmt.Sprintf(": did you mean %q?", plain)
	}
	return ""
}
