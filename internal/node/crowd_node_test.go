package node

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/store/pebble"
)

// crowdNodeEnv makes the test's process a node on the folder that it names. It is
// a process of its own because both ends of so many connections are more files
// than one may have open.
const crowdNodeEnv = "PARLEY_TEST_CROWD_NODE"

// A nodeState is what the node says of itself.
type nodeState struct {
	Goroutines   int
	Heap         uint64 // after a collection
	Rooms        int
	Participants int
	Parts        int
}

// crowdNode serves until its standard input ends. There it is asked: "skip"
// moves its clock on by two minutes, and every line is answered by its state.
func crowdNode(dir string) (code int) {
	var skipped atomic.Int64
	c := good()
	c.Data, c.AppKey, c.AppSecret, c.ShutdownSpread = dir, "app", testSecret, 0
	n, err := start(context.Background(), c, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})), func(o *pebble.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(skipped.Load())) }
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, err = n.service.SetApp(context.Background(), "app", map[string]string{"limits.open": "0", "limits.token": "0"})
	out := json.NewEncoder(os.Stdout)
	if err == nil {
		err = out.Encode(n.Addr().String())
	}
	for in := bufio.NewScanner(os.Stdin); err == nil && in.Scan(); {
		if in.Text() == "skip" {
			skipped.Add(int64(2 * time.Minute))
		}
		// Twice: what had a finalizer is free after the second one.
		runtime.GC()
		debug.FreeOSMemory()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		size := n.rooms.Size()
		err = out.Encode(nodeState{runtime.NumGoroutine(), m.HeapAlloc, size.Rooms, size.Participants, size.Parts})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if e := n.Stop(ctx); err == nil {
		err = e
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// A nodeProcess is such a node, seen from the test.
type nodeProcess struct {
	t       *testing.T
	address string
	in      io.WriteCloser
	out     *json.Decoder
}

func startNodeProcess(t *testing.T) *nodeProcess {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crowdNodeEnv+"="+t.TempDir()+"/data")
	log := &lockedBuffer{}
	cmd.Stderr = log
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &nodeProcess{t: t, in: in, out: json.NewDecoder(out)}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the node did not stop well: %v", err)
		}
		if t.Failed() {
			t.Logf("log of the node:\n%.8000s", log.String())
		}
	})
	if err := p.out.Decode(&p.address); err != nil {
		t.Fatalf("the node does not serve: %v", err)
	}
	return p
}

// ask says something to the node, and gives its state after it.
func (p *nodeProcess) ask(what string) (s nodeState) {
	p.t.Helper()
	if _, err := fmt.Fprintln(p.in, what); err != nil {
		p.t.Fatal(err)
	}
	if err := p.out.Decode(&s); err != nil {
		p.t.Fatalf("the node is gone: %v", err)
	}
	return s
}

// until asks until the state is as it must be.
func (p *nodeProcess) until(what string, holds func(nodeState) bool) nodeState {
	p.t.Helper()
	var s nodeState
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if s = p.ask("look"); holds(s) {
			return s
		}
	}
	p.t.Fatalf("waited in vain for %s: %+v", what, s)
	return s
}
