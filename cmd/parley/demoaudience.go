package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/client"
)

// A demoAudience is who is in the open channel: some who stay and write down what
// they get, many who come and go, and one who is slow.
type demoAudience struct {
	show    *busyChannel
	stayers []*stayer
	comers  []*comer
	slow    *slowOne

	delivered atomic.Int64 // messages, to all of them

	mu      sync.Mutex
	latency []time.Duration // of messages to those who stay, since it was looked at
	all     []time.Duration // and of the whole show
}

// demoMark begins a message's content: its lane, its number there, and when it
// was sent.
const demoMark = "demo "

// mostLatencies bounds what is kept of a long show.
const mostLatencies = 1 << 20

// A roomEvent is what those in an open channel are told of it.
type roomEvent struct {
	Event       string `json:"event"`
	Count       int    `json:"participantCount"`
	Entered     int    `json:"enteredCount"`
	Left        int    `json:"leftCount"`
	Low         int    `json:"low"`
	High        int    `json:"high"`
	Allowlisted int    `json:"allowlisted"`
}

// A stayer is in the channel all the time.
type stayer struct {
	audience *demoAudience
	client   *client.Client
	ended    chan struct{} // closed when there are no more events

	mu       sync.Mutex
	got      [][]int // the numbers of the messages, by lane
	offset   uint64
	holes    int // offsets that do not grow by one
	strange  string
	shed     perClass // by the event
	shedSeen int      // events
	gathered bool     // all stayers were counted in an event
	count    int      // as last told
	entered  int      // since gathered
	left     int
	misfits  int // events that do not follow from the one before
	lost     error
}

