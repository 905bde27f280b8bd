package dispatch

import (
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// Who has mended something at the provider need not wait for the next attempt of a
// halted lane, nor set the credential again.
func TestGoodCheckTriesAtOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run()
	w.phone("bob", chat.VIVO)
	w.result(push.Result{Class: push.ConfigHalt, Code: "10200"})
	uid := w.one("bob", chat.VIVO)
	w.until("the lane is halted", func() bool { return w.halted(chat.VIVO) == "10200" && idleHand(w.lane(chat.VIVO)) })
	w.result(accepted)
	w.pass(time.Second)
	list, err := w.d.CheckAll(t.Context(), w.app, func(c *chat.PushCredential) bool { return c.Provider == chat.VIVO })
	if err != nil || len(list) != 1 || list[0].Word() != push.VerdictGood || list[0].Credential.Provider != chat.VIVO {
		t.Fatalf("%v, %v", list, err)
	}
	w.ends(uid, "accepted")
	w.until("the lane goes on", func() bool { return w.halted(chat.VIVO) == "" })
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed != 1 {
		t.Errorf("%d adapters were closed, want that of the check", w.closed)
	}
}
