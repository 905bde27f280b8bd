package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

type demoPushCmd struct {
	fileFlag
	jsonFlag
	Data    string `placeholder:"DIR" help:"Folder for the demo's data; it must be new or empty, and stays. Without it a temporary one is used and removed."`
	Summary bool   `help:"Wait for the notification that sums up the storm, too. It comes a minute later."`
}

const (
	demoPushGrace    = "1s"             // how long messages may take to be acknowledged
	demoPushPatience = "2s"             // and where there is a connection
	demoPushTime     = 20 * time.Second // for each thing that must show
	demoPushSummary  = 80 * time.Second // for the summary of the storm
)

// A pushShow is one showing of notifications: simulated providers, phones that
// show what these are sent, and a node that sends it.
type pushShow struct {
	promises
	cmd   *demoPushCmd
	node  *childNode
	owner *admin.Client
	srv   *server
	steps int

	theatre *theatre
	kim     *device // is connected, and acknowledges
	lea     *device // likewise, at a desk

	asked   map[chat.PushProvider]pushtest.Stats // about credentials, at the start
	reasons map[string]string                    // of the message that went to everybody, by user
	due     map[string]int                       // what each phone is to have been shown, by token
	told    []pushtest.Shown                     // what was printed
}

// Run shows notifications.
func (c *demoPushCmd) Run(ctx context.Context, s *streams) (err error) {
	limit := 2 * demoTime
	if c.Summary {
		limit += demoTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	t, err := openTheatre()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, t.close()) }()
	return withDemoNode(c.Data, s, func(n *childNode) error {
		n.settings = []string{"--push-ca", t.caFile(), "--push-grace", demoPushGrace, "--push-patience", demoPushPatience}
		d := &pushShow{
			promises: promises{streams: s, quiet: c.JSON}, cmd: c, node: n, theatre: t,
			asked: map[chat.PushProvider]pushtest.Stats{}, reasons: map[string]string{}, due: map[string]int{},
		}
		if err := d.show(ctx); err != nil {
			return err
		}
		return d.verdict(c.JSON, map[string]any{"reasons": d.reasons, "notifications": d.told})
	})
}

func (d *pushShow) show(ctx context.Context) error {
	d.say("Parley demo: who is notified of a message, in which words, and why somebody is not. The nine push providers of\nphones and the push services of browsers are played here, by simulators that refuse what the real ones refuse. Times\nare UTC. Of the notifications with one key a phone shows the last.")
	defer d.leave()
	for _, beat := range []struct {
		name string
		show func(context.Context) error
	}{
		{"start", d.start}, {"everybody", d.everybody}, {"languages", d.languages}, {"not at all", d.silence}, {"desk", d.desk},
		{"outage", d.outage}, {"call", d.call}, {"storm", d.storm}, {"dead token", d.deadToken}, {"recall", d.recall},
		{"read elsewhere", d.readElsewhere},
	} {
		if err := beat.show(ctx); err != nil {
			return fmt.Errorf("the demo broke off at the beat %q: %w", beat.name, err)
		}
	}
	return d.compare(ctx)
}

// leave ends what is connected.
func (d *pushShow) leave() {
	for _, u := range []*device{d.kim, d.lea} {
		if u != nil {
			u.leave()
		}
	}
	if d.owner != nil {
		d.owner.Close()
	}
}

// step says what happens next.
func (d *pushShow) step(format string, args ...any) {
	d.steps++
	d.say("\n%d. %s", d.steps, fmt.Sprintf(format, args...))
}

// post makes a call of the server API, as an app's backend would.
func (d *pushShow) post(ctx context.Context, path string, fields, result any) error {
	body, err := json.Marshal(fields)
	if err != nil {
		return err
	}
	a, err := d.srv.call(ctx, path, body, nil)
	if err != nil {
		return err
	}
	if a.code != 0 {
		return fmt.Errorf("the server refused %s: %s", path, a.body)
	}
	if result == nil {
		return nil
	}
	var v struct{ Result json.RawMessage }
	if err := json.Unmarshal(a.body, &v); err != nil {
		return err
	}
	return json.Unmarshal(v.Result, result)
}

