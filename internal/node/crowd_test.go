package node

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/websocket"
)

const (
	// crowdSize and crowdTime are those of a run that only shows that all works.
	crowdSize = 200
	crowdTime = 3 * time.Second

	crowdSteady  = 30  // participants besides, who stay and look at everything
	crowdWorkers = 64  // that have participants leave and enter
	crowdPerSec  = 500 // leave, and as many enter, or a third of them if they are fewer
	crowdLanes   = 5   // senders
	crowdSpeech  = 50  // messages a second, of all of them

	// What may be left of a crowd when it is gone: pools, tables that grew, what
	// the store has in memory of the messages.
	crowdHeap       = 12 << 20
	crowdGoroutines = 30
)

// TestCrowd has a crowd leave and enter an open channel all the time, some by
// losing their connection, while messages flow. At the end the counts are exact,
// who stayed has every message exactly once and in order, and nothing is left of
// who has gone. PARLEY_CROWD asks for more participants and time, as 12000,3m.
func TestCrowd(t *testing.T) {
	n, d := crowdSize, crowdTime
	if v := os.Getenv("PARLEY_CROWD"); v != "" {
		size, long, _ := strings.Cut(v, ",")
		var err, err2 error
		n, err = strconv.Atoi(size)
		d, err2 = time.ParseDuration(long)
		if err != nil || err2 != nil || n < crowdWorkers {
			t.Fatalf("PARLEY_CROWD: want participants and a time, such as 12000,3m, got %q", v)
		}
	}
	c := &crowdRun{t: t, node: startNodeProcess(t), transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	t.Cleanup(c.transport.CloseIdleConnections)
	c.makeUsers(n)
	if t.Failed() {
		return
	}

	// What the first crowd leaves behind is what the next one must not add to.
	c.enterAll()
	c.leaveAll()
	before := c.gone()

	c.enterAll()
	c.awaitFolded(n + crowdSteady)
	moved := c.churn(d)
	in := c.settle()
	c.checkSteady(in)
	taken := c.taken()
	c.leaveAll()
	after := c.gone()

	t.Logf("%d left and entered again in %s, %d messages; heap %d KB before and %d KB after, goroutines %d and %d",
		moved, d, taken, before.Heap>>10, after.Heap>>10, before.Goroutines, after.Goroutines)
	if moved == 0 || taken == 0 {
		t.Error("nothing happened")
	}
	if after.Heap > before.Heap+crowdHeap {
		t.Errorf("the heap has %d KB after the crowd, and had %d KB before", after.Heap>>10, before.Heap>>10)
	}
	if after.Goroutines > before.Goroutines+crowdGoroutines {
		t.Errorf("%d goroutines after the crowd, %d before", after.Goroutines, before.Goroutines)
	}
}

// A crowdRun is one crowd and the node that it is on.
type crowdRun struct {
	t         *testing.T
	node      *nodeProcess
	transport *http.Transport
	steady    []*visitor
	visitors  []*visitor
	lanes     [crowdLanes]crowdLane
}

// A crowdLane is a sender, whose messages are numbered.
type crowdLane struct {
	said  int
	taken []int
}

// taken is how many messages were taken.
func (c *crowdRun) taken() (n int) {
	for i := range c.lanes {
		n += len(c.lanes[i].taken)
	}
	return n
}

// call makes a signed call.
func (c *crowdRun) call(path, body string) ([]byte, error) {
	r, err := http.NewRequest(http.MethodPost, "http://"+c.node.address+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	sign(r.Header)
	resp, err := c.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil && !bytes.HasPrefix(b, []byte(`{"code":0,`)) {
		err = fmt.Errorf("%s: %s", path, b)
	}
	return b, err
}

// parallel calls f with each visitor, several at a time, and fails the test with
// the first error.
func (c *crowdRun) parallel(list []*visitor, f func(*visitor) error) {
	c.t.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, crowdWorkers)
	for range crowdWorkers {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < len(list); i = int(next.Add(1) - 1) {
				if err := f(list[i]); err != nil {
					errs <- fmt.Errorf("%s: %w", list[i].user, err)
					return
				}
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		c.t.Fatal(err)
	default:
	}
}

func (c *crowdRun) everybody() []*visitor { return slices.Concat(c.steady, c.visitors) }

func (c *crowdRun) makeUsers(n int) {
	c.t.Helper()
	for i := range crowdSteady {
		c.steady = append(c.steady, &visitor{run: c, user: fmt.Sprint("steady-", i), steady: true})
	}
	for i := range n {
		c.visitors = append(c.visitors, &visitor{run: c, user: fmt.Sprint("visitor-", i)})
	}
	c.parallel(c.everybody(), func(v *visitor) error {
		b, err := c.call("/v4/auth/access-token/issue", fmt.Sprintf(`{"userId":%q,"name":%q}`, v.user, v.user))
		if err != nil {
			return err
		}
		var a struct {
			Result struct {
				Token string `json:"accessToken"`
			}
		}
		err = json.Unmarshal(b, &a)
		v.token = a.Result.Token
		return err
	})
	c.t.Cleanup(func() {
		for _, v := range c.everybody() {
			v.drop()
		}
	})
}

func (c *crowdRun) enterAll() {
	c.t.Helper()
	for _, v := range c.steady {
		v.forget()
	}
	c.lanes = [crowdLanes]crowdLane{}
	c.parallel(c.steady, (*visitor).enter)
	c.parallel(c.visitors, (*visitor).enter)
}

// leaveAll has everybody leave, every third one by losing the connection.
func (c *crowdRun) leaveAll() {
	c.t.Helper()
	list := c.everybody()
	for i, v := range list {
		if i%3 == 0 {
			v.drop()
		}
	}
	c.parallel(list, func(v *visitor) error {
		if v.conn == nil {
			return nil
		}
		return v.leave()
	})
	for _, v := range list {
		v.drop()
	}
}

// gone waits until the node knows nothing of the crowd. Who has lost their
// connection is in the channel until the 31st message.
func (c *crowdRun) gone() nodeState {
	c.t.Helper()
	c.node.until("connections to be noticed as lost", func(s nodeState) bool {
		if s.Participants > 0 {
			for range 31 {
				c.speak(0)
			}
		}
		return s.Participants == 0 && s.Parts == 0
	})
	c.node.ask("skip") // the time for which an empty room is kept
	return c.node.until("rooms and goroutines to be gone", func(s nodeState) bool { return s.Rooms == 0 })
}

// speak sends one message of a lane.
func (c *crowdRun) speak(lane int) {
	l := &c.lanes[lane]
	l.said++
	b, err := c.call("/v4/open-channel/message/send",
		fmt.Sprintf(`{"fromUserId":"backend","toChannelIds":["arena"],"messageType":"app:note","content":"lane %d said %d of many"}`, lane, l.said))
	switch {
	case err != nil:
		c.t.Error(err)
	case !bytes.Contains(b, []byte(`"shed"`)):
		l.taken = append(l.taken, l.said)
	}
}

// paced calls f so many times a second until ctx ends or f gives false. Who is
// late does not wait.
func paced(ctx context.Context, perSecond float64, f func() bool) {
	t := time.NewTimer(0)
	defer t.Stop()
	for next := time.Now(); ; next = next.Add(time.Duration(float64(time.Second) / perSecond)) {
		t.Reset(time.Until(next))
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil || !f() {
			return
		}
	}
}

// churn has visitors leave and others enter for some time, and gives how many.
func (c *crowdRun) churn(d time.Duration) int {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), d)
	defer cancel()
	var wg sync.WaitGroup
	for lane := range c.lanes {
		wg.Go(func() {
			paced(ctx, crowdSpeech/float64(crowdLanes), func() bool { c.speak(lane); return true })
		})
	}
	var moved atomic.Int64
	perSecond := float64(min(crowdPerSec, len(c.visitors)/3)) / crowdWorkers
	for w := range crowdWorkers {
		var own []*visitor
		for i := w; i < len(c.visitors); i += crowdWorkers {
			own = append(own, c.visitors[i])
		}
		wg.Go(func() {
			var out []*visitor // the first to leave is the first to come back
			outside, n := min(len(own)/2, int(perSecond)), 0
			paced(ctx, perSecond, func() bool {
				i := rand.N(len(own))
				v := own[i]
				own = slices.Delete(own, i, i+1)
				var err error
				if n++; n%10 == 0 {
					v.drop()
				} else {
					err = v.leave()
				}
				if out = append(out, v); err == nil && len(out) > outside {
					if err = out[0].enter(); err == nil {
						own, out = append(own, out[0]), out[1:]
						moved.Add(1)
					}
				}
				if err != nil {
					c.t.Errorf("%s: %v", v.user, err)
				}
				return err == nil
			})
		})
	}
	wg.Wait()
	return int(moved.Load())
}

