package websocket

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"
	"unsafe"
)

// seen is what a stream came to: messages and the error that ended it.
type seen struct {
	messages []string
	err      error
}

func (s *seen) Message(op Opcode, payload []byte) error {
	s.messages = append(s.messages, fmt.Sprintf("%d:%s", op, payload))
	clear(payload) // allowed, so it must not disturb the parser
	return nil
}

// feed parses stream cut at the given positions.
func feed(side Side, limit int, stream []byte, cuts ...int) *seen {
	p := NewParser(side, limit)
	s := &seen{}
	stream = bytes.Clone(stream) // unmasked in place
	from := 0
	for _, to := range append(cuts, len(stream)) {
		// A piece of its own, so that a parser that keeps it is found out.
		piece := bytes.Clone(stream[from:to])
		if err := p.Feed(piece, s); err != nil && s.err == nil {
			s.err = err
		}
		clear(piece)
		from = to
	}
	p.Release()
	return s
}

func masked(op Opcode, payload string) []byte { return AppendMasked(nil, op, []byte(payload)) }

// raw is a masked frame with any first byte.
func raw(b0 byte, payload string) []byte {
	f := AppendMasked(nil, Text, []byte(payload))
	f[0] = b0
	return f
}

func concat(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

var parserCases = []struct {
	name   string
	stream []byte
	limit  int
	want   []string
	err    error
}{
	{name: "one text", stream: masked(Text, "hello"), want: []string{"1:hello"}},
	{name: "empty text", stream: masked(Text, ""), want: []string{"1:"}},
	{name: "binary need not be UTF-8", stream: masked(Binary, "\xff\xfe"), want: []string{"2:\xff\xfe"}},
	{name: "two in a row", stream: concat(masked(Text, "a"), masked(Text, "b")), want: []string{"1:a", "1:b"}},
	{name: "16-bit length", stream: masked(Text, strings.Repeat("x", 126)), want: []string{"1:" + strings.Repeat("x", 126)}},
	{name: "largest 16-bit length", stream: masked(Text, strings.Repeat("x", 0xffff)), want: []string{"1:" + strings.Repeat("x", 0xffff)}},
	{name: "64-bit length", stream: masked(Text, strings.Repeat("x", 0x10000)), want: []string{"1:" + strings.Repeat("x", 0x10000)}},
	{name: "ping and pong", stream: concat(masked(Ping, "p"), masked(Pong, "")), want: []string{"9:p", "10:"}},
	{name: "fragments", stream: concat(raw(0x01, "a"), raw(0x00, "b"), raw(0x80, "c")), want: []string{"1:abc"}},
	{name: "empty fragments", stream: concat(raw(0x02, ""), raw(0x00, ""), raw(0x80, "")), want: []string{"2:"}},
	{name: "control between fragments", stream: concat(raw(0x01, "a"), masked(Ping, "p"), raw(0x80, "b"), masked(Text, "c")),
		want: []string{"9:p", "1:ab", "1:c"}},
	{name: "character cut between fragments", stream: concat(raw(0x01, "\xe2\x82"), raw(0x80, "\xac")), want: []string{"1:€"}},
	{name: "longest control frame", stream: masked(Ping, strings.Repeat("x", 125)), want: []string{"9:" + strings.Repeat("x", 125)}},
	{name: "close without status", stream: masked(Close, ""), want: []string{"8:"}},
	{name: "close with reason", stream: masked(Close, "\x03\xe8bye"), want: []string{"8:\x03\xe8bye"}},
	{name: "nothing is read after close", stream: concat(masked(Close, "\x0f\xa0"), masked(Text, "late"), []byte{0xff}), want: []string{"8:\x0f\xa0"}},
	{name: "close in a fragmented message", stream: concat(raw(0x01, "a"), masked(Close, "")), want: []string{"8:"}},

	{name: "reserved bits", stream: concat(masked(Text, "a"), raw(0xc1, "x")), want: []string{"1:a"}, err: errReservedBits},
	{name: "reserved data opcode", stream: raw(0x83, "x"), err: errReservedOpcode},
	{name: "reserved control opcode", stream: raw(0x8b, "x"), err: errReservedOpcode},
	{name: "unmasked", stream: AppendText(nil, []byte("x")), err: errMaskMissing},
	{name: "fragmented ping", stream: raw(0x09, "x"), err: errControlFragmented},
	{name: "long ping", stream: raw(0x89, strings.Repeat("x", 126)), err: errControlTooLong},
	{name: "16-bit length for a short one", stream: []byte{0x81, 0xfe, 0, 125}, err: errLengthEncoding},
	{name: "64-bit length for a short one", stream: []byte{0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, err: errLengthEncoding},
	{name: "negative length", stream: []byte{0x81, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0}, err: errLengthEncoding},
	{name: "continuation of nothing", stream: raw(0x80, "x"), err: errContinuation},
	{name: "continuation after the end", stream: concat(raw(0x01, "a"), raw(0x80, "b"), raw(0x80, "c")), want: []string{"1:ab"}, err: errContinuation},
	{name: "text within a message", stream: concat(raw(0x01, "a"), masked(Text, "b")), err: errInterleaved},
	{name: "close of one byte", stream: masked(Close, "x"), err: errClosePayload},
	{name: "close code below 1000", stream: masked(Close, "\x03\xe7"), err: errClosePayload},
	{name: "close code for local use", stream: masked(Close, "\x03\xed"), err: errClosePayload},
	{name: "close code not given out", stream: masked(Close, "\x07\xd0"), err: errClosePayload},
	{name: "close code above 4999", stream: masked(Close, "\x13\x88"), err: errClosePayload},
	{name: "close reason not UTF-8", stream: masked(Close, "\x03\xe8\xff"), err: errCloseReason},
	{name: "text not UTF-8", stream: concat(masked(Text, "ok"), masked(Text, "a\xff")), want: []string{"1:ok"}, err: errText},
	{name: "half a character at the end", stream: concat(raw(0x01, "\xe2"), raw(0x80, "\x82")), err: errText},
	{name: "at the limit", limit: 8, stream: masked(Text, "12345678"), want: []string{"1:12345678"}},
	{name: "over the limit", limit: 8, stream: masked(Text, "123456789"), err: errTooBig},
	{name: "over the limit by its claim alone", limit: 8, stream: []byte{0x81, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4}, err: errTooBig},
	{name: "fragments at the limit", limit: 8, stream: concat(raw(0x01, "1234"), masked(Ping, "123456789"), raw(0x80, "5678")), want: []string{"9:123456789", "1:12345678"}},
	{name: "fragments over the limit", limit: 8, stream: concat(raw(0x01, "1234"), raw(0x80, "56789")), err: errTooBig},
}

func TestParserWholeAndCut(t *testing.T) {
	t.Parallel()
	for _, c := range parserCases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			limit := c.limit
			if limit == 0 {
				limit = 1 << 20
			}
			want := &seen{messages: c.want, err: c.err}
			check := func(cuts ...int) {
				t.Helper()
				got := feed(Server, limit, c.stream, cuts...)
				if !reflect.DeepEqual(got, want) {
					t.Fatalf("cut at %v: got %.200q %v, want %.200q %v", cuts, got.messages, got.err, want.messages, want.err)
				}
			}
			check()
			if len(c.stream) > 2000 { // headers at both ends are what matters
				for i := range 20 {
					check(i)
					check(i, len(c.stream)-1)
				}
				return
			}
			var every []int
			for i := range c.stream {
				check(i)
				every = append(every, i)
			}
			check(every...)
			if len(c.stream) < 40 {
				for i := range c.stream {
					for j := i; j < len(c.stream); j++ {
						check(i, j)
					}
				}
			}
		})
	}
}

