package node

import (
	"bytes"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/parleychat/parley/internal/client"
	"github.com/parleychat/parley/internal/store/pebble"
)

// What the model drives: a whole node on a file system in memory that forgets
// what was not synced, with a clock of its own, reached by HTTP and WebSocket.

// modelPatience is how long is waited for what must come. It is no measure of
// speed: nothing that passes waits for it.
const modelPatience = 20 * time.Second

type modelClock struct{ ms atomic.Int64 }

func (c *modelClock) now() time.Time { return time.UnixMilli(c.ms.Load()) }

// A modelDisk can hold syncs up, so that there is something to lose.
type modelDisk struct {
	*vfs.MemFS
	mu   sync.Mutex
	held chan struct{} // not nil while syncs are held
	wait atomic.Int64  // how many wait
}

func (d *modelDisk) fs() vfs.FS {
	return errorfs.Wrap(d.MemFS, errorfs.InjectorFunc(func(op errorfs.Op) error {
		switch op.Kind {
		case errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo:
			d.mu.Lock()
			held := d.held
			d.mu.Unlock()
			if held != nil {
				d.wait.Add(1)
				<-held
				d.wait.Add(-1)
			}
		}
		return nil
	}))
}

func (d *modelDisk) hold() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.held = make(chan struct{})
}

func (d *modelDisk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.held != nil {
		close(d.held)
		d.held = nil
	}
}

// An answer is what came of a request.
type answer struct {
	unknown  bool // nothing came, or it came after the power was cut
	code     int  // 0: done
	status   int  // HTTP
	replayed bool // the door says that it was done before
	body     []byte
}

func (a answer) String() string {
	if a.unknown {
		return "no answer"
	}
	return fmt.Sprintf("%d/%d %.300s", a.status, a.code, a.body)
}

func (a answer) read(v any) error { return json.Unmarshal(a.body, v) }

// boot starts the node on the disk there is.
func (r *modelRun) boot() {
	c := good()
	c.Data, c.AppKey, c.AppSecret = r.dir, "app", testSecret
	c.ShutdownSpread, c.DemoPage, c.Metrics = 0, demoOff, false
	c.PingInterval = time.Second // acknowledgements by pong, and lost wake-ups are noticed
	var log *slog.Logger
	if r.verbose {
		log = slog.New(slog.NewTextHandler(r.t.Output(), nil))
	} else {
		log = slog.New(slog.DiscardHandler)
	}
	fs := r.disk.fs()
	n, err := start(r.t.Context(), c, log, func(o *pebble.Options) {
		o.FS, o.Dir, o.Now = fs, "data", r.clock.now
		o.MinFree, o.Ballast, o.CacheBytes = 1, 1, 1<<20
	})
	if err != nil {
		r.fail(nil, "the node does not start: %v", err)
	}
	r.node = n
	r.base = "http://" + n.Addr().String()
	r.mu.Lock()
	r.cut = false
	r.mu.Unlock()
	if r.tokens == nil {
		r.register()
	}
	for _, d := range r.devices {
		d.loOpen = d.lo
	}
}

// register makes what the app needs, once.
func (r *modelRun) register() {
	ctx := r.t.Context()
	none := map[string]string{}
	for _, s := range []string{"direct", "system", "default", "history", "client", "token", "broadcast-hour", "broadcast-day"} {
		none["limits."+s] = "0"
	}
	none["broadcast.history"] = strconv.FormatBool(r.castsKept())
	_, err := r.node.Admin().SetApp(ctx, "app", none)
	if err != nil {
		r.fail(nil, "settings: %v", err)
	}
	r.app = 1 // the only one
	r.tokens = map[string]string{}
	for _, u := range r.users {
		t, err := r.node.Admin().IssueToken(ctx, "app", u.name, "")
		if err != nil {
			r.fail(nil, "token: %v", err)
		}
		r.tokens[u.name] = t.Token
	}
}

// halt stops the node in order. Its clients are told.
func (r *modelRun) halt() {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), modelPatience)
	defer cancel()
	n := r.node
	r.node = nil
	r.http.CloseIdleConnections()
	if err := n.Stop(ctx); err != nil {
		r.fail(nil, "the node does not stop: %v", err)
	}
	for _, d := range r.devices {
		d.ended()
	}
}

// cutPower is a crash: what was answered or shown by now counts, and the disk
// keeps what was synced and by chance some of the rest. The process that was is
// led to its end on the disk that was.
func (r *modelRun) cutPower() {
	r.mu.Lock()
	r.cut = true
	r.mu.Unlock()
	for _, d := range r.devices {
		d.freeze()
	}
	left := r.disk.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: r.rng.IntN(101), RNG: rand.New(rand.NewPCG(r.rng.Uint64(), 1))})
	r.disk.release()
	for _, d := range r.devices {
		d.drop()
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(r.t.Context()), modelPatience)
	defer cancel()
	n := r.node
	r.node = nil
	r.http.CloseIdleConnections()
	if err := n.Stop(ctx); err != nil {
		r.fail(nil, "the node that crashed does not come to its end: %v", err)
	}
	r.inFlight.Wait()
	r.disk = &modelDisk{MemFS: left}
	for _, d := range r.devices {
		d.lo = d.loOpen // cursors are not synced
	}
}

