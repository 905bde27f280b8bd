package bench

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const openPath = "/v4/open-channel/message/send"

// openOne: one message after the other to everybody in an open channel, held
// against a writer that does nothing else.
func openOne(ctx context.Context, o *Options) (*Result, error) {
	n, notes := o.fitting(o.scale.participants)
	res := &Result{
		Case:  "open-one",
		Load:  fmt.Sprintf("one message after the other to %d participants of an open channel, 200-byte content", n),
		Notes: notes,
	}
	pairs, _ := o.fitting(3 * n) // both ends of the bare writer's are ours
	bare, err := newBare(ctx, min(n, (pairs-n)/2), openFrame())
	if err != nil {
		return res, fmt.Errorf("make sockets for a bare writer: %w", err)
	}
	defer bare.close()
	if err := o.rounds(ctx, res, n, 1, bare); err != nil {
		return res, err
	}
	if reached, most := res.perCore(), bare.perCore(); most > 0 && reached > 0 {
		res.Floors = append(res.Floors, atLeast("of a bare writer's, percent", 75, 100*reached/most))
		res.Notes = append(res.Notes, fmt.Sprintf("between the messages, threads that do nothing but write as many bytes to %d sockets made %.0f writes per core second", bare.sockets(), most))
	}
	return res, nil
}

// openRooms: the same number of participants in one channel, and in many.
func openRooms(ctx context.Context, o *Options) (*Result, error) {
	n, notes := o.fitting(o.scale.participants)
	rooms := max(1, n/10)
	n = rooms * 10
	res := &Result{
		Case:  "open-rooms",
		Load:  fmt.Sprintf("one message after the other to each of %d open channels with 10 participants, 10 channels per request, 16 requests in flight, 200-byte content", rooms),
		Notes: notes,
	}
	if err := o.rounds(ctx, res, n, rooms, nil); err != nil {
		return res, err
	}
	one := &Result{}
	if err := o.rounds(ctx, one, n, 1, nil); err != nil {
		return res, err
	}
	res.Broken = append(res.Broken, one.Broken...)
	if many, single := res.perCore(), one.perCore(); many > 0 && single > 0 {
		res.Floors = []Floor{atMost("times the cost of one channel", 2, single/many)}
		res.Notes = append(res.Notes, fmt.Sprintf("one channel with all %d participants: %.0f deliveries per core second", n, single))
	}
	return res, nil
}

// perCore is the deliveries per second of the server's processor time, 0 when
// that is not known.
func (r *Result) perCore() float64 {
	for _, x := range r.Rates {
		if x.Unit == deliveries && r.Server.CPUSeconds > 0 {
			return float64(x.Count) / r.Server.CPUSeconds
		}
	}
	return 0
}

const deliveries = "deliveries"

