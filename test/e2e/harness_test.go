// Package e2e drives the built binary from outside: with signed calls, with the
// command line, and with somebody else's client, the npm package centrifuge.
package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the program under test.
var binary string

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "parley-e2e-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "parley")
		build := exec.Command("go", "build", "-o", binary, "./cmd/parley")
		build.Dir = filepath.Join("..", "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as make build does
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// The app of every server here.
const (
	appKey    = "e2e"
	appSecret = "e2e-secret"
)

// A server is a process that can be killed and started again on its folder.
type server struct {
	t       *testing.T
	dir     string
	address string
	args    []string

	mu     sync.Mutex
	log    bytes.Buffer // of all its runs
	cmd    *exec.Cmd
	exited chan error
}

// start starts a server on a new folder.
func start(t *testing.T, args ...string) *server {
	t.Helper()
	s := &server{t: t, dir: filepath.Join(t.TempDir(), "data"), address: freeAddress(t), args: args}
	t.Cleanup(func() {
		if s.running() {
			s.kill()
		}
		if t.Failed() {
			s.mu.Lock()
			defer s.mu.Unlock()
			t.Logf("log of the server:\n%s", tailOf(s.log.Bytes()))
		}
	})
	s.up()
	return s
}

// freeAddress is an address that nobody listens on, with a port below those the
// system gives to outgoing connections: a client that tries to come back while
// the server is down must not meet itself there.
func freeAddress(t *testing.T) string {
	t.Helper()
	for range 100 {
		n, err := rand.Int(rand.Reader, big.NewInt(20_000))
		if err != nil {
			t.Fatal(err)
		}
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_240+int(n.Int64())))
		if ln, err := net.Listen("tcp", address); err == nil {
			ln.Close()
			return address
		}
	}
	t.Fatal("no free port")
	return ""
}

// Write takes the server's log.
func (s *server) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.log.Write(b)
}

// up starts the process and waits until it serves.
func (s *server) up() {
	s.t.Helper()
	s.launch()
	s.await("/readyz")
}

// launch starts the process.
func (s *server) launch() {
	s.t.Helper()
	args := append([]string{"serve", "--data", s.dir, "--listen", s.address, "--shutdown-spread", "100ms"}, s.args...)
	s.cmd = exec.Command(binary, args...)
	s.cmd.Env = append(os.Environ(), "PARLEY_APP_KEY="+appKey, "PARLEY_APP_SECRET="+appSecret)
	s.cmd.Stderr = s
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(s.cmd, s.exited)
}

// await waits until the server answers 200 at the path.
func (s *server) await(path string) {
	s.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-s.exited:
			s.exited <- err
			s.t.Fatalf("the server ended at once: %v", err)
		default:
		}
		resp, err := http.Get("http://" + s.address + path)
		if err != nil {
			continue
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusOK {
			return
		}
	}
	s.t.Fatal("the server did not come up")
}

func (s *server) running() bool {
	select {
	case err := <-s.exited:
		s.exited <- err
		return false
	default:
		return true
	}
}

// kill ends the process as a crash does.
func (s *server) kill() {
	s.t.Helper()
	if err := s.cmd.Process.Kill(); err != nil {
		s.t.Fatal(err)
	}
	err := <-s.exited
	s.exited <- err
}

// stop asks the process to end, and expects it to do so well.
func (s *server) stop() {
	s.t.Helper()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	select {
	case err := <-s.exited:
		s.exited <- err
		if err != nil {
			s.t.Errorf("the server did not stop well: %v", err)
		}
	case <-time.After(30 * time.Second):
		s.t.Fatal("the server did not stop")
	}
}

// sign makes the headers of a call.
func sign(h http.Header, key, secret string) {
	nonce, now := rand.Text()[:18], strconv.FormatInt(time.Now().UnixMilli(), 10)
	sum := sha1.Sum([]byte(secret + nonce + now))
	h.Set("App-Key", key)
	h.Set("Nonce", nonce)
	h.Set("Timestamp", now)
	h.Set("Signature", hex.EncodeToString(sum[:]))
}

