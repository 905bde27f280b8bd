// Package internal holds the test that keeps the layers.
package internal

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/parleychat/parley"

// layers says for each package which others of ours it may import. It reads
// from the bottom up: nouns, promises, verbs, wires, doors, the house around
// them. docs/architecture.md draws it.
var layers = map[string][]string{
	"api": {},

	"internal/chat":   {},
	"internal/fields": {"internal/chat"},

	"internal/store":           {"internal/chat"},
	"internal/store/storetest": {"internal/chat", "internal/store"},
	"internal/store/pebble":    {"internal/chat", "internal/store"},

	"internal/turn":      {"internal/chat"},
	"internal/budget":    {"internal/chat"},
	"internal/push":      {"internal/chat", "internal/fields"},
	"internal/room":      {"internal/chat"},
	"internal/directory": {"internal/chat", "internal/store", "internal/turn"},
	"internal/courier":   {"internal/budget", "internal/chat", "internal/push", "internal/room", "internal/store", "internal/turn"},

	"internal/trace": {"internal/chat", "internal/push", "internal/store"},

	// Providers know what they are given, and nothing of each other.
	"internal/push/apns":     {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/fcm":      {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/hw":       {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/honor":    {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/mi":       {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/oppo":     {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/vivo":     {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/ohos":     {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/meizu":    {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/web":      {"internal/chat", "internal/push", "internal/push/line"},
	"internal/push/line":     {"internal/push"},
	"internal/push/dispatch": {"internal/chat", "internal/push", "internal/store"},
	// Whoever judges what the adapters send shares nothing with them.
	"internal/push/pushtest": {"internal/chat"},
	"internal/push/golden":   {"internal/chat", "internal/push", "internal/push/line", "internal/push/pushtest"},

	"internal/websocket": {},
	"internal/client":    {"internal/websocket"},

	"internal/serverapi": {"internal/budget", "internal/chat", "internal/courier", "internal/directory", "internal/fields", "internal/push", "internal/push/dispatch", "internal/trace"},
	"internal/gateway": {
		"internal/budget", "internal/chat", "internal/courier", "internal/directory", "internal/fields",
		"internal/push", "internal/room", "internal/store", "internal/trace", "internal/websocket",
	},
	// What it sends goes through the server API, which it knows as a handler.
	"internal/console": {"internal/chat"},
	"internal/admin":   {"internal/chat", "internal/push"},

	// The node knows everything that runs in it, and none of its clients.
	"internal/node": {
		"api", "internal/admin", "internal/chat", "internal/console", "internal/courier", "internal/directory",
		"internal/gateway", "internal/push", "internal/push/apns", "internal/push/dispatch", "internal/push/fcm",
		"internal/push/honor", "internal/push/hw", "internal/push/line", "internal/push/meizu", "internal/push/mi",
		"internal/push/ohos", "internal/push/oppo", "internal/push/vivo", "internal/push/web", "internal/room", "internal/serverapi",
		"internal/store", "internal/store/pebble", "internal/trace",
	},

	// The load generator is a client, however near it sits.
	"internal/bench": {"internal/chat", "internal/client", "internal/push/pushtest", "internal/websocket"},

	"cmd/parley": {
		"internal/admin", "internal/bench", "internal/chat", "internal/client", "internal/gateway", "internal/node",
		"internal/push/pushtest", "internal/serverapi",
	},
}

// core are the packages that could serve a door that does not exist yet.
var core = []string{
	"internal/chat", "internal/store", "internal/store/pebble", "internal/turn", "internal/budget", "internal/push",
	"internal/room", "internal/directory", "internal/courier", "internal/trace",
}

// foreign are what a core package must not know.
var foreign = []string{"net", "net/http", module + "/internal/websocket"}

func TestLayers(t *testing.T) {
	t.Parallel()
	packages := imports(t)
	for pkg, files := range packages {
		allowed, known := layers[pkg]
		if !known {
			t.Errorf("%s has no place in the layers: decide what it may import, here and in docs/architecture.md", pkg)
			continue
		}
		for file, imported := range files {
			for _, i := range imported {
				if ours, ok := strings.CutPrefix(i, module+"/"); ok && !slices.Contains(allowed, ours) {
					t.Errorf("%s: %s may not import %s", file, pkg, ours)
				}
				if slices.Contains(core, pkg) && slices.Contains(foreign, i) {
					t.Errorf("%s: %s is of the core and may not import %s", file, pkg, i)
				}
			}
		}
	}
	for pkg, allowed := range layers {
		if packages[pkg] == nil {
			t.Errorf("%s is in the table and does not exist", pkg)
		}
		for _, a := range allowed {
			if _, ok := layers[a]; !ok {
				t.Errorf("%s may import %s, which is not in the table", pkg, a)
			}
		}
	}
}

// imports are the imports of every file that is not a test, by package. Tests
// may look further: a door is tested against a real store.
func imports(t *testing.T) map[string]map[string][]string {
	t.Helper()
	packages := map[string]map[string][]string{}
	root := ".."
	for _, top := range []string{"api", "cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(name string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if d.IsDir() {
				if d.Name() == "testdata" {
					return filepath.SkipDir
				}
				return nil
			}
			if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
				return nil
			}
			f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(root, name)
			if err != nil {
				return err
			}
			rel = filepath.ToSlash(rel)
			pkg := path.Dir(rel)
			if packages[pkg] == nil {
				packages[pkg] = map[string][]string{}
			}
			packages[pkg][rel] = []string{}
			for _, spec := range f.Imports {
				i, err := strconv.Unquote(spec.Path.Value)
				if err != nil {
					return err
				}
				packages[pkg][rel] = append(packages[pkg][rel], i)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return packages
}