// settle lets those go who lost their connection, and waits until the node counts
// those who are in, and until those who stayed have been told and given all. It
// gives how many are in.
func (c *crowdRun) settle() (in int) {
	c.t.Helper()
	for range 31 {
		c.speak(0)
	}
	for _, v := range c.everybody() {
		if v.inside {
			in++
		}
	}
	c.node.until(fmt.Sprintf("%d participants", in), func(s nodeState) bool { return s.Participants == in && s.Parts == in && s.Rooms == 1 })
	c.awaitFolded(in)
	c.awaitSteady(fmt.Sprintf("%d messages", c.taken()), func(v *visitor) bool { return v.messages() >= c.taken() })
	time.Sleep(time.Second) // in which doubles would come, and news of somebody too many
	return in
}

// awaitFolded waits until those who stay have been told that so many are in, and
// makes that where their counting begins.
func (c *crowdRun) awaitFolded(in int) {
	c.t.Helper()
	c.awaitSteady(fmt.Sprintf("events that say %d are in", in), func(v *visitor) bool {
		v.folding = v.folding || v.count == in
		return v.count == in
	})
}

func (c *crowdRun) awaitSteady(what string, holds func(*visitor) bool) {
	c.t.Helper()
	for _, v := range c.steady {
		for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
			v.mu.Lock()
			ok, count, got := holds(v), v.count, v.messages()
			v.mu.Unlock()
			if ok {
				break
			}
			if time.Now().After(end) {
				c.t.Fatalf("%s waited in vain for %s: %d by the events, %d messages", v.user, what, count, got)
			}
		}
	}
}