// gather connects everybody, and has those who stay enter.
func (d *busyChannel) gather(ctx context.Context) (*demoAudience, error) {
	a := &demoAudience{show: d}
	staying := max(2, d.cmd.Participants/10)
	a.stayers = make([]*stayer, staying)
	a.comers = make([]*comer, d.cmd.Participants-staying)
	var wg sync.WaitGroup
	errs := make(chan error, d.cmd.Participants)
	next := atomic.Int64{}
	for range 8 {
		wg.Go(func() {
			for i := int(next.Add(1) - 1); i < d.cmd.Participants; i = int(next.Add(1) - 1) {
				var err error
				if i < staying {
					a.stayers[i], err = a.stay(ctx, fmt.Sprintf("stays-%d", i))
				} else {
					a.comers[i-staying], err = a.visit(ctx, fmt.Sprintf("comes-%d", i))
				}
				if err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	err := <-errs
	if err == nil {
		a.slow, err = a.slowly(ctx, "slow")
	}
	if err == nil && !a.await(ctx, func() bool {
		for _, u := range a.stayers {
			if !u.look(func() bool { return u.gathered }) {
				return false
			}
		}
		return true
	}) {
		err = errors.New("those who stay were not told of each other in time")
	}
	if err != nil {
		a.leave()
		return nil, err
	}
	return a, nil
}

// dial connects a user.
func (a *demoAudience) dial(ctx context.Context, user string, o client.Options) (*client.Client, error) {
	t, err := a.show.owner.IssueToken(ctx, a.show.srv.key, user, "")
	if err != nil {
		return nil, err
	}
	o.URL, o.Token, o.Name, o.Timeout = a.show.srv.websocketURL(), t.Token, "parley demo", demoSettle
	c, err := client.Dial(ctx, o)
	if err != nil {
		return nil, fmt.Errorf("%s cannot connect: %w", user, err)
	}
	return c, nil
}

const demoRoom = "open:" + demoChannel

func (a *demoAudience) stay(ctx context.Context, user string) (*stayer, error) {
	c, err := a.dial(ctx, user, client.Options{Buffer: 1024})
	if err != nil {
		return nil, err
	}
	u := &stayer{audience: a, client: c, ended: make(chan struct{})}
	go u.note()
	if _, err := c.Subscribe(ctx, demoRoom, nil); err != nil {
		u.leave()
		return nil, fmt.Errorf("%s cannot enter: %w", user, err)
	}
	return u, nil
}

func (u *stayer) leave() {
	u.client.Close()
	<-u.ended
}

// look reads what was noted.
func (u *stayer) look(f func() bool) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return f()
}

func (u *stayer) note() {
	defer close(u.ended)
	for e := range u.client.Events() {
		switch e := e.(type) {
		case client.Publication:
			u.mu.Lock()
			if bytes.Contains(e.Data, []byte(demoMark)) {
				u.message(e)
			} else {
				u.event(e)
			}
			u.mu.Unlock()
		case client.Disconnected:
			u.mu.Lock()
			if e.Code != client.CodeClosed || e.Cause != nil {
				u.lost = e
			}
			u.mu.Unlock()
		case client.Unsubscribed:
			u.mu.Lock()
			u.lost = fmt.Errorf("put out of the channel: %s", e.Reason)
			u.mu.Unlock()
		}
	}
}

func (u *stayer) message(p client.Publication) {
	u.audience.delivered.Add(1)
	lane, n, sent, ok := readMark(p.Data)
	if !ok || lane >= maxDemoLanes {
		u.strange = string(p.Data)
		return
	}
	u.audience.took(time.Since(time.UnixMicro(int64(sent))))
	if u.offset > 0 && p.Offset != u.offset+1 {
		u.holes++
	}
	u.offset = p.Offset
	for len(u.got) <= lane {
		u.got = append(u.got, nil)
	}
	u.got[lane] = append(u.got[lane], n)
}

const maxDemoLanes = 64

// readMark finds what a message says of itself. Its content is JSON in JSON, of
// which no more is read than that.
func readMark(data []byte) (lane, n, sent int, ok bool) {
	_, rest, ok := bytes.Cut(data, []byte(demoMark))
	var numbers [3]int
	for i := range numbers {
		word, after, found := bytes.Cut(rest, []byte(" "))
		v, err := strconv.Atoi(string(word))
		numbers[i], rest, ok = v, after, ok && found && err == nil && v >= 0
	}
	return numbers[0], numbers[1], numbers[2], ok
}

func (u *stayer) event(p client.Publication) {
	var e roomEvent
	if err := json.Unmarshal(p.Data, &e); err != nil {
		u.strange = string(p.Data)
		return
	}
	switch e.Event {
	case "shed":
		u.shedSeen++
		u.shed[chat.PriorityLow] += e.Low
		u.shed[chat.PriorityHigh] += e.High
		u.shed[chat.PriorityAllowlisted] += e.Allowlisted
	case "participants":
		if u.gathered {
			u.entered += e.Entered
			u.left += e.Left
			if e.Count != u.count+e.Entered-e.Left {
				u.misfits++
			}
		}
		u.gathered = u.gathered || e.Count == len(u.audience.stayers)
		u.count = e.Count
	default:
		u.strange = string(p.Data)
	}
}

func (a *demoAudience) took(d time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.all) < mostLatencies {
		a.latency, a.all = append(a.latency, d), append(a.all, d)
	}
}

// recent gives the latencies since it was called last.
func (a *demoAudience) recent() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := a.latency
	a.latency = nil
	return list
}

// A comer enters and leaves, again and again.
type comer struct {
	audience *demoAudience
	client   *client.Client
	ended    chan struct{}
}

func (a *demoAudience) visit(ctx context.Context, user string) (*comer, error) {
	c, err := a.dial(ctx, user, client.Options{Buffer: 64})
	if err != nil {
		return nil, err
	}
	v := &comer{a, c, make(chan struct{})}
	go func() {
		defer close(v.ended)
		for e := range c.Events() {
			if p, ok := e.(client.Publication); ok && bytes.Contains(p.Data, []byte(demoMark)) {
				a.delivered.Add(1)
			}
		}
	}()
	return v, nil
}

// come has the comers enter and leave until going ends; then all have left.
func (a *demoAudience) come(ctx, going context.Context, wg *sync.WaitGroup, failed context.CancelCauseFunc) {
	for _, v := range a.comers {
		wg.Go(func() {
			for sleepUntil(going, time.Now().Add(rand.N(2*time.Second))) {
				_, err := v.client.Subscribe(ctx, demoRoom, nil)
				if err == nil {
					sleepUntil(going, time.Now().Add(time.Second+rand.N(4*time.Second)))
					err = v.client.Unsubscribe(ctx, demoRoom)
				}
				if err != nil {
					if ctx.Err() == nil {
						failed(err)
					}
					return
				}
			}
		})
	}
}

// A slowOne reads less than comes, over a connection that holds little.
type slowOne struct {
	audience *demoAudience
	client   *client.Client
	ended    chan struct{}
	hurry    chan struct{} // closed: read what there is

	inside  atomic.Bool
	read    atomic.Int64 // messages
	behind  atomic.Int64 // messages whose offset was not behind the one before
	putOut  atomic.Pointer[string]
	lastAt  atomic.Int64 // Unix ms: when something was read last
	reading sync.Once
}

const slowRead = 200 * time.Millisecond // for one event

// slowly connects somebody who reads slowly.
func (a *demoAudience) slowly(ctx context.Context, user string) (*slowOne, error) {
	c, err := a.dial(ctx, user, client.Options{Buffer: 1, Control: narrow})
	if err != nil {
		return nil, err
	}
	s := &slowOne{audience: a, client: c, ended: make(chan struct{}), hurry: make(chan struct{})}
	go s.note()
	return s, nil
}

// narrow leaves little room in the system's buffers for a connection, at both of
// its ends. Where that cannot be had the slow one is less slow.
func narrow(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 8<<10)
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1024)
	})
}

