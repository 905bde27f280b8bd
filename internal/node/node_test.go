package node

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/api"
	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/client"
	"github.com/parleychat/parley/internal/store/pebble"
)

// Whatever a test has started is gone at the end. The process is also the node
// that a test of crowds starts.
func TestMain(m *testing.M) {
	if dir := os.Getenv(crowdNodeEnv); dir != "" {
		os.Exit(crowdNode(dir))
	}
	goleak.VerifyTestMain(m)
}

const testSecret = "node-test-secret"

// A house is a running node and a way to call it.
type house struct {
	*Node
	t    *testing.T
	base string
	http *http.Client
	log  *lockedBuffer
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(b)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func testConfig(t *testing.T) Config {
	c := good()
	c.Data = filepath.Join(t.TempDir(), "data")
	c.AppKey, c.AppSecret = "app", testSecret
	c.Metrics = true
	c.ShutdownSpread = 0
	return c
}

func startHouse(t *testing.T, c Config, adjust func(*pebble.Options)) *house {
	t.Helper()
	log := &lockedBuffer{}
	n, err := start(t.Context(), c, slog.New(slog.NewTextHandler(log, nil)), adjust)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	h := &house{Node: n, t: t, base: "http://" + n.Addr().String(), http: &http.Client{Transport: transport, Timeout: 10 * time.Second}, log: log}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		_ = h.stop() // most tests have stopped it, and looked at the outcome
	})
	return h
}

func unchanged(*pebble.Options) {}

func (h *house) stop() error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.t.Context()), 10*time.Second)
	defer cancel()
	return h.Stop(ctx)
}

