package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// A cast is push providers, simulated in this process, and the phones of theirs
// that users of a server have: one each.
type cast struct {
	t    *testing.T
	sims map[chat.PushProvider]*pushtest.Sim
	ca   string // a file
	// answering is how long a provider takes to answer once it has taken a
	// notification: what is killed meanwhile sends it again.
	answering time.Duration

	// seen, when set, is told of each request, from any goroutine.
	seen func(p chat.PushProvider, r *http.Request)

	credentials []chat.PushCredential
	lanes       []chat.PushProvider // in the order of users

	mu    sync.Mutex
	want  map[string]notice // by UID
	shown map[string][]arrival
	count int
}

// A notice is a message that somebody's phone is to be told of.
type notice struct {
	token    string
	provider chat.PushProvider
	until    time.Time // it is of no use later
}

type arrival struct {
	token string
	at    time.Time
}

// simulate starts the providers.
func (c *cast) simulate(t *testing.T, providers ...chat.PushProvider) {
	t.Helper()
	c.t, c.ca, c.lanes = t, filepath.Join(t.TempDir(), "ca.pem"), providers
	c.sims, c.want, c.shown = map[chat.PushProvider]*pushtest.Sim{}, map[string]notice{}, map[string][]arrival{}
	server, err := pushtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	if err := os.WriteFile(c.ca, server.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, p := range providers {
		sim := pushtest.All()[p](pushtest.Options{Strangers: true, Shown: c.show, Seen: func(r *http.Request, _ string) {
			if c.seen != nil {
				c.seen(p, r)
			}
		}})
		address, err := server.Serve(sim, "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.sims[p] = sim
		c.credentials = append(c.credentials, sim.Credential(address))
	}
}

// show notes what a phone shows.
func (c *cast) show(n pushtest.Shown) {
	var card struct {
		UID string `json:"id"`
	}
	if err := json.Unmarshal([]byte(n.Card), &card); err != nil || card.UID == "" {
		c.t.Errorf("a phone was shown what leads nowhere: %+v", n)
	}
	c.mu.Lock()
	c.shown[card.UID] = append(c.shown[card.UID], arrival{n.Token, n.At})
	c.count++
	c.mu.Unlock()
	time.Sleep(c.answering)
}

// serve starts a server that notifies by the providers, and registers a phone of
// each of the users: of one provider after the other.
func (c *cast) serve(users int, args ...string) *server {
	c.t.Helper()
	s := start(c.t, append([]string{"--push-ca", c.ca}, args...)...)
	if _, stderr, code := s.parley("app", "set", appKey, "limits.direct=0", "limits.default=0"); code != 0 {
		c.t.Fatal(stderr)
	}
	for _, cred := range c.credentials {
		args := []string{"push", "credential", "set", cred.Provider.String(), "--base-url", cred.BaseURL}
		for name, value := range cred.Fields {
			args = append(args, name+"="+value)
		}
		if _, stderr, code := s.parley(args...); code != 0 {
			c.t.Fatal(stderr)
		}
	}
	var failed sync.Once
	together(32, users, func(i int) {
		body, err := json.Marshal(object{"userId": user(i), "deviceId": "phone", "provider": c.provider(i).String(), "token": pushtest.Token(c.provider(i), c.token(i)), "package": "com.example.app"})
		if err != nil {
			panic(err) // a map of strings encodes
		}
		if a, err := s.try("/v4x/push/device/register", body); err != nil || a.Code != 0 {
			failed.Do(func() { c.t.Errorf("registering a phone: %v, %s", err, a.body) })
		}
	})
	if c.t.Failed() {
		c.t.FailNow()
	}
	return s
}

func user(i int) string { return "user-" + strconv.Itoa(i) }

func (c *cast) provider(i int) chat.PushProvider { return c.lanes[i%len(c.lanes)] }

// token is that of the user's phone, which may be one of Apple's.
func (*cast) token(i int) string { return fmt.Sprintf("%064x", i+1) }

// together calls f for each number below n, a few at once.
func together(width, n int, f func(i int)) {
	var wg sync.WaitGroup
	gate := make(chan struct{}, width)
	for i := range n {
		gate <- struct{}{}
		wg.Go(func() {
			f(i)
			<-gate
		})
	}
	wg.Wait()
}

// tell sends a message to the users, and notes that they are to be notified of it.
// It may be called from any goroutine.
func (c *cast) tell(s *server, kind, text string, users ...int) {
	m := textMessage("alice", nil, text)
	life := 24 * time.Hour
	if strings.HasPrefix(kind, "RC:VC") {
		life = time.Minute
		m["pushContent"] = "alice calls"
	}
	to := make([]string, len(users))
	index := map[string]int{}
	for k, i := range users {
		to[k] = user(i)
		index[user(i)] = i
	}
	m["messageType"], m["toUserIds"] = kind, to
	body, err := json.Marshal(m)
	if err != nil {
		panic(err) // a map of strings encodes
	}
	a, err := s.try("/v4/direct-channel/message/send", body)
	if err != nil || a.Code != 0 || len(a.Result.UIDs) != len(users) {
		c.t.Errorf("sending: %v, %s", err, a.body)
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, u := range a.Result.UIDs {
		i := index[u.User]
		c.want[u.UID] = notice{c.token(i), c.provider(i), sentAt(c.t, u.UID).Add(life)}
	}
}

// sentAt is when the message of the UID was accepted.
func sentAt(t *testing.T, uid string) time.Time {
	u, err := chat.ParseUID(uid)
	if err != nil {
		t.Error(err)
	}
	return u.Time()
}

// arrived is how many notifications phones were shown.
func (c *cast) arrived() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.count
}

// missing is how many messages no phone was shown, of those that now and later are
// of use.
func (c *cast) missing() (n int) {
	for _, k := range c.left() {
		n += k
	}
	return n
}

// left is what is missing, by provider.
func (c *cast) left() map[chat.PushProvider]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	left, now := map[chat.PushProvider]int{}, time.Now()
	for uid, w := range c.want {
		if len(c.shown[uid]) == 0 && now.Before(w.until) {
			left[w.provider]++
		}
	}
	return left
}

// verify holds what phones were shown against what was sent, and gives how many
// notifications there were of a message beyond the first, and how many messages
// nobody was notified of, since that would have been too late.
func (c *cast) verify() (twice, never int) {
	c.t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, w := range c.want {
		list := c.shown[uid]
		if len(list) == 0 {
			never++
			continue
		}
		twice += len(list) - 1
		for _, a := range list {
			if a.token != w.token {
				c.t.Errorf("message %s was told to the phone %s instead of %s", uid, a.token, w.token)
			}
			if a.at.After(w.until) {
				c.t.Errorf("message %s was told to a phone of %s %s too late", uid, w.provider, a.at.Sub(w.until))
			}
		}
	}
	for uid := range c.shown {
		if _, sent := c.want[uid]; !sent {
			c.t.Errorf("a phone was told of message %s, which nobody sent", uid)
		}
	}
	return twice, never
}

// eventually waits for something to hold, however slow the machine is.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * time.Minute); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
	}
}