// An answer is what a call came to.
type answer struct {
	status int
	header http.Header
	body   []byte

	Code    int    `json:"code"`
	Message string `json:"errorMessage"`
	Result  struct {
		Token  string `json:"accessToken"`
		UID    string `json:"messageUID"`
		Status string `json:"status"`
		UIDs   []struct {
			User    string `json:"userId"`
			Channel string `json:"channelId"`
			UID     string `json:"messageUID"`
		} `json:"messageUIDs"`
	} `json:"result"`
}

var calls = &http.Client{
	Timeout:   20 * time.Second,
	Transport: &http.Transport{MaxIdleConnsPerHost: 64},
}

// try makes one signed call. An error means that there was no whole answer.
func (s *server) try(path string, body []byte, header ...string) (*answer, error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+s.address+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	// Without it the transport repeats calls that bring their body again, on
	// connections that a killed server had closed: what is repeated here is
	// decided here.
	r.GetBody = nil
	sign(r.Header, appKey, appSecret)
	resp, err := calls.Do(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	a := &answer{status: resp.StatusCode, header: resp.Header}
	if a.body, err = io.ReadAll(resp.Body); err != nil {
		return nil, err
	}
	if err := json.Unmarshal(a.body, a); err != nil {
		return nil, fmt.Errorf("answer %q: %w", a.body, err)
	}
	return a, nil
}

// call is try for calls that must succeed.
func (s *server) call(path string, body any, header ...string) *answer {
	s.t.Helper()
	b, ok := body.([]byte)
	if !ok {
		var err error
		if b, err = json.Marshal(body); err != nil {
			s.t.Fatal(err)
		}
	}
	a, err := s.try(path, b, header...)
	if err != nil {
		s.t.Fatalf("%s: %v", path, err)
	}
	if a.status != http.StatusOK || a.Code != 0 {
		s.t.Fatalf("%s: status %d, %s", path, a.status, a.body)
	}
	return a
}

type object map[string]any

func textMessage(from string, to []string, text string) object {
	content, err := json.Marshal(object{"content": text})
	if err != nil {
		panic(err) // a map of strings encodes
	}
	return object{"fromUserId": from, "toUserIds": to, "messageType": "RC:TxtMsg", "content": string(content)}
}

// token issues an access token over the API.
func (s *server) token(user string) string {
	s.t.Helper()
	a := s.call("/v4/auth/access-token/issue", object{"userId": user, "name": user})
	if a.Result.Token == "" {
		s.t.Fatalf("no token in %s", a.body)
	}
	return a.Result.Token
}

// parley runs a command on the server's folder.
func (s *server) parley(args ...string) (stdout, stderr string, code int) {
	s.t.Helper()
	return parley(s.t, append(args, "--data", s.dir)...)
}

func parley(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary, args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return out.String(), errOut.String(), exit.ExitCode()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), 0
}

// node runs a script of this folder. A missing Node.js fails the test: a
// server that other people's clients were not tried with is not tested.
func (s *server) node(script string, args ...string) {
	s.t.Helper()
	if err := s.tryNode(script, args...); err != nil {
		s.t.Fatal(err)
	}
}

// tryNode is node for a script that runs beside the test.
func (s *server) tryNode(script string, args ...string) error {
	ctx, cancel := context.WithTimeout(s.t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", append([]string{script}, args...)...)
	cmd.Env = append(os.Environ(), "PARLEY_URL=http://"+s.address, "PARLEY_APP_KEY="+appKey, "PARLEY_APP_SECRET="+appSecret)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("node %s: %w (scripts/setup installs what it needs)\n%s", strings.Join(append([]string{script}, args...), " "), err, tailOf(out))
	}
	return nil
}

// tailOf is the end of a long text.
func tailOf(b []byte) []byte {
	const most = 8 << 10
	if len(b) > most {
		return append([]byte("…"), b[len(b)-most:]...)
	}
	return b
}