// settled marks the answer unknown if it came too late to count.
func (r *modelRun) settled(a answer) answer {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cut {
		return answer{unknown: true}
	}
	return a
}

// post makes a signed call of the server API. With a key it is idempotent.
func (r *modelRun) post(ctx context.Context, path, key string, body any) answer {
	text, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.base+path, bytes.NewReader(text))
	if err != nil {
		panic(err)
	}
	nonce, at := strconv.FormatUint(r.nonce.Add(1), 10), strconv.FormatInt(r.clock.ms.Load(), 10)
	sum := sha1.Sum([]byte(testSecret + nonce + at))
	for k, v := range map[string]string{
		"App-Key": "app", "Nonce": nonce, "Timestamp": at, "Signature": hex.EncodeToString(sum[:]), "Content-Type": "application/json",
	} {
		req.Header.Set(k, v)
	}
	if key != "" {
		req.Header.Set("Idempotency-Key", key)
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return answer{unknown: true}
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return answer{unknown: true}
	}
	var head struct {
		Code   int             `json:"code"`
		Result json.RawMessage `json:"result"`
	}
	a := answer{status: resp.StatusCode, body: b, replayed: resp.Header.Get("Idempotency-Replayed") == "true"}
	if json.Unmarshal(b, &head) != nil {
		a.code = -1
		return r.settled(a)
	}
	if a.code = head.Code; a.code == 0 {
		a.body = head.Result
	}
	return r.settled(a)
}

// rpc makes a call of a client, on the user's desk.
func (r *modelRun) rpc(ctx context.Context, user, method string, data any) answer {
	c := r.user(user).desk.client()
	if c == nil {
		return answer{unknown: true}
	}
	text, err := json.Marshal(data)
	if err != nil {
		panic(err)
	}
	for {
		b, err := c.RPC(ctx, method, text)
		if e, ok := errors.AsType[*client.Error](err); ok {
			if e.Code == 111 { // the test's pace, not its subject
				time.Sleep(20 * time.Millisecond)
				continue
			}
			return r.settled(answer{status: 200, code: int(e.Code), body: []byte(e.Message)})
		}
		if err != nil {
			return answer{unknown: true}
		}
		return r.settled(answer{status: 200, body: b})
	}
}

