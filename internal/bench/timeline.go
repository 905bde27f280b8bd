package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/websocket"
)

// A timeline is what a user must be found to have: n entries at the offsets
// from 1 on, the k-th (from 0) with the UID that uid gives.
type timeline struct {
	user string
	n    int
	uid  func(k int) chat.UID
}

// readBack connects as each user, reads the whole timeline as a new device
// does, and compares. When time is up the rest is left out; the order is
// random, so what was read is a fair sample. res says how it went.
func (o *Options) readBack(ctx context.Context, srv *server, lines []timeline, res *Result) error {
	var broken complaints
	var users, entries atomic.Int64
	all := 0
	for _, l := range lines {
		all += l.n
	}
	order := rand.Perm(len(lines))
	deadline := time.Now().Add(o.scale.verify)
	err := inParallel(ctx, srv, len(lines), func(ctx context.Context, c *caller, i int) error {
		if time.Now().After(deadline) {
			return nil
		}
		l := lines[order[i]]
		token, err := c.token(l.user)
		if err != nil {
			return err
		}
		if err := l.read(ctx, srv, token, i, o.scale.read); err != nil {
			broken.add("timeline of %s: %v", l.user, err)
			return ctx.Err()
		}
		users.Add(1)
		entries.Add(int64(l.n))
		return nil
	})
	res.Broken = append(res.Broken, broken.list()...)
	read := fmt.Sprintf("%d timelines with %d entries", users.Load(), entries.Load())
	switch {
	case len(res.Broken) > 0:
		res.Verified = "not every timeline was as it should be; these were: " + read
	case int(users.Load()) == len(lines):
		res.Verified = "all timelines read back, " + read
	default:
		res.Verified = fmt.Sprintf("of %d timelines with %d entries, in random order until %s were over, read back %s", len(lines), all, o.scale.verify, read)
	}
	res.Verified += ": no gap, no double, the UIDs that were answered, in their order"
	return err
}

var errComplete = errors.New("complete")

// read is nil when the server gives the user just that timeline.
func (l *timeline) read(ctx context.Context, srv *server, token string, i int, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := websocket.Dial(ctx, srv.url(), websocket.DialOptions{LocalAddr: source(i)})
	if err != nil {
		return err
	}
	defer conn.Abort()
	stop := context.AfterFunc(ctx, func() { conn.Abort() })
	defer stop()
	if err := conn.WriteText(fmt.Appendf(nil, `{"id":1,"connect":{"token":%q,"name":"bench","data":{"from":"oldest"}}}`, token)); err != nil {
		return err
	}
	r := &timelineReader{timeline: l, conn: conn}
	err = conn.Serve(r)
	switch {
	case errors.Is(err, errComplete):
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("%d of %d entries came: %w", r.got, l.n, ctx.Err())
	}
	return err
}

type timelineReader struct {
	*timeline
	conn      *websocket.Conn
	connected bool
	got       int
	asked     bool // how many entries the server knows of
	told      bool
}

type connectAnswer struct {
	Error   json.RawMessage
	Connect *struct {
		Subs map[string]struct {
			Publications []struct {
				Offset uint64
				Data   json.RawMessage
			}
		}
	}
	History *struct{ Offset int }
}

// Message implements websocket.Handler.
func (r *timelineReader) Message(_ websocket.Opcode, frame []byte) error {
	for line := range bytes.SplitSeq(frame, []byte("\n")) {
		var err error
		switch {
		case len(line) == 0:
		case bytes.Equal(line, ping):
			err = r.conn.WriteText(ping)
		case bytes.HasPrefix(line, pushStart):
			offset, _ := numberAfter(line, offsetMember)
			err = r.entry(offset, line)
		default:
			err = r.answer(line)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case r.told:
		return errComplete
	case r.connected && r.got == r.n && !r.asked:
		// Only asking tells that there is nothing more.
		r.asked = true
		return r.conn.WriteText([]byte(`{"id":2,"history":{"channel":"me"}}`))
	}
	return nil
}

func (r *timelineReader) answer(line []byte) error {
	var a connectAnswer
	if err := json.Unmarshal(line, &a); err != nil {
		return err
	}
	if a.Error != nil {
		return fmt.Errorf("the server answered %s", line)
	}
	if a.History != nil {
		if r.told = true; a.History.Offset != r.n {
			return fmt.Errorf("the server knows of %d entries, want %d", a.History.Offset, r.n)
		}
	}
	if a.Connect != nil {
		r.connected = true
		for _, p := range a.Connect.Subs["me"].Publications {
			if err := r.entry(p.Offset, p.Data); err != nil {
				return err
			}
		}
	}
	return nil
}

func (r *timelineReader) entry(offset uint64, b []byte) error {
	if offset != uint64(r.got)+1 {
		return fmt.Errorf("offset %d follows %d", offset, r.got)
	}
	if r.got == r.n {
		return fmt.Errorf("more than %d entries", r.n)
	}
	found := 0
	for uid := range uidsIn(b) {
		if found++; uid != r.uid(r.got) {
			return fmt.Errorf("offset %d is message %s, want %s", offset, uid, r.uid(r.got))
		}
	}
	if found != 1 {
		return fmt.Errorf("offset %d has %d UIDs", offset, found)
	}
	r.got++
	return nil
}
