package fcm

import (
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
)

// What takes a notification back wakes the app and shows nothing.
func TestWithdraw(t *testing.T) {
	t.Parallel()
	n := golden.With(t, "token", `{}`)
	told := n.RequestID()
	n.Silent, n.Title, n.Body, n.Data, n.HasBadge = true, "", "", "", false
	n.Removes, n.RemovesBefore = n.UID, true
	golden.Check(t, "withdraw.txt", render(t, n, Options{}))
	if n.RequestID() == told {
		t.Error("it has the name of the notification that it takes back")
	}
	n.Type, n.RemovesBefore, n.Removes = push.Recall, false, chat.NewUID(golden.Now.UnixMilli()-60_000, chat.Direct, 1, 7)
	golden.Check(t, "withdraw-recalled.txt", render(t, n, Options{}))
}
