package pebble

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// Where Pebble gives up its goroutine is parked on purpose, and what
		// waits for it inside Pebble with it.
		goleak.IgnoreAnyFunction("github.com/parleychat/parley/internal/store/pebble.pebbleLog.Fatalf"),
	)
}
