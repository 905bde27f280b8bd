package golden

import (
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// Main runs a package's tests, and fails when something of theirs is still running
// after the last one.
func Main(m *testing.M) {
	code := m.Run()
	for deadline := time.Now().Add(5 * time.Second); code == 0; time.Sleep(10 * time.Millisecond) {
		left := running()
		if left == "" {
			break
		}
		if time.Now().After(deadline) {
			_, _ = os.Stderr.WriteString("still running:\n\n" + left + "\n")
			code = 1
		}
	}
	os.Exit(code)
}

// running are the goroutines that are of ours or of the network.
func running() string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var left []string
	for i, one := range strings.Split(string(stacks), "\n\n") {
		// The first is this one.
		if i > 0 && (strings.Contains(one, "net/http") || strings.Contains(one, "internal/push/") || strings.Contains(one, "internal/poll")) {
			left = append(left, one)
		}
	}
	return strings.Join(left, "\n\n")
}

// Linger is what still runs with any of these in its stack when all of it had time
// to end.
func Linger(in ...string) (left string) {
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		if left = Goroutines(in...); left == "" || time.Now().After(deadline) {
			return left
		}
	}
}

// Goroutines are those that have any of these in their stacks.
func Goroutines(in ...string) string {
	stacks := make([]byte, 1<<20)
	var list []string
	for one := range strings.SplitSeq(string(stacks[:runtime.Stack(stacks, true)]), "\n\n") {
		if slices.ContainsFunc(in, func(name string) bool { return strings.Contains(one, name) }) {
			list = append(list, one)
		}
	}
	return strings.Join(list, "\n\n")
}
