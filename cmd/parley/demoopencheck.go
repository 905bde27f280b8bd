package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/client"
)

// compare waits until everything has come, and holds the numbers against each
// other: what was answered, what came, what was told, and what the node counts.
func (d *busyChannel) compare(ctx context.Context) error {
	a := d.audience
	a.slow.catchUp(ctx)
	inside := len(a.stayers) + 1
	a.await(ctx, func() bool {
		for _, u := range a.stayers {
			if !u.look(func() bool {
				return u.total() >= d.taken.total() && u.shed.total() >= d.shed.total() && (u.count == inside || a.slow.putOut.Load() != nil)
			}) {
				return false
			}
		}
		return true
	})
	// A moment more, in which too much would show: longer than between two events.
	sleepUntil(ctx, time.Now().Add(1200*time.Millisecond))
	last := make([]int, len(a.stayers)) // before somebody more comes to ask
	for i, u := range a.stayers {
		u.look(func() bool { last[i] = u.count; return true })
	}
	here, err := d.ask(ctx)
	if err != nil {
		return err
	}
	counted := perClass{}
	for _, class := range []chat.Priority{chat.PriorityLow, chat.PriorityHigh, chat.PriorityAllowlisted} {
		if counted[class], err = counter(ctx, d.srv, "parley_open_shed_total", fmt.Sprintf("class=%q", class)); err != nil {
			return err
		}
	}
	dropped, err := counter(ctx, d.srv, "parley_open_dropped_total")
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	d.summary(dropped)
	d.checkMessages()
	d.checkShed(counted)
	d.checkParticipants(last, here)
	d.check("what the slow participant was given came in order", a.slow.behind.Load() == 0, d.slowly(dropped))
	return nil
}

// total is how many messages came.
func (u *stayer) total() (n int) {
	for _, list := range u.got {
		n += len(list)
	}
	return n
}

// byClass is how many messages of each class came.
func (u *stayer) byClass(lanes []*demoLane) (n perClass) {
	for i, list := range u.got {
		if i < len(lanes) {
			n[lanes[i].class] += len(list)
		}
	}
	return n
}

// ask enters once more, and gives how many the server says are here then.
func (d *busyChannel) ask(ctx context.Context) (int, error) {
	c, err := d.audience.dial(ctx, "asks", client.Options{})
	if err != nil {
		return 0, err
	}
	defer c.Close()
	s, err := c.Subscribe(ctx, demoRoom, nil)
	if err != nil {
		return 0, err
	}
	var told struct {
		Count int `json:"participantCount"`
	}
	err = json.Unmarshal(s.Data, &told)
	return told.Count - 1, err
}

func (d *busyChannel) summary(dropped int) {
	d.audience.mu.Lock()
	p50, p99 := quantiles(slices.Clone(d.audience.all))
	d.audience.mu.Unlock()
	d.say("\nIn all:\n")
	if !d.quiet {
		w := tabwriter.NewWriter(d.streams.out, 0, 0, 2, ' ', 0)
		fmt.Fprintf(w, "  class\tsent\ttaken\tshed\teach of the %d who stayed got\n", len(d.audience.stayers))
		for _, class := range classes {
			least, most := d.got(class)
			got := fmt.Sprint(least)
			if least != most {
				got = fmt.Sprintf("%d to %d", least, most)
			}
			fmt.Fprintf(w, "  %s\t%d\t%d\t%d\t%s\n", class, d.sent[class], d.taken[class], d.sent[class]-d.taken[class], got)
		}
		_ = w.Flush()
	}
	first := d.audience.stayers[0]
	entered, left := 0, 0
	first.look(func() bool { entered, left = first.entered, first.left; return true })
	d.say("\n  %d entered and %d left; %d messages were delivered, to those who stayed with p50 %s, p99 %s.\n  The slow participant %s.",
		entered, left, d.audience.delivered.Load(), p50, p99, d.slowly(dropped))
}

func (d *busyChannel) slowly(dropped int) string {
	s := d.audience.slow
	text := fmt.Sprintf("read %d messages; the server gave up %d publications for it", s.read.Load(), dropped)
	if why := s.putOut.Load(); why != nil {
		text += " and then let it go: " + *why
	}
	return text
}

// got is how many messages of a class those who stayed have, the least and the
// most of them.
func (d *busyChannel) got(class chat.Priority) (least, most int) {
	for i, u := range d.audience.stayers {
		var n int
		u.look(func() bool { n = u.byClass(d.lanes)[class]; return true })
		if i == 0 {
			least = n
		}
		least, most = min(least, n), max(most, n)
	}
	return least, most
}

func (d *busyChannel) checkMessages() {
	var wrong []string
	complain := func(i int, format string, args ...any) {
		if len(wrong) < 3 {
			wrong = append(wrong, fmt.Sprintf("participant %d ", i)+fmt.Sprintf(format, args...))
		}
	}
	for i, u := range d.audience.stayers {
		u.mu.Lock()
		if u.lost != nil {
			complain(i, "lost the connection: %v", u.lost)
		}
		if u.strange != "" {
			complain(i, "got what nobody sent: %.200s", u.strange)
		}
		if u.holes > 0 {
			complain(i, "saw %d offsets that do not follow the one before", u.holes)
		}
		for n, l := range d.lanes {
			var got []int
			if n < len(u.got) {
				got = u.got[n]
			}
			if !slices.Equal(got, l.taken) {
				complain(i, "got %d messages of sender %d, of which %d were taken, or others", len(got), n, len(l.taken))
			}
		}
		u.mu.Unlock()
	}
	detail := fmt.Sprintf("%d messages each", d.taken.total())
	if len(wrong) > 0 {
		detail = fmt.Sprint(wrong)
	}
	d.check("every message that was taken came to everybody who stayed, exactly once and in order, and nothing that was shed", len(wrong) == 0, detail)
}

func (d *busyChannel) checkShed(counted perClass) {
	events, told := true, d.audience.stayers[0].shed
	for _, u := range d.audience.stayers {
		u.mu.Lock()
		if u.shed != d.shed {
			events, told = false, u.shed
		}
		u.mu.Unlock()
	}
	d.check("what answers say was shed is what those in the channel were told", events, fmt.Sprintf("answers: %s; events: %s", inClasses(d.shed), inClasses(told)))
	d.check("and what the node's metric parley_open_shed_total counts", counted == d.shed, inClasses(counted))
}

func (d *busyChannel) checkParticipants(last []int, here int) {
	misfits, inside, differ := 0, len(d.audience.stayers), 0
	for i, u := range d.audience.stayers {
		u.look(func() bool { misfits += u.misfits; return true })
		if last[i] != here {
			differ++
		}
	}
	// Who was let go counts for a time in which they may come back.
	d.check("the events of who came and went add up", misfits == 0 && differ == 0, fmt.Sprintf("%d by the last event", here))
	slow := d.audience.slow.putOut.Load() != nil
	d.check("who is in the channel at the end is who has not left", here == inside+1 || slow && here == inside, fmt.Sprintf("%d by the server's count", here))
}