// send sends a text from Zoë, with whatever else is to be said of it, and gives the
// UIDs by recipient.
func (d *pushShow) send(ctx context.Context, text string, more map[string]any, to ...string) (map[string]string, error) {
	fields := map[string]any{"fromUserId": demoSender, "toUserIds": to, "messageType": "RC:TxtMsg", "content": textContent(text)}
	for name, v := range more {
		fields[name] = v
	}
	var sent struct {
		UIDs []struct {
			User string `json:"userId"`
			UID  string `json:"messageUID"`
		} `json:"messageUIDs"`
	}
	if err := d.post(ctx, "/v4/direct-channel/message/send", fields, &sent); err != nil {
		return nil, err
	}
	uids := map[string]string{}
	for _, u := range sent.UIDs {
		uids[u.User] = u.UID
	}
	if len(uids) != len(to) {
		return nil, fmt.Errorf("the answer has UIDs for %d of %d recipients", len(uids), len(to))
	}
	return uids, nil
}

// sendOne is send for one recipient.
func (d *pushShow) sendOne(ctx context.Context, text string, more map[string]any, to string) (string, error) {
	uids, err := d.send(ctx, text, more, to)
	return uids[to], err
}

// trace is what the server says became of a message, for all its recipients.
func (d *pushShow) trace(ctx context.Context, uid string) (*traced, error) {
	t := new(traced)
	return t, d.post(ctx, "/v4x/message/trace", map[string]any{"messageUID": uid, "all": true, "pageSize": 200}, t)
}

// await waits until something holds, and meanwhile prints what phones show. Whoever
// waits says what for.
func (d *pushShow) await(ctx context.Context, what string, holds func() (bool, error)) error {
	return d.within(ctx, demoPushTime, what, holds)
}

func (d *pushShow) within(ctx context.Context, limit time.Duration, what string, holds func() (bool, error)) error {
	whole := ctx
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		more := d.print()
		ok, err := holds()
		if err != nil && ctx.Err() == nil {
			return err
		}
		if ok {
			d.print()
			return nil
		}
		select {
		case <-more:
		case <-tick.C:
		case <-ctx.Done():
			if err := whole.Err(); err != nil {
				return fmt.Errorf("waiting for %s: %w", what, err)
			}
			return fmt.Errorf("%s: that did not come within %s", what, limit)
		}
	}
}

// A theatre is where the simulators play.
type theatre struct {
	dir    string
	server *pushtest.Server
	sims   map[chat.PushProvider]*pushtest.Sim
	at     map[chat.PushProvider]string // addresses

	mu    sync.Mutex
	shown []pushtest.Shown
	asked []time.Time   // when FCM was sent a notification
	more  chan struct{} // closed and made anew with each that a phone shows
}

// openTheatre serves a simulator of each provider.
func openTheatre() (_ *theatre, err error) {
	t := &theatre{sims: map[chat.PushProvider]*pushtest.Sim{}, at: map[chat.PushProvider]string{}, more: make(chan struct{})}
	if t.server, err = pushtest.NewServer(); err != nil {
		return nil, err
	}
	if t.dir, err = os.MkdirTemp("", "parley-demo-ca-"); err != nil {
		return nil, err
	}
	if err = os.WriteFile(t.caFile(), t.server.CA, 0o600); err != nil {
		return nil, errors.Join(err, t.close())
	}
	for p, simulator := range pushtest.All() {
		o := pushtest.Options{Shown: t.note}
		if p == chat.FCM {
			o.Seen = t.ask
		}
		t.sims[p] = simulator(o)
		if t.at[p], err = t.server.Serve(t.sims[p], "127.0.0.1:0"); err != nil {
			return nil, errors.Join(err, t.close())
		}
	}
	return t, nil
}

// caFile has the authority that the simulators' certificates are of.
func (t *theatre) caFile() string { return filepath.Join(t.dir, "ca.pem") }

func (t *theatre) close() error {
	t.server.Close()
	return os.RemoveAll(t.dir)
}

// ask takes note of a request to FCM.
func (t *theatre) ask(r *http.Request, _ string) {
	if strings.HasSuffix(r.URL.Path, "messages:send") {
		t.mu.Lock()
		t.asked = append(t.asked, time.Now())
		t.mu.Unlock()
	}
}

// note takes what a phone shows.
func (t *theatre) note(n pushtest.Shown) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.shown = append(t.shown, n)
	close(t.more)
	t.more = make(chan struct{})
}

// after is what phones were shown behind the first n, and a channel that is closed
// when there is more.
func (t *theatre) after(n int) ([]pushtest.Shown, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.shown[n:len(t.shown):len(t.shown)], t.more
}
