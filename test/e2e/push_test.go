package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

var pushSoak = flag.Bool("push-soak", false, "have the tests of push last for minutes, and hold what they measure against what is promised")

// five is how many notifications in a row a phone is told of one by one.
const five = 5

// queue has the first so many users sent five messages each, and gives how many
// notifications that makes.
func (c *cast) queue(s *server, users int) int {
	for k := range five {
		for from := 0; from < users; from += 1000 {
			var to []int
			for i := from; i < min(from+1000, users); i++ {
				to = append(to, i)
			}
			c.tell(s, "RC:TxtMsg", fmt.Sprint("message ", k), to...)
		}
	}
	return five * users
}

// The server is killed while it decides whom to notify, and again and again while
// notifications are queued and under way. In the end every phone was told of every
// message, and of hardly any twice.
func TestPushKill(t *testing.T) {
	t.Parallel()
	users, drains, inFlight := 200, 1, 16
	if *pushSoak {
		users, drains, inFlight = 2000, 3, 256
	}
	c := simulate(t, chat.APNs, chat.FCM)
	c.sims[chat.APNs].Fail(pushtest.Fault{Delay: 50 * time.Millisecond})
	s := c.serve(users, "--push-grace", "500ms", "--push-in-flight", strconv.Itoa(inFlight))
	const kills = 5
	before := 0
	for drain := range drains {
		if drain > 0 {
			s.stop() // a server that has just started knows of no storm
			s.up()
		}
		begun := c.arrived()
		all := c.queue(s, users)
		decided := float64(1 + rand.N(all))
		eventually(t, "some are decided upon", func() bool { return s.metric("parley_push_decisions_total", `effect="alert"`) >= decided })
		s.kill()
		t.Logf("killed with about %.0f of %d decided upon, and %d told", decided, all, c.arrived()-begun)
		for k := range kills - 1 {
			s.up()
			done := c.arrived()
			at := done + 1 + rand.N(max((begun+all-done)/(kills-k), 1))
			eventually(t, "some are told", func() bool { return c.arrived() >= at || c.missing() == 0 })
			time.Sleep(rand.N(100 * time.Millisecond)) // it is killed at any moment
			s.kill()
			t.Logf("killed with %d of %d told", all-c.missing(), all)
		}
		s.up()
		c.settled(s)
		twice, never := c.verify()
		if never > 0 {
			t.Errorf("%d messages were told to nobody", never)
		}
		twice, before = twice-before, twice
		share := float64(twice) / kills / float64(all)
		t.Logf("%d notifications, %d kills: %d were told twice, %.2f %% of all at each kill", all, kills, twice, 100*share)
		switch {
		case *pushSoak && share >= 0.01:
			t.Errorf("%.2f %% of notifications were told twice at each kill", 100*share)
		case twice > kills*inFlight*len(c.lanes):
			t.Errorf("%d notifications were told twice after %d kills with at most %d under way to each of %d providers", twice, kills, inFlight, len(c.lanes))
		}
	}
}

// A server that is stopped with much queued and under way ends in time. It sends
// nothing twice for it, and goes on where it was.
func TestPushStop(t *testing.T) {
	t.Parallel()
	users, inFlight := 200, 24
	if *pushSoak {
		users, inFlight = 1000, 256
	}
	c := simulate(t, chat.APNs, chat.FCM)
	c.answering = 100 * time.Millisecond
	for _, sim := range c.sims {
		sim.Fail(pushtest.Fault{Delay: 100 * time.Millisecond})
	}
	s := c.serve(users, "--push-grace", "500ms", "--push-in-flight", strconv.Itoa(inFlight))
	all := c.queue(s, users)
	left := 0
	for _, at := range []int{1, all / 4, all / 2} {
		eventually(t, "some are told", func() bool { return c.arrived() >= at })
		calls.CloseIdleConnections() // the server waits for those that were never used
		s.stop()
		if t.Failed() {
			return
		}
		n := c.missing()
		left += n
		t.Logf("stopped with %d of %d told", all-n, all)
		s.up()
	}
	if left == 0 {
		t.Error("at no stop there was anything left to do")
	}
	c.settled(s)
	if twice, never := c.verify(); twice+never > 0 {
		t.Errorf("%d notifications were told twice, and %d to nobody", twice, never)
	}
}