func (h *house) get(path string) (status int, body string, header http.Header) {
	h.t.Helper()
	resp, err := h.http.Get(h.base + path)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

const sendPath = "/v4/direct-channel/message/send"

const sendBody = `{"fromUserId":"ann","toUserIds":["bob"],"messageType":"RC:TxtMsg","content":"{\"content\":\"hi\"}"}`

func sign(h http.Header) {
	nonce, now := rand.Text()[:18], strconv.FormatInt(time.Now().UnixMilli(), 10)
	sum := sha1.Sum([]byte(testSecret + nonce + now))
	h.Set("App-Key", "app")
	h.Set("Nonce", nonce)
	h.Set("Timestamp", now)
	h.Set("Signature", hex.EncodeToString(sum[:]))
	h.Set("Content-Type", "application/json")
}

func (h *house) send(path string) (status int, body string) {
	h.t.Helper()
	r, err := http.NewRequest(http.MethodPost, h.base+path, strings.NewReader(sendBody))
	if err != nil {
		h.t.Fatal(err)
	}
	sign(r.Header)
	resp, err := h.http.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Everything is served on one address.
func TestRoutes(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	h := startHouse(t, c, unchanged)

	for path, want := range map[string]string{"/healthz": "alive\n", "/readyz": "ready\n"} {
		if status, body, _ := h.get(path); status != http.StatusOK || body != want {
			t.Errorf("%s: %d %q", path, status, body)
		}
	}
	if status, body, _ := h.get("/openapi.yaml"); status != http.StatusOK || body != string(api.Document) {
		t.Errorf("/openapi.yaml: status %d, %d bytes", status, len(body))
	}
	status, body, _ := h.get("/metrics")
	if status != http.StatusOK {
		t.Errorf("/metrics: status %d", status)
	}
	// One of each stage, and of the process.
	for _, name := range []string{"parley_build_info", "parley_http_requests_total", "parley_messages_accepted_total", "process_resident_memory_bytes"} {
		if !strings.Contains(body, "# HELP "+name+" ") {
			t.Errorf("/metrics does not have %s", name)
		}
	}
	// Doubled slashes reach the API without a redirect, which would lose the
	// body.
	for _, path := range []string{sendPath, "/" + sendPath, "///" + sendPath} {
		if status, body := h.send(path); status != http.StatusOK || !strings.Contains(body, `"code":0`) {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body, header := h.get("/nothing"); status != http.StatusNotFound || !strings.Contains(body, `"code":404`) || header.Get("X-Request-ID") == "" {
		t.Errorf("an unknown path: %d %s", status, body)
	}
	if status, _, _ := h.get("/connection/websocket"); status < 400 || status >= 500 {
		t.Errorf("a connection that is no upgrade: %d", status)
	}

	if b, err := os.ReadFile(filepath.Join(c.Data, "listen")); err != nil || string(b) != h.Addr().String()+"\n" {
		t.Errorf("the file listen has %q, %v; want %s", b, err, h.Addr())
	}
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	for _, name := range []string{"listen", "admin.sock"} {
		if _, err := os.Stat(filepath.Join(c.Data, name)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still there after the stop: %v", name, err)
		}
	}
}

func TestMetricsCanBeOff(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	c.Metrics = false
	h := startHouse(t, c, unchanged)
	if status, body, _ := h.get("/metrics"); status != http.StatusNotFound || strings.Contains(body, "parley_") {
		t.Errorf("/metrics: %d %s", status, body)
	}
}

// The configured app is made, its secret replaced, and neither is ever logged.
func TestEnsureApp(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	for _, step := range []struct{ secret, says string }{{"first-secret", "app created"}, {testSecret, "app secret replaced"}, {testSecret, ""}} {
		c.AppSecret = step.secret
		h := startHouse(t, c, unchanged)
		log := h.log.String()
		if step.says != "" && !strings.Contains(log, step.says) || step.says == "" && strings.Contains(log, "msg=\"app ") {
			t.Errorf("the log does not say %q:\n%s", step.says, log)
		}
		if strings.Contains(log, step.secret) {
			t.Errorf("the log has the secret:\n%s", log)
		}
		if h.FirstApp() != nil {
			t.Error("another app was made besides the configured one")
		}
		if err := h.stop(); err != nil {
			t.Fatal(err)
		}
	}
	h := startHouse(t, c, unchanged)
	if status, body := h.send(sendPath); status != http.StatusOK {
		t.Errorf("a call signed with the replaced secret: %d %s", status, body)
	}
}

// A stop lets requests that are under way finish, and takes no more.
func TestStopFinishesWhatIsUnderWay(t *testing.T) {
	t.Parallel()
	h := startHouse(t, testConfig(t), unchanged)
	conn, err := net.Dial("tcp", h.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	header := http.Header{}
	sign(header)
	var head bytes.Buffer
	fmt.Fprintf(&head, "POST %s HTTP/1.1\r\nHost: parley\r\nContent-Length: %d\r\n", sendPath, len(sendBody))
	if err := header.Write(&head); err != nil {
		t.Fatal(err)
	}
	head.WriteString("\r\n" + sendBody[:20])
	if _, err := conn.Write(head.Bytes()); err != nil {
		t.Fatal(err)
	}
	// A connection counts as busy once its request was read.
	for deadline := time.Now().Add(time.Minute); h.underWay.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the request did not begin")
		}
	}

	stopped := make(chan error, 1)
	go func() { stopped <- h.stop() }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		c, err := net.Dial("tcp", h.Addr().String())
		if err != nil {
			break
		}
		c.Close()
		if time.Now().After(deadline) {
			t.Fatal("the stopping node still takes connections")
		}
	}
	select {
	case err := <-stopped:
		t.Fatalf("the node stopped with a request under way: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := io.WriteString(conn, sendBody[20:]); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil || !bytes.HasPrefix(answer, []byte("HTTP/1.1 200 ")) || !bytes.Contains(answer, []byte(`"code":0`)) {
		t.Errorf("answer %q, %v", answer, err)
	}
	if err := <-stopped; err != nil {
		t.Error(err)
	}
}

// Clients are told to come back elsewhere.
func TestStopTellsClients(t *testing.T) {
	t.Parallel()
	h := startHouse(t, testConfig(t), unchanged)
	token, err := h.Admin().IssueToken(t.Context(), "app", "bob", "")
	if err != nil {
		t.Fatal(err)
	}
	c, err := client.Dial(t.Context(), client.Options{URL: "ws" + strings.TrimPrefix(h.base, "http") + "/connection/websocket", Token: token.Token})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := h.stop(); err != nil {
		t.Error(err)
	}
	for e := range c.Events() {
		if d, ok := e.(client.Disconnected); ok && d.Code != 3001 {
			t.Errorf("closed with %d %s, want 3001", d.Code, d.Reason)
		}
	}
}

// When the store fails the node says so, answers that it cannot serve, and ends
// with an error.
func TestStoreFailure(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	h := startHouse(t, testConfig(t), func(o *pebble.Options) {
		o.FS = errorfs.Wrap(vfs.Default, errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch op.Kind {
			case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
				if broken.Load() {
					return errors.New("the disk is gone")
				}
			}
			return nil
		}))
	})
	if status, body := h.send(sendPath); status != http.StatusOK {
		t.Fatalf("before the failure: %d %s", status, body)
	}
	broken.Store(true)
	if status, body := h.send(sendPath); status != http.StatusServiceUnavailable || strings.Contains(body, `"code":0`) {
		t.Errorf("a send whose sync failed: %d %s", status, body)
	}
	select {
	case <-h.Done():
	case <-time.After(time.Minute):
		t.Fatal("the node goes on without its store")
	}
	if status, body, _ := h.get("/readyz"); status != http.StatusServiceUnavailable {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if status, _, _ := h.get("/healthz"); status != http.StatusOK {
		t.Errorf("/healthz: %d", status)
	}
	if err := h.stop(); err == nil || !strings.Contains(err.Error(), "the store failed") {
		t.Errorf("Stop = %v", err)
	}
}

// HTTPS and WSS, with files that are replaced while the node runs.
func TestTLS(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	dir := t.TempDir()
	c.TLSCert, c.TLSKey = writeCertificate(t, dir, "first")
	h := startHouse(t, c, unchanged)
	trust := x509.NewCertPool()
	pem, err := os.ReadFile(c.TLSCert)
	if err != nil {
		t.Fatal(err)
	}
	trust.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: trust}
	h.http.Transport.(*http.Transport).TLSClientConfig = config
	h.base = "https://" + h.Addr().String()
	if status, body := h.send(sendPath); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
	info, err := h.Admin().Node(t.Context())
	if err != nil || info.URL() != h.base {
		t.Errorf("commands are told %s, %v", info.URL(), err)
	}
	token, err := h.Admin().IssueToken(t.Context(), "app", "bob", "")
	if err != nil {
		t.Fatal(err)
	}
	cl, err := client.Dial(t.Context(), client.Options{URL: "wss" + strings.TrimPrefix(h.base, "https") + "/connection/websocket", Token: token.Token, TLS: config})
	if err != nil {
		t.Fatal(err)
	}
	cl.Close()
}

// A second node on the folder is refused, and the first one goes on. So is one
// on a port that is taken, before it tells anybody of an app.
func TestSecondNode(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	h := startHouse(t, c, unchanged)
	logger := slog.New(slog.DiscardHandler)
	if n, err := Start(t.Context(), c, logger); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second node on the folder: %v, %v", n, err)
	}
	other := testConfig(t)
	other.Listen, other.AppKey, other.AppSecret = h.Addr().String(), "", ""
	if n, err := Start(t.Context(), other, logger); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second node on the port: %v, %v", n, err)
	}
	api, closeStore, err := OpenData(t.Context(), other.Data)
	if err != nil {
		t.Fatal(err)
	}
	if apps, err := api.Apps(t.Context()); err != nil || len(apps) != 0 {
		t.Errorf("a start that failed has made apps: %v, %v", apps, err)
	}
	if err := closeStore(); err != nil {
		t.Error(err)
	}
	if _, err := admin.Connect(t.Context(), c.Data); err != nil {
		t.Errorf("the first node cannot be reached any more: %v", err)
	}
	if status, body := h.send(sendPath); status != http.StatusOK {
		t.Errorf("%d %s", status, body)
	}
}

