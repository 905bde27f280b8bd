package gateway

import (
	"context"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

const (
	// pumpEntries is how many entries are read from the store at a time. Most
	// of the time there is one; when there are many, what fits into a turn is
	// about this.
	pumpEntries = 128

	// storeRetry is how long a session waits that could not read the store.
	storeRetry = time.Second
)

// pump gives the session what its timeline holds past its position, as much as
// one turn takes, and reports whether there may be more.
func (r *runner) pump(c *conn) (more bool) {
	g, j := r.g, &r.out
	entries, err := g.opts.Store.Read(g.life, c.app, c.user, store.Range{After: c.pos, Limit: pumpEntries}, r.entries[:0])
	r.entries = entries
	if err != nil {
		c.retry(err)
		return false
	}
	if len(entries) > 0 && entries[0].Offset != c.pos+1 {
		// What is missing has passed its retention while the client was slow.
		c.disconnect(closeInsufficient)
		return false
	}
	pos := c.pos
	for i := range entries {
		e := &entries[i]
		b, err := g.body(g.life, e.Ref)
		if err != nil {
			c.retry(err)
			break
		}
		if len(j.buf) > 0 && len(j.buf)+entrySize(e, b) > turnBytes {
			more = true
			break
		}
		r.addEntry(e, b)
		pos = e.Offset
	}
	given := int(pos - c.pos)
	c.mu.Lock()
	c.pos = pos
	more = more || len(entries) == pumpEntries
	if c.catching {
		g.metrics.recovered.Add(float64(given))
		c.catching = more
	}
	c.mu.Unlock()
	if more {
		c.behind.Store(true)
	}
	return more
}

// addEntry puts one entry into the turn's bytes. Joining wants to know its exact
// size first, so it is made beside and copied.
func (r *runner) addEntry(e *store.Entry, b *body) {
	r.scratch = append(r.scratch[:0], pushMe...)
	r.scratch = appendEntry(r.scratch, e, b)
	r.scratch = append(r.scratch, pushEnd...)
	r.out.add(frame{r.scratch, frameTimeline})
}

// retry makes the session look again in a while.
func (c *conn) retry(err error) {
	if c.g.life.Err() == nil {
		c.g.opts.Logger.Error("reading a timeline failed; the session will try again", "app", c.app, "user", c.user, "error", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retryAt = c.g.wheel.after(storeRetry)
	c.armLocked()
}

// missedWake reports whether the timeline has grown without the session being
// told. It is asked at every ping, so that a wake-up that was lost delays and
// never loses.
func (g *Gateway) missedWake(c *conn) bool {
	head, err := g.opts.Store.Head(g.life, c.app, c.user)
	return err == nil && head > c.pos
}

// appendPage appends a page of the timeline as a result's publications: up to
// r.Limit and about most bytes, but at least one. It gives the offset of the
// last.
func (c *conn) appendPage(ctx context.Context, b []byte, r store.Range, most int) (_ []byte, last uint64, err error) {
	last = r.After
	entries, err := c.g.opts.Store.Read(ctx, c.app, c.user, r, nil)
	if err != nil || len(entries) == 0 {
		return b, last, err
	}
	start := len(b)
	for i := range entries {
		e := &entries[i]
		body, err := c.g.body(ctx, e.Ref)
		if err != nil {
			return b, last, err
		}
		if i == 0 {
			b = append(b, `,"publications":[`...)
		} else if len(b)-start+entrySize(e, body) > most {
			break
		} else {
			b = append(b, ',')
		}
		b = appendEntry(b, e, body)
		last = e.Offset
	}
	return append(b, ']'), last, nil
}

// historyLimit is how many publications a page of history has at most.
const historyLimit = 300

// history answers with a page of the timeline (B7).
func (c *conn) history(cmd command) error {
	var channel string
	var limit int64
	var since *streamPosition
	reverse := false
	s := scan(cmd.params)
	for s.more() {
		switch name := s.name(); string(name) {
		case "channel":
			channel = s.text()
		case "limit":
			limit = s.signed()
		case "reverse":
			reverse = s.truth()
		case "since":
			if v := s.value(); v != nil && s.err == nil {
				since = new(streamPosition)
				*since, s.err = parsePosition(v)
			}
		default:
			s.value()
		}
	}
	if err := s.done(); err != nil || channel == "" {
		return closeBadRequest
	}
	if channel != channelMe {
		if _, err := parseOpenChannel(channel); err != nil {
			return err
		}
		return refuse(codeNotAvailable, "open channels have no history by position")
	}
	st := c.g.opts.Store
	epoch := st.Epoch()
	r := store.Range{Limit: int(min(uint64(limit), historyLimit)), Reverse: reverse} // negative is no limit
	if since != nil {
		switch {
		case since.epoch != "" && since.epoch != epoch:
			return refuse(codeUnrecoverable, "")
		case reverse && since.offset == 0:
			return refuse(codeBadRequest, "since.offset: must be above 0 with reverse")
		case reverse:
			r.Before = since.offset
		default:
			r.After = since.offset
		}
	}
	ctx, cancel := context.WithTimeout(c.g.life, callTimeout)
	defer cancel()
	b := appendID(make([]byte, 0, 512), cmd.id)
	b = append(b, `,"history":{"epoch":`...)
	b = appendString(b, epoch)
	// The head is read first: a reader pages until it has reached it, and must
	// not be told of one that this page has passed.
	head, err := st.Head(ctx, c.app, c.user)
	if err != nil {
		return err
	}
	if head > 0 {
		b = append(b, `,"offset":`...)
		b = strconv.AppendUint(b, head, 10)
	}
	if limit != 0 {
		app := c.g.opts.Directory.AppByID(c.app)
		if app == nil {
			return chat.Fail(chat.KindInternal, "app is gone")
		}
		oldest, err := st.Oldest(ctx, c.app, c.user, app.Settings.MissedDays)
		if err != nil {
			return err
		}
		r.After = max(r.After, oldest-1)
		if r.Before == 0 || r.Before > head+1 {
			r.Before = head + 1
		}
		if r.After+1 < r.Before {
			if b, _, err = c.appendPage(ctx, b, r, firstPageBytes); err != nil {
				return err
			}
		}
	}
	c.reply(append(b, "}}"...))
	return nil
}

func parsePosition(raw []byte) (p streamPosition, err error) {
	s := scan(raw)
	for s.more() {
		switch name := s.name(); string(name) {
		case "epoch":
			p.epoch = s.text()
		case "offset":
			p.offset = s.number()
		default:
			s.value()
		}
	}
	return p, s.done()
}

// ackLocked notes that the client has everything up to offset. It moves the
// device's cursor, never back and never past what the session was given.
func (c *conn) ackLocked(offset uint64) {
	offset = min(offset, c.pos)
	if offset <= c.acked {
		return
	}
	before := c.acked
	c.acked = offset
	c.noteAckedLocked(before)
	if c.device != "" {
		c.g.cursors.note(c.deviceKey(), c.trail.client, offset)
	}
}
