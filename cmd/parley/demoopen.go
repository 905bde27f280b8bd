package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
)

type demoOpenCmd struct {
	fileFlag
	jsonFlag
	Data         string        `placeholder:"DIR" help:"Folder for the demo's data; it must be new or empty, and stays. Without it a temporary one is used and removed."`
	For          time.Duration `default:"20s" placeholder:"DURATION" help:"How long messages are sent, from 3s to 1h."`
	Participants int           `default:"200" placeholder:"N" help:"Clients that enter and leave, from 10 to 5000; one in ten of them stays."`
	Plain        bool          `help:"Print a line each second in place of a table that changes. Done anyway when standard output is no terminal."`
}

// The demo's channel, and what it takes in a second of each class. The time of a
// window is longer than the default so that a person can follow.
const (
	demoChannel = "stage"
	demoBudget  = 20
	demoSettle  = 20 * time.Second // for what was sent to have come
)

// classes are the priorities, the least one first.
var classes = [...]chat.Priority{chat.PriorityLow, chat.PriorityStandard, chat.PriorityHigh, chat.PriorityAllowlisted}

// shedClass is the class under which a message is counted that was shed: what is
// standard is as good as high.
func shedClass(p chat.Priority) chat.Priority {
	if p == chat.PriorityStandard {
		return chat.PriorityHigh
	}
	return p
}

// perClass is a number for each priority.
type perClass [chat.PriorityLow + 1]int

func (n perClass) total() (sum int) {
	for _, k := range n {
		sum += k
	}
	return sum
}

// A phase is a part of the show.
type phase struct {
	name    string
	backend int // messages a second of each class from the backend
	client  int // and from each of the clients that write
	padding int // bytes more than a message needs
	slow    bool
}

var phases = [...]phase{
	{name: "within the budgets", backend: 4, client: 2},
	{name: "well beyond the budgets", backend: 50, client: 15},
	{name: "beyond, with a slow participant", backend: 50, client: 15, padding: 3 << 10, slow: true},
}

// A busyChannel is one showing of an open channel.
type busyChannel struct {
	promises
	cmd   *demoOpenCmd
	node  *childNode
	owner *admin.Client
	srv   *server

	audience *demoAudience
	lanes    []*demoLane

	start time.Time
	mu    sync.Mutex
	sent  perClass // answered, by class
	taken perClass
	shed  perClass
	why   map[string]int // by the reason in the answer
}

// A demoLane is one sender of messages of a class. What it sends is numbered.
type demoLane struct {
	class chat.Priority
	user  *stayer // who writes; nil for the backend
	sent  int
	taken []int // numbers that were answered with a UID
}

// Run shows an open channel in which much is said.
func (c *demoOpenCmd) Run(ctx context.Context, s *streams) error {
	if c.For < 3*time.Second || c.For > time.Hour {
		return usage(fmt.Errorf("--for: from 3s to 1h, got %s", c.For))
	}
	if c.Participants < 10 || c.Participants > 5000 {
		return usage(fmt.Errorf("--participants: from 10 to 5000, got %d", c.Participants))
	}
	ctx, cancel := context.WithTimeout(ctx, c.For+3*demoTime)
	defer cancel()
	return withDemoNode(c.Data, s, func(n *childNode) error {
		d := &busyChannel{promises: promises{streams: s, quiet: c.JSON}, cmd: c, node: n, why: map[string]int{}}
		if err := d.show(ctx); err != nil {
			return err
		}
		return d.verdict(c.JSON, d.numbers())
	})
}

func (d *busyChannel) show(ctx context.Context) (err error) {
	if err := d.node.start(ctx); err != nil {
		return err
	}
	if d.owner, err = admin.Connect(ctx, d.node.dir); err != nil {
		return err
	}
	defer d.owner.Close()
	if d.srv, err = localServer(ctx, d.owner, ""); err != nil {
		return err
	}
	budget := strconv.Itoa(demoBudget)
	if _, err := d.owner.SetApp(ctx, d.srv.key, map[string]string{
		"limits.open": "0", "limits.client": "0", "open.intake.window": "1s",
		"open.intake.shared": budget, "open.intake.high": budget, "open.intake.allowlisted": budget,
	}); err != nil {
		return err
	}
	d.say("Parley demo: an open channel that takes %d messages of any priority in a second, %d more if they are not low,\nand %d more if they are allowlisted. %d clients come and go, and it is sent first less than that, then far more.\n",
		demoBudget, demoBudget, demoBudget, d.cmd.Participants)
	if d.audience, err = d.gather(ctx); err != nil {
		return err
	}
	defer d.audience.leave()
	for _, class := range classes {
		d.lanes = append(d.lanes, &demoLane{class: class})
	}
	for i, class := range []chat.Priority{chat.PriorityStandard, chat.PriorityLow} {
		d.lanes = append(d.lanes, &demoLane{class: class, user: d.audience.stayers[i]})
	}
	if err := d.perform(ctx); err != nil {
		return err
	}
	return d.compare(ctx)
}

