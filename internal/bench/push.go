package bench

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash/maphash"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

const (
	pushDevicePath = "/v4x/push/device/register"
	// pushEach is how many messages each device is notified of one by one, however
	// fast they come.
	pushEach = 5
	// pushQueued is how long a queue may take to be made, and pushDrained to be
	// emptied, per 100,000 jobs.
	pushQueued  = time.Minute
	pushDrained = 2 * time.Minute
	// pushRest is how long the server is left alone until it is at rest, in times
	// that it takes to settle.
	pushRest = 5
)

// A pushStage is a provider that is played by the generator, and what it was given.
type pushStage struct {
	sim     *pushtest.Sim
	server  *pushtest.Server
	address string

	taken atomic.Int64 // notifications, repeats among them
	mu    sync.Mutex
	names map[uint64]struct{} // of those that came
}

var pushSeed = maphash.MakeSeed()

// newPushStage makes a provider that cannot be reached yet.
func newPushStage(p chat.PushProvider) (*pushStage, error) {
	st := &pushStage{names: map[uint64]struct{}{}}
	st.sim = pushtest.All()[p](pushtest.Options{Strangers: true, Forget: true, Shown: st.note})
	var err error
	if st.server, err = pushtest.NewServer(); err != nil {
		return nil, err
	}
	// Nobody else is given the port while it is free for so short a time.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	st.address = ln.Addr().String()
	return st, ln.Close()
}

func (st *pushStage) note(n pushtest.Shown) {
	var h maphash.Hash
	h.SetSeed(pushSeed)
	_, _ = h.WriteString(n.Token)
	_, _ = h.WriteString(n.Key)
	st.mu.Lock()
	st.names[h.Sum64()] = struct{}{}
	st.mu.Unlock()
	st.taken.Add(1)
}

func (st *pushStage) distinct() int64 {
	st.mu.Lock()
	defer st.mu.Unlock()
	return int64(len(st.names))
}

// open lets the provider be reached.
func (st *pushStage) open() error {
	_, err := st.server.Serve(st.sim, st.address)
	return err
}

// admit gives the server's app a credential for the provider.
func (st *pushStage) admit(ctx context.Context, o *Options, srv *server) error {
	c := st.sim.Credential("https://" + st.address)
	args := []string{"push", "credential", "set", "--data=" + srv.data, "--app-key=" + srv.key, "--base-url=" + c.BaseURL, c.Provider.String(), "rate=1000000"}
	for name, value := range c.Fields {
		file := filepath.Join(srv.data, "bench-"+name)
		if err := os.WriteFile(file, []byte(value), 0o600); err != nil {
			return err
		}
		args = append(args, name+"=@"+file)
	}
	set := exec.CommandContext(ctx, o.Program, args...)
	set.Env = cleanEnv()
	if out, err := set.CombinedOutput(); err != nil {
		return fmt.Errorf("give the app a credential: %w: %s", err, out)
	}
	return nil
}

// roots is the setting by which the server trusts the provider that is played.
func (st *pushStage) roots(data string) (string, error) {
	file := filepath.Join(filepath.Dir(data), filepath.Base(data)+"-ca.pem")
	return file, os.WriteFile(file, st.server.CA, 0o600)
}

func pushUser(i int) string { return "push-" + strconv.Itoa(i) }

// registerPush registers a device of each of n users.
func registerPush(ctx context.Context, srv *server, p chat.PushProvider, n int) error {
	return inParallel(ctx, srv, n, func(_ context.Context, c *caller, i int) error {
		sum := sha256.Sum256([]byte(pushUser(i)))
		status, answer, err := c.call(pushDevicePath, fmt.Appendf(nil,
			`{"userId":%q,"deviceId":"phone","provider":%q,"token":%q,"bundle":"com.example.app"}`, pushUser(i), p, hex.EncodeToString(sum[:])))
		if err == nil && (status != http.StatusOK || !bytes.HasPrefix(answer, []byte(`{"code":0`))) {
			err = fmt.Errorf("register a device: status %d: %s", status, answer)
		}
		return err
	})
}

// decided is how many recipients the server has decided to notify so far.
func decided(ctx context.Context, srv *server) (n int64, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+srv.addr+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		line := lines.Text()
		if strings.HasPrefix(line, "parley_push_decisions_total{") && strings.Contains(line, `effect="alert"`) && strings.Contains(line, `reason="away"`) {
			f, err := strconv.ParseFloat(line[strings.LastIndexByte(line, ' ')+1:], 64)
			if err != nil {
				return 0, err
			}
			n += int64(f)
		}
	}
	return n, nil
}