// waits are how long notifications took to arrive, from when their messages were
// old enough, by provider, growing.
func (c *cast) waits(grace time.Duration) map[chat.PushProvider][]time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[chat.PushProvider][]time.Duration{}
	for uid, w := range c.want {
		if list := c.shown[uid]; len(list) > 0 {
			all[w.provider] = append(all[w.provider], list[0].at.Sub(sentAt(c.t, uid))-grace)
		}
	}
	for _, list := range all {
		slices.Sort(list)
	}
	return all
}

// settled waits until nothing is to be notified of any more.
func (c *cast) settled(s *server) {
	c.t.Helper()
	defer func() {
		if c.missing() > 0 {
			c.t.Errorf("not told: %v", c.left())
		}
	}()
	eventually(c.t, "all are told", func() bool { return c.missing() == 0 })
	eventually(c.t, "nothing waits", func() bool { return s.metric("parley_push_jobs") == 0 })
}

// metric is the sum of the server's counters of the name that have these labels.
func (s *server) metric(name string, labels ...string) (sum float64) {
	s.t.Helper()
	resp, err := http.Get("http://" + s.address + "/metrics")
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	var text strings.Builder
	buf := make([]byte, 64<<10)
	for {
		n, err := resp.Body.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			break
		}
	}
lines:
	for line := range strings.Lines(text.String()) {
		if !strings.HasPrefix(line, name+"{") && !strings.HasPrefix(line, name+" ") {
			continue
		}
		for _, l := range labels {
			if !strings.Contains(line, l) {
				continue lines
			}
		}
		v, err := strconv.ParseFloat(strings.TrimSpace(line[strings.LastIndexByte(strings.TrimSpace(line), ' ')+1:]), 64)
		if err != nil {
			s.t.Fatal(err)
		}
		sum += v
	}
	return sum
}