func (c *crowdRun) checkSteady(in int) {
	for _, v := range c.steady {
		v.mu.Lock()
		for i := range v.got {
			if got, taken := v.got[i], c.lanes[i].taken; !slices.Equal(got, taken) {
				c.t.Errorf("%s has %d messages of sender %d, and not the %d that were taken in their order", v.user, len(got), i, len(taken))
			}
		}
		if v.count != in || v.misfits > 0 {
			c.t.Errorf("%s was told that %d are in, which are %d; %d events do not follow from the one before", v.user, v.count, in, v.misfits)
		}
		v.mu.Unlock()
	}
	for _, v := range c.everybody() {
		if n := v.disorder.Load(); n > 0 {
			c.t.Errorf("%s was given %d messages out of order or twice", v.user, n)
		}
		if why := v.lost.Load(); why != nil {
			c.t.Errorf("%s lost the connection: %s", v.user, *why)
		}
	}
}

// A visitor is a client that costs little. One goroutine at a time tells it what
// to do.
type visitor struct {
	run    *crowdRun
	user   string
	token  string
	steady bool
	conn   *websocket.Conn
	ended  chan struct{} // closed when nobody reads from conn any more
	inside bool

	answers  chan error
	offset   uint64 // of the reader
	dropping atomic.Bool
	disorder atomic.Int64
	lost     atomic.Pointer[string]

	mu      sync.Mutex // what follows is of steady ones
	got     [crowdLanes][]int
	count   int // by the last event
	folding bool
	misfits int
}

func (v *visitor) forget() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.got, v.count, v.folding, v.misfits = [crowdLanes][]int{}, 0, false, 0
}

func (v *visitor) messages() (n int) {
	for _, list := range v.got {
		n += len(list)
	}
	return n
}

const crowdWait = 30 * time.Second

