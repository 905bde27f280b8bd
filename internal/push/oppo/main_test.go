package oppo_test

import (
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
)

// Once all adapters and simulators are closed nothing of theirs runs.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := linger("net/http", "/internal/push/line", "/internal/push/pushtest"); left != "" {
		os.Stderr.WriteString("still running:\n" + left)
		os.Exit(1)
	}
	os.Exit(code)
}

// An adapter that is closed has let its connections go, whoever else keeps theirs.
// It is alone while it looks: tests that are parallel run after those that are not.
func TestClose(t *testing.T) {
	w := newWorld(t, nil)
	want(t, w.send(golden.Example(t, token)), push.Accepted, "0")
	if _, err := w.adapter.(push.Feedback).Dead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if goroutines("lientConnReadLoop") == "" {
		t.Fatal("there is no connection to close")
	}
	w.adapter.Close()
	if left := linger("lientConnReadLoop", "persistConn"); left != "" {
		t.Error(left)
	}
}

// linger is what still runs in any of these when all of it had time to end.
func linger(in ...string) (left string) {
	for range 500 {
		if left = goroutines(in...); left == "" {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return left
}

// goroutines are those that have any of these in their stacks.
func goroutines(in ...string) string {
	buf := make([]byte, 1<<20)
	var list []string
	for g := range strings.SplitSeq(string(buf[:runtime.Stack(buf, true)]), "\n\n") {
		for _, name := range in {
			if strings.Contains(g, name) {
				list = append(list, g)
				break
			}
		}
	}
	return strings.Join(list, "\n\n")
}
