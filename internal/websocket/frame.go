package websocket

import (
	"encoding/binary"
	"math/rand/v2"
	"unicode/utf8"
)

// An Opcode says what a frame carries (RFC 6455 section 11.8).
type Opcode uint8

// The opcodes a Handler sees.
const (
	opContinuation Opcode = 0

	Text   Opcode = 1
	Binary Opcode = 2
	Close  Opcode = 8
	Ping   Opcode = 9
	Pong   Opcode = 10
)

func (o Opcode) control() bool { return o >= Close }

// MaxHeader is the most that AppendHeader appends: the room to keep in front of
// a payload whose length is not known yet.
const MaxHeader = 10

const (
	finBit  = 0x80
	maskBit = 0x80

	maxControl     = 125
	maxCloseReason = maxControl - 2
)

// AppendHeader appends the header of an unmasked, unfragmented frame whose
// payload of n bytes the caller writes after it.
func AppendHeader(dst []byte, op Opcode, n int) []byte {
	return appendHeader(dst, op, n, 0)
}

func appendHeader(dst []byte, op Opcode, n int, mask byte) []byte {
	switch {
	case n <= 125:
		return append(dst, finBit|byte(op), mask|byte(n))
	case n <= 0xffff:
		return append(dst, finBit|byte(op), mask|126, byte(n>>8), byte(n))
	}
	dst = append(dst, finBit|byte(op), mask|127)
	return binary.BigEndian.AppendUint64(dst, uint64(n))
}

// AppendFrame appends an unmasked, unfragmented frame, as servers send them. A
// control frame's payload must not be longer than 125 bytes.
func AppendFrame(dst []byte, op Opcode, payload []byte) []byte {
	return append(AppendHeader(dst, op, len(payload)), payload...)
}

// AppendText appends an unmasked text frame.
func AppendText(dst, payload []byte) []byte { return AppendFrame(dst, Text, payload) }

// AppendClose appends an unmasked close frame. A reason that does not fit into
// 123 bytes is cut between two characters.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	reason = cutReason(reason)
	dst = AppendHeader(dst, Close, 2+len(reason))
	dst = binary.BigEndian.AppendUint16(dst, code)
	return append(dst, reason...)
}

// AppendMasked appends a masked, unfragmented frame, as clients send them. The
// payload itself is left alone.
func AppendMasked(dst []byte, op Opcode, payload []byte) []byte {
	// The runtime's generator is a ChaCha8: as unpredictable as section 5.3
	// wants, and far cheaper than a system call per frame.
	var key [4]byte
	binary.LittleEndian.PutUint32(key[:], rand.Uint32())
	dst = appendHeader(dst, op, len(payload), maskBit)
	dst = append(dst, key[:]...)
	start := len(dst)
	dst = append(dst, payload...)
	mask(dst[start:], key, 0)
	return dst
}

// AppendMaskedClose is AppendClose for clients.
func AppendMaskedClose(dst []byte, code uint16, reason string) []byte {
	var payload [maxControl]byte
	b := binary.BigEndian.AppendUint16(payload[:0], code)
	return AppendMasked(dst, Close, append(b, cutReason(reason)...))
}

func cutReason(s string) string {
	if len(s) <= maxCloseReason {
		return s
	}
	n := maxCloseReason
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// mask applies key to b, which starts pos bytes into the payload; doing it
// twice undoes it. Eight bytes at a time is what the compiler turns into plain
// loads and xors: 10 times the speed of the loop over bytes.
func mask(b []byte, key [4]byte, pos int) {
	if pos&3 != 0 {
		key = [4]byte{key[pos&3], key[(pos+1)&3], key[(pos+2)&3], key[(pos+3)&3]}
	}
	k32 := binary.LittleEndian.Uint32(key[:])
	k := uint64(k32)<<32 | uint64(k32)
	for len(b) >= 32 {
		c := b[:32]
		binary.LittleEndian.PutUint64(c[0:], binary.LittleEndian.Uint64(c[0:])^k)
		binary.LittleEndian.PutUint64(c[8:], binary.LittleEndian.Uint64(c[8:])^k)
		binary.LittleEndian.PutUint64(c[16:], binary.LittleEndian.Uint64(c[16:])^k)
		binary.LittleEndian.PutUint64(c[24:], binary.LittleEndian.Uint64(c[24:])^k)
		b = b[32:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^k)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}
