package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"
)

const (
	openPath    = "/v4/open-channel/message/send"
	openChannel = "bench"
)

var (
	openMember     = []byte(`"channel":"open:` + openChannel + `"`)
	sequenceMember = []byte(`sequence `)
)

// open: one message after the other to everybody in an open channel.
func open(ctx context.Context, o *Options) (*Result, error) {
	n, notes := o.fitting(o.scale.participants)
	res := &Result{
		Case:  "open",
		Load:  fmt.Sprintf("one message after the other to %d participants of an open channel, 200-byte content", n),
		Notes: notes,
	}
	return res, o.serve(ctx, func(srv *server) error {
		list, err := tokens(ctx, srv, n, func(i int) string { return "open-" + strconv.Itoa(i) })
		if err != nil {
			return err
		}
		var (
			broken   complaints
			latency  histogram
			measured atomic.Bool  // whether the message under way counts
			sent     atomic.Int64 // when it was sent, Unix ns
			missing  atomic.Int64 // participants who do not have it yet
			complete = make(chan struct{}, 1)
		)
		hello := func(token string) []byte {
			return fmt.Appendf(nil, `{"id":1,"connect":{"token":%q,"name":"bench"}}`+"\n"+`{"id":2,"subscribe":{"channel":"open:%s"}}`, token, openChannel)
		}
		crowd, err := gather(ctx, srv, list, hello, 2, &broken, func(m *member, line []byte) {
			if !bytes.Contains(line, openMember) {
				return // of no interest here, such as counts of participants
			}
			seq, ok := numberAfter(line, sequenceMember)
			if !ok {
				return
			}
			if seq != m.next {
				broken.add("participant %d got message %d, want %d", m.i, seq, m.next)
				return
			}
			m.next++
			if measured.Load() {
				latency.add(time.Duration(time.Now().UnixNano() - sent.Load()))
			}
			if missing.Add(-1) == 0 {
				complete <- struct{}{}
			}
		})
		if err != nil {
			return err
		}
		defer crowd.leave()
		sleep(ctx, o.scale.settle) // the server is done with the crowd's coming

		backend, err := newCaller(ctx, srv, srv.callerID())
		if err != nil {
			return err
		}
		defer backend.close()
		var (
			before   moment
			messages int64
			warm     = time.Now().Add(time.Duration(warmUp * float64(o.Time)))
			end      = warm.Add(o.Time)
			seq      uint64
		)
		for ; time.Now().Before(end) && ctx.Err() == nil; seq++ {
			if !measured.Load() && time.Now().After(warm) {
				measured.Store(true)
				before = srv.now()
			}
			missing.Store(int64(n))
			sent.Store(time.Now().UnixNano())
			if _, err := backend.send(openPath, openBody(seq), 1); err != nil {
				return err
			}
			select {
			case <-complete:
			case <-time.After(o.scale.deliver):
				broken.add("message %d did not reach %d of %d participants within %s", seq, missing.Load(), n, o.scale.deliver)
				end = time.Now()
			case <-ctx.Done():
			}
			if measured.Load() {
				messages++
			}
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		after := srv.now()
		took := after.at.Sub(before.at)
		sleep(ctx, o.scale.settle) // in which doubles would come
		crowd.leave()

		deliveries := messages * int64(n)
		res.Seconds = took.Seconds()
		res.Rates = []Rate{rate("messages", messages, took), rate("deliveries", deliveries, took)}
		res.Latency = latency.latency("call to receipt")
		res.Server = between(before, after)
		if res.Server.CPUSeconds > 0 {
			res.Floors = []Floor{atLeast("deliveries per core second", 80_000, float64(deliveries)/res.Server.CPUSeconds)}
		} else {
			res.Notes = append(res.Notes, "the server's CPU time is not known on this system")
		}
		for _, m := range crowd.members {
			if m.next != seq {
				broken.add("participant %d has %d of %d messages", m.i, m.next, seq)
			}
		}
		res.Broken = broken.list()
		res.Verified = fmt.Sprintf("all %d participants saw all %d messages, each once and in order", n, seq)
		if len(res.Broken) > 0 {
			res.Verified = "not every participant saw every message once and in order"
		}
		return nil
	})
}

func openBody(seq uint64) []byte {
	const padding = "........................................................................................................................................................"
	return fmt.Appendf(nil, `{"fromUserId":"bench","toChannelIds":[%q],"messageType":"RC:TxtMsg","content":"{\"content\":\"sequence %020d %s\"}"}`,
		openChannel, seq, padding)
}

// fitting is how many connections a process can have open here, at most n.
func (o *Options) fitting(n int) (int, []string) {
	const rest = 1000 // files of the store, callers
	limit := machine(o.Dir).OpenFiles
	if limit > 0 && limit-rest < n {
		return limit - rest, []string{fmt.Sprintf("the limit of %d open files per process leaves room for %d connections in place of %d (ulimit -n)", limit, limit-rest, n)}
	}
	return n, nil
}
