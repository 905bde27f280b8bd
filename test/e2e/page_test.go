package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// The live page in a browser: both sides, a cut network and the recovery. Its
// screenshots are there for people to look at, and kept when the test fails or
// is verbose.
func TestDemoPage(t *testing.T) {
	t.Parallel()
	shots, err := os.MkdirTemp("", "parley-page-shots-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() || testing.Verbose() {
			t.Logf("screenshots are in %s", shots)
			return
		}
		if err := os.RemoveAll(shots); err != nil {
			t.Error(err)
		}
	})
	s := start(t)
	link, errOut, code := s.parley("demo-link")
	if code != 0 || strings.Count(link, "\n") != 1 {
		t.Fatalf("demo-link: code %d, %s%s", code, link, errOut)
	}
	s.node("page.mjs", strings.TrimSpace(link), shots)
}

// The page's copy of the client is the package's, byte for byte, and of the
// version that the other tests use.
func TestVendoredClient(t *testing.T) {
	t.Parallel()
	pkg := filepath.Join("node_modules", "centrifuge")
	about, err := os.ReadFile(filepath.Join(pkg, "package.json"))
	if err != nil {
		t.Fatalf("%v (scripts/setup installs the packages)", err)
	}
	var p struct{ Version string }
	if err := json.Unmarshal(about, &p); err != nil {
		t.Fatal(err)
	}
	vendored := filepath.Join("..", "..", "internal", "console", "static", "vendor")
	for from, to := range map[string]string{
		filepath.Join(pkg, "build", "index.mjs"): filepath.Join(vendored, "centrifuge-"+p.Version+".mjs"),
		filepath.Join(pkg, "LICENSE"):            filepath.Join(vendored, "centrifuge-LICENSE.txt"),
	} {
		want, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(to); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not %s (%v): copy it, and change its name in side.mjs", to, from, err)
		}
	}
}

// A start that greets prints a link that opens the page, and none when the page
// is off; then the command says why.
func TestDemoLink(t *testing.T) {
	t.Parallel()
	for _, setting := range []string{"auto", "off"} {
		t.Run(setting, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "data")
			cmd := exec.Command(binary, "serve", "--data", dir, "--listen", freeAddress(t), "--banner", "--json", "--demo-page", setting)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				_ = cmd.Process.Signal(syscall.SIGTERM)
				if err := cmd.Wait(); err != nil {
					t.Errorf("the server did not stop well: %v", err)
				}
			})
			line, err := bufio.NewReader(out).ReadBytes('\n')
			if err != nil {
				t.Fatal(err)
			}
			var g struct{ URL, Demo string }
			if err := json.Unmarshal(line, &g); err != nil {
				t.Fatal(err)
			}
			link, errOut, code := parley(t, "demo-link", "--data", dir)
			if setting == "off" {
				if g.Demo != "" || code != 1 || !strings.Contains(errOut, "demo-page: on") {
					t.Errorf("the page is off: %s; code %d, %s%s", line, code, link, errOut)
				}
				return
			}
			if code != 0 || link == g.Demo+"\n" || !strings.HasPrefix(link, g.URL+"/demo/#") {
				t.Errorf("demo-link: code %d, %s%s", code, link, errOut)
			}
			page, ticket, _ := strings.Cut(g.Demo, "#")
			for _, want := range []int{http.StatusOK, http.StatusUnauthorized} {
				resp, err := calls.Post(page+"api/session", "application/json", strings.NewReader(`{"ticket":"`+ticket+`"}`))
				if err != nil {
					t.Fatal(err)
				}
				resp.Body.Close()
				if resp.StatusCode != want {
					t.Errorf("the link that was printed: status %d, want %d", resp.StatusCode, want)
				}
			}
		})
	}
	if _, errOut, code := parley(t, "demo-link", "--data", t.TempDir()); code != exitNoNode {
		t.Errorf("demo-link without a node: code %d, %s", code, errOut)
	}
}
