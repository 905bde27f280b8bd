package gateway

import (
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/websocket"
)

// A frameKind says what a frame is, for counting and for who may be dropped.
type frameKind uint8

const (
	frameReply     frameKind = iota // answers: never dropped
	frameOpenLow                    // open channel publications, in the order of their ranks
	frameOpen                       // of standard rank
	frameOpenHigh                   // gives way to none but frameOpenKept
	frameOpenKept                   // never dropped
	frameEphemeral                  // for whoever is online
	frameTimeline                   // entries of me; these never wait in a queue
	frameControl                    // a WebSocket control frame, header and all
	frameKinds
)

// frameOf is the kind of a publication of the rank.
func frameOf(r room.Rank) frameKind { return frameOpenLow + frameKind(r) }

// expendable reports whether frames of the kind can be given up when their queue
// is full.
func (k frameKind) expendable() bool {
	return frameOpenLow <= k && k < frameOpenKept || k == frameEphemeral
}

// rank is that of a kind that is expendable, and of frameOpenKept.
func (k frameKind) rank() room.Rank {
	if k == frameEphemeral {
		return room.RankStandard
	}
	return room.Rank(k - frameOpenLow)
}

// A frame is one reply or push, ready to be written: a JSON object. Its bytes
// may be shared with other connections and must not be changed.
type frame struct {
	b    []byte
	kind frameKind
}

// A queue holds the frames that wait to be written to a connection, in order.
// Empty it holds no memory; the place for one frame is built in, because most
// of the time one is all there is.
type queue struct {
	first   frame
	rest    []frame
	popped  int32 // how many of rest are gone
	bytes   int32
	expend  int32 // bytes of expendable frames
	waiting int32 // frames
}

func (q *queue) push(f frame) {
	if q.waiting++; q.waiting == 1 {
		q.first = f
	} else {
		if len(q.rest) == cap(q.rest) && int(q.popped) > len(q.rest)/2 {
			// A queue that never empties would otherwise grow with all that
			// ever went through it.
			n := copy(q.rest, q.rest[q.popped:])
			clear(q.rest[n:])
			q.rest, q.popped = q.rest[:n], 0
		}
		q.rest = append(q.rest, f)
	}
	q.bytes += int32(len(f.b))
	if f.kind.expendable() {
		q.expend += int32(len(f.b))
	}
}

// pop takes the oldest frame. The queue must not be empty.
func (q *queue) pop() frame {
	f := q.first
	q.bytes -= int32(len(f.b))
	if f.kind.expendable() {
		q.expend -= int32(len(f.b))
	}
	q.waiting--
	if int(q.popped) == len(q.rest) {
		q.first, q.rest, q.popped = frame{}, nil, 0
		return f
	}
	q.first = q.rest[q.popped]
	q.rest[q.popped] = frame{}
	q.popped++
	return f
}

// giveUp takes frames of a rank below the given one out of the queue, the lowest
// rank first and of each the oldest, until so many bytes are gained, and calls
// count for each. Where there is not that much to gain it takes none.
func (q *queue) giveUp(below room.Rank, need int, count func(room.Rank)) bool {
	var take [room.Ranks]int // bytes of each rank: first what there is
	rest := q.rest[q.popped:]
	add := func(f *frame) {
		if f.kind.expendable() {
			take[f.kind.rank()] += len(f.b)
		}
	}
	add(&q.first)
	for i := range rest {
		add(&rest[i])
	}
	for r := range below {
		take[r] = min(take[r], need)
		need -= take[r]
	}
	if need > 0 {
		return false
	}
	kept := queue{rest: q.rest[:0]} // which is behind what is read
	keep := func(f frame) {
		if f.kind.expendable() && f.kind.rank() < below && take[f.kind.rank()] > 0 {
			take[f.kind.rank()] -= len(f.b)
			count(f.kind.rank())
		} else {
			kept.push(f)
		}
	}
	keep(q.first)
	for _, f := range rest {
		keep(f)
	}
	clear(q.rest[len(kept.rest):])
	*q = kept
	return true
}

// A joiner puts frames together into WebSocket messages, as many objects in
// one as fit, separated by newlines. One write of eight joined objects costs
// the kernel, the network and the client about as much as a write of one.
type joiner struct {
	buf     []byte
	open    int // where the message under way starts in buf, with room for its header; -1 when there is none
	objects int // in the message under way
	total   int // objects since reset
	counts  [frameKinds]int
}

const (
	// A message that needs the long form of the header is written alone, so
	// that the room to keep for a header is always the same.
	joinHeader = 4
	maxJoined  = 0xffff
	// maxJoinedObjects keeps the work that one message makes for a client
	// within bounds.
	maxJoinedObjects = 64

	keepJoiner = 256 << 10 // larger buffers are not kept for the next turn
)

func (j *joiner) reset() {
	if cap(j.buf) > keepJoiner {
		j.buf = nil
	}
	j.buf, j.open, j.objects, j.total = j.buf[:0], -1, 0, 0
	j.counts = [frameKinds]int{}
}

// begin makes ready for an object of exactly size bytes, which the caller then
// appends to buf.
func (j *joiner) begin(size int, kind frameKind) {
	j.total++
	j.counts[kind]++
	if j.open >= 0 {
		if j.objects < maxJoinedObjects && len(j.buf)-j.open-joinHeader+1+size <= maxJoined {
			j.buf = append(j.buf, '\n')
			j.objects++
			return
		}
		j.end()
	}
	if size > maxJoined {
		j.buf = websocket.AppendHeader(j.buf, websocket.Text, size)
		return
	}
	j.open, j.objects = len(j.buf), 1
	j.buf = append(j.buf, make([]byte, joinHeader)...)
}

func (j *joiner) add(f frame) {
	if f.kind == frameControl {
		j.end()
		j.buf = append(j.buf, f.b...)
		return
	}
	j.begin(len(f.b), f.kind)
	j.buf = append(j.buf, f.b...)
}

// end finishes the message under way.
func (j *joiner) end() {
	if j.open < 0 {
		return
	}
	payload := j.buf[j.open+joinHeader:]
	var room [joinHeader]byte
	header := websocket.AppendHeader(room[:0], websocket.Text, len(payload))
	copy(j.buf[j.open:], header)
	if gap := joinHeader - len(header); gap > 0 { // short messages have a short header
		copy(j.buf[j.open+len(header):], payload)
		j.buf = j.buf[:len(j.buf)-gap]
	}
	j.open = -1
}

// bytes finishes what is under way and gives all of it.
func (j *joiner) bytes() []byte {
	j.end()
	return j.buf
}
