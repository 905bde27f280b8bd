package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

// chunk sends one chunk as the backend does, and gives the stream's UID.
func (h *house) chunk(uid chat.UID, from, to string, c chat.Chunk, echo bool) chat.UID {
	h.t.Helper()
	sent, err := h.courier.SendChunk(context.Background(), h.app, &courier.StreamChunk{
		Chunk: c, UID: uid, To: to, Message: &chat.Message{
			App: h.app.ID, ChannelType: chat.Direct, From: from, Type: chat.StreamType, Persist: true, Echo: echo,
		},
	})
	if err != nil {
		h.t.Fatal(err)
	}
	if c.Seq == 1 {
		return sent.Placed[0].UID
	}
	return uid
}

// bot sends the chunk of that number to bob, and echoes it.
func (h *house) bot(uid chat.UID, seq int, text string, complete bool) chat.UID {
	h.t.Helper()
	return h.chunk(uid, "bot", "bob", chat.Chunk{Seq: int64(seq), Text: text, Complete: complete}, true)
}

// A reading is what a client makes of a stream by the rules of the protocol.
type reading struct {
	uid, text string
	seq       int
	complete  bool
	gap       bool // a chunk was missed
}

// take follows one line and reports whether it was about the stream.
func (r *reading) take(t testing.TB, line string) {
	t.Helper()
	var v struct {
		Push struct {
			Pub struct {
				Offset uint64
				Data   struct {
					Event, MessageUID, Content string
					Seq                        int
					Message                    message
				}
			}
		}
	}
	if err := json.Unmarshal([]byte(line), &v); err != nil {
		t.Fatalf("%v in %s", err, line)
	}
	d := v.Push.Pub.Data
	switch {
	case d.Event == "message" && d.Message.MessageUID == r.uid:
		var c struct {
			Content  string
			Seq      int
			Complete bool
		}
		if err := json.Unmarshal([]byte(d.Message.Content), &c); err != nil {
			t.Fatalf("%v in %s", err, d.Message.Content)
		}
		if c.Seq >= r.seq {
			r.text, r.seq, r.complete, r.gap = c.Content, c.Seq, c.Complete, false
		}
	case d.Event == "stream" && d.MessageUID == r.uid:
		if v.Push.Pub.Offset != 0 {
			t.Errorf("a chunk has an offset: %s", line)
		}
		switch {
		case r.seq == 0 || d.Seq <= r.seq:
		case d.Seq == r.seq+1 && !r.gap:
			r.text, r.seq = r.text+d.Content, d.Seq
		default:
			r.gap = true
		}
	}
}

func TestStreamLive(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, _ := h.connect("bob", "")
	tablet, _ := h.connect("bob", "")
	bot, _ := h.connect("bot", "")
	carol, _ := h.connect("carol", "")
	uid := h.bot(chat.UID{}, 1, "He\"", false)
	content := func(text string, seq int, complete bool) string {
		return fmt.Sprintf(`{"content":%s,"type":"text","seq":%d,"complete":%t}`, text, seq, complete)
	}
	told := func(channel, direction, content string) string {
		quoted, _ := json.Marshal(content)
		return fmt.Sprintf(`{"event":"message","message":{"messageUID":"%s","channelId":"%s","direction":"%s","channelType":"direct","fromUserId":"bot","messageType":"RC:StreamMsg","content":%s,"sentAt":%d,"shouldPersist":true}}`,
			uid, channel, direction, quoted, uid.Millis())
	}
	each := func(want func(channel, direction string) string) {
		t.Helper()
		for p, side := range map[*peer][2]string{bob: {"bot", "in"}, tablet: {"bot", "in"}, bot: {"bob", "out"}} {
			if got := p.data(); got != want(side[0], side[1]) {
				t.Errorf("%s:\ngot  %s\nwant %s", side[1], got, want(side[0], side[1]))
			}
		}
	}
	each(func(channel, direction string) string { return told(channel, direction, content(`"He\""`, 1, false)) })
	for seq, text := range []string{2: "l", 3: "l\n"} {
		if seq < 2 {
			continue
		}
		h.bot(uid, seq, text, false)
		quoted, _ := json.Marshal(text)
		each(func(string, string) string {
			return fmt.Sprintf(`{"event":"stream","messageUID":"%s","seq":%d,"content":%s,"complete":false}`, uid, seq, quoted)
		})
	}
	h.bot(uid, 4, "o", true)
	each(func(channel, direction string) string {
		return told(channel, direction, content(`"He\"ll\no"`, 4, true))
	})
	// Nobody else hears of it, and without an echo the sender does not either.
	quiet := h.chunk(chat.UID{}, "bot", "bob", chat.Chunk{Seq: 1, Text: "psst"}, false)
	h.chunk(quiet, "bot", "bob", chat.Chunk{Seq: 2, Text: "!"}, false)
	h.send(chat.Direct, "x", "end", "carol", "bot")
	for _, p := range []*peer{carol, bot} {
		if line := p.line(); !strings.Contains(line, `"end"`) {
			t.Errorf("%s", line)
		}
	}
}