// enter enters the channel, over a new connection where there is none.
func (v *visitor) enter() error {
	if v.conn == nil {
		ctx, cancel := context.WithTimeout(v.run.t.Context(), crowdWait)
		defer cancel()
		conn, err := websocket.Dial(ctx, "ws://"+v.run.node.address+"/connection/websocket", websocket.DialOptions{})
		if err != nil {
			return err
		}
		v.conn, v.ended, v.answers = conn, make(chan struct{}), make(chan error, 2)
		go v.read()
		if err := v.ask(fmt.Sprintf(`{"id":1,"connect":{"token":%q}}`, v.token)); err != nil {
			return err
		}
	}
	if err := v.ask(`{"id":2,"subscribe":{"channel":"open:arena"}}`); err != nil {
		return err
	}
	v.inside = true
	return nil
}

// leave leaves the channel and keeps the connection.
func (v *visitor) leave() error {
	v.inside = false
	return v.ask(`{"id":3,"unsubscribe":{"channel":"open:arena"}}`)
}

// drop breaks the connection without a word.
func (v *visitor) drop() {
	if v.conn == nil {
		return
	}
	v.dropping.Store(true)
	_ = v.conn.Abort()
	<-v.ended
	v.conn, v.inside = nil, false
}

func (v *visitor) ask(line string) error {
	if err := v.conn.WriteText([]byte(line)); err != nil {
		return err
	}
	t := time.NewTimer(crowdWait)
	defer t.Stop()
	select {
	case err := <-v.answers:
		return err
	case <-v.ended:
		return errors.New("the connection ended before the answer")
	case <-t.C:
		return fmt.Errorf("no answer to %s", line)
	}
}

func (v *visitor) read() {
	defer close(v.ended)
	v.offset = 0
	if err := v.conn.Serve(v); !v.dropping.Swap(false) {
		why := err.Error()
		v.lost.Store(&why)
	}
}

var (
	crowdPush   = []byte(`{"push":`)
	crowdError  = []byte(`"error":`)
	crowdOffset = []byte(`"offset":`)
	crowdSaid   = []byte(`said `)
	crowdPing   = []byte(`{}`)

	crowdLaneMark = []byte(`lane `)
)

// Message implements websocket.Handler.
func (v *visitor) Message(_ websocket.Opcode, frame []byte) error {
	for line := range bytes.SplitSeq(frame, []byte("\n")) {
		switch {
		case bytes.HasPrefix(line, crowdPush):
			v.push(line)
		case bytes.Equal(line, crowdPing):
			if err := v.conn.WriteText(crowdPing); err != nil {
				return err
			}
		case bytes.Contains(line, crowdError):
			v.answers <- fmt.Errorf("refused: %s", line)
		case len(line) > 0:
			v.answers <- nil
		}
	}
	return nil
}

// push looks at a publication: at its offset, and when steady at all of it.
func (v *visitor) push(line []byte) {
	if offset, ok := crowdNumber(line, crowdOffset); ok {
		if uint64(offset) <= v.offset {
			v.disorder.Add(1)
		}
		v.offset = uint64(offset)
	}
	if !v.steady {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	if n, ok := crowdNumber(line, crowdSaid); ok {
		lane, _ := crowdNumber(line, crowdLaneMark)
		if lane >= 0 && lane < crowdLanes {
			v.got[lane] = append(v.got[lane], n)
		}
		return
	}
	var p struct {
		Push struct {
			Pub struct {
				Data struct {
					Event   string
					Count   int `json:"participantCount"`
					Entered int `json:"enteredCount"`
					Left    int `json:"leftCount"`
				}
			}
		}
	}
	if json.Unmarshal(line, &p) != nil || p.Push.Pub.Data.Event != "participants" {
		return
	}
	d := &p.Push.Pub.Data
	if v.folding && d.Count != v.count+d.Entered-d.Left {
		v.misfits++
	}
	v.count = d.Count
}

// crowdNumber is the number after the first mark.
func crowdNumber(line, mark []byte) (n int, ok bool) {
	_, rest, ok := bytes.Cut(line, mark)
	digits := 0
	for digits < len(rest) && '0' <= rest[digits] && rest[digits] <= '9' {
		digits++
	}
	n, err := strconv.Atoi(string(rest[:digits]))
	return n, ok && err == nil
}
