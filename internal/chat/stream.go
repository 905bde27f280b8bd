package chat

import (
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// StreamType is the one message type whose text can come in chunks.
const StreamType = builtinPrefix + "StreamMsg"

const (
	// MaxStreamText bounds the text of all chunks of a stream together, in bytes
	// (message/send-private-stream).
	MaxStreamText = MaxContent
	// MaxStreamExtras bounds what else the first chunk says, in bytes: user,
	// mentionedInfo and extra together. It is ours, the page gives no limit.
	MaxStreamExtras = 32 << 10
)

// The forms of a stream's text.
var streamForms = [...]string{"text", "markdown", "html"}

// A Chunk is one piece of a stream's text, as it was sent.
type Chunk struct {
	Seq       int64 // 1 for the first
	Text      string
	Complete  bool // it is the last one
	Reason    int64
	HasReason bool

	// Of the first chunk only. Type is empty for the default, the others are JSON
	// and empty when they were not given.
	Type, User, MentionedInfo, Extra string
}

// Check is every rule about a chunk that can be told without its stream; named
// says whether it names one. Errors name the request's fields.
func (c *Chunk) Check(named bool) error {
	switch {
	case c.Seq < 1:
		return Invalidf("content.seq", "starts at 1, got %d", c.Seq)
	case c.Seq == 1 && named:
		return Invalid("content.messageId", "must be absent with seq 1, which begins a stream")
	case c.Seq > 1 && !named:
		return Invalid("content.messageId", "is required from seq 2 on")
	case c.Text == "" && !c.Complete:
		return Invalid("content.content", "is required, and may be empty only with complete")
	case len(c.Text) > MaxStreamText:
		return tooLongStream(len(c.Text))
	case !utf8.ValidString(c.Text):
		return Invalid("content.content", "must be valid UTF-8")
	case c.Seq > 1:
		return nil // what else there is belongs to the first chunk and is not read
	}
	if n := len(c.User) + len(c.MentionedInfo) + len(c.Extra); n > MaxStreamExtras {
		return TooLong("content", MaxStreamExtras, n, "bytes of user, mentionedInfo and extra")
	}
	if c.Type == "" {
		return nil
	}
	for _, f := range streamForms {
		if c.Type == f {
			return nil
		}
	}
	return Invalid("content.type", "one of "+strings.Join(streamForms[:], ", ")+", got "+quoteShort(c.Type))
}

func tooLongStream(n int) error {
	return TooLong("content.content", MaxStreamText, n, "bytes in all chunks together")
}

func quoteShort(s string) string {
	if len(s) > MaxMessageType {
		return "a text of " + strconv.Itoa(len(s)) + " bytes"
	}
	return strconv.Quote(s)
}

// Begin makes m the message of the stream that the first chunk begins, and gives
// the stream. When the chunk is all there is, that is complete, and m an ordinary
// message.
func (c *Chunk) Begin(m *Message) *Stream {
	s := &Stream{Seq: 1, Bytes: len(c.Text), Complete: c.Complete, Reason: c.Reason, HasReason: c.HasReason}
	b := append(make([]byte, 0, 96+len(c.Text)+len(c.Text)/8+len(c.User)+len(c.MentionedInfo)+len(c.Extra)), `{"content":`...)
	b = appendJSONString(b, c.Text)
	form := c.Type
	if form == "" {
		form = streamForms[0]
	}
	b = append(b, `,"type":`...)
	b = appendJSONString(b, form)
	for _, f := range [...]struct{ name, value string }{{"user", c.User}, {"mentionedInfo", c.MentionedInfo}, {"extra", c.Extra}} {
		if f.value != "" {
			b = append(b, `,"`...)
			b = append(b, f.name...)
			b = append(b, `":`...)
			b = append(b, f.value...)
		}
	}
	m.Type, m.Content, m.Stream = StreamType, string(s.appendEnd(b)), !c.Complete
	return s
}

// A Stream is the state of a message whose text comes in chunks. The text of the
// first is in the message itself.
type Stream struct {
	Seq   uint64 // of the last chunk
	Bytes int    // of the text of all chunks
	Text  string // of all chunks behind the first

	Complete    bool  // no more chunks follow
	Interrupted bool  // because none came for too long
	Reason      int64 // the sender's, for having completed it
	HasReason   bool

	LastAt int64 // Unix ms, of the last chunk
	Idle   int64 // ms without a chunk after which it is closed
}

// Open reports whether chunks can follow. It is false on nil.
func (s *Stream) Open() bool { return s != nil && !s.Complete }

// CheckNext says whether the chunk is the stream's next.
func (s *Stream) CheckNext(c *Chunk) error {
	switch {
	case s.Interrupted:
		return Invalidf("content.messageId", "the stream was closed after %d seconds without a chunk", (s.Idle+999)/1000)
	case s.Complete:
		return Invalid("content.messageId", "the stream is complete")
	case c.Seq != int64(s.Seq)+1:
		return Invalidf("content.seq", "expected %d, got %d", s.Seq+1, c.Seq)
	case s.Bytes+len(c.Text) > MaxStreamText:
		return tooLongStream(s.Bytes + len(c.Text))
	}
	return nil
}

// Next is the stream with one more chunk, without its text.
func (s *Stream) Next(c *Chunk, at int64) *Stream {
	n := *s
	n.Seq, n.Bytes, n.LastAt, n.Text = s.Seq+1, s.Bytes+len(c.Text), at, ""
	if c.Complete {
		n.Complete, n.Reason, n.HasReason = true, c.Reason, c.HasReason
	}
	return &n
}

// Content is what the stream's message has as its content now, made of what it
// was sent with.
func (s *Stream) Content(first string) string {
	b := append(make([]byte, 0, 64+len(first)+len(s.Text)+len(s.Text)/8), '{')
	ok := eachMember(first, func(name string, raw jsontext.Value) bool {
		switch name {
		case "content":
			text, err := jsontext.AppendUnquote(nil, raw)
			if err != nil {
				return false
			}
			b = append(b, `"content":`...)
			b = appendJSONString(b, string(append(text, s.Text...)))
		case "seq", "complete", "completeReason", "interrupted":
			return true
		default:
			b = appendJSONString(b, name)
			b = append(append(b, ':'), raw...)
		}
		b = append(b, ',')
		return true
	})
	if !ok || len(b) < 2 {
		return first
	}
	return string(s.appendEnd(b[:len(b)-1]))
}

// Whole is the text of all chunks, the first one's taken from its content.
func (s *Stream) Whole(first string) string {
	text := []byte(nil)
	eachMember(first, func(name string, raw jsontext.Value) bool {
		if name == "content" {
			text, _ = jsontext.AppendUnquote(nil, raw)
			return false
		}
		return true
	})
	return string(append(text, s.Text...))
}

// appendEnd ends a content with what changes from chunk to chunk.
func (s *Stream) appendEnd(b []byte) []byte {
	b = append(b, `,"seq":`...)
	b = strconv.AppendUint(b, s.Seq, 10)
	b = append(b, `,"complete":`...)
	b = strconv.AppendBool(b, s.Complete)
	if s.Complete && s.HasReason {
		b = append(b, `,"completeReason":`...)
		b = strconv.AppendInt(b, s.Reason, 10)
	}
	if s.Interrupted {
		b = append(b, `,"interrupted":true`...)
	}
	return append(b, '}')
}

// eachMember hands over the members of a JSON object until take has enough, and
// reports whether it came to the object's end.
func eachMember(text string, take func(name string, raw jsontext.Value) bool) bool {
	d := jsontext.NewDecoder(strings.NewReader(text))
	if t, err := d.ReadToken(); err != nil || t.Kind() != jsontext.KindBeginObject {
		return false
	}
	for d.PeekKind() == jsontext.KindString {
		t, err := d.ReadToken()
		if err != nil {
			return false
		}
		name := t.String()
		raw, err := d.ReadValue()
		if err != nil || !take(name, raw) {
			return false
		}
	}
	t, err := d.ReadToken()
	return err == nil && t.Kind() == jsontext.KindEndObject
}

func appendJSONString(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s) // what is not UTF-8 is replaced
	return b
}
