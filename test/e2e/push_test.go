package e2e

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
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
	c := &cast{}
	c.simulate(t, chat.APNs, chat.FCM)
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
	c := &cast{answering: 100 * time.Millisecond}
	c.simulate(t, chat.APNs, chat.FCM)
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

// One provider is down, one is slow, one asks not to be disturbed. All that is sent
// arrives once, and nothing when it is of no use any more. The provider that is down
// is asked now and then whether it still is, the one that asked for it is left alone
// for as long as it said, and the other providers' phones notice nothing of it all.
func TestPushTrouble(t *testing.T) {
	t.Parallel()
	// One request at a time to each provider: what comes after an answer was sent
	// after it.
	users, inFlight, pace, lasts := 20, 1, 25*time.Millisecond, 5*time.Second
	slow, rest := 250*time.Millisecond, 2*time.Second
	if *pushSoak {
		// A call lives a minute.
		users, inFlight, pace, lasts = 300, 256, 12*time.Millisecond, 68*time.Second
		slow, rest = 5*time.Second, 5*time.Second
	}
	const (
		down, late, full = chat.FCM, chat.HW, chat.VIVO
		grace            = 500 * time.Millisecond
	)
	var providers []chat.PushProvider
	for p := range pushtest.All() {
		providers = append(providers, p)
	}
	slices.Sort(providers)
	var mu sync.Mutex
	resting := false
	var asked []time.Time // of the full one, when it was asked while it asked not to be
	var next []time.Time  // and when it was asked at all
	c := &cast{seen: func(p chat.PushProvider, r *http.Request) {
		if p != full || r.URL.Path != "/message/send" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		now := time.Now()
		if next = append(next, now); resting {
			asked = append(asked, now)
		}
	}}
	c.simulate(t, providers...)
	s := c.serve(users*len(providers), "--push-grace", grace.String(), "--push-in-flight", strconv.Itoa(inFlight))
	for i := range providers {
		c.tell(s, "RC:TxtMsg", "before", i)
	}
	c.settled(s)

	mu.Lock()
	resting = true
	mu.Unlock()
	mendFull := c.sims[full].Fail(pushtest.Fault{Status: http.StatusTooManyRequests, Header: map[string]string{"Retry-After": strconv.Itoa(int(rest.Seconds()))}})
	mendSlow := c.sims[late].Fail(pushtest.Fault{Delay: slow})
	mendDown := c.sims[down].Fail(pushtest.Fault{Reset: true})
	mendAuth := c.sims[down].Fail(pushtest.Fault{Auth: true, Reset: true})
	before := c.sims[down].Stats()
	busy := watchClock()
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	var sending sync.WaitGroup
	sent, began := 0, time.Now()
	for end := began.Add(lasts); time.Now().Before(end); sent++ {
		<-ticker.C
		i := sent % (users * len(providers))
		kind := "RC:TxtMsg"
		if c.provider(i) == down && (sent/len(providers))%2 == 0 {
			kind = "RC:VCInvite"
		}
		sending.Go(func() { c.tell(s, kind, "hello", i) })
	}
	sending.Wait()
	after, while := c.sims[down].Stats(), time.Since(began)
	mendDown()
	mendAuth()
	mendSlow()
	mu.Lock()
	resting = false
	mu.Unlock()
	mendFull()
	c.settled(s)
	starved := busy()

	twice, never := c.verify()
	if twice > 0 {
		t.Errorf("%d notifications were sent twice", twice)
	}
	expired := int(s.metric("parley_push_ends_total", `class="expired"`))
	if never != expired {
		t.Errorf("%d messages were told to nobody, and %d are known to have expired", never, expired)
	}
	if *pushSoak && never == 0 {
		t.Error("nothing has expired")
	}
	// Ten failures in a row, what is under way by then, and one each ten seconds.
	probes, most := after.Requests+after.Auths-before.Requests-before.Auths, 10+inFlight+int(while/(10*time.Second))+1
	if probes > most {
		t.Errorf("the provider that was down was asked %d times, want at most %d", probes, most)
	}
	early := 0
	for _, at := range asked {
		for _, n := range next {
			// With many requests under way some are when the answer comes.
			if d := n.Sub(at); d > 0 && d < rest && (inFlight == 1 || d > time.Second) {
				early++
			}
		}
	}
	if early > 0 {
		t.Errorf("%d requests came before the %s were over that the provider asked for", early, rest)
	}
	if len(asked) == 0 || probes == 0 {
		t.Errorf("%d requests to the provider that asked not to be disturbed, %d to the one that was down: there was no trouble", len(asked), probes)
	}
	t.Logf("%d messages, %d expired; asked %d times while down, %d times while resting", sent, expired, probes, len(asked))
	for p, list := range c.waits(grace) {
		p99 := list[len(list)*99/100]
		t.Logf("%-5s p50 %8s p99 %8s of %d", p, list[len(list)/2].Round(time.Millisecond), p99.Round(time.Millisecond), len(list))
		if p == down || p == late || p == full || !*pushSoak {
			continue
		}
		if p99 >= time.Second && starved < 100*time.Millisecond {
			t.Errorf("p99 of %s is %s, though it is not in trouble", p, p99)
		}
	}
	t.Logf("timers of this machine are up to %s late (p99)", starved.Round(time.Millisecond))
}

// watchClock sees how late timers are. The function it gives ends that, and says by
// how much one of a hundred was: where that is much, what is measured says little.
func watchClock() (end func() time.Duration) {
	const nap = 10 * time.Millisecond
	stop, ended := make(chan struct{}), make(chan []time.Duration)
	go func() {
		var late []time.Duration
		for {
			at := time.Now()
			select {
			case <-time.After(nap):
				late = append(late, time.Since(at)-nap)
			case <-stop:
				ended <- late
				return
			}
		}
	}()
	return func() time.Duration {
		close(stop)
		late := <-ended
		if len(late) == 0 {
			return time.Hour
		}
		slices.Sort(late)
		return late[len(late)*99/100]
	}
}
