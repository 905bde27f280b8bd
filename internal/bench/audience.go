package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/websocket"
)

// An audience is many participants of open channels, as cheap as can be: the
// machine is the server's, too. A few readers serve all (audience_linux.go), and
// of most frames only the two ends are looked at.
type audience struct {
	broken    *complaints
	attendees []*attendee
	latency   histogram   // of those who look at everything
	measured  atomic.Bool // whether what comes counts for latency
	lanes     int

	delivered atomic.Int64  // publications to all attendees
	target    atomic.Int64  // at which reached is told
	reached   chan struct{} // has one value when delivered has passed target

	leaving atomic.Bool
	readers sync.WaitGroup
}

// An attendee is one participant. It checks that the offsets of what it gets have
// no hole: a message of a joined frame is counted as a newline, and the first
// and the last offset must be that far apart. Every sixteenth, and the first few,
// look at every message.
type attendee struct {
	a       *audience
	i       int
	channel []byte // its member in a push
	socket
	carry []byte // a frame that is cut, so far
	plain bool   // what comes is no protocol: frames are counted

	answers int    // still awaited
	next    uint64 // offset
	closer  bool   // looks at every message
	lanes   []uint64
	seen    int64 // messages, of closer ones
}

const everyCloser, firstClosers = 16, 4

var (
	sequenceMember = []byte(`sequence `)
	laneMember     = []byte(`lane `)
	sentMember     = []byte(`sent `)
	joinedPing     = []byte("\n{}")
)

// attend connects one attendee per token, each to its channel. lanes is how many
// senders number their messages.
func attend(ctx context.Context, srv *server, list []string, lanes int, channel func(i int) string, broken *complaints) (*audience, error) {
	a := &audience{broken: broken, lanes: lanes, attendees: make([]*attendee, len(list)), reached: make(chan struct{}, 1)}
	err := inParallel(ctx, srv, len(list), func(ctx context.Context, _ *caller, i int) error {
		l := a.attendee(i, channel(i))
		a.attendees[i] = l
		if err := l.join(ctx, srv, list[i], channel(i)); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		return nil
	})
	if err == nil {
		err = a.read()
	}
	if err != nil {
		a.leave()
		return nil, err
	}
	return a, nil
}

func (a *audience) attendee(i int, channel string) *attendee {
	l := &attendee{a: a, i: i, channel: []byte(`{"push":{"channel":"open:` + channel + `"`)}
	if l.closer = i%everyCloser == 0 || i < firstClosers; l.closer {
		l.lanes = make([]uint64, a.lanes)
	}
	return l
}

// join makes the connection and enters the channel.
func (l *attendee) join(ctx context.Context, srv *server, token, channel string) error {
	d := net.Dialer{LocalAddr: source(l.i)}
	conn, err := d.DialContext(ctx, "tcp", srv.addr)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	if err := l.greet(conn, token, channel); err != nil {
		conn.Close()
		return err
	}
	return l.adopt(conn)
}

func (l *attendee) greet(conn net.Conn, token, channel string) error {
	if _, err := fmt.Fprintf(conn, "GET /connection/websocket HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"); err != nil {
		return err
	}
	var head, rest []byte
	b := make([]byte, 4<<10)
	for done := false; !done; {
		n, err := conn.Read(b)
		if err != nil {
			return err
		}
		head, rest, done = bytes.Cut(append(head, b[:n]...), []byte("\r\n\r\n"))
	}
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
		return fmt.Errorf("no handshake: %.100s", head)
	}
	hello := fmt.Appendf(nil, `{"id":1,"connect":{"token":%q,"name":"bench"}}`+"\n"+`{"id":2,"subscribe":{"channel":"open:%s"}}`, token, channel)
	if _, err := conn.Write(websocket.AppendMasked(nil, websocket.Text, hello)); err != nil {
		return err
	}
	l.answers = 2
	_, err := l.feed(rest)
	for err == nil && l.answers > 0 {
		var n int
		if n, err = conn.Read(b); err == nil {
			_, err = l.feed(b[:n])
		}
	}
	return err
}

// expect sets the number of publications to all attendees at which await ends.
func (a *audience) expect(total int64) { a.target.Store(total) }