func TestParserClientSide(t *testing.T) {
	t.Parallel()
	got := feed(Client, 100, concat(AppendText(nil, []byte("a")), AppendFrame(nil, Ping, nil), AppendClose(nil, 3001, "shutdown")))
	want := []string{"1:a", "9:", "8:\x0b\xb9shutdown"}
	if !reflect.DeepEqual(got.messages, want) || got.err != nil {
		t.Errorf("got %q, %v", got.messages, got.err)
	}
	if got := feed(Client, 100, masked(Text, "a")); got.err != errMaskPresent {
		t.Errorf("masked frame from a server: %v", got.err)
	}
}

func TestParserIsSmallWhenIdle(t *testing.T) {
	t.Parallel()
	if n := unsafe.Sizeof(Parser{}); n > 16 {
		t.Errorf("a Parser takes %d bytes", n)
	}
	for _, c := range parserCases {
		p := NewParser(Server, 1<<20)
		for _, b := range c.stream {
			_ = p.Feed([]byte{b}, &seen{})
		}
		if !p.Idle() && c.name != "over the limit by its claim alone" {
			t.Errorf("%s: memory is held at the end", c.name)
		}
		p.Release()
		if !p.Idle() {
			t.Errorf("%s: memory is held after Release", c.name)
		}
	}
}

