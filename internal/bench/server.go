package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A server is the one that is measured: a process of its own.
type server struct {
	addr        string // host:port of everything
	key, secret string // of its app, whose limits are off
	pid         int
	data        string
	stop        func() error // ends it, cleanly, and keeps the data folder

	callers atomic.Int64
}

// callerID is new each time; it keeps the nonces of callers apart.
func (s *server) callerID() int { return int(s.callers.Add(1)) }

// url is where clients connect.
func (s *server) url() string { return "ws://" + s.addr + "/connection/websocket" }

const (
	startLimit = time.Minute
	stopLimit  = 30 * time.Second
)

// noLimits are the app settings of a run.
var noLimits = []string{
	"limits.direct=0", "limits.system=0", "limits.open=0", "limits.token=0", "limits.default=0", "limits.client=0",
}

const benchKey, benchSecret = "bench", "bench-secret"

// startProcess starts program as a server on the data folder and waits until it
// is ready. The settings are given as flags: of one that does not exist, the
// server says so.
func startProcess(ctx context.Context, program, data string, settings []string) (*server, error) {
	cmd := exec.Command(program, "serve")
	for _, s := range settings {
		cmd.Args = append(cmd.Args, "--"+s)
	}
	// The last one counts: these are not to be had otherwise.
	cmd.Args = append(cmd.Args, "--data="+data, "--listen=127.0.0.1:0")
	cmd.Env = append(cleanEnv(), "PARLEY_LOG_LEVEL=warn", "PARLEY_SHUTDOWN_SPREAD=0s",
		"PARLEY_APP_KEY="+benchKey, "PARLEY_APP_SECRET="+benchSecret)
	said := &tail{}
	cmd.Stdout, cmd.Stderr = said, said
	ownGroup(cmd) // Ctrl-C is for us; we stop the server in order
	// A file of an earlier start must not be taken for this one's.
	if err := os.Remove(filepath.Join(data, "listen")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	gone := make(chan struct{})
	var outcome error
	go func() {
		outcome = cmd.Wait()
		close(gone)
	}()
	s := &server{key: benchKey, secret: benchSecret, pid: cmd.Process.Pid, data: data}
	s.stop = sync.OnceValue(func() error {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-gone:
		case <-time.After(stopLimit):
			_ = cmd.Process.Kill()
			<-gone
			return fmt.Errorf("the server did not stop within %s and was killed; it said:\n%s", stopLimit, said)
		}
		if outcome != nil {
			return fmt.Errorf("the server ended with %w; it said:\n%s", outcome, said)
		}
		return nil
	})

	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	err := s.await(ctx, gone)
	if err == nil {
		set := exec.CommandContext(ctx, program, append([]string{"app", "set", "--data=" + data, benchKey}, noLimits...)...)
		set.Env = cleanEnv()
		if out, e := set.CombinedOutput(); e != nil {
			err = fmt.Errorf("switch the app's limits off: %w: %s", e, out)
		}
	}
	if err != nil {
		_ = s.stop()
		return nil, fmt.Errorf("%w; the server said:\n%s", err, said)
	}
	return s, nil
}

// await waits until the server says where it listens and that it is ready.
func (s *server) await(ctx context.Context, gone <-chan struct{}) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		b, err := os.ReadFile(filepath.Join(s.data, "listen"))
		if addr := string(bytes.TrimSpace(b)); err == nil && addr != "" {
			s.addr = addr
			if ready(ctx, addr) {
				return nil
			}
		}
		select {
		case <-tick.C:
		case <-gone:
			return errors.New("the server ended while starting")
		case <-ctx.Done():
			return fmt.Errorf("the server is not ready: %w", ctx.Err())
		}
	}
}

func ready(ctx context.Context, addr string) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return false
	}
	req.Close = true
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}

// cleanEnv is our environment without settings meant for another server.
func cleanEnv() []string {
	return slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "PARLEY_") })
}

// A tail keeps the end of what a process says.
type tail struct {
	mu sync.Mutex
	b  []byte
}

const tailSize = 4 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b = append(t.b, p...)
	if over := len(t.b) - tailSize; over > 0 {
		t.b = append(t.b[:0], t.b[over:]...)
	}
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(bytes.TrimSpace(t.b))
}