func (s *slowOne) enter(ctx context.Context) error {
	s.inside.Store(true)
	_, err := s.client.Subscribe(ctx, demoRoom, nil)
	return err
}

func (s *slowOne) note() {
	defer close(s.ended)
	offset := uint64(0)
	for e := range s.client.Events() {
		s.lastAt.Store(time.Now().UnixMilli())
		switch e := e.(type) {
		case client.Publication:
			if e.Offset > 0 {
				s.read.Add(1)
				if e.Offset <= offset {
					s.behind.Add(1)
				}
				offset = e.Offset
			}
			select {
			case <-time.After(slowRead):
			case <-s.hurry:
			}
		case client.Disconnected:
			if e.Code != client.CodeClosed || e.Cause != nil {
				why := e.Error()
				s.putOut.Store(&why)
			}
		}
	}
}

// catchUp has the slow one read all that there still is for it.
func (s *slowOne) catchUp(ctx context.Context) {
	s.reading.Do(func() { close(s.hurry) })
	s.audience.await(ctx, func() bool {
		return s.putOut.Load() != nil || time.Now().UnixMilli()-s.lastAt.Load() > 1000
	})
}

func (s *slowOne) leave() {
	s.reading.Do(func() { close(s.hurry) })
	s.client.Close()
	<-s.ended
}

// await waits until something holds, and reports whether it came to that in
// time.
func (a *demoAudience) await(ctx context.Context, holds func() bool) bool {
	ctx, cancel := context.WithTimeout(ctx, demoSettle)
	defer cancel()
	for !holds() {
		if !sleepUntil(ctx, time.Now().Add(10*time.Millisecond)) {
			return holds()
		}
	}
	return true
}

// leave ends all connections.
func (a *demoAudience) leave() {
	var wg sync.WaitGroup
	for _, u := range a.stayers {
		if u != nil {
			wg.Go(u.leave)
		}
	}
	for _, v := range a.comers {
		if v != nil {
			wg.Go(func() { v.client.Close(); <-v.ended })
		}
	}
	if a.slow != nil {
		wg.Go(a.slow.leave)
	}
	wg.Wait()
}