// A header may claim a mebibyte: memory follows what came.
func TestParserMemoryFollowsTheBytes(t *testing.T) {
	t.Parallel()
	p := NewParser(Server, 1<<20)
	defer p.Release()
	if err := p.Feed([]byte{0x81, 0xff, 0, 0, 0, 0, 0, 0x10, 0, 0, 1, 2, 3, 4, 'x'}, &seen{}); err != nil {
		t.Fatal(err)
	}
	if n := cap(p.pending.message.b); n > 1<<minBufferBits {
		t.Errorf("%d bytes are held for one", n)
	}
}

type limiter struct {
	p *Parser
	seen
}

func (l *limiter) Message(op Opcode, payload []byte) error {
	l.p.SetLimit(10)
	return l.seen.Message(op, payload)
}

func TestLimitChangesBetweenFramesOfOneFeed(t *testing.T) {
	t.Parallel()
	p := NewParser(Server, 4)
	l := &limiter{p: &p}
	if err := p.Feed(concat(masked(Text, "1234"), masked(Text, "1234567890")), l); err != nil || len(l.messages) != 2 {
		t.Errorf("got %q, %v", l.messages, err)
	}
	if err := p.Feed(masked(Text, "12345678901"), l); err != errTooBig {
		t.Errorf("got %v", err)
	}
}

type failing struct{ err error }

func (f failing) Message(Opcode, []byte) error { return f.err }

func TestHandlerErrorEndsTheStream(t *testing.T) {
	t.Parallel()
	boom := errors.New("boom")
	for _, stream := range [][]byte{masked(Text, "a"), masked(Ping, ""), concat(raw(0x01, "a"), raw(0x80, "b"))} {
		p := NewParser(Server, 100)
		if err := p.Feed(stream, failing{boom}); err != boom {
			t.Errorf("got %v", err)
		}
		s := &seen{}
		if err := p.Feed(masked(Text, "late"), s); err != nil || s.messages != nil || !p.Idle() {
			t.Errorf("parsed on after an error: %q, %v", s.messages, err)
		}
	}
}

func TestCloseCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err    error
		code   uint16
		reason string
	}{
		{errTooBig, 1009, "message too big"},
		{fmt.Errorf("read: %w", errText), 1007, "text is not UTF-8"},
		{errors.New("other"), 1001, ""},
	} {
		if code, reason := CloseCode(c.err); code != c.code || reason != c.reason {
			t.Errorf("%v: got %d %q", c.err, code, reason)
		}
	}
}

type counter struct{ n, bytes int }

func (c *counter) Message(_ Opcode, payload []byte) error {
	c.n++
	c.bytes += len(payload)
	return nil
}

// refill undoes what unmasking did, without the cost of copying in a benchmark.
func refill(frame []byte, headerSize int) {
	mask(frame[headerSize:], [4]byte(frame[headerSize-4:]), 0)
}

func TestWholeFramesCostNoAllocation(t *testing.T) {
	frame := masked(Text, strings.Repeat("x", 200))
	p := NewParser(Server, 1<<20)
	h := &counter{}
	allocs := testing.AllocsPerRun(100, func() {
		if err := p.Feed(frame, h); err != nil {
			t.Fatal(err)
		}
		refill(frame, 8)
	})
	if allocs != 0 {
		t.Errorf("%v allocations per frame", allocs)
	}
	if h.bytes != 200*h.n || h.n == 0 {
		t.Errorf("%d bytes in %d messages", h.bytes, h.n)
	}
	out := make([]byte, 0, 256)
	if n := testing.AllocsPerRun(100, func() { out = AppendText(out[:0], frame[8:]) }); n != 0 {
		t.Errorf("%v allocations to build a frame", n)
	}
}

