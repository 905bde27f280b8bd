package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/parleychat/parley/internal/chat"
)

func do(ctx context.Context, args ...string) (stdout, stderr string, code int) {
	var out, errOut bytes.Buffer
	code = run(ctx, args, strings.NewReader(""), &out, &errOut)
	return out.String(), errOut.String(), code
}

func model(t *testing.T) *kong.Application {
	t.Helper()
	parser, err := newParser(&cli{})
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model
}

// The committed pages are what the program's tables say now.
func TestGeneratedPages(t *testing.T) {
	t.Parallel()
	app := model(t)
	for _, p := range pages {
		name := filepath.Join("..", "..", "docs", p.name)
		committed, err := os.ReadFile(name)
		if err != nil {
			t.Error(err)
			continue
		}
		if string(committed) != p.make(app) {
			t.Errorf("%s is out of date: run make docs", name)
		}
	}
}

// The pages leave nothing out.
func TestPagesAreComplete(t *testing.T) {
	t.Parallel()
	app := model(t)
	cliText, settingsText := cliPage(app), settingsPage(app)
	for _, n := range app.Leaves(true) {
		if !strings.Contains(cliText, "## "+n.FullPath()+"\n") {
			t.Errorf("docs/cli.md lacks the command %s", n.FullPath())
		}
		for _, f := range n.Flags {
			if !strings.Contains(cliText, "`--"+f.Name) && !strings.Contains(cliText, "`--[no-]"+f.Name) {
				t.Errorf("docs/cli.md lacks the flag --%s of %s", f.Name, n.FullPath())
			}
			if f.Help == "" {
				t.Errorf("the flag --%s of %s has no help", f.Name, n.FullPath())
			}
		}
	}
	if list := settings(app); len(list) < 10 {
		t.Errorf("only %d settings were found", len(list))
	}
	for _, f := range settings(app) {
		if !strings.Contains(settingsText, "| `"+f.Name+"` |") {
			t.Errorf("docs/settings.md lacks %s", f.Name)
		}
	}
	for _, s := range chat.AppSettings {
		if !strings.Contains(settingsText, "| `"+s.Name+"` |") {
			t.Errorf("docs/settings.md lacks the app setting %s", s.Name)
		}
	}
}

// Every command has these flags.
func TestEveryCommandHas(t *testing.T) {
	t.Parallel()
	for _, n := range model(t).Leaves(true) {
		for _, name := range []string{"data", "json", "config"} {
			if !slices.ContainsFunc(n.Flags, func(f *kong.Flag) bool { return f.Name == name }) {
				t.Errorf("%s has no --%s", n.FullPath(), name)
			}
		}
		out, _, code := do(t.Context(), append(strings.Fields(n.FullPath())[1:], "--help")...)
		if code != exitDone || !strings.Contains(out, n.Help) {
			t.Errorf("%s --help: code %d, %s", n.FullPath(), code, out)
		}
	}
}

func TestUsageErrors(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{}, {"server"}, {"app"}, {"token"}, {"send", "direct", "--count", "many"}, {"version", "extra"},
		{"tail", "bob", "--from", "yesterday"}, {"serve", "--log-level", "loud"}, {"bench", "nothing"}, {"bench", "--compare", "2"}, {"bench", "--set", "trace"},
		{"app", "set", "k", "no-value", "--data", "."},
	} {
		_, errOut, code := do(t.Context(), args...)
		if code != exitUsage || !strings.HasPrefix(errOut, "parley: ") {
			t.Errorf("%v: code %d, %s", args, code, errOut)
		}
	}
}

func TestVersion(t *testing.T) {
	t.Parallel()
	out, _, code := do(t.Context(), "version", "--json")
	var b struct{ Version, Go string }
	if err := json.Unmarshal([]byte(out), &b); err != nil || code != exitDone || b.Version == "" || b.Go == "" {
		t.Errorf("version --json: code %d, %s, %v", code, out, err)
	}
	plain, _, _ := do(t.Context(), "version")
	if !strings.HasPrefix(plain, "parley "+b.Version+"\n") {
		t.Errorf("version: %s", plain)
	}
}

