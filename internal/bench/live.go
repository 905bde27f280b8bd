package bench

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

var meMember = []byte(`"channel":"me"`)

// A listener is a recipient who is connected while messages are sent to them.
type listener struct {
	body []byte
	uids []chat.UID // as answered; the caller's
	got  []chat.UID // as they came, at the offsets from 1 on; the connection's

	mu   sync.Mutex
	sent []time.Time // when the call of the message at the offset was begun
}

func (l *listener) begin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.sent = append(l.sent, time.Now())
}

// begun is when the call of the message at the offset was begun.
func (l *listener) begun(offset int) (t time.Time, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if offset > len(l.sent) {
		return t, false
	}
	return l.sent[offset-1], true
}

// live: many backends that send to one user at a time, who is connected.
func live(ctx context.Context, o *Options) (*Result, error) {
	n, notes := o.fitting(o.scale.callers * o.scale.recipients)
	callers := min(o.scale.callers, n)
	each := n / callers
	n = callers * each
	res := &Result{
		Case:  "live",
		Load:  fmt.Sprintf("%d requests in flight, 1 recipient each out of %d, who are connected, durable, 200-byte content", callers, n),
		Notes: notes,
	}
	return res, o.serve(ctx, func(srv *server) error {
		user := func(i int) string { return "live-" + strconv.Itoa(i) }
		list, err := tokens(ctx, srv, n, user)
		if err != nil {
			return err
		}
		all := make([]listener, n)
		for i := range all {
			all[i].body = directBody([]string{user(i)}, 200)
		}
		var (
			l        load
			broken   complaints
			latency  histogram
			came     atomic.Int64 // messages
			measured atomic.Int64 // of these, within the measured time
		)
		hello := func(token string) []byte {
			return fmt.Appendf(nil, `{"id":1,"connect":{"token":%q,"name":"bench"}}`, token)
		}
		crowd, err := gather(ctx, srv, list, hello, 1, &broken, func(m *member, line []byte) {
			if !bytes.Contains(line, meMember) {
				return
			}
			to := &all[m.i]
			offset, _ := numberAfter(line, offsetMember)
			if offset != uint64(len(to.got))+1 {
				broken.add("recipient %d: offset %d follows %d", m.i, offset, len(to.got))
				return
			}
			var uid chat.UID
			for uid = range uidsIn(line) {
				break
			}
			to.got = append(to.got, uid)
			begun, ok := to.begun(len(to.got))
			if !ok {
				broken.add("recipient %d got message %s at offset %d, which nobody has sent", m.i, uid, offset)
				return
			}
			came.Add(1)
			// The load's times were set before the first call was begun.
			if now := time.Now(); now.After(l.from) && now.Before(l.to) {
				latency.add(now.Sub(begun))
				measured.Add(1)
			}
		})
		if err != nil {
			return err
		}
		defer crowd.leave()
		sleep(ctx, o.scale.settle) // the server is done with the crowd's coming

		err = l.run(ctx, srv, callers, o.Time, func(c *caller, i int) error {
			// A caller has its recipients to itself, so the order of its
			// requests is the order in which they come.
			to := &all[i*each+c.calls%each]
			to.begin()
			uid, err := c.send(directPath, to.body, 1)
			if err == nil {
				to.uids = append(to.uids, uid)
			}
			return err
		})
		if err != nil {
			return err
		}
		sent := 0
		for i := range all {
			sent += len(all[i].uids)
		}
		for end := time.Now().Add(o.scale.deliver); came.Load() < int64(sent) && time.Now().Before(end) && ctx.Err() == nil; {
			sleep(ctx, 10*time.Millisecond)
		}
		sleep(ctx, o.scale.settle) // in which doubles would come
		if err := ctx.Err(); err != nil {
			return err
		}
		crowd.leave()

		res.Seconds = o.Time.Seconds()
		res.Rates = []Rate{rate("requests", l.done.Load(), o.Time), rate("deliveries", measured.Load(), o.Time)}
		res.Latency = latency.latency("call to receipt")
		res.Server = between(l.before, l.after)
		for i := range all {
			all[i].check(&broken, i)
		}
		res.Broken = broken.list()
		res.Verified = fmt.Sprintf("all %d recipients saw all %d messages, each once and in order, under the UIDs that were answered", n, sent)
		if len(res.Broken) > 0 {
			res.Verified = "not every recipient saw every message once and in order"
		}
		return nil
	})
}

// check compares what came with what was answered.
func (l *listener) check(broken *complaints, i int) {
	for k, uid := range l.uids {
		if k >= len(l.got) {
			broken.add("recipient %d has %d of %d messages", i, len(l.got), len(l.uids))
			return
		}
		if l.got[k] != uid {
			broken.add("recipient %d: offset %d is message %s, want %s", i, k+1, l.got[k], uid)
			return
		}
	}
}
