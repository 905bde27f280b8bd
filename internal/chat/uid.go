package chat

import (
	"cmp"
	"errors"
	"time"
)

// A UID names one message for one recipient. UIDs sort by the time the message
// was accepted; callers treat the text form as opaque.
//
// Layout, most significant bit first, 80 bits in all:
//
//	42  milliseconds since 1970 (good until 2109)
//	 4  channel type
//	14  counter within the millisecond and channel type
//	20  run number: unique to the node process that gave it
//
// The UIDs of one request are consecutive: same milliseconds, type and run,
// the counter growing by one. A request therefore needs to store only its first
// UID to know all of them.
type UID [10]byte

const (
	uidMillisBits  = 42
	uidCounterBits = 14
	uidRunBits     = 20

	// MaxUIDBlock is how many consecutive UIDs one request can be given.
	MaxUIDBlock = 1 << uidCounterBits
	// MaxRun is the highest run number a UID can carry; runs wrap around it.
	MaxRun = 1<<uidRunBits - 1
)

// uidAlphabet is 32 symbols in ASCII order, so that text sorts as the bytes do.
// It leaves out 0, 1, I and O, which people misread.
const uidAlphabet = "23456789ABCDEFGHJKLMNPQRSTUVWXYZ"

var uidValues = func() (t [256]int8) {
	for i := range t {
		t[i] = -1
	}
	for i := range len(uidAlphabet) {
		t[uidAlphabet[i]] = int8(i)
	}
	return t
}()

// NewUID puts a UID together. Values beyond their field's width are cut.
func NewUID(millis int64, ct ChannelType, counter uint16, run uint32) UID {
	// hi holds the top 64 of the 80 bits, lo the last 16.
	low38 := uint64(ct&0xf)<<34 | uint64(counter&(MaxUIDBlock-1))<<uidRunBits | uint64(run&MaxRun)
	hi := uint64(millis)<<22 | low38>>16
	lo := uint16(low38)
	return UID{
		byte(hi >> 56), byte(hi >> 48), byte(hi >> 40), byte(hi >> 32),
		byte(hi >> 24), byte(hi >> 16), byte(hi >> 8), byte(hi),
		byte(lo >> 8), byte(lo),
	}
}

// UIDsBefore is above every UID of an earlier time and below all others, and
// UIDsUpTo is above every UID of that time too: bounds to look for UIDs by time.
func UIDsBefore(millis int64) UID {
	return NewUID(min(max(millis, 0), 1<<uidMillisBits-1), 0, 0, 0)
}

// UIDsUpTo is the upper bound to UIDsBefore.
func UIDsUpTo(millis int64) UID {
	return NewUID(min(max(millis, 0), 1<<uidMillisBits-1), 0xf, MaxUIDBlock-1, MaxRun)
}

func (u UID) split() (hi uint64, lo uint16) {
	hi = uint64(u[0])<<56 | uint64(u[1])<<48 | uint64(u[2])<<40 | uint64(u[3])<<32 |
		uint64(u[4])<<24 | uint64(u[5])<<16 | uint64(u[6])<<8 | uint64(u[7])
	return hi, uint16(u[8])<<8 | uint16(u[9])
}

// Millis is the time the message was accepted, in Unix milliseconds. It equals
// the message's sentAt.
func (u UID) Millis() int64 {
	hi, _ := u.split()
	return int64(hi >> 22)
}

// Time is Millis as a time.
func (u UID) Time() time.Time { return time.UnixMilli(u.Millis()) }

// ChannelType is the type of channel the message was sent to.
func (u UID) ChannelType() ChannelType {
	hi, _ := u.split()
	return ChannelType(hi >> 18 & 0xf)
}

// Counter is the UID's place among those of its millisecond.
func (u UID) Counter() int {
	hi, lo := u.split()
	return int((hi&(1<<18-1))<<16|uint64(lo)) >> uidRunBits & (MaxUIDBlock - 1)
}

// Run is the run number of the process that gave the UID.
func (u UID) Run() uint32 {
	hi, lo := u.split()
	return uint32(hi<<16|uint64(lo)) & MaxRun
}