// timelineFrom reads what the user's timeline holds behind an offset.
func (r *modelRun) timelineFrom(u *modelUser, after uint64) (list []client.Publication) {
	d := r.desk(u.name)
	for {
		h, err := d.client().History(r.t.Context(), client.Me, client.HistoryOptions{Since: &client.Position{Offset: after, Epoch: r.epoch}, Limit: -1})
		if e, ok := errors.AsType[*client.Error](err); ok && e.Code == 111 {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		if err != nil {
			r.fail([]string{u.name}, "reading the timeline of %s behind %d: %v", u.name, after, err)
		}
		list = append(list, h.Publications...)
		if len(h.Publications) > 0 {
			after = list[len(list)-1].Offset
		}
		if after >= h.Top.Offset {
			return list
		}
		if len(h.Publications) == 0 {
			r.fail([]string{u.name}, "the timeline of %s ends at %d, its head is %d", u.name, after, h.Top.Offset)
		}
	}
}

// desk is the device on which the user's calls are made, connected.
func (r *modelRun) desk(user string) *modelDevice {
	d := r.user(user).desk
	if d.client() == nil {
		r.say([]string{user}, "%s connects to make calls", d)
		d.connect("", 0)
	}
	return d
}

// A modelDevice is one of a user's devices: what it has on its own disk, and its
// connection.
type modelDevice struct {
	r    *modelRun
	user *modelUser
	n    int
	id   string // deviceId; empty for none

	// What it remembers: the offset of the last publication that it has handled.
	// It can forget it.
	knows bool
	pos   uint64
	// The server's cursor of the device is somewhere in between. loOpen is what it
	// was at least when the node was started.
	lo, hi, loOpen uint64

	mu        sync.Mutex
	conn      *client.Client
	done      chan struct{} // closed when the connection is read to its end
	frozen    bool          // what comes now does not count any more
	started   *client.Subscribed
	data      json.RawMessage      // of the answer to connect
	got       []client.Publication // of this connection, not checked yet
	last      uint64               // offset of the newest in got, or before
	dropAfter int                  // publications after which the line is cut; 0 for none
	closed    *client.Disconnected
	came      chan struct{} // has one when something came
}

func (d *modelDevice) String() string { return fmt.Sprintf("%s/%d", d.user.name, d.n) }

func (d *modelDevice) client() *client.Client {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

func (d *modelDevice) freeze() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.frozen = true
}

// connect connects the device. How is a value of from, or empty for the position
// that it remembers, if it does.
// After cut publications, when that is not 0, it cuts its own line.
func (d *modelDevice) connect(from string, cut int) {
	r := d.r
	data := map[string]string{"platform": "web"}
	if d.id != "" {
		data["deviceId"] = d.id
	}
	if from != "" {
		data["from"] = from
	}
	text, _ := json.Marshal(data)
	o := client.Options{
		URL: "ws" + strings.TrimPrefix(r.base, "http") + "/connection/websocket", Token: r.tokens[d.user.name], Data: text, Timeout: modelPatience,
	}
	if from == "" && d.knows {
		o.Positions = map[string]client.Position{client.Me: {Offset: d.pos, Epoch: r.epoch}}
	}
	due := r.dueCasts(d.user)
	news := slices.DeleteFunc(slices.Clone(due), func(c *modelCast) bool { return d.user.brought[c] })
	c, err := client.Dial(r.t.Context(), o)
	if err != nil {
		r.fail([]string{d.user.name}, "%s cannot connect: %v", d, err)
	}
	d.mu.Lock()
	d.conn, d.done, d.frozen, d.started, d.got, d.closed = c, make(chan struct{}), false, nil, nil, nil
	d.came = make(chan struct{}, 1)
	d.dropAfter = cut
	done := d.done
	d.mu.Unlock()
	r.readers.Go(func() {
		defer close(done)
		for e := range c.Events() {
			d.take(c, e)
		}
	})
	d.await("the answer to connect", func() bool { return d.started != nil || d.closed != nil })
	mode := d.judgeStart(from)
	if !r.unsure {
		d.user.welcomes = append(d.user.welcomes, welcome{d, d.data, mode == "now", d.pos, due, news})
	}
	for _, c := range r.casts {
		if c.given[d.user.name] == nil && (r.unsure || slices.Contains(due, c)) {
			d.user.brought[c] = true
		}
	}
}

func (d *modelDevice) take(c *client.Client, e client.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	switch e := e.(type) {
	case client.Connected:
		if !d.frozen {
			s := e.Subs[client.Me]
			d.started, d.last, d.data = &s, s.Position.Offset, e.Data
		}
	case client.Publication:
		switch {
		case d.frozen:
		case e.Offset == 0: // ephemeral, looked at when it comes
			if !strings.Contains(string(e.Data), `"messageType":"RC:TypSts"`) {
				d.r.complain([]string{d.user.name}, "%s was shown without an offset: %s", d, e.Data)
			}
		default:
			d.got, d.last = append(d.got, e), e.Offset
			if d.dropAfter--; d.dropAfter == 0 {
				d.frozen = true
				c.Drop()
			}
		}
	case client.Disconnected:
		d.closed = &e
	}
	select {
	case d.came <- struct{}{}:
	default:
	}
}

// await waits until ok, which is asked with the lock held.
func (d *modelDevice) await(what string, ok func() bool) {
	late := time.NewTimer(modelPatience)
	defer late.Stop()
	for {
		d.mu.Lock()
		done, came, last := ok(), d.came, d.last
		d.mu.Unlock()
		if done {
			return
		}
		select {
		case <-came:
		case <-late.C:
			d.r.fail([]string{d.user.name}, "%s does not get %s; its last offset is %d", d, what, last)
		}
	}
}

// judgeStart says whether the stream starts where it must, and how that was said.
func (d *modelDevice) judgeStart(from string) (mode string) {
	r, touches := d.r, []string{d.user.name}
	d.mu.Lock()
	s, closed := d.started, d.closed
	d.mu.Unlock()
	if s == nil {
		r.fail(touches, "%s was closed instead of connected: %v", d, closed)
	}
	if r.epoch == "" {
		r.epoch = s.Position.Epoch
	}
	if s.Position.Epoch != r.epoch {
		r.fail(touches, "%s is told of epoch %s, it was %s", d, s.Position.Epoch, r.epoch)
	}
	at, head := s.Position.Offset, uint64(len(d.user.timeline))
	mode = from
	if mode == "" {
		switch {
		case d.knows:
			mode = "position"
		case d.id != "":
			mode = "device"
		default:
			mode = "now"
		}
	}
	if mode == "device" && d.id == "" {
		mode = "oldest" // no device: all there is
	}
	lo, hi := uint64(0), uint64(0)
	switch mode {
	case "position":
		lo, hi = d.pos, d.pos
	case "device":
		lo, hi = d.lo, d.hi
	case "now":
		lo, hi = head, head+1<<20 // what is told of metadata comes when it is due
	}
	if at < lo || at > hi {
		r.fail(touches, "%s connected with %s and starts behind %d, want %d to %d", d, mode, at, lo, hi)
	}
	if s.Recovered != (mode != "now") {
		r.fail(touches, "%s connected with %s at %d: recovered is %t", d, mode, at, s.Recovered)
	}
	if d.id != "" {
		d.lo, d.hi = max(d.lo, at), max(d.hi, at)
	}
	d.knows, d.pos = true, at
	return mode
}

// check compares what came with what the timeline holds, as far as that is known.
func (d *modelDevice) check() {
	d.mu.Lock()
	got := d.got
	d.mu.Unlock()
	n := 0
	for _, p := range got {
		if p.Offset != d.pos+1 {
			d.r.fail([]string{d.user.name}, "%s was shown offset %d after %d: %s", d, p.Offset, d.pos, p.Data)
		}
		if p.Offset > uint64(len(d.user.timeline)) {
			break // the model has not looked there yet
		}
		if want := d.user.timeline[p.Offset-1]; string(p.Data) != want {
			d.r.fail([]string{d.user.name}, "%s was shown at offset %d\n\t%s\nthe timeline has\n\t%s", d, p.Offset, p.Data, want)
		}
		d.pos = p.Offset
		n++
	}
	d.hi = max(d.hi, d.pos)
	d.mu.Lock()
	d.got = d.got[n:]
	d.mu.Unlock()
}

// catchUp waits until the device has everything the model knows of.
func (d *modelDevice) catchUp() {
	head := uint64(len(d.user.timeline))
	d.await(fmt.Sprintf("what its timeline holds, up to %d", head), func() bool { return d.last >= head || d.frozen || d.closed != nil })
	d.check()
	d.mu.Lock()
	closed, frozen := d.closed, d.frozen
	d.mu.Unlock()
	switch {
	case frozen: // it cut its own line
		d.leave()
	case closed != nil:
		d.r.fail([]string{d.user.name}, "%s was closed: %v", d, closed)
	}
}

func (d *modelDevice) gone() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.frozen || d.closed != nil
}