// rounds sends one message after the other to each of the channels, into which
// n participants are spread. The next one is sent when all have the one before,
// and the bare writer, if there is one, has had its turn.
func (o *Options) rounds(ctx context.Context, res *Result, n, channels int, bare *bare) error {
	return o.serve(ctx, func(srv *server) error {
		var broken complaints
		names := make([]string, channels)
		for i := range names {
			names[i] = "bench-" + strconv.Itoa(i)
		}
		a, err := o.fill(ctx, srv, n, 1, func(i int) string { return names[i%channels] }, &broken)
		if err != nil {
			return err
		}
		defer a.leave()
		requests := slices.Collect(slices.Chunk(names, 10))
		backends := make([]*caller, min(len(requests), 16))
		for i := range backends {
			if backends[i], err = newCaller(ctx, srv, srv.callerID()); err != nil {
				return err
			}
			defer backends[i].close()
		}
		var (
			before   moment
			messages int64
			warm     = time.Now().Add(time.Duration(warmUp * float64(o.Time)))
			end      = warm.Add(o.Time)
			seq      uint64
			base     = a.delivered.Load()
		)
		for ; time.Now().Before(end) && ctx.Err() == nil; seq++ {
			if !a.measured.Load() && time.Now().After(warm) {
				a.measured.Store(true)
				before = srv.now()
			}
			a.expect(base + int64(seq+1)*int64(n))
			if err := together(backends, requests, func(c *caller, some []string) error {
				_, err := c.send(openPath, openBody(some, 0, seq), len(some))
				return err
			}); err != nil {
				return err
			}
			if !a.await(ctx, o.scale.deliver) && ctx.Err() == nil {
				broken.add("message %d did not reach %d of %d participants within %s", seq, a.target.Load()-a.delivered.Load(), n, o.scale.deliver)
				end = time.Now()
			}
			if a.measured.Load() {
				messages++
			}
			if bare != nil {
				if err := bare.round(ctx, o.scale.deliver, a.measured.Load()); err != nil {
					return err
				}
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		after := srv.now()
		took := after.at.Sub(before.at)
		sleep(ctx, o.scale.settle) // in which doubles would come
		a.leave()

		all := messages * int64(n)
		res.Seconds = took.Seconds()
		res.Rates = []Rate{rate("messages", messages*int64(channels), took), rate(deliveries, all, took)}
		res.Latency = a.latency.latency("call to receipt")
		res.Server = between(before, after)
		if res.Server.CPUSeconds == 0 {
			res.Notes = append(res.Notes, "the server's CPU time is not known on this system")
		} else {
			res.Floors = []Floor{atLeast("deliveries per core second", 80_000, float64(all)/res.Server.CPUSeconds)}
		}
		a.check([]uint64{seq})
		res.verified(&broken, fmt.Sprintf("all %d participants saw all %d messages, each once and in order", n, seq))
		return nil
	})
}

// together has the callers make all requests, and gives an error of one.
func together[T any](callers []*caller, requests []T, do func(*caller, T) error) error {
	var next atomic.Int64
	errs := make(chan error, len(callers))
	for _, c := range callers {
		go func() {
			var err error
			for i := next.Add(1) - 1; int(i) < len(requests) && err == nil; i = next.Add(1) - 1 {
				err = do(c, requests[i])
			}
			errs <- err
		}()
	}
	var err error
	for range callers {
		if e := <-errs; e != nil {
			err = e
		}
	}
	return err
}

func (r *Result) verified(broken *complaints, what string) {
	r.Verified = what
	if r.Broken = broken.list(); len(r.Broken) > 0 {
		r.Verified = "not every participant saw every message once and in order"
	}
}

// fill makes an audience of n.
func (o *Options) fill(ctx context.Context, srv *server, n, lanes int, channel func(i int) string, broken *complaints) (*audience, error) {
	list, err := tokens(ctx, srv, n, func(i int) string { return "open-" + strconv.Itoa(i) })
	if err != nil {
		return nil, err
	}
	a, err := attend(ctx, srv, list, lanes, channel, broken)
	if err != nil {
		return nil, err
	}
	sleep(ctx, o.scale.settle) // the server is done with the crowd's coming
	return a, nil
}

// openSteady: as many messages per second as a busy channel has.
func openSteady(ctx context.Context, o *Options) (*Result, error) {
	n, notes := o.fitting(o.scale.participants)
	const perSecond = 100
	res := &Result{
		Case:  "open-steady",
		Load:  fmt.Sprintf("%d messages per second to %d participants of an open channel, 200-byte content", perSecond, n),
		Notes: notes,
	}
	return res, o.serve(ctx, func(srv *server) error {
		s := stream{o: o, res: res, participants: n, perSecond: perSecond, lanes: 4}
		err := s.run(ctx, srv)
		if err == nil {
			res.Floors = []Floor{
				atLeast("messages per second", 0.95*perSecond, res.Rates[0].PerSecond),
				atMost("p99, ms", 500, res.Latency.P99),
			}
		}
		return err
	})
}

// openFlood: far more than a channel takes, while others want their messages.
func openFlood(ctx context.Context, o *Options) (*Result, error) {
	n, notes := o.fitting(o.scale.flooded)
	const perSecond = 2000
	res := &Result{
		Case:  "open-flood",
		Load:  fmt.Sprintf("%d messages per second of all priorities to %d participants of an open channel, 200-byte content, and 50 direct messages per second", perSecond, n),
		Notes: notes,
	}
	return res, o.serve(ctx, func(srv *server) error {
		s := stream{o: o, res: res, participants: n, perSecond: perSecond, lanes: 16}
		var direct histogram
		stop, err := s.directs(ctx, srv, &direct)
		if err != nil {
			return err
		}
		err = s.run(ctx, srv)
		if e := stop(); err == nil {
			err = e
		}
		if err == nil {
			res.Floors = []Floor{atMost("p99 of a direct message, ms", 100, direct.latency("").P99)}
			if res.Server.RSSAfter > 0 {
				grown := float64(res.Server.RSSAfter-res.Server.RSSBefore) / 1e6
				res.Floors = append(res.Floors, atMost("MB of memory more at the end", 64, grown))
			}
		}
		return err
	})
}

// A stream is messages at a rate, from several senders at once, to one channel.
type stream struct {
	o            *Options
	res          *Result
	participants int
	perSecond    int
	lanes        int
}

const openChannel = "bench"

func (s *stream) run(ctx context.Context, srv *server) error {
	o, res, n := s.o, s.res, s.participants
	var broken complaints
	a, err := o.fill(ctx, srv, n, s.lanes, func(int) string { return openChannel }, &broken)
	if err != nil {
		return err
	}
	defer a.leave()
	var (
		ticket, shed, counted atomic.Int64
		sent                  = make([]uint64, s.lanes) // that were not shed
		start                 = time.Now()
		warm                  = start.Add(time.Duration(warmUp * float64(o.Time)))
		end                   = warm.Add(o.Time)
		before                moment
		had                   int64
		wg                    sync.WaitGroup
	)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	for lane := range s.lanes {
		wg.Go(func() {
			backend, err := newCaller(ctx, srv, srv.callerID())
			if err != nil {
				cancel(err)
				return
			}
			defer backend.close()
			for ctx.Err() == nil {
				// Each message has its time, and who is late sends at once.
				k := ticket.Add(1) - 1
				at := start.Add(time.Duration(k) * time.Second / time.Duration(s.perSecond))
				if at.After(end) {
					return
				}
				sleepUntil(ctx, at)
				if ctx.Err() != nil {
					return
				}
				refused, err := backend.throw(openPath, openBody([]string{openChannel}, lane, sent[lane]))
				switch {
				case err != nil:
					cancel(err)
				case refused:
					shed.Add(1)
				default:
					sent[lane]++
				}
				if now := time.Now(); now.After(warm) && now.Before(end) {
					counted.Add(1)
				}
			}
		})
	}
	sleepUntil(ctx, warm)
	a.measured.Store(true)
	before, had = srv.now(), a.delivered.Load()
	sleepUntil(ctx, end)
	after, has := srv.now(), a.delivered.Load()
	wg.Wait()
	if err := context.Cause(ctx); err != nil {
		return err
	}
	var all int64
	for _, k := range sent {
		all += int64(k)
	}
	a.expect(all * int64(n))
	if !a.await(ctx, o.scale.deliver) {
		broken.add("%d of %d deliveries did not come within %s", a.target.Load()-a.delivered.Load(), a.target.Load(), o.scale.deliver)
	}
	sleep(ctx, o.scale.settle)
	if err := ctx.Err(); err != nil {
		return err
	}
	a.leave()
	a.check(sent)
	took := after.at.Sub(before.at)
	res.Seconds = took.Seconds()
	res.Rates = []Rate{rate("messages", counted.Load(), took), rate(deliveries, has-had, took)}
	res.Latency = a.latency.latency("call to receipt")
	res.Server = between(before, after)
	if k := shed.Load(); k > 0 {
		res.Notes = append(res.Notes, fmt.Sprintf("%d of %d messages were shed, and said to be", k, k+all))
	}
	if cpu := res.perCore(); cpu > 0 {
		res.Notes = append(res.Notes, fmt.Sprintf("%.0f deliveries per second of the server's processor time", cpu))
	}
	res.verified(&broken, fmt.Sprintf("all %d participants saw all %d messages that were admitted, each once and in order", n, all))
	return nil
}

// directs sends direct messages to somebody who is connected, and notes how long
// each takes to arrive, until the returned function is called.
func (s *stream) directs(ctx context.Context, srv *server, h *histogram) (stop func() error, err error) {
	var broken complaints
	list, err := tokens(ctx, srv, 1, func(int) string { return "direct" })
	if err != nil {
		return nil, err
	}
	hello := func(token string) []byte { return fmt.Appendf(nil, `{"id":1,"connect":{"token":%q}}`, token) }
	var got atomic.Int64
	crowd, err := gather(ctx, srv, list, hello, 1, &broken, func(_ *member, line []byte) {
		if sent, ok := numberAfter(line, sentMember); ok {
			h.add(time.Duration(time.Now().UnixNano() - int64(sent)))
			got.Add(1)
		}
	})
	if err != nil {
		return nil, err
	}
	backend, err := newCaller(ctx, srv, srv.callerID())
	if err != nil {
		crowd.leave()
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	var sent int64
	wg.Go(func() {
		for next := time.Now(); ctx.Err() == nil; next = next.Add(20 * time.Millisecond) {
			sleepUntil(ctx, next)
			body := strings.Replace(string(openBody([]string{"direct"}, 0, 0)), "toChannelIds", "toUserIds", 1)
			if _, err := backend.send(directPath, []byte(body), 1); err != nil {
				cancel(err)
				return
			}
			sent++
		}
	})
	return func() error {
		cancel(nil)
		wg.Wait()
		backend.close()
		for end := time.Now().Add(s.o.scale.deliver); got.Load() < sent && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
		crowd.leave()
		if got.Load() != sent {
			s.res.Broken = append(s.res.Broken, fmt.Sprintf("%d of %d direct messages arrived", got.Load(), sent))
		}
		if err := context.Cause(ctx); err != context.Canceled {
			return err
		}
		return nil
	}, nil
}

// throw posts a message to one channel, which may be shed.
func (c *caller) throw(path string, body []byte) (shed bool, err error) {
	status, answer, err := c.call(path, body)
	switch {
	case err != nil:
		return false, err
	case status != 200 || !bytes.HasPrefix(answer, []byte(`{"code":0,`)):
		return false, fmt.Errorf("refused with HTTP %d: %.300s", status, answer)
	}
	return bytes.Contains(answer, []byte(`"shed":[{`)), nil
}

// openBody is a message to the channels, about 200 bytes of content. Messages of
// a lane are numbered. Half of the lanes send with standard priority, the others
// with each of the others.
func openBody(channels []string, lane int, seq uint64) []byte {
	const padding = "............................................................................................................"
	priority := 0
	if lane%2 == 1 {
		priority = 1 + lane/2%3
	}
	return fmt.Appendf(nil, `{"fromUserId":"bench","toChannelIds":["%s"],"messageType":"RC:TxtMsg","priority":%d,"content":"{\"content\":\"lane %02d sequence %020d sent %020d %s\"}"}`,
		strings.Join(channels, `","`), priority, lane, seq, time.Now().UnixNano(), padding)
}

// openFrame is as long as a frame with such a message.
func openFrame() []byte {
	b := make([]byte, 4+openFrameBytes)
	b[0], b[1], b[2], b[3] = 0x81, 126, openFrameBytes>>8, openFrameBytes&0xff
	return b
}

// openFrameBytes is the payload of a frame with one message of openBody.
const openFrameBytes = 430

// fitting is how many connections a process can have open here, at most n.
func (o *Options) fitting(n int) (int, []string) {
	const rest = 1000 // files of the store, callers
	limit := machine(o.Dir).OpenFiles
	if limit > 0 && limit-rest < n {
		return limit - rest, []string{fmt.Sprintf("the limit of %d open files per process leaves room for %d connections in place of %d (ulimit -n)", limit, limit-rest, n)}
	}
	return n, nil
}