// drain has a provider take what waited for it, and measures the server while it
// does.
func (o *Options) drain(ctx context.Context, p chat.PushProvider, jobs int, res *Result) (m queueMemory, err error) {
	users := max(jobs/pushEach, 1)
	jobs = users * pushEach
	st, err := newPushStage(p)
	if err != nil {
		return m, err
	}
	defer st.server.Close()
	err = o.folder(func(data string) error {
		ca, err := st.roots(data)
		if err != nil {
			return err
		}
		defer os.Remove(ca)
		settings := []string{"push-ca=" + ca}
		if err := o.serveOn(ctx, data, settings, func(srv *server) error {
			if err := st.admit(ctx, o, srv); err != nil {
				return err
			}
			return registerPush(ctx, srv, p, users)
		}); err != nil {
			return err
		}
		return o.serveOn(ctx, data, settings, func(srv *server) error {
			sleep(ctx, pushRest*o.scale.settle)
			m.fresh = srv.now().server.rss
			growing := watchMemory(ctx, srv)
			defer growing.stop()
			if err := queuePushes(ctx, o, srv, users); err != nil {
				return err
			}
			if err := wait(ctx, pushQueued*time.Duration(1+jobs/100_000), func() (bool, error) {
				n, err := decided(ctx, srv)
				return n >= int64(jobs), err
			}); err != nil {
				return fmt.Errorf("make %d jobs: %w", jobs, err)
			}
			m.growing = growing.stop()
			// What sending took is given back meanwhile: it is not the queue's.
			sleep(ctx, pushRest*o.scale.settle)
			m.waiting = srv.now().server.rss
			emptying := watchMemory(ctx, srv)
			defer emptying.stop()
			if err := st.open(); err != nil {
				return err
			}
			// The server finds out by itself that the provider is back.
			if err := wait(ctx, pushQueued, func() (bool, error) { return st.taken.Load() > 0, nil }); err != nil {
				return fmt.Errorf("come to the provider again: %w", err)
			}
			before, base := srv.now(), st.taken.Load()
			if err := wait(ctx, pushDrained*time.Duration(1+jobs/100_000), func() (bool, error) { return st.distinct() >= int64(jobs), nil }); err != nil {
				res.Broken = append(res.Broken, fmt.Sprintf("%d of %d notifications came", st.distinct(), jobs))
			}
			after := srv.now()
			m.emptying = emptying.stop()
			took := after.at.Sub(before.at)
			res.Seconds = took.Seconds()
			res.Rates = []Rate{rate("notifications", st.taken.Load()-base, took)}
			res.Server = between(before, after)
			res.Server.RSSBefore, res.Server.RSSAfter = m.fresh, m.emptying
			res.Verified = fmt.Sprintf("%d notifications of %d came, %d of them twice", st.distinct(), jobs, st.taken.Load()-st.distinct())
			sleep(ctx, pushRest*o.scale.settle)
			m.empty = srv.now().server.rss
			res.Notes = append(res.Notes, m.note(), fmt.Sprintf("over HTTP/1: %d requests", st.sim.Stats().Protocol1))
			return nil
		})
	})
	return m, err
}

// queueMemory is what memory the server had, in bytes.
type queueMemory struct {
	fresh    int64 // freshly started on a store that knows the devices
	growing  int64 // at most while the queue grew
	waiting  int64 // at rest with all of it
	emptying int64 // at most while it was emptied
	empty    int64 // at rest without any
}

func (m *queueMemory) note() string {
	mb := func(n int64) float64 { return float64(n) / 1e6 }
	return fmt.Sprintf("memory before is that of the server freshly started, with the devices registered, after the most while they were sent; while the queue grew, by sends as fast as they were taken, it had %.1f MB at most, at rest with all of them waiting %.1f MB, and at rest again at the end %.1f MB",
		mb(m.growing), mb(m.waiting), mb(m.empty))
}

// A memoryWatch looks at how much memory the server has.
type memoryWatch struct {
	cancel context.CancelFunc
	done   sync.WaitGroup
	most   int64
}

func watchMemory(ctx context.Context, srv *server) *memoryWatch {
	ctx, cancel := context.WithCancel(ctx)
	w := &memoryWatch{cancel: cancel}
	w.done.Go(func() {
		for ctx.Err() == nil {
			w.most = max(w.most, processUsage(srv.pid).rss)
			sleep(ctx, 200*time.Millisecond)
		}
	})
	return w
}

// stop ends it, and gives the most there was, in bytes.
func (w *memoryWatch) stop() int64 {
	w.cancel()
	w.done.Wait()
	return w.most
}