// perform goes through the phases while people come and go, and shows how it
// goes.
func (d *busyChannel) perform(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var coming, sending sync.WaitGroup
	going, stop := context.WithCancel(ctx)
	defer stop()
	d.audience.come(ctx, going, &coming, cancel)
	d.start = time.Now()
	shown := newBoard(d)
	for i := range phases {
		if phases[i].slow {
			if err := d.audience.slow.enter(ctx); err != nil {
				cancel(err)
				break
			}
		}
		end := d.start.Add(d.cmd.For * time.Duration(i+1) / time.Duration(len(phases)))
		for number, lane := range d.lanes {
			sending.Go(func() {
				if err := d.send(ctx, number, lane, &phases[i], end); err != nil {
					cancel(err)
				}
			})
		}
		shown.until(ctx, &phases[i], end)
		sending.Wait()
	}
	stop()
	coming.Wait()
	shown.close()
	return context.Cause(ctx)
}

// send sends the messages of one lane at the phase's rate. Who is late sends at
// once.
func (d *busyChannel) send(ctx context.Context, number int, l *demoLane, p *phase, end time.Time) error {
	rate := p.backend
	if l.user != nil {
		rate = p.client
	}
	padding := strings.Repeat(".", p.padding)
	for next := time.Now(); next.Before(end); next = next.Add(time.Second / time.Duration(rate)) {
		if !sleepUntil(ctx, next) || !time.Now().Before(end) {
			return nil
		}
		n := l.sent
		l.sent++
		content := textContent(fmt.Sprintf("%s%d %d %d %s", demoMark, number, n, time.Now().UnixMicro(), padding))
		uid, shed, err := d.one(ctx, l, content)
		if err != nil {
			if ctx.Err() != nil {
				return nil // interrupted, which is said elsewhere
			}
			return fmt.Errorf("a message was not answered: %w", err)
		}
		d.mu.Lock()
		d.sent[l.class]++
		switch {
		case uid != "" && shed == "":
			d.taken[l.class]++
			l.taken = append(l.taken, n)
		case uid == "" && shed != "":
			d.shed[shedClass(l.class)]++
			d.why[shed]++
		default:
			err = fmt.Errorf("an answer says neither that the message was taken nor that it was shed")
		}
		d.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func sleepUntil(ctx context.Context, at time.Time) bool {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// one sends a message, as a backend does or as a client.
func (d *busyChannel) one(ctx context.Context, l *demoLane, content string) (uid, shed string, err error) {
	if l.user != nil {
		data, err := json.Marshal(map[string]any{
			"channelType": "open", "channelId": demoChannel, "messageType": "RC:TxtMsg", "content": content, "priority": l.class, "echo": 1,
		})
		if err != nil {
			return "", "", err
		}
		if data, err = l.user.client.RPC(ctx, "message.send", data); err != nil {
			return "", "", err
		}
		var sent struct {
			UID  string `json:"messageUID"`
			Shed string `json:"shed"`
		}
		err = json.Unmarshal(data, &sent)
		return sent.UID, sent.Shed, err
	}
	body, err := json.Marshal(map[string]any{
		"fromUserId": "backend", "toChannelIds": []string{demoChannel}, "messageType": "RC:TxtMsg", "content": content, "priority": l.class,
	})
	if err != nil {
		return "", "", err
	}
	a, err := d.srv.call(ctx, "/v4/open-channel/message/send", body, nil)
	if err != nil {
		return "", "", err
	}
	if a.code != 0 {
		return "", "", fmt.Errorf("the server refused it: %s", a.body)
	}
	var sent struct {
		Result struct {
			UIDs []struct {
				UID string `json:"messageUID"`
			} `json:"messageUIDs"`
			Shed []struct {
				Reason string `json:"reason"`
			} `json:"shed"`
		} `json:"result"`
	}
	if err := json.Unmarshal(a.body, &sent); err != nil {
		return "", "", err
	}
	for _, u := range sent.Result.UIDs {
		uid = u.UID
	}
	for _, s := range sent.Result.Shed {
		shed = s.Reason
	}
	return uid, shed, nil
}

// counter is the sum of a metric of a node over the series that have all of the
// given labels.
func counter(ctx context.Context, srv *server, name string, labels ...string) (int, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.base+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := srv.http.Do(r)
	if err != nil {
		return 0, err
	}
	b, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	sum := 0.0
	for lines := bufio.NewScanner(bytes.NewReader(b)); lines.Scan(); {
		series, value, _ := strings.Cut(lines.Text(), " ")
		if series != name && !strings.HasPrefix(series, name+"{") {
			continue
		}
		wanted := true
		for _, l := range labels {
			wanted = wanted && strings.Contains(series, l)
		}
		if wanted {
			v, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, fmt.Errorf("metric %s: %w", series, err)
			}
			sum += v
		}
	}
	return int(sum), nil
}

// numbers are those of the summary, for programs.
func (d *busyChannel) numbers() map[string]any {
	list := map[string]any{}
	for _, class := range classes {
		list[class.String()] = map[string]int{"sent": d.sent[class], "taken": d.taken[class], "shed": d.sent[class] - d.taken[class]}
	}
	return map[string]any{"messages": list}
}
