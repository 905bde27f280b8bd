package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// The priorities of jobs.
const (
	priorityCall    uint8 = 0
	priorityMention uint8 = 1
	priorityUsual   uint8 = 2
	prioritySilent  uint8 = 3
	priorityAll           = prioritySilent // of what is for everybody
)

// lanes are where jobs wait for their providers.
type lanes struct {
	d *Dispatcher

	mu    sync.Mutex
	all   map[store.PushLane]*lane
	start func(*lane)                  // nil while the lanes do not run
	ask   map[store.PushLane]time.Time // when to ask for dead tokens next
}

// lane is the one with the id, made when there is none.
func (s *lanes) lane(id store.PushLane) *lane {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.all[id]
	if l == nil {
		l = newLane(s.d, id)
		if s.all == nil {
			s.all = map[store.PushLane]*lane{}
		}
		s.all[id] = l
		if s.start != nil {
			s.start(l)
		}
	}
	return l
}

// tryNow has the lanes of the credential, if they are halted, try one notification at
// once.
func (s *lanes) tryNow(app chat.AppID, c *chat.PushCredential) {
	var list []*lane
	s.mu.Lock()
	for id, l := range s.all {
		if isOf(id, app, c) {
			list = append(list, l)
		}
	}
	s.mu.Unlock()
	for _, l := range list {
		l.mu.Lock()
		l.probeAt = time.Time{}
		l.mu.Unlock()
		l.nudge()
	}
}

// end forgets a lane that has nothing to do, and reports whether it did: a job may
// just have come.
func (s *lanes) end(l *lane) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !l.idle(l.now()) {
		return false
	}
	delete(s.all, l.id)
	return true
}

// written tells the lanes of the jobs in a change.
func (s *lanes) written(c *store.PushChange) {
	for from := 0; from < len(c.Put); {
		to := from + 1
		for to < len(c.Put) && c.Put[to].Lane == c.Put[from].Lane {
			to++
		}
		s.put(c.Put[from:to])
		from = to
	}
}

// put gives jobs to their lane. One that is just ending is not the one they need.
func (s *lanes) put(jobs []store.PushJob) {
	for {
		l := s.lane(jobs[0].Lane)
		l.written(jobs)
		s.mu.Lock()
		still := s.all[l.id] == l
		s.mu.Unlock()
		if still {
			return
		}
	}
}

// admit takes out of the change the jobs that their lanes have no room for. They
// are the newest, and their outcome is that there was no room.
func (s *lanes) admit(c *store.PushChange, now time.Time) {
	room := map[store.PushLane]*[store.PushPriorities]int{}
	kept := c.Put[:0]
	for _, j := range c.Put {
		r := room[j.Lane]
		if r == nil {
			r = new([store.PushPriorities]int)
			l := s.lane(j.Lane)
			for p := range r {
				r[p] = l.room(uint8(p))
			}
			room[j.Lane] = r
		}
		if r[j.Priority] <= 0 {
			if j.Kind == store.PushMessage {
				c.Outcomes = append(c.Outcomes, store.PushOutcome{
					UID: j.UID, Device: j.Device, User: sharedBy(&j), Provider: j.Lane.Provider, Class: "shed", At: now.UnixMilli(),
				})
			}
			s.d.metrics.shed(&j)
			continue
		}
		for p := range r {
			r[p]--
		}
		kept = append(kept, j)
	}
	clear(c.Put[len(kept):])
	c.Put = kept
}

// crowded reports whether so much waits in a lane of the app that is on the move that
// what is for everybody had better wait where it is.
func (s *lanes) crowded(app chat.AppID) bool {
	s.mu.Lock()
	var list []*lane
	for id, l := range s.all {
		if id.App == app {
			list = append(list, l)
		}
	}
	s.mu.Unlock()
	for _, l := range list {
		if l.crowded() {
			return true
		}
	}
	return false
}

// runLanes runs the lanes until ctx ends. found is closed once those are known in
// which something waited.
func (d *Dispatcher) runLanes(ctx context.Context, found chan<- struct{}) {
	stop := make(chan struct{})
	var settling sync.WaitGroup
	settling.Go(func() { d.settler.run(stop) })

	d.knowLanes(ctx)
	var wg sync.WaitGroup
	d.lanes.mu.Lock()
	d.lanes.start = func(l *lane) { wg.Go(func() { l.run(ctx) }) }
	for _, l := range d.lanes.all {
		d.lanes.start(l)
	}
	d.lanes.mu.Unlock()
	close(found)
	<-ctx.Done()
	d.lanes.mu.Lock()
	d.lanes.start = nil
	d.lanes.mu.Unlock()
	wg.Wait()
	close(stop)
	settling.Wait()
}

// knowLanes finds the lanes in which something was waiting when the server stopped.
// None of them runs yet, or what is counted would change meanwhile.
func (d *Dispatcher) knowLanes(ctx context.Context) {
	for pause := time.Duration(0); ctx.Err() == nil; nap(ctx, pause) {
		err := d.findLanes(ctx)
		if err == nil {
			return
		}
		d.warn("looking for push jobs", err)
		pause = min(max(2*pause, 100*time.Millisecond), 5*time.Second)
	}
}

func (d *Dispatcher) findLanes(ctx context.Context) error {
	halts, err := d.Store.PushHalts(ctx)
	if err != nil {
		return err
	}
	for i := range halts {
		l := d.lanes.lane(halts[i].Lane)
		l.mu.Lock()
		l.halt = halts[i]
		l.probeAt = d.Now().Add(pauseOf(&l.halt))
		l.mu.Unlock()
	}
	ids, err := d.Store.PushLanes(ctx)
	if err != nil {
		return err
	}
	for i := range ids {
		counts, err := d.Store.CountPushJobs(ctx, &ids[i])
		if err != nil {
			return err
		}
		l := d.lanes.lane(ids[i])
		l.mu.Lock()
		l.waiting = counts
		l.mu.Unlock()
	}
	return nil
}

// warn says that something did not work that will be tried again.
func (d *Dispatcher) warn(what string, err error) {
	if !errors.Is(err, context.Canceled) {
		d.Logger.Warn("push: "+what+" failed and is tried again", "error", err)
	}
}
