package serverapi

import (
	"strings"
	"testing"
	"time"
)

type openSent struct {
	UIDs []struct{ ChannelID, MessageUID string } `json:"messageUIDs"`
	Shed []struct{ ChannelID, Reason string }
}

// What a channel does not take is named in the answer, also in that to a repeat,
// and leaves nothing behind.
func TestShedIsNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("limits.open", "0")
	w.set("open.intake.shared", "1")
	w.set("open.intake.high", "1")
	w.set("open.intake.allowlisted", "1")
	send := func(fields string, to ...string) openSent {
		t.Helper()
		return ok[openSent](t, w.call(open, `{"fromUserId":"u1","toChannelIds":`+list(to...)+`,"messageType":"app:x","content":"x"`+fields+`}`))
	}
	summary := func(s openSent) string {
		var b strings.Builder
		for _, u := range s.UIDs {
			b.WriteString(u.ChannelID + " ")
		}
		for _, x := range s.Shed {
			b.WriteString("-" + x.ChannelID + ":" + x.Reason + " ")
		}
		return strings.TrimSpace(b.String())
	}
	want := func(got openSent, want string) {
		t.Helper()
		if s := summary(got); s != want {
			t.Errorf("the answer is %q, want %q", s, want)
		}
	}
	want(send(`,"priority":3`, "a"), "a")
	want(send(`,"priority":3`, "a", "b"), "b -a:intake")
	want(send("", "b", "a", "c"), "b a c")
	want(send(`,"priority":2`, "c"), "c")
	want(send("", "c", "a"), "-c:intake -a:intake")
	want(send(`,"priority":1`, "c", "a"), "c a")

	key := with("Idempotency-Key", "k")
	body := `{"fromUserId":"u1","toChannelIds":["a","d","b"],"messageType":"app:x","content":"x","priority":3}`
	first := w.call(open, body, key)
	want(ok[openSent](t, first), "d -a:intake -b:intake")
	w.clock.advance(time.Second)
	w.restart()
	if again := w.call(open, body, key); again.Body != first.Body {
		t.Errorf("the repeat: %s, first %s", again.Body, first.Body)
	}
	want(send(`,"priority":3`, "a"), "a")

	type trace struct {
		LeftOut []struct{ ChannelID, Reason string }
	}
	tr := ok[trace](t, w.call(tracePath, traceBody(ok[openSent](t, first).UIDs[0].MessageUID, "")))
	if len(tr.LeftOut) != 2 || tr.LeftOut[0].ChannelID != "a" || tr.LeftOut[1].Reason != "shed" {
		t.Errorf("the trace says %+v", tr)
	}
	w.set("open.intake", "false")
	for range 10 {
		want(send("", "a"), "a")
	}
}