// queuePushes sends so many messages to each of the users, who are all away.
func queuePushes(ctx context.Context, o *Options, srv *server, users int) error {
	var bodies [][]byte
	for from := 0; from < users; from += o.scale.group {
		var to []string
		for i := from; i < min(from+o.scale.group, users); i++ {
			to = append(to, pushUser(i))
		}
		bodies = append(bodies, directBody(to, 200))
	}
	for range pushEach {
		if err := inParallel(ctx, srv, len(bodies), func(_ context.Context, c *caller, i int) error {
			_, err := c.send(directPath, bodies[i], bytes.Count(bodies[i], []byte("push-")))
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// wait waits until something holds.
func wait(ctx context.Context, limit time.Duration, holds func() (bool, error)) error {
	for end := time.Now().Add(limit); ; {
		ok, err := holds()
		if ok || err != nil {
			return err
		}
		if time.Now().After(end) {
			return fmt.Errorf("it took longer than %s", limit)
		}
		if sleep(ctx, 20*time.Millisecond); ctx.Err() != nil {
			return context.Cause(ctx)
		}
	}
}

// pushThrough measures what a notification costs the server.
func pushThrough(p chat.PushProvider, name string) measure {
	return func(ctx context.Context, o *Options) (*Result, error) {
		res := &Result{Case: name, Load: fmt.Sprintf("%d notifications that waited for %s, played over TLS by the generator", o.scale.pushes, p)}
		if _, err := o.drain(ctx, p, o.scale.pushes, res); err != nil {
			return res, err
		}
		per := 0.0
		if res.Server.CPUSeconds > 0 {
			per = float64(res.Rates[0].Count) / res.Server.CPUSeconds
		}
		res.Floors = append(res.Floors, atLeast("notifications per core second", 10_000, per))
		return res, nil
	}
}

// pushDrain measures what a long queue takes.
func pushDrain(ctx context.Context, o *Options) (*Result, error) {
	res := &Result{Case: "push-drain", Load: fmt.Sprintf("%d notifications that waited for APNs, while it could not be reached", o.scale.queued)}
	m, err := o.drain(ctx, chat.APNs, o.scale.queued, res)
	if err != nil {
		return res, err
	}
	res.Floors = append(res.Floors,
		atMost("MB above a fresh start, with all of them waiting", 200, float64(m.waiting-m.fresh)/1e6),
		atMost("MB above a fresh start, at most while they were sent", 200, float64(m.emptying-m.fresh)/1e6))
	return res, nil
}

// pushEnqueue measures what it costs those who send that recipients are away and
// have devices: the same load on a server whose app has no credential, on one that
// has but nobody's device, and on one with a device of each recipient.
func pushEnqueue(ctx context.Context, o *Options) (*Result, error) {
	sc := o.scale
	res := &Result{
		Case: "push-enqueue",
		Load: fmt.Sprintf("%d requests in flight, %d recipients each out of %d, all away, 200-byte content; without credentials, without devices, with a device each, in turn", sc.groupCallers, sc.group, sc.groupCallers*sc.group),
	}
	var rates [3][]float64
	for round := range 2 {
		for k := range rates {
			how := k
			if round%2 == 1 {
				how = len(rates) - 1 - k // so that a machine that drifts does so for all
			}
			r, server, err := o.enqueue(ctx, how > 0, how > 1)
			if err != nil {
				return res, err
			}
			rates[how] = append(rates[how], r.PerSecond)
			if how == 2 {
				res.Rates, res.Server, res.Seconds = []Rate{r}, server, r.Seconds
			}
		}
	}
	mean := func(how int) float64 { return (rates[how][0] + rates[how][1]) / 2 }
	if mean(0) > 0 {
		res.Floors = []Floor{
			atLeast("of the throughput, no device registered, percent", 80, 100*mean(1)/mean(0)),
			atLeast("of the throughput, a device each, percent", 80, 100*mean(2)/mean(0)),
		}
	}
	res.Verified = "that every call was accepted"
	res.Notes = append(res.Notes, fmt.Sprintf("recipients per second without credentials %.0f and %.0f, without devices %.0f and %.0f, with a device each %.0f and %.0f",
		rates[0][0], rates[0][1], rates[1][0], rates[1][1], rates[2][0], rates[2][1]),
		"the provider cannot be reached meanwhile: sending to it is not what is measured")
	return res, nil
}

func (o *Options) enqueue(ctx context.Context, credential, devices bool) (r Rate, used Server, err error) {
	sc := o.scale
	st, err := newPushStage(chat.APNs)
	if err != nil {
		return r, used, err
	}
	defer st.server.Close()
	err = o.serve(ctx, func(srv *server) error {
		if credential {
			if err := st.admit(ctx, o, srv); err != nil {
				return err
			}
		}
		if devices {
			if err := registerPush(ctx, srv, chat.APNs, sc.groupCallers*sc.group); err != nil {
				return err
			}
		}
		bodies := make([][]byte, sc.groupCallers)
		for i := range bodies {
			users := make([]string, sc.group)
			for k := range users {
				users[k] = pushUser(i*sc.group + k)
			}
			bodies[i] = directBody(users, 200)
		}
		sleep(ctx, sc.settle)
		var l load
		err := l.run(ctx, srv, sc.groupCallers, o.Time, func(c *caller, i int) error {
			_, err := c.send(directPath, bodies[i], sc.group)
			return err
		})
		r = rate("recipient messages", l.done.Load()*int64(sc.group), o.Time)
		used = between(l.before, l.after)
		return err
	})
	return r, used, err
}
