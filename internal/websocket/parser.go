package websocket

import (
	"encoding/binary"
	"math"
	"sync"
	"unicode/utf8"
)

// A Side is an end of a connection.
type Side uint8

const (
	// Server parses what clients send: every frame must be masked.
	Server Side = iota
	// Client parses what servers send: no frame may be masked.
	Client
)

// A Handler is given what a Parser finds.
type Handler interface {
	// Message is called with each whole message (Text, checked to be UTF-8, or
	// Binary) and each control frame (Close, Ping, Pong), in the order in which
	// they ended. The payload is only valid until Message returns; until then
	// it may be changed.
	//
	// An error ends the Feed and is returned by it unchanged.
	Message(op Opcode, payload []byte) error
}

// A Parser takes a stream of frames apart, however it is cut into pieces. It is
// a plain value of 16 bytes and holds nothing else while no frame or fragmented
// message is pending, so that idle connections cost next to nothing.
//
// It is not safe for concurrent use.
type Parser struct {
	pending *pending // nil: between messages
	limit   int32
	side    Side
	closed  bool
}

// NewParser makes a Parser for what arrives at the given side, which refuses
// messages of more than limit bytes.
func NewParser(side Side, limit int) Parser {
	p := Parser{side: side}
	p.SetLimit(limit)
	return p
}

// SetLimit changes the largest message, from the next frame header on. It may
// be called from within a Handler.
func (p *Parser) SetLimit(limit int) { p.limit = int32(min(max(limit, 0), math.MaxInt32)) }

// pending is what a Parser remembers of an unfinished frame or message. The
// three parts are independent, since control frames come between the fragments
// of a message.
type pending struct {
	head  [14]byte // an unfinished header
	headN uint8

	inFrame bool // header is complete, payload is not
	frame   header
	got     int // bytes of the frame's payload that came

	control [maxControl]byte // payload of an unfinished control frame

	op      Opcode  // of the message under way; 0 when there is none
	message *buffer // its bytes, also of its unfinished frame; nil when there are none
}

var pendingPool = sync.Pool{New: func() any { return new(pending) }}

type header struct {
	key  [4]byte
	size int // of the header itself; 0 while it is incomplete
	n    int // payload bytes
	op   Opcode
	fin  bool
}

// Feed takes the next bytes of the stream and calls h for each message that
// they complete. It unmasks in place: b belongs to the Parser until Feed
// returns, and a message that lies in b as one whole frame is handed out
// without a copy.
//
// An *Error says how to close the connection. After any error, and after a
// close frame, nothing more is parsed: Feed ignores what follows.
func (p *Parser) Feed(b []byte, h Handler) error {
	for len(b) > 0 && !p.closed {
		n, err := p.step(b, h)
		if err != nil {
			p.closed = true
			p.Release()
			return err
		}
		b = b[n:]
	}
	if p.closed {
		p.Release()
	}
	return nil
}

// Release gives back the memory of an unfinished message. Whoever stops feeding
// a Parser calls it; it must not be called from within a Handler.
func (p *Parser) Release() {
	if p.pending == nil {
		return
	}
	if p.pending.message != nil {
		putBuffer(p.pending.message)
	}
	*p.pending = pending{}
	pendingPool.Put(p.pending)
	p.pending = nil
}

// Idle reports whether the stream stands between two messages.
func (p *Parser) Idle() bool { return p.pending == nil }

// step takes one bite of b and returns its size, which is never 0.
func (p *Parser) step(b []byte, h Handler) (int, error) {
	if p.pending != nil && p.pending.inFrame {
		return p.payload(b, h)
	}
	if p.pending != nil && p.pending.headN > 0 {
		return p.split(b, h)
	}
	f, err := p.header(b)
	if err != nil {
		return 0, err
	}
	if f.size == 0 {
		q := p.hold()
		q.headN = uint8(copy(q.head[:], b))
		return len(b), nil
	}
	end := f.size + f.n
	if len(b) < end {
		p.begin(f)
		return f.size, nil
	}
	payload := b[f.size:end:end]
	if p.side == Server {
		mask(payload, f.key, 0)
	}
	return end, p.whole(f, payload, h)
}

// split completes a header that did not arrive in one piece.
func (p *Parser) split(b []byte, h Handler) (int, error) {
	q := p.pending
	for i, c := range b {
		q.head[q.headN] = c
		q.headN++
		f, err := p.header(q.head[:q.headN])
		if err != nil {
			return 0, err
		}
		if f.size > 0 {
			q.headN = 0
			p.begin(f)
			if f.n == 0 { // no byte will come that could end it
				_, err = p.payload(nil, h)
			}
			return i + 1, err
		}
	}
	return len(b), nil
}

