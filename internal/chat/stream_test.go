package chat

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestChunkCheck(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", MaxStreamText)
	for _, c := range []struct {
		chunk Chunk
		named bool
		want  string // empty for none
	}{
		{Chunk{Seq: 1, Text: "x"}, false, ""},
		{Chunk{Seq: 1, Text: long, Type: "html"}, false, ""},
		{Chunk{Seq: 1, Complete: true}, false, ""},
		{Chunk{Seq: 2, Text: "x", Type: "rtf", Extra: long}, true, ""}, // not read
		{Chunk{Seq: 2, Complete: true}, true, ""},
		{Chunk{Seq: 1, Text: "x", User: strings.Repeat("u", MaxStreamExtras)}, false, ""},
		{Chunk{Text: "x"}, false, "content.seq: starts at 1, got 0"},
		{Chunk{Seq: 1, Text: "x"}, true, "content.messageId: must be absent with seq 1, which begins a stream"},
		{Chunk{Seq: 2, Text: "x"}, false, "content.messageId: is required from seq 2 on"},
		{Chunk{Seq: 2}, true, "content.content: is required, and may be empty only with complete"},
		{Chunk{Seq: 2, Text: long + "x"}, true, "content.content: at most 131072 bytes in all chunks together, got 131073"},
		{Chunk{Seq: 2, Text: "\xff"}, true, "content.content: must be valid UTF-8"},
		{Chunk{Seq: 1, Text: "x", Type: "rtf"}, false, `content.type: one of text, markdown, html, got "rtf"`},
		{Chunk{Seq: 1, Text: "x", Type: long}, false, "content.type: one of text, markdown, html, got a text of 131072 bytes"},
		{Chunk{Seq: 1, Text: "x", User: strings.Repeat("u", MaxStreamExtras), Extra: "1"}, false, "content: at most 32768 bytes of user, mentionedInfo and extra, got 32769"},
	} {
		got := ""
		if err := c.chunk.Check(c.named); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("seq %d: %q, want %q", c.chunk.Seq, got, c.want)
		}
	}
}

func TestStreamNext(t *testing.T) {
	t.Parallel()
	s := &Stream{Seq: 3, Bytes: MaxStreamText - 2, Text: "abc", Idle: 59_500, LastAt: 1}
	for _, c := range []struct {
		stream Stream
		chunk  Chunk
		want   string
	}{
		{*s, Chunk{Seq: 4, Text: "xy"}, ""},
		{*s, Chunk{Seq: 4, Text: "xyz"}, "content.content: at most 131072 bytes in all chunks together, got 131073"},
		{*s, Chunk{Seq: 3, Text: "x"}, "content.seq: expected 4, got 3"},
		{*s, Chunk{Seq: 5, Text: "x"}, "content.seq: expected 4, got 5"},
		{Stream{Seq: 3, Complete: true}, Chunk{Seq: 4}, "content.messageId: the stream is complete"},
		{Stream{Seq: 3, Complete: true, Interrupted: true, Idle: 59_500}, Chunk{Seq: 9}, "content.messageId: the stream was closed after 60 seconds without a chunk"},
	} {
		got := ""
		if err := c.stream.CheckNext(&c.chunk); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%+v: %q, want %q", c.chunk, got, c.want)
		}
	}
	n := s.Next(&Chunk{Seq: 4, Text: "xy", Reason: 7, HasReason: true}, 9)
	if *n != (Stream{Seq: 4, Bytes: MaxStreamText, Idle: 59_500, LastAt: 9}) || s.Seq != 3 || !n.Open() {
		t.Errorf("%+v", n) // a reason counts with complete only
	}
	if n = n.Next(&Chunk{Complete: true, Reason: 7, HasReason: true}, 10); n.Open() || n.Reason != 7 || !n.HasReason {
		t.Errorf("%+v", n)
	}
	if (*Stream)(nil).Open() {
		t.Error("none is open")
	}
}

// streamContent is a stream's content as clients read it.
type streamContent struct {
	Content, Type       string
	User, MentionedInfo json.RawMessage
	Extra               json.RawMessage
	Seq                 uint64
	Complete            bool
	CompleteReason      *int64
	Interrupted         bool
}

