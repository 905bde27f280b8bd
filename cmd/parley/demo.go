package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/client"
)

type demoCmd struct {
	Story demoStoryCmd `cmd:"" default:"withargs" help:"See it work: the story of one message, then a crash amid many."`
	Open  demoOpenCmd  `cmd:"" help:"See a busy open channel: who is there, rates, what is shed by class."`
	Push  demoPushCmd  `cmd:"" help:"See notifications of ten simulated providers, and why some get none."`
}

type demoStoryCmd struct {
	fileFlag
	jsonFlag
	Data string `placeholder:"DIR" help:"Folder for the demo's data; it must be new or empty, and stays. Without it a temporary one is used and removed."`
}

const (
	demoMessages = 200 // numbered messages sent around the crash
	demoCallers  = 8   // of them in flight
	demoCrashAt  = 90  // answers after which the node is killed
	demoTime     = time.Minute
)

// A demo is one showing: what was promised to whom, and what came.
type demo struct {
	promises
	steps int

	node  *childNode
	owner *admin.Client
	srv   *server

	ann, bob, cho *demoUser

	mu       sync.Mutex
	promised map[string][]string // user → UIDs that were answered for their timeline
	beats    []beat
}

// Run tells the story of one message, and then shows what Parley promises on a
// node that is killed in the middle.
func (c *demoStoryCmd) Run(ctx context.Context, s *streams) error {
	ctx, cancel := context.WithTimeout(ctx, demoTime)
	defer cancel()
	return withDemoNode(c.Data, s, func(n *childNode) error {
		d := &demo{promises: promises{streams: s, quiet: c.JSON}, node: n, promised: map[string][]string{}}
		if err := d.show(ctx); err != nil {
			return err
		}
		return d.verdict(c.JSON, map[string]any{"story": d.beats})
	})
}

