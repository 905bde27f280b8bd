package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// A board shows once a second how it stands.
type board struct {
	show  *busyChannel
	out   io.Writer
	plain bool
	lines int // on the screen, to be drawn over

	at        time.Time
	sent      perClass // as shown last
	delivered int64
	next      time.Time
}

func newBoard(d *busyChannel) *board {
	return &board{show: d, out: d.streams.out, plain: d.cmd.Plain || !isTerminal(d.streams.out), at: d.start, next: d.start.Add(time.Second)}
}

// until shows until end.
func (b *board) until(ctx context.Context, p *phase, end time.Time) {
	for b.next.Before(end) && sleepUntil(ctx, b.next) {
		b.draw(p)
		b.next = b.next.Add(time.Second)
	}
	sleepUntil(ctx, end)
}

// close leaves the last state on the screen.
func (b *board) close() { b.draw(&phases[len(phases)-1]) }

// A moment of the show.
type demoMoment struct {
	sent, taken, shed, told perClass
	rate                    [len(perClass{})]float64
	deliveries              float64
	p50, p99                time.Duration
	why                     []string
	present, entered, left  int
	shedEvents              int
}

func (b *board) look() (m demoMoment) {
	d := b.show
	d.mu.Lock()
	m.sent, m.taken, m.shed = d.sent, d.taken, d.shed
	for _, reason := range slices.Sorted(maps.Keys(d.why)) {
		m.why = append(m.why, fmt.Sprintf("%s %d", reason, d.why[reason]))
	}
	d.mu.Unlock()
	now := time.Now()
	took := max(now.Sub(b.at), time.Millisecond).Seconds()
	for class := range m.sent {
		m.rate[class] = float64(m.sent[class]-b.sent[class]) / took
	}
	delivered := d.audience.delivered.Load()
	m.deliveries = float64(delivered-b.delivered) / took
	b.at, b.sent, b.delivered = now, m.sent, delivered
	m.p50, m.p99 = quantiles(d.audience.recent())
	first := d.audience.stayers[0]
	first.look(func() bool {
		m.present, m.entered, m.left = first.count, first.entered, first.left
		m.told, m.shedEvents = first.shed, first.shedSeen
		return true
	})
	return m
}

// quantiles are the median and what only one in a hundred exceeds.
func quantiles(list []time.Duration) (p50, p99 time.Duration) {
	if len(list) == 0 {
		return 0, 0
	}
	slices.Sort(list)
	at := func(q int) time.Duration { return list[(len(list)-1)*q/100].Round(100 * time.Microsecond) }
	return at(50), at(99)
}

// inClasses says numbers of what was shed.
func inClasses(n perClass) string {
	return fmt.Sprintf("low %d, standard and high %d, allowlisted %d", n[chat.PriorityLow], n[chat.PriorityHigh], n[chat.PriorityAllowlisted])
}

func (b *board) draw(p *phase) {
	m := b.look()
	d := b.show
	if d.quiet {
		return
	}
	rate := 0.0
	for _, r := range m.rate {
		rate += r
	}
	seconds := int(time.Since(d.start).Round(time.Second).Seconds())
	if b.plain {
		fmt.Fprintf(b.out, "%3ds  %s: %d in (%d entered, %d left); %.0f msg/s, taken %d, shed %d (%s); %.0f deliveries/s, p50 %s, p99 %s\n",
			seconds, p.name, m.present, m.entered, m.left, rate, m.taken.total(), m.shed.total(), inClasses(m.shed), m.deliveries, m.p50, m.p99)
		return
	}
	var text strings.Builder
	fmt.Fprintf(&text, "%d of %d s: %s\n\n", seconds, int(d.cmd.For.Seconds()), p.name)
	fmt.Fprintf(&text, "participants  %d now, %d entered, %d left\n\n", m.present, m.entered, m.left)
	w := tabwriter.NewWriter(&text, 8, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "class\tsent/s\ttaken\tshed\t")
	for _, class := range classes {
		shed := fmt.Sprint(m.shed[class])
		if class == chat.PriorityStandard {
			shed = "as high"
		}
		fmt.Fprintf(w, "%s\t%.0f\t%d\t%s\t\n", class, m.rate[class], m.taken[class], shed)
	}
	fmt.Fprintf(w, "all\t%.0f\t%d\t%d\t\n", rate, m.taken.total(), m.shed.total())
	_ = w.Flush() // into memory
	why := "none so far"
	if len(m.why) > 0 {
		why = strings.Join(m.why, ", ")
	}
	fmt.Fprintf(&text, "\nreasons in answers  %s\n", why)
	fmt.Fprintf(&text, "events \"shed\" (%d)  %s\n", m.shedEvents, inClasses(m.told))
	fmt.Fprintf(&text, "deliveries/s        %.0f\n", m.deliveries)
	fmt.Fprintf(&text, "latency             p50 %s, p99 %s, of those who stay\n", m.p50, m.p99)
	slow := "not here yet"
	if s := d.audience.slow; s.inside.Load() {
		slow = fmt.Sprintf("has read %d messages", s.read.Load())
		if s.putOut.Load() != nil {
			slow += ", and was let go"
		}
	}
	fmt.Fprintf(&text, "the slow one        %s\n", slow)

	if b.lines > 0 {
		fmt.Fprintf(b.out, "\x1b[%dA", b.lines)
	}
	b.lines = strings.Count(text.String(), "\n")
	fmt.Fprint(b.out, strings.ReplaceAll(text.String(), "\n", "\x1b[K\n"))
}