// header reads the frame header at the start of b. It fails as soon as what is
// there cannot become a valid one; a result of size 0 wants more bytes.
func (p *Parser) header(b []byte) (f header, err error) {
	inMessage := p.pending != nil && p.pending.op != 0

	// Byte 0: fin, three reserved bits, opcode.
	if b[0]&0x70 != 0 {
		return f, errReservedBits
	}
	f.op, f.fin = Opcode(b[0]&0x0f), b[0]&finBit != 0
	switch f.op {
	case opContinuation:
		if !inMessage {
			return f, errContinuation
		}
	case Text, Binary:
		if inMessage {
			return f, errInterleaved
		}
	case Close, Ping, Pong:
		if !f.fin {
			return f, errControlFragmented
		}
	default:
		return f, errReservedOpcode
	}
	if len(b) < 2 {
		return f, nil
	}

	// Byte 1: mask bit, length; then the longer forms of the length.
	switch masked := b[1]&maskBit != 0; {
	case masked && p.side == Client:
		return f, errMaskPresent
	case !masked && p.side == Server:
		return f, errMaskMissing
	}
	size, n := 2, uint64(b[1]&^maskBit)
	if f.op.control() && n > maxControl {
		return f, errControlTooLong
	}
	switch n {
	case 126:
		if size = 4; len(b) < size {
			return f, nil
		}
		if n = uint64(binary.BigEndian.Uint16(b[2:])); n < 126 {
			return f, errLengthEncoding
		}
	case 127:
		if size = 10; len(b) < size {
			return f, nil
		}
		if n = binary.BigEndian.Uint64(b[2:]); n <= 0xffff || n > math.MaxInt64 {
			return f, errLengthEncoding
		}
	}
	if p.side == Server {
		if size += 4; len(b) < size {
			return f, nil
		}
		f.key = [4]byte(b[size-4:])
	}
	if !f.op.control() && n > uint64(max(0, int(p.limit)-p.assembled())) {
		return f, errTooBig
	}
	f.size, f.n = size, int(n)
	return f, nil
}

// assembled is how many bytes of a fragmented message are there.
func (p *Parser) assembled() int {
	if p.pending == nil || p.pending.message == nil {
		return 0
	}
	return len(p.pending.message.b)
}

func (p *Parser) hold() *pending {
	if p.pending == nil {
		p.pending = pendingPool.Get().(*pending)
	}
	return p.pending
}

// begin starts a frame whose payload is not all there.
func (p *Parser) begin(f header) {
	q := p.hold()
	q.inFrame, q.frame, q.got = true, f, 0
}

// payload takes what b has of the pending frame's payload.
func (p *Parser) payload(b []byte, h Handler) (int, error) {
	q := p.pending
	f := q.frame
	b = b[:min(len(b), f.n-q.got)]
	if p.side == Server {
		mask(b, f.key, q.got)
	}
	if f.op.control() {
		copy(q.control[q.got:], b)
	} else {
		p.collect(b)
	}
	if q.got += len(b); q.got < f.n {
		return len(b), nil
	}
	q.inFrame = false
	if f.op.control() {
		return len(b), p.whole(f, q.control[:f.n], h)
	}
	return len(b), p.fragment(f, h)
}

// whole takes a frame whose payload is complete and in one piece.
func (p *Parser) whole(f header, payload []byte, h Handler) error {
	switch {
	case f.op.control():
		if f.op == Close {
			if err := checkClose(payload); err != nil {
				return err
			}
			p.closed = true
		}
		err := h.Message(f.op, payload)
		p.settle()
		return err
	case f.fin && f.op != opContinuation:
		return deliver(f.op, payload, h)
	}
	p.collect(payload)
	return p.fragment(f, h)
}

// collect keeps bytes of a message that is not complete in one piece.
func (p *Parser) collect(b []byte) {
	q := p.hold()
	if len(b) == 0 {
		return
	}
	if q.message == nil {
		q.message = getBuffer(len(b))
	}
	q.message = q.message.extend(b)
}

// fragment ends a data frame whose payload was collected.
func (p *Parser) fragment(f header, h Handler) error {
	q := p.pending
	if f.op != opContinuation {
		q.op = f.op
	}
	if !f.fin {
		return nil
	}
	var message []byte
	if q.message != nil {
		message = q.message.b
	}
	err := deliver(q.op, message, h)
	q.op = 0
	if q.message != nil {
		putBuffer(q.message)
		q.message = nil
	}
	p.settle()
	return err
}

// settle lets go of the pending state once nothing is pending.
func (p *Parser) settle() {
	if q := p.pending; q != nil && q.op == 0 && !q.inFrame && q.headN == 0 {
		p.Release()
	}
}

func deliver(op Opcode, message []byte, h Handler) error {
	if op == Text && !utf8.Valid(message) {
		return errText
	}
	return h.Message(op, message)
}