func (d *demo) show(ctx context.Context) error {
	d.say("Parley demo: the story of one message, and then a crash in the middle of many.\n")
	defer d.leave()
	for _, step := range []func(context.Context) error{
		d.startNode, d.tellStory, d.connectUsers, d.sendOneOfEach, d.choLeaves, d.sendThroughCrash, d.choReturns,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.compare(ctx)
	return nil
}

// leave ends what is connected.
func (d *demo) leave() {
	for _, u := range []*demoUser{d.ann, d.bob, d.cho} {
		if u != nil {
			u.leave()
		}
	}
	if d.owner != nil {
		d.owner.Close()
	}
}

// step says what happens next.
func (d *demo) step(format string, args ...any) {
	d.steps++
	d.say("%d. %s", d.steps, fmt.Sprintf(format, args...))
}

func (d *demo) startNode(ctx context.Context) (err error) {
	if err := d.node.start(ctx); err != nil {
		return err
	}
	d.step("A node starts: process %d at http://%s, data in %s.", d.node.cmd.Process.Pid, d.node.address, d.node.dir)
	if d.owner, err = admin.Connect(ctx, d.node.dir); err != nil {
		return err
	}
	if d.srv, err = localServer(ctx, d.owner, ""); err != nil {
		return err
	}
	d.say("   Having no app yet it made one, with the key %s.", d.srv.key)
	return nil
}

func (d *demo) connect(ctx context.Context, name string, from client.Position) (*demoUser, error) {
	t, err := d.owner.IssueToken(ctx, d.srv.key, name, "")
	if err != nil {
		return nil, err
	}
	return connectUser(ctx, d.srv, name, t.Token, from)
}

func (d *demo) connectUsers(ctx context.Context) (err error) {
	if d.ann, err = d.connect(ctx, "ann", client.Position{}); err != nil {
		return err
	}
	if d.bob, err = d.connect(ctx, "bob", client.Position{}); err != nil {
		return err
	}
	if d.cho, err = d.connect(ctx, "cho", client.Position{}); err != nil {
		return err
	}
	for _, u := range []*demoUser{d.bob, d.cho} {
		if _, err := u.client.Subscribe(ctx, "open:lobby", nil); err != nil {
			return err
		}
	}
	d.step("Each with an access token of their own, ann, bob and cho connect. bob and cho enter the open channel \"lobby\".")
	return nil
}

// send makes a call and notes what its answer promises.
func (d *demo) send(ctx context.Context, kind, key string, fields map[string]any) (*answer, error) {
	body, err := json.Marshal(fields)
	if err != nil {
		return nil, err
	}
	h := http.Header{}
	if key != "" {
		h.Set("Idempotency-Key", key)
	}
	a, err := d.srv.call(ctx, "/v4/"+kind+"-channel/message/send", body, h)
	if err != nil {
		return nil, err
	}
	if a.code != 0 {
		return nil, fmt.Errorf("the server refused a %s message: %s", kind, a.body)
	}
	var sent struct {
		Result struct {
			UIDs []struct {
				User string `json:"userId"`
				UID  string `json:"messageUID"`
			} `json:"messageUIDs"`
		} `json:"result"`
	}
	if err := json.Unmarshal(a.body, &sent); err != nil {
		return nil, err
	}
	if kind != "open" && fields["messageType"] != statusType {
		d.mu.Lock()
		defer d.mu.Unlock()
		for _, u := range sent.Result.UIDs {
			d.promised[u.User] = append(d.promised[u.User], u.UID)
		}
	}
	return a, nil
}

const statusType = "RC:TypSts"

func (d *demo) sendOneOfEach(ctx context.Context) error {
	d.step("One message of each kind is sent, as an app's backend would: a signed HTTP call.")
	for _, m := range []struct {
		kind, words string
		fields      map[string]any
	}{
		{"direct", "ann writes to bob and cho", map[string]any{
			"fromUserId": "ann", "toUserIds": []string{"bob", "cho"}, "messageType": "RC:TxtMsg", "content": textContent("hello you two"),
		}},
		{"system", "\"news\" writes to all three; nobody can answer", map[string]any{
			"fromUserId": "news", "toUserIds": []string{"ann", "bob", "cho"}, "messageType": "RC:TxtMsg", "content": textContent("welcome"),
		}},
		{"open", "ann writes to everybody in the lobby", map[string]any{
			"fromUserId": "ann", "toChannelIds": []string{"lobby"}, "messageType": "RC:TxtMsg", "content": textContent("hello lobby"),
		}},
		{"direct", "ann is typing to bob; such a status is never kept", map[string]any{
			"fromUserId": "ann", "toUserIds": []string{"bob"}, "messageType": statusType, "content": `{"typingContentType":"RC:TxtMsg"}`,
		}},
	} {
		a, err := d.send(ctx, m.kind, "", m.fields)
		if err != nil {
			return err
		}
		d.say("   %-6s  %s.\n           answered: %s", m.kind, m.words, shorten(a.body))
	}
	d.ann.await(ctx, 1, 0, 0)
	d.bob.await(ctx, 2, 1, 1)
	d.cho.await(ctx, 2, 0, 1)
	return nil
}

// shorten is an answer as far as it fits on a line.
func shorten(body []byte) string {
	const most = 90
	if len(body) > most {
		return string(body[:most]) + " …"
	}
	return string(body)
}

func (d *demo) choLeaves(context.Context) error {
	d.cho.leave()
	d.step("cho goes offline, having seen all that. bob stays.")
	return nil
}

func (d *demo) sendThroughCrash(ctx context.Context) error {
	d.step("%d numbered messages from ann to bob and cho are sent, %d at a time, each with an Idempotency-Key of its own.", demoMessages, demoCallers)
	pending := make([]int, demoMessages)
	for i := range pending {
		pending[i] = i
	}
	var answered, replayed atomic.Int64
	pending, started := d.burst(ctx, pending, func(*answer) {
		if answered.Add(1) == demoCrashAt {
			// The callers go on while this one kills.
			_ = d.node.kill()
		}
	})
	if len(pending) == 0 {
		return errors.New("the node answered everything although it was killed")
	}
	d.say("   After %d answers the node is killed (SIGKILL): no goodbye, nothing flushed. %d calls were under way and got no answer:\n   they may have been carried out or not.", answered.Load(), started)

	begun := time.Now()
	if err := d.node.start(ctx); err != nil {
		return err
	}
	d.owner.Close()
	var err error
	if d.owner, err = admin.Connect(ctx, d.node.dir); err != nil {
		return err
	}
	d.say("   The node starts again on the same data: process %d serves after %s.", d.node.cmd.Process.Pid, time.Since(begun).Round(time.Millisecond))
	left, _ := d.burst(ctx, pending, func(a *answer) {
		if a.header.Get("Idempotency-Replayed") == "true" {
			replayed.Add(1)
		}
	})
	if len(left) > 0 {
		return fmt.Errorf("%d calls got no answer from the node that was started again", len(left))
	}
	d.say("   The calls without an answer are repeated with the same keys, then the rest is sent. %d of the %d turned out to be\n   carried out before the crash: their repeats got the first answer again, and sent nothing.", replayed.Load(), started)
	return nil
}

// burst sends the numbered messages from several callers. It gives those that
// got no answer, and how many of these were begun.
func (d *demo) burst(ctx context.Context, numbers []int, answered func(*answer)) (pending []int, begun int) {
	queue := make(chan int, len(numbers))
	for _, n := range numbers {
		queue <- n
	}
	close(queue)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range demoCallers {
		wg.Go(func() {
			for n := range queue {
				mu.Lock()
				over := len(pending) > 0 // what nobody answers need not be called
				mu.Unlock()
				var a *answer
				err := errors.New("not sent")
				if !over {
					a, err = d.send(ctx, "direct", fmt.Sprintf("demo-%d", n), map[string]any{
						"fromUserId": "ann", "toUserIds": []string{"bob", "cho"}, "messageType": "RC:TxtMsg", "content": textContent(fmt.Sprintf("number %d", n)),
					})
				}
				if err == nil {
					answered(a)
					continue
				}
				mu.Lock()
				pending = append(pending, n)
				if !over {
					begun++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	slices.Sort(pending)
	return pending, begun
}

func (d *demo) choReturns(ctx context.Context) error {
	before, _, heard, _ := d.cho.record()
	place, _ := d.cho.client.Position(client.Me)
	cho, err := d.connect(ctx, "cho", place)
	if err != nil {
		return err
	}
	d.cho = cho
	cho.await(ctx, len(d.promised["cho"])-len(before), 0, 0)
	cho.mu.Lock()
	defer cho.mu.Unlock()
	d.step("cho comes back and says \"I have read up to %d\". What came since follows: %d messages.", place.Offset, len(cho.timeline))
	cho.timeline, cho.heard = append(before, cho.timeline...), heard
	return nil
}

// compare holds what came against what was promised.
func (d *demo) compare(ctx context.Context) {
	users := []*demoUser{d.ann, d.bob, d.cho}
	for _, u := range users {
		u.await(ctx, len(d.promised[u.name]), 0, 0)
	}
	// A moment more, in which a double would show.
	select {
	case <-time.After(300 * time.Millisecond):
	case <-ctx.Done():
	}

	d.say("\nWhat each of them saw:\n")
	w := tabwriter.NewWriter(d.streams.out, 0, 0, 2, ' ', 0)
	if !d.quiet {
		fmt.Fprintln(w, "  user\ttimeline\tlive only\tlobby\tconnection")
	}
	for _, u := range users {
		timeline, passing, heard, losses := u.record()
		d.checkTimeline(u.name, timeline)
		how := "stayed"
		switch {
		case u == d.cho:
			how = "was away during the crash, came back"
		case losses > 0:
			how = fmt.Sprintf("lost %d× in the crash, came back by itself", losses)
		}
		if !d.quiet {
			fmt.Fprintf(w, "  %s\t%d entries\t%d\t%d\t%s\n", u.name, len(timeline), len(passing), len(heard), how)
		}
	}
	if !d.quiet {
		_ = w.Flush()
	}

	bob, typing, bobHeard, _ := d.bob.record()
	cho, _, choHeard, _ := d.cho.record()
	d.check("bob, who was connected, and cho, who was away, have the same timeline", slices.EqualFunc(bob, cho, func(a, b entry) bool {
		return a.offset == b.offset && a.Content == b.Content && a.From == b.From && a.SentAt == b.SentAt
	}), fmt.Sprintf("%d and %d entries", len(bob), len(cho)))
	d.check("the open channel's message reached everybody in the lobby once", len(bobHeard) == 1 && len(choHeard) == 1,
		fmt.Sprintf("bob %d, cho %d", len(bobHeard), len(choHeard)))
	d.check("the status reached bob at once and was not kept", len(typing) == 1 && typing[0].Type == statusType &&
		!slices.ContainsFunc(bob, func(e entry) bool { return e.Type == statusType }), fmt.Sprintf("seen %d×", len(typing)))
}

// checkTimeline holds a timeline against the answers that promised it.
func (d *demo) checkTimeline(user string, timeline []entry) {
	promised := slices.Sorted(slices.Values(d.promised[user]))
	var uids []string
	gaps := 0
	for i, e := range timeline {
		uids = append(uids, e.UID)
		if e.offset != uint64(i)+1 {
			gaps++
		}
	}
	d.check(user+": every accepted message came, exactly once, and nothing else", slices.Equal(slices.Sorted(slices.Values(uids)), promised),
		fmt.Sprintf("%d promised, %d came", len(promised), len(uids)))
	d.check(user+": in order: offsets 1, 2, 3, … without a gap, and UIDs growing", gaps == 0 && slices.IsSortedFunc(uids, cmp.Compare[string]),
		fmt.Sprintf("1 to %d", len(timeline)))
}