func TestReachable(t *testing.T) {
	t.Parallel()
	for given, want := range map[string]string{
		"0.0.0.0:80": "127.0.0.1:80", "[::]:80": "127.0.0.1:80", "10.1.2.3:80": "10.1.2.3:80", "[fe80::1]:80": "[fe80::1]:80",
	} {
		a, err := net.ResolveTCPAddr("tcp", given)
		if err != nil {
			t.Fatal(err)
		}
		if got := reachable(a); got != want {
			t.Errorf("%s is reached at %s, want %s", given, got, want)
		}
	}
}

// Of what net/http says only a panic is worth a line.
func TestHTTPLog(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	l := httpLog{slog.New(slog.NewTextHandler(&out, nil))}
	for _, line := range []string{"http: TLS handshake error from 10.0.0.1:4711: EOF\n", "http: panic serving 10.0.0.1:4711: oh\n"} {
		if _, err := io.WriteString(l, line); err != nil {
			t.Fatal(err)
		}
	}
	if got := out.String(); strings.Count(got, "level=") != 1 || !strings.Contains(got, "level=ERROR") || !strings.Contains(got, "oh") {
		t.Errorf("logged %q", got)
	}
}

// docs/operations.md lists the metrics, and lists none that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "operations.md"))
	if err != nil {
		t.Fatal(err)
	}
	h := startHouse(t, testConfig(t), unchanged)
	described := make(chan *prometheus.Desc, 1000)
	h.registry.Describe(described)
	close(described)
	name := regexp.MustCompile(`fqName: "(parley_[a-z0-9_]+)"`)
	known := map[string]bool{}
	for d := range described {
		if m := name.FindStringSubmatch(d.String()); m != nil {
			known[m[1]] = true
		}
	}
	if len(known) < 20 {
		t.Errorf("found only %d metrics", len(known))
	}
	for metric := range known {
		if !bytes.Contains(page, []byte("`"+metric+"`")) {
			t.Errorf("docs/operations.md does not list %s", metric)
		}
	}
	for _, m := range regexp.MustCompile("\\| `(parley_[a-z0-9_]+)` \\|").FindAllSubmatch(page, -1) {
		if !known[string(m[1])] {
			t.Errorf("docs/operations.md lists %s, which no node has", m[1])
		}
	}
}

func TestVersionIsInTheChanges(t *testing.T) {
	t.Parallel()
	changes, err := os.ReadFile(filepath.Join("..", "..", "CHANGELOG.md"))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(changes, []byte("\n## "+Version)) {
		t.Errorf("CHANGELOG.md has no section for %s", Version)
	}
}
