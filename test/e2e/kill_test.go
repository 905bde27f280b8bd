package e2e

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/client"
)

var rounds = flag.Int("rounds", 20, "how often TestKill kills the server")

const (
	killUsers   = 60
	killSenders = 12
	killTargets = 50 // most recipients of one request
)

// The server is killed under load, again and again. After each start every
// message that was answered is in every recipient's timeline, under the UID
// that was answered, in offset order; what was not answered is there for all
// its recipients or for none; and what was not answered and had a key can be
// repeated with it and then is there exactly once.
//
// A killed process leaves the page cache behind, so this notices a server that
// answers before its log has left the process, and not one that only forgets to
// sync: that is shown on a file system that forgets, beside the engine.
func TestKill(t *testing.T) {
	t.Parallel()
	s := start(t)
	if _, stderr, code := s.parley("app", "set", appKey, "limits.direct=0", "limits.token=0"); code != 0 {
		t.Fatal(stderr)
	}
	l := &ledger{server: s, users: map[string]*reader{}, tried: map[string]*request{}}
	for i := range killUsers {
		name := fmt.Sprintf("user-%d", i)
		l.users[name] = &reader{token: s.token(name), promised: map[string]string{}, seen: map[string]bool{}}
	}
	// One device of the first user is there all the time, as far as the server
	// lets it; another one never is, until the end.
	online := watch(t, s, l.users["user-0"].token)

	answered, unanswered := 0, 0
	for round := range *rounds {
		a, u := l.load(round)
		answered, unanswered = answered+a, unanswered+u
		s.up()
		l.repeat()
		l.verify(t)
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
	t.Logf("%d rounds: %d requests answered, %d not", *rounds, answered, unanswered)
	if answered < 5*(*rounds) || unanswered == 0 {
		t.Errorf("%d answered and %d unanswered requests are too few to show anything", answered, unanswered)
	}

	for name, r := range l.users {
		if got := l.read(t, name, 0); !slices.Equal(got, r.timeline) {
			t.Errorf("%s: read whole, the timeline has %d entries; read in pieces over all the crashes it had %d, or others", name, len(got), len(r.timeline))
		}
	}
	first := l.users["user-0"].timeline
	got := online.await(len(first))
	for i := range min(len(got), len(first)) {
		if got[i] != first[i] {
			t.Errorf("at offset %d the device that was there saw %s, the one that was away %s", i+1, got[i], first[i])
		}
	}
	if len(got) != len(first) {
		t.Errorf("the device that was there saw %d messages, the one that was away %d", len(got), len(first))
	}
}

// A ledger knows what was sent, what was answered, and what has come.
type ledger struct {
	server *server
	users  map[string]*reader

	mu    sync.Mutex
	tried map[string]*request // by text: not answered, so unknown
}

// A request is one send.
type request struct {
	text    string // unique
	targets []string
	body    []byte
	key     string // of idempotency; empty for none
}

// A reader is a user and what their timeline must have.
type reader struct {
	token    string
	promised map[string]string // UID → text, answered and not read yet
	seen     map[string]bool   // texts
	timeline []string          // UIDs read so far, the one at i has offset i+1
}

func (l *ledger) load(round int) (answered, unanswered int) {
	s := l.server
	var done atomic.Int64
	var wg sync.WaitGroup
	before := len(l.tried)
	for sender := range killSenders {
		wg.Go(func() {
			for n := 0; ; n++ {
				r := l.request(fmt.Sprintf("%d-%d-%d", round, sender, n))
				if !l.send(r) {
					return
				}
				done.Add(1)
				time.Sleep(rand.N(4 * time.Millisecond))
			}
		})
	}
	time.Sleep(30*time.Millisecond + rand.N(350*time.Millisecond))
	s.kill()
	wg.Wait()
	return int(done.Load()), len(l.tried) - before
}

func (l *ledger) request(text string) *request {
	n := 1 + rand.N(5)
	if rand.N(2) == 0 {
		n = 1 + rand.N(killTargets)
	}
	r := &request{text: text}
	for _, u := range rand.Perm(killUsers)[:n] {
		r.targets = append(r.targets, fmt.Sprintf("user-%d", u))
	}
	if rand.N(2) == 0 {
		r.key = "key-" + text
	}
	var err error
	if r.body, err = json.Marshal(textMessage("backend", r.targets, text)); err != nil {
		panic(err) // maps of strings encode
	}
	return r
}

// send makes the request and notes what came of it.
func (l *ledger) send(r *request) (answered bool) {
	var header []string
	if r.key != "" {
		header = []string{"Idempotency-Key", r.key}
	}
	a, err := l.server.try("/v4/direct-channel/message/send", r.body, header...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.tried[r.text] = r
		return false
	}
	if a.Code != 0 || len(a.Result.UIDs) != len(r.targets) {
		l.server.t.Errorf("answer to a good request: %s", a.body)
		return false
	}
	delete(l.tried, r.text)
	for i, u := range a.Result.UIDs {
		if u.User != r.targets[i] {
			l.server.t.Errorf("target %d is %s, answered %s", i, r.targets[i], u.User)
		}
		l.users[u.User].promised[u.UID] = r.text
	}
	return true
}

// repeat repeats what got no answer and has a key.
func (l *ledger) repeat() {
	for _, r := range slices.Collect(maps.Values(l.tried)) {
		if r.key != "" && !l.send(r) {
			l.server.t.Errorf("no answer to a repeat")
		}
	}
}

// verify reads what is new in every timeline and holds it against the answers.
func (l *ledger) verify(t *testing.T) {
	t.Helper()
	appeared := map[string]int{} // of the requests nobody answered: in how many timelines
	var mu sync.Mutex
	var wg sync.WaitGroup
	gate := make(chan struct{}, 4)
	for name, r := range l.users {
		wg.Go(func() {
			gate <- struct{}{}
			defer func() { <-gate }()
			for _, e := range l.entries(t, name, uint64(len(r.timeline))) {
				if e.offset != uint64(len(r.timeline))+1 {
					t.Errorf("%s: offset %d follows %d", name, e.offset, len(r.timeline))
					return
				}
				if len(r.timeline) > 0 && e.uid <= r.timeline[len(r.timeline)-1] {
					t.Errorf("%s: UID %s at offset %d is not after the one before it", name, e.uid, e.offset)
				}
				if r.seen[e.text] {
					t.Errorf("%s: message %s came twice", name, e.text)
				}
				text, promised := r.promised[e.uid]
				_, tried := l.tried[e.text]
				switch {
				case promised && text != e.text:
					t.Errorf("%s: UID %s was answered for message %s, and names %s", name, e.uid, text, e.text)
				case !promised && !tried:
					t.Errorf("%s: message %s came under UID %s, which was not answered for it", name, e.text, e.uid)
				case !promised:
					mu.Lock()
					appeared[e.text]++
					mu.Unlock()
				}
				delete(r.promised, e.uid)
				r.seen[e.text] = true
				r.timeline = append(r.timeline, e.uid)
			}
			for uid, text := range r.promised {
				t.Errorf("%s: message %s was accepted as %s and is lost", name, text, uid)
			}
		})
	}
	wg.Wait()
	for text, n := range appeared {
		if want := len(l.tried[text].targets); n != want {
			t.Errorf("message %s is in %d of %d timelines: it must be in all or in none", text, n, want)
		}
	}
	clear(l.tried)
}

type timelineEntry struct {
	offset    uint64
	uid, text string
}

// read is the UIDs of a user's timeline after an offset.
func (l *ledger) read(t *testing.T, name string, after uint64) (uids []string) {
	t.Helper()
	for _, e := range l.entries(t, name, after) {
		uids = append(uids, e.uid)
	}
	return uids
}

// entries recovers a user's timeline after an offset, as a client does that
// connects with the place it remembers.
func (l *ledger) entries(t *testing.T, name string, after uint64) []timelineEntry {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	o := client.Options{URL: "ws://" + l.server.address + "/connection/websocket", Token: l.users[name].token}
	// Where a client that knows nothing yet gets the epoch from.
	probe, err := client.Dial(ctx, o)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	go drain(probe)
	h, err := probe.History(ctx, client.Me, client.HistoryOptions{})
	probe.Close()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	if h.Top.Offset == after {
		return nil
	}
	o.Positions = map[string]client.Position{client.Me: {Offset: after, Epoch: h.Top.Epoch}}
	c, err := client.Dial(ctx, o)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return nil
	}
	defer c.Close()
	var entries []timelineEntry
	for {
		select {
		case e := <-c.Events():
			switch e := e.(type) {
			case client.Connected:
				if me := e.Subs[client.Me]; !me.Recovered {
					t.Errorf("%s: the server could not recover from %d of %d", name, after, h.Top.Offset)
				}
			case client.Publication:
				entries = append(entries, parseEntry(e))
				if e.Offset >= h.Top.Offset {
					return entries
				}
			case client.Disconnected:
				t.Errorf("%s: %v", name, e)
				return entries
			}
		case <-ctx.Done():
			t.Errorf("%s: read %d entries after %d and not up to %d", name, len(entries), after, h.Top.Offset)
			return entries
		}
	}
}