func BenchmarkFeed(b *testing.B) {
	for _, size := range []int{2, 200, 10_000} {
		frame := masked(Text, strings.Repeat("x", size))
		head := len(frame) - size
		b.Run(fmt.Sprintf("whole-%d", size), func(b *testing.B) {
			p := NewParser(Server, 1<<20)
			h := &counter{}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_ = p.Feed(frame, h)
				refill(frame, head)
			}
		})
		b.Run(fmt.Sprintf("cut-%d", size), func(b *testing.B) {
			p := NewParser(Server, 1<<20)
			h := &counter{}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				_ = p.Feed(frame[:head+1], h)
				_ = p.Feed(frame[head+1:], h)
				refill(frame, head)
			}
		})
	}
}

// FuzzParser holds any bytes, cut anywhere, against the same bytes in one
// piece.
func FuzzParser(f *testing.F) {
	for _, c := range parserCases {
		if len(c.stream) < 300 {
			f.Add(c.stream, []byte{1, 3, 2}, true, uint16(100))
		}
	}
	f.Add(AppendClose(AppendText(nil, []byte("hi")), 1000, "bye"), []byte{1}, false, uint16(10))
	f.Fuzz(func(t *testing.T, stream, steps []byte, server bool, limit uint16) {
		side := Client
		if server {
			side = Server
		}
		want := feed(side, int(limit), stream)
		if err := want.err; err != nil {
			if _, ok := errors.AsType[*Error](err); !ok {
				t.Fatalf("untyped error %v", err)
			}
		}
		for _, m := range want.messages {
			if strings.HasPrefix(m, "1:") && !utf8.ValidString(m) {
				t.Fatalf("broken text handed out: %q", m)
			}
		}
		check := func(cuts ...int) {
			if got := feed(side, int(limit), stream, cuts...); !reflect.DeepEqual(got, want) {
				t.Fatalf("cut at %v: got %q %v, want %q %v", cuts, got.messages, got.err, want.messages, want.err)
			}
		}
		var cuts, every []int
		at := 0
		for _, s := range steps {
			if at += int(s); at < len(stream) {
				cuts = append(cuts, at)
			}
		}
		check(cuts...)
		for i := range min(len(stream), 300) {
			check(i)
			every = append(every, i)
		}
		check(every...)
	})
}

// FuzzFrames: what the Append functions build is what a Parser hands out.
func FuzzFrames(f *testing.F) {
	f.Add([]byte("hello"), "bye", uint16(1000), uint8(3))
	f.Add(bytes.Repeat([]byte("x"), 70000), strings.Repeat("ü", 80), uint16(4999), uint8(0))
	f.Fuzz(func(t *testing.T, payload []byte, reason string, code uint16, cut uint8) {
		control := payload[:min(len(payload), maxControl)]
		want := []string{"2:" + string(payload), "9:" + string(control), "10:" + string(control)}
		wantClose := validCloseCode(code) && utf8.ValidString(reason)
		if wantClose {
			kept := reason
			for len(kept) > maxCloseReason {
				_, n := utf8.DecodeLastRuneInString(kept)
				kept = kept[:len(kept)-n]
			}
			want = append(want, fmt.Sprintf("8:%s%s", binary.BigEndian.AppendUint16(nil, code), kept))
		}
		for _, side := range []Side{Server, Client} {
			var stream []byte
			if side == Server {
				stream = AppendMasked(stream, Binary, payload)
				stream = AppendMasked(stream, Ping, control)
				stream = AppendMasked(stream, Pong, control)
				if wantClose {
					stream = AppendMaskedClose(stream, code, reason)
				}
			} else {
				stream = AppendFrame(stream, Binary, payload)
				stream = AppendFrame(stream, Ping, control)
				stream = AppendFrame(stream, Pong, control)
				if wantClose {
					stream = AppendClose(stream, code, reason)
				}
			}
			got := feed(side, len(payload), stream, min(int(cut), len(stream)))
			if !reflect.DeepEqual(got.messages, want) || got.err != nil {
				t.Fatalf("side %d: got %.300q %v, want %.300q", side, got.messages, got.err, want)
			}
		}
	})
}

// The quick loops over words against the definition, at every alignment.
func TestMask(t *testing.T) {
	t.Parallel()
	key := [4]byte{1, 20, 99, 250}
	for n := range 80 {
		for pos := range 9 {
			got := bytes.Repeat([]byte{0x55}, n)
			mask(got, key, pos)
			for i, c := range got {
				if want := 0x55 ^ key[(pos+i)%4]; c != want {
					t.Fatalf("byte %d of %d from %d: got %x, want %x", i, n, pos, c, want)
				}
			}
		}
	}
}