func readContent(t *testing.T, text string) (c streamContent) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%v in %q", err, text)
	}
	return c
}

func TestStreamContent(t *testing.T) {
	t.Parallel()
	m := &Message{}
	c := Chunk{Seq: 1, Text: "a\"", User: `{"content":"not this","seq":9}`, Extra: `"e"`, Reason: 3, HasReason: true}
	s := c.Begin(m)
	if m.Content != `{"content":"a\"","type":"text","user":{"content":"not this","seq":9},"extra":"e","seq":1,"complete":false}` || !m.Stream || m.Type != StreamType {
		t.Errorf("%+v", m)
	}
	s.Seq, s.Text, s.Complete, s.Reason, s.HasReason = 4, "\n€", true, -1, true
	want := `{"content":"a\"\n€","type":"text","user":{"content":"not this","seq":9},"extra":"e","seq":4,"complete":true,"completeReason":-1}`
	if got := s.Content(m.Content); got != want || s.Whole(m.Content) != "a\"\n€" {
		t.Errorf("%s and %q", got, s.Whole(m.Content))
	}
	// What it makes it can be made of again.
	if got := s.Content(s.Content(m.Content)); readContent(t, got).Seq != 4 {
		t.Error(got)
	}
	s.Interrupted, s.HasReason = true, false
	if got := s.Content(m.Content); !strings.HasSuffix(got, `"seq":4,"complete":true,"interrupted":true}`) {
		t.Error(got)
	}
	for _, bad := range []string{"", "{", "[]", `{"content":7}`, `{"content":"x"`, "{}"} {
		if got := s.Content(bad); got != bad {
			t.Errorf("of %q it makes %q", bad, got)
		}
	}
	whole := &Message{}
	if s := (&Chunk{Seq: 1, Complete: true}).Begin(whole); s.Open() || whole.Stream || whole.Content != `{"content":"","type":"text","seq":1,"complete":true}` {
		t.Errorf("%+v, %+v", s, whole)
	}
}

// Whatever the texts are, the content is JSON and holds them.
func FuzzStreamContent(f *testing.F) {
	f.Add("a", "b", `{"id":"u"}`, int64(1), true)
	f.Add("\\\"", "\u2028\x00", `{"content":"x","seq":[]}`, int64(-1<<63), false)
	f.Add("", "", "", int64(0), true)
	f.Fuzz(func(t *testing.T, first, rest, user string, reason int64, complete bool) {
		c := Chunk{Seq: 1, Text: first, User: user, Reason: reason, HasReason: true}
		if user != "" && !isJSONObject(user) || c.Check(false) != nil || strings.ToValidUTF8(rest, "") != rest {
			return
		}
		m := &Message{}
		s := c.Begin(m)
		got := readContent(t, m.Content)
		if got.Content != first || got.Seq != 1 || got.Complete || got.Type != "text" {
			t.Fatalf("%q: %+v", first, got)
		}
		s.Seq, s.Text, s.Complete, s.Reason, s.HasReason = 2, rest, complete, reason, true
		text := s.Content(m.Content)
		got = readContent(t, text)
		if got.Content != first+rest || got.Complete != complete || (got.CompleteReason != nil) != complete || complete && *got.CompleteReason != reason {
			t.Fatalf("%q and %q: %s", first, rest, text)
		}
		if (user != "") != (len(got.User) > 0) || s.Whole(m.Content) != first+rest {
			t.Fatalf("%q and %q: %s", first, rest, text)
		}
	})
}

// What is no content of ours is left as it is, or made JSON of.
func FuzzStreamContentOfAny(f *testing.F) {
	for _, s := range []string{"{}", `{"content":"x"}`, `{"content":"x","content":"y"}`, `{"a":{"b":[1]}}`, `{"seq":1}`, "[]", "", `{"content":"\ud800"}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, first string) {
		s := &Stream{Seq: 2, Text: "z", Complete: true}
		got := s.Content(first)
		s.Whole(first)
		if got != first && !json.Valid([]byte(got)) {
			t.Fatalf("of %q it makes %q", first, got)
		}
	})
}