// parse gives the settings that serve would run with.
func parse(t *testing.T, args ...string) (*serveCmd, error) {
	t.Helper()
	var c cli
	parser, err := newParser(&c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(append([]string{"serve"}, args...))
	return &c.Serve, err
}

// A flag wins over the environment, that over the file, that over the default.
// Not parallel: it sets the environment.
func TestPrecedence(t *testing.T) {
	file := filepath.Join(t.TempDir(), "parley.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("listen: file:1\nlog-format: json\nmetrics: false\nping-interval: 10s\nmin-free: 1GiB\napp-key: \"123\"\n")

	c, err := parse(t)
	if err != nil || c.Listen != "127.0.0.1:8080" || !c.Metrics || c.Data != defaultData {
		t.Fatalf("defaults: %+v, %v", c.Config, err)
	}
	if err := c.Config.Check(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	c, err = parse(t, "--config", file)
	if err != nil || c.Listen != "file:1" || c.LogFormat != "json" || c.Metrics || c.PingInterval.String() != "10s" || c.MinFree != 1<<30 || c.AppKey != "123" {
		t.Errorf("file: %+v, %v", c.Config, err)
	}
	t.Setenv("PARLEY_LISTEN", "env:2")
	t.Setenv("PARLEY_CONFIG", file)
	c, err = parse(t)
	if err != nil || c.Listen != "env:2" || c.LogFormat != "json" {
		t.Errorf("environment over file: %+v, %v", c.Config, err)
	}
	c, err = parse(t, "--listen", "flag:3", "--metrics")
	if err != nil || c.Listen != "flag:3" || !c.Metrics || c.LogFormat != "json" {
		t.Errorf("flag over both: %+v, %v", c.Config, err)
	}
	// Other commands read the same file.
	var other cli
	parser, err := newParser(&other)
	if err != nil {
		t.Fatal(err)
	}
	write("data: /srv/parley\nlisten: x:1\n")
	if _, err := parser.Parse([]string{"app", "list"}); err != nil || other.App.List.Data != "/srv/parley" {
		t.Errorf("app list with the file: %q, %v", other.App.List.Data, err)
	}
}

func TestFileErrors(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "parley.yaml")
	for text, want := range map[string]string{
		"listen: a:1\nlisten-on: b:2\n":          `:2: unknown setting "listen-on"`,
		"\n# comment\nPARLEY_LOG_FORMAT: json\n": `:3: unknown setting "PARLEY_LOG_FORMAT": did you mean "log-format"?`,
		"config: other.yaml\n":                   `:1: unknown setting "config"`,
		"listen: a:1\nlisten: b:2\n":             "listen",
		"listen:\n  host: a\n":                   ":1: listen: want one value",
		"data:\n":                                ":1: data: has no value",
		"just words\n":                           ":1: want lines of the form name: value",
		"listen: \"a:1\n":                        "config: ",
		"log-format: xml\n":                      "log-format",
		"ping-interval: often\n":                 "ping-interval",
		"listen: a:1\nfirst: 1\nsecond: 2\n":     `:3: unknown setting "second"`,
		"- listen\n":                             ":1: want lines of the form name: value",
		"metrics: perhaps\n":                     "metrics",
	} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := parse(t, "--config", file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want it to say %q", text, err, want)
		}
	}
	for _, empty := range []string{"", "# nothing yet\n"} {
		if err := os.WriteFile(file, []byte(empty), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := parse(t, "--config", file); err != nil {
			t.Errorf("an empty file: %v", err)
		}
	}
}

func TestQuote(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{"": "''", "plain": "'plain'", "it's": `'it'\''s'`} {
		if got := quote(s); got != want {
			t.Errorf("%q is quoted %s, want %s", s, got, want)
		}
	}
}