// Whoever comes while a stream is open gets the text so far and what follows;
// whoever comes afterwards gets the whole, and both can ask.
func TestStreamLate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	uid := h.bot(chat.UID{}, 1, "a", false)
	named := `{"messageUID":"` + uid.String() + `"}`
	h.bot(uid, 2, "b", false)
	so := func(text string, seq int, complete bool) string {
		return fmt.Sprintf(`{"content":"%s","type":"text","seq":%d,"complete":%t}`, text, seq, complete)
	}
	pubs := func(user string) (got []string) {
		t.Helper()
		_, r := h.connect(user, `{"from":"oldest"}`)
		for _, p := range r.Connect.Subs["me"].Publications {
			if p.Data.Message.MessageUID != uid.String() || p.Data.Message.SentAt != uid.Millis() {
				t.Errorf("%+v", p)
			}
			got = append(got, p.Data.Message.Content)
		}
		return got
	}
	want := func(got []string, want ...string) {
		t.Helper()
		if strings.Join(got, "|") != strings.Join(want, "|") {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	want(pubs("bob"), so("ab", 2, false))
	want(pubs("bot"), so("ab", 2, false))

	// One who was cut off comes back at the position they had, which is behind
	// the message: the next chunk shows the gap, and asking closes it.
	r := reading{uid: uid.String(), text: "a", seq: 1}
	back, _ := h.connect("bob", `{"from":"now"}`)
	h.bot(uid, 3, "c", false)
	r.take(t, back.line())
	if !r.gap {
		t.Error("no gap to be seen")
	}
	if got := back.done("message.stream", named); got != `{"seq":3,"content":"abc","complete":false}` {
		t.Error(got)
	}
	bot, _ := h.connect("bot", "")
	if got := bot.done("message.stream", named); got != `{"seq":3,"content":"abc","complete":false}` {
		t.Error(got)
	}
	carol, _ := h.connect("carol", "")
	carol.refused("message.stream", named, 404, "messageUID: no such message, or not kept any more")
	back.refused("message.stream", `{}`, 107, "messageUID: is required")
	plain := h.send(chat.Direct, "bob", "x", "carol")[0]
	back.refused("message.stream", `{"messageUID":"`+plain.String()+`"}`, 107, "messageUID: is of no stream")

	want(pubs("bob"), so("abc", 3, false)) // not what was rendered before
	h.chunk(uid, "bot", "bob", chat.Chunk{Seq: 4, Text: "d", Complete: true, Reason: 5, HasReason: true}, true)
	whole := strings.Replace(so("abcd", 4, true), "}", `,"completeReason":5}`, 1)
	for range 2 {
		want(pubs("bob"), whole, whole)
		want(pubs("bot"), whole, whole)
	}
	if got := back.done("message.stream", named); got != `{"seq":4,"content":"abcd","complete":true,"completeReason":5}` {
		t.Error(got)
	}
	if page := back.page(`{"channelType":"direct","channelId":"bot"}`); len(page.Messages) != 1 || page.Messages[0].Content != whole {
		t.Errorf("%+v", page)
	}
}

// However chunks, timeline and the client's coming fall together: by the rules of
// the protocol nobody has a gap who keeps up, and all have the text in the end.
func TestStreamMeetsClients(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const chunks = 60
	for round := range 5 {
		text := strings.Builder{}
		early, _ := h.connect("bob", "")
		uid := h.bot(chat.UID{}, 1, "0", false)
		text.WriteString("0")
		var wg sync.WaitGroup
		follow := func(p *peer) {
			wg.Go(func() {
				r := reading{uid: uid.String()}
				for !r.complete {
					line, err := p.next(10 * time.Second)
					if err != nil {
						t.Errorf("%v at %+v", err, r)
						return
					}
					if line == "{}" || strings.Contains(line, `"connect"`) {
						continue
					}
					r.take(t, line)
					if r.gap {
						t.Errorf("round %d: a gap behind %d: %s", round, r.seq, line)
						return
					}
				}
				if want := h.whole(uid); r.text != want || r.seq != chunks {
					t.Errorf("round %d: %d %q, want %q", round, r.seq, r.text, want)
				}
			})
		}
		follow(early)
		for seq := 2; seq <= chunks; seq++ {
			if seq%20 == 0 {
				// The answer to connect has the text so far in it; a page of its own
				// is what a client without it reads.
				p := h.dial()
				p.send(fmt.Sprintf(`{"connect":{"token":"%s","subs":{"me":{"recover":true,"offset":%d,"epoch":"%s"}}},"id":1}`, h.token("bob"), 0, h.store.Epoch()))
				first := p.line()
				r := decodeReply(t, first)
				pubs := r.Connect.Subs["me"].Publications
				at := reading{uid: uid.String()}
				for _, pub := range pubs {
					raw, _ := json.Marshal(map[string]any{"push": map[string]any{"pub": map[string]any{"offset": pub.Offset, "data": map[string]any{"event": "message", "message": pub.Data.Message}}}})
					at.take(t, string(raw))
				}
				if at.seq < seq-1 {
					t.Errorf("who came at %d got %+v", seq, at)
				}
			}
			h.bot(uid, seq, fmt.Sprint(seq%10), seq == chunks)
		}
		wg.Wait()
	}
}

func (h *house) whole(uid chat.UID) string {
	s, err := h.courier.Stream(context.Background(), h.app, &courier.Subject{UID: uid, From: "bob"})
	if err != nil {
		h.t.Error(err)
		return ""
	}
	return s.Text
}

func TestStreamRecalledWhileOpen(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, _ := h.connect("bob", "")
	uid := h.bot(chat.UID{}, 1, "a", false)
	h.bot(uid, 2, "secret", false)
	bot, _ := h.connect("bot", "")
	named := `{"messageUID":"` + uid.String() + `"}`
	bot.refused("message.update", `{"messageUID":"`+uid.String()+`","content":"{}"}`, 107, "messageUID: is of a stream that is not complete yet")
	bot.done("message.recall", named)
	bob.until(`"recall"`)
	bob.refused("message.stream", named, 107, "messageUID: was recalled")
	_, r := h.connect("bob", `{"from":"oldest"}`)
	pubs := r.Connect.Subs["me"].Publications
	if len(pubs) != 2 || pubs[0].Data.Event != "message" || strings.Contains(pubs[0].Data.Message.Content, "secret") || pubs[1].Data.Event != "recall" {
		t.Errorf("%+v", pubs)
	}
}
