package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// compare holds what phones were shown against what was to be, and shows how it
// was in all.
func (d *pushShow) compare(ctx context.Context) error {
	// A moment more, in which too much would show: longer than the grace.
	if !sleepUntil(ctx, time.Now().Add(1500*time.Millisecond)) {
		return ctx.Err()
	}
	d.print()
	d.recipients()
	d.providers()

	var wrong []string
	due, shown := 0, 0
	for _, p := range allPhones() {
		got := len(d.shownTo(p, 0))
		due, shown = due+d.due[p.token()], shown+got
		if got != d.due[p.token()] {
			wrong = append(wrong, fmt.Sprintf("%s was shown %d of %d", p.name(), got, d.due[p.token()]))
		}
	}
	if strange := len(d.told) - shown; strange > 0 {
		wrong = append(wrong, fmt.Sprintf("%d are on nobody's phone", strange))
	}
	d.check("every notification that was due was shown, once, and nothing else", len(wrong) == 0, strings.Join(append([]string{fmt.Sprintf("%d", due)}, wrong...), "; "))

	taken, refused, odd, dead := 0, 0, 0, 0
	for _, p := range chat.PushProviders() {
		s := d.counted(p)
		taken, refused, odd = taken+s.Taken, refused+s.Refused, odd+s.Odd
	}
	accepted, err := counter(ctx, d.srv, "parley_push_results_total", `class="accepted"`)
	if err != nil {
		return err
	}
	if dead, err = counter(ctx, d.srv, "parley_push_results_total", `class="token_dead"`); err != nil {
		return err
	}
	d.check("the providers found nothing to refuse but the dead token", refused == dead && odd == 0, fmt.Sprintf("%d refused, %d odd", refused, odd))
	d.check("the node's metric parley_push_results_total counts what the providers took", accepted == taken && taken == due, fmt.Sprintf("%d and %d", accepted, taken))
	return nil
}

// counted is what a simulator has counted since the node knows its credential;
// access tokens and connections from the beginning.
func (d *pushShow) counted(p chat.PushProvider) pushtest.Stats {
	s, before := d.theatre.sims[p].Stats(), d.asked[p]
	s.Requests, s.Taken, s.Refused, s.Odd = s.Requests-before.Requests, s.Taken-before.Taken, s.Refused-before.Refused, s.Odd-before.Odd
	return s
}

// recipients shows what became of the first message, and how many notifications
// there were in all.
func (d *pushShow) recipients() {
	d.say("\nThe recipients:\n")
	if d.quiet {
		return
	}
	w := tabwriter.NewWriter(d.streams.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  recipient\tphones\t\"Dinner at seven?\"\tnotifications in all")
	for _, m := range append(slices.Clone(pushCast), stormCast) {
		var phones []string
		all := 0
		for i := range m.phones {
			p := &m.phones[i]
			phones = append(phones, p.provider.String()+" "+p.language)
			all += len(d.shownTo(p, 0))
		}
		fate := d.reasons[m.user]
		switch fate {
		case "":
			fate = "not sent it"
		case "away":
			fate = "notified"
		default:
			fate += ": " + m.why
		}
		if len(phones) == 0 {
			phones = []string{"-"}
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\t%d\n", m.user, strings.Join(phones, ", "), fate, all)
	}
	_ = w.Flush()
}

// providers shows what the simulators counted.
func (d *pushShow) providers() {
	d.say("\nThe providers, as they have counted:\n")
	d.say("  %-8s  %8s  %5s  %7s  %11s  %13s  %11s", "provider", "requests", "taken", "refused", "met a fault", "access tokens", "connections")
	for _, p := range chat.PushProviders() {
		s := d.counted(p)
		d.say("  %-8s  %8d  %5d  %7d  %11d  %13d  %11d", p, s.Requests, s.Taken, s.Refused, s.Faults, s.Auths, s.Conns)
	}
}