// drop cuts the line; leave says goodbye. What came by then counts.
func (d *modelDevice) drop() {
	d.freeze()
	if c := d.client(); c != nil {
		c.Drop()
		d.leave()
	}
}

func (d *modelDevice) leave() {
	// A client that is closed may leave out some of what waits to be read.
	d.freeze()
	c := d.client()
	if c == nil {
		return
	}
	c.Close()
	<-d.done
	if p, ok := c.Position(client.Me); ok {
		d.hi = max(d.hi, p.Offset) // a pong may have acknowledged it
	}
	d.mu.Lock()
	d.conn = nil
	d.mu.Unlock()
}

// ended is after a stop of the node.
func (d *modelDevice) ended() {
	if d.client() == nil {
		return
	}
	d.await("a goodbye", func() bool { return d.closed != nil || d.frozen })
	d.mu.Lock()
	closed, frozen := d.closed, d.frozen
	d.mu.Unlock()
	if !frozen && closed.Code != 3001 {
		d.r.fail([]string{d.user.name}, "%s was closed with %v at a stop", d, closed)
	}
	d.leave()
}

// ack acknowledges on the device's own connection: now and then more than it was
// given, which moves nothing past that. When the line is cut at once nobody knows
// whether it arrived.
func (d *modelDevice) ack(offset uint64, lost bool) {
	c, r := d.client(), d.r
	body, _ := json.Marshal(map[string]any{"offset": offset, "epoch": r.epoch})
	if lost {
		d.hi = max(d.hi, min(offset, uint64(len(d.user.timeline))))
		r.readers.Go(func() { _, _ = c.RPC(r.t.Context(), "ack", body) })
		d.drop()
		return
	}
	b, err := c.RPC(r.t.Context(), "ack", body)
	if err != nil {
		if !d.gone() {
			r.fail([]string{d.user.name}, "%s cannot acknowledge %d: %v", d, offset, err)
		}
		return
	}
	var out struct{ Offset uint64 }
	if err := json.Unmarshal(b, &out); err != nil {
		r.fail([]string{d.user.name}, "%s: %v in %s", d, err, b)
	}
	r.look(nil, []*modelUser{d.user})
	if head := uint64(len(d.user.timeline)); out.Offset > head || out.Offset < min(offset, d.pos) {
		r.fail([]string{d.user.name}, "%s acknowledged %d and has %d; it is answered %d, the head is %d", d, offset, d.pos, out.Offset, head)
	}
	d.lo, d.hi = max(d.lo, out.Offset), max(d.hi, out.Offset)
}
