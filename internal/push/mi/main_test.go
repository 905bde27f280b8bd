package mi_test

import (
	"testing"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
)

func TestMain(m *testing.M) { golden.Main(m) }

// An adapter that is closed has let its connections go, whoever else keeps theirs.
// It is alone while it looks: tests that are parallel run after those that are not.
func TestClose(t *testing.T) {
	w := newWorld(t, nil)
	want(t, w.send(golden.Example(t, token)), push.Accepted, "0")
	if _, err := w.adapter.(push.Feedback).Dead(t.Context()); err != nil {
		t.Fatal(err)
	}
	if golden.Goroutines("lientConnReadLoop") == "" {
		t.Fatal("there is no connection to close")
	}
	w.adapter.Close()
	if left := golden.Linger("lientConnReadLoop", "persistConn"); left != "" {
		t.Error(left)
	}
}