// await waits until as many publications have come as are expected.
func (a *audience) await(ctx context.Context, limit time.Duration) bool {
	t := time.NewTimer(limit)
	defer t.Stop()
	for a.delivered.Load() < a.target.Load() {
		select {
		case <-a.reached:
		case <-t.C:
			return a.delivered.Load() >= a.target.Load()
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// add counts publications.
func (a *audience) add(n int) {
	if n == 0 {
		return
	}
	now := a.delivered.Add(int64(n))
	if t := a.target.Load(); now >= t && now-int64(n) < t {
		select {
		case a.reached <- struct{}{}:
		default:
		}
	}
}

// leave ends all connections. The attendees can be looked at afterwards.
func (a *audience) leave() {
	a.leaving.Store(true)
	a.hangUp()
	a.readers.Wait()
}

// lost notes that a attendee's connection has ended.
func (l *attendee) lost(err error) {
	if !l.a.leaving.Load() {
		l.a.broken.add("participant %d lost its connection: %v", l.i, err)
	}
}

// check complains about each attendee that does not have all, which is: the
// lanes' messages, and what the others of its channel have.
func (a *audience) check(lanes []uint64) {
	var all int64
	for _, n := range lanes {
		all += int64(n)
	}
	heads := map[string]uint64{}
	for _, l := range a.attendees {
		if l.closer {
			if l.seen != all {
				a.broken.add("participant %d has %d of %d messages", l.i, l.seen, all)
			}
			heads[string(l.channel)] = max(heads[string(l.channel)], l.next)
		}
	}
	for _, l := range a.attendees {
		// A channel that nobody of the closer ones is in has messages only.
		want, ok := heads[string(l.channel)]
		if !ok {
			want = uint64(all) + 1
		}
		if l.next != want {
			a.broken.add("participant %d is at offset %d, others at %d", l.i, l.next-1, want-1)
		}
	}
}

var errLongFrame = errors.New("a frame of more than 16 MB")

// feed takes what was read, cut anywhere, and gives the number of publications
// in it.
func (l *attendee) feed(b []byte) (publications int, err error) {
	if len(l.carry) > 0 {
		l.carry = append(l.carry, b...)
		b = l.carry
	}
	for {
		if len(b) < 2 {
			break
		}
		head, size := 2, int(b[1]&0x7f)
		switch {
		case size == 126:
			if head = 4; len(b) >= head {
				size = int(binary.BigEndian.Uint16(b[2:]))
			}
		case size == 127:
			if head = 10; len(b) >= head {
				size = int(binary.BigEndian.Uint64(b[2:]))
			}
		}
		if size > 16<<20 || size < 0 {
			return publications, errLongFrame
		}
		if len(b) < head+size {
			break
		}
		payload := b[head : head+size]
		switch op := websocket.Opcode(b[0] & 0x0f); {
		case l.plain:
			publications++
		case op == websocket.Text:
			n, err := l.frame(payload)
			publications += n
			if err != nil {
				return publications, err
			}
		case op == websocket.Close:
			code, reason := websocket.ParseClose(payload)
			return publications, fmt.Errorf("closed with %d %s", code, reason)
		}
		b = b[head+size:]
	}
	// Not before the end: b may be the carry.
	l.carry = append(l.carry[:0], b...)
	if len(l.carry) == 0 && cap(l.carry) > 4<<10 {
		l.carry = []byte{}
	}
	return publications, nil
}

// frame takes a text frame.
func (l *attendee) frame(b []byte) (publications int, err error) {
	if bytes.HasSuffix(b, joinedPing) || bytes.Equal(b, ping) {
		if err := l.pong(); err != nil {
			return 0, err
		}
		b = bytes.TrimSuffix(b[:len(b)-len(ping)], newline)
	}
	if len(b) == 0 {
		return 0, nil
	}
	if !l.closer && l.answers == 0 && bytes.HasPrefix(b, l.channel) {
		n := bytes.Count(b, newline) + 1
		first := b
		if n > 1 {
			first = b[:bytes.IndexByte(b, '\n')]
		}
		from, ok := offsetOf(first)
		to, ok2 := offsetOf(b)
		if ok && ok2 && from == l.next && to == from+uint64(n)-1 {
			l.next = to + 1
			return n, nil
		}
	}
	for line := range bytes.SplitSeq(b, newline) {
		switch {
		case bytes.HasPrefix(line, l.channel):
			if offset, ok := offsetOf(line); ok { // news, such as who came, has none
				publications++
				l.publication(line, offset)
			}
		case bytes.HasPrefix(line, pushStart):
		case bytes.Equal(line, ping):
			err = l.pong()
		case l.answers > 0:
			if bytes.Contains(line, errorMember) {
				return publications, fmt.Errorf("%w: %s", errRefused, line)
			}
			if l.answers--; l.answers == 0 {
				offset, _ := offsetOf(line) // none in a room where nothing was said
				l.next = offset + 1
			}
		}
	}
	return publications, err
}

var newline = []byte("\n")

// offsetOf is the last offset in b.
func offsetOf(b []byte) (uint64, bool) {
	i := bytes.LastIndex(b, offsetMember)
	if i < 0 {
		return 0, false
	}
	return numberAfter(b[i:], offsetMember)
}

// publication looks at one publication.
func (l *attendee) publication(line []byte, offset uint64) {
	if offset != l.next {
		l.a.broken.add("participant %d got offset %d, want %d", l.i, offset, l.next)
	}
	l.next = offset + 1
	if !l.closer {
		return
	}
	seq, ok := numberAfter(line, sequenceMember)
	if !ok {
		return // of no interest here
	}
	lane, ok := numberAfter(line, laneMember)
	if !ok || lane >= uint64(len(l.lanes)) {
		l.a.broken.add("participant %d got a message of nobody: %.200s", l.i, line)
		return
	}
	l.seen++
	if seq != l.lanes[lane] {
		l.a.broken.add("participant %d got message %d, want %d", l.i, seq, l.lanes[lane])
	}
	l.lanes[lane] = seq + 1
	if sent, ok := numberAfter(line, sentMember); ok && l.a.measured.Load() {
		l.a.latency.add(time.Duration(time.Now().UnixNano() - int64(sent)))
	}
}

var maskedPing = websocket.AppendMasked(nil, websocket.Text, ping)