func drain(c *client.Client) {
	for range c.Events() {
	}
}

func parseEntry(p client.Publication) timelineEntry {
	var e struct {
		Message struct {
			UID     string `json:"messageUID"`
			Content string `json:"content"`
		} `json:"message"`
	}
	var content struct {
		Content string `json:"content"`
	}
	// What does not parse has no text, and nobody sent that.
	if json.Unmarshal(p.Data, &e) == nil {
		_ = json.Unmarshal([]byte(e.Message.Content), &content)
	}
	return timelineEntry{p.Offset, e.Message.UID, content.Content}
}

// A watcher is a device that stays connected, coming back after every loss, and
// notes the UIDs it is given.
type watcher struct {
	t    *testing.T
	mu   sync.Mutex
	uids []string
}

func watch(t *testing.T, s *server, token string) *watcher {
	t.Helper()
	c, err := client.Dial(t.Context(), client.Options{
		URL: "ws://" + s.address + "/connection/websocket", Token: token, Data: json.RawMessage(`{"from":"oldest"}`),
		Reconnect: true, MinBackoff: 10 * time.Millisecond, MaxBackoff: 100 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	w := &watcher{t: t}
	go func() {
		for e := range c.Events() {
			p, ok := e.(client.Publication)
			if !ok {
				continue
			}
			w.mu.Lock()
			if p.Offset != uint64(len(w.uids))+1 {
				t.Errorf("the device that was there got offset %d after %d", p.Offset, len(w.uids))
			}
			e := parseEntry(p)
			if e.uid == "" {
				t.Errorf("the device that was there got at offset %d what is no message: %s", p.Offset, p.Data)
			}
			w.uids = append(w.uids, e.uid)
			w.mu.Unlock()
		}
	}()
	return w
}

// await is what was noted once there is so much of it, and a moment later, when
// more than enough would show.
func (w *watcher) await(n int) []string {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		w.mu.Lock()
		enough := len(w.uids) >= n
		w.mu.Unlock()
		if enough {
			break
		}
	}
	time.Sleep(200 * time.Millisecond)
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.uids)
}