// Plus is the UID n places further in the same request's block. The caller
// stays within the block: the counter does not carry.
func (u UID) Plus(n int) UID {
	return NewUID(u.Millis(), u.ChannelType(), uint16(u.Counter()+n), u.Run())
}

// IndexIn is u's place in the block of n UIDs that starts with first, or -1
// when it is not in that block.
func (u UID) IndexIn(first UID, n int) int {
	if u.Millis() != first.Millis() || u.ChannelType() != first.ChannelType() || u.Run() != first.Run() {
		return -1
	}
	if i := u.Counter() - first.Counter(); i >= 0 && i < n {
		return i
	}
	return -1
}

// Compare orders UIDs by time.
func (u UID) Compare(v UID) int {
	uh, ul := u.split()
	vh, vl := v.split()
	if c := cmp.Compare(uh, vh); c != 0 {
		return c
	}
	return cmp.Compare(ul, vl)
}

// IsZero reports whether u names nothing.
func (u UID) IsZero() bool { return u == UID{} }

// String is the UID as callers see it: XXXX-XXXX-XXXX-XXXX.
func (u UID) String() string { return string(u.Append(make([]byte, 0, 19))) }

// Append appends the text form to b. Written out, as answers to large sends
// hold thousands: a loop over the symbols took several times as long.
func (u UID) Append(b []byte) []byte {
	hi, lo := u.split()
	const a = uidAlphabet
	top, low := hi>>4, (hi&0xf)<<16|uint64(lo) // twelve symbols and four
	return append(b,
		a[top>>55&31], a[top>>50&31], a[top>>45&31], a[top>>40&31], '-',
		a[top>>35&31], a[top>>30&31], a[top>>25&31], a[top>>20&31], '-',
		a[top>>15&31], a[top>>10&31], a[top>>5&31], a[top&31], '-',
		a[low>>15&31], a[low>>10&31], a[low>>5&31], a[low&31])
}

var errUID = errors.New("not a message UID")

// ParseUID reads the text form.
func ParseUID(s string) (UID, error) {
	if len(s) != 19 || s[4] != '-' || s[9] != '-' || s[14] != '-' {
		return UID{}, errUID
	}
	var u UID
	var acc uint64
	bits, out := 0, 0
	for i := range len(s) {
		if i%5 == 4 {
			continue
		}
		v := uidValues[s[i]]
		if v < 0 {
			return UID{}, errUID
		}
		acc = acc<<5 | uint64(v)
		bits += 5
		for bits >= 8 {
			bits -= 8
			u[out] = byte(acc >> bits)
			out++
		}
	}
	return u, nil
}

// A UIDSource gives UIDs in strictly growing order, whatever the clock does.
// It is not safe for concurrent use: one writer owns it.
type UIDSource struct {
	run     uint32
	millis  int64
	last    ChannelType // type of the newest UID within millis
	counter int         // next free counter within millis and last
}

// NewUIDSource starts a source for the given run. No UID it gives carries a
// time at or below floor, the newest time an earlier run may have used.
func NewUIDSource(run uint32, floor int64) *UIDSource {
	return &UIDSource{run: run & MaxRun, millis: floor, counter: MaxUIDBlock}
}

// Block gives n consecutive UIDs (1 to MaxUIDBlock) at now, or as soon after
// the newest UID as order allows, and returns the first.
//
// The channel type stands above the counter in a UID, so within a millisecond
// a lower type must not follow a higher one, and a block must not straddle two
// milliseconds. In both cases time moves on by one: at a million requests a
// second of alternating types UIDs would run ahead of the clock, below that
// they stay within a millisecond or two of it.
func (s *UIDSource) Block(now time.Time, ct ChannelType, n int) UID {
	ct &= 0xf
	switch ms := now.UnixMilli(); {
	case ms > s.millis:
		s.millis, s.last, s.counter = ms, ct, 0
	case ct < s.last || ct == s.last && s.counter+n > MaxUIDBlock || s.counter >= MaxUIDBlock:
		s.millis, s.last, s.counter = s.millis+1, ct, 0
	case ct > s.last:
		s.last, s.counter = ct, 0
	}
	first := NewUID(s.millis, ct, uint16(s.counter), s.run)
	s.counter += n
	return first
}

// Millis is the newest time the source has given.
func (s *UIDSource) Millis() int64 { return s.millis }
