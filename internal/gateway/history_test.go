package gateway

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

// ask makes an rpc and gives its result, or the error it was refused with.
// Publications that come meanwhile are kept to be read next.
func (p *peer) ask(method, data string) (json.RawMessage, *errorReply) {
	p.t.Helper()
	p.send(`{"rpc":{"method":"` + method + `","data":` + data + `},"id":9}`)
	var others []string
	for {
		line := p.line()
		r := decodeReply(p.t, line)
		if r.ID != 9 {
			others = append(others, line)
			continue
		}
		p.lines = append(others, p.lines...)
		if r.Error != nil {
			return nil, r.Error
		}
		return r.RPC.Data, nil
	}
}

type historyPage struct {
	Messages []message
	More     bool
	Next     string
}

func (p *peer) page(data string) (h historyPage) {
	p.t.Helper()
	raw, refused := p.ask("message.history", data)
	if refused != nil {
		p.t.Fatalf("%s: %+v", data, refused)
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		p.t.Fatalf("%v in %s", err, raw)
	}
	return h
}

func said(list []message) (out []string) {
	for _, m := range list {
		out = append(out, m.Content)
	}
	return out
}

func TestMessageHistory(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var uids []chat.UID
	for i := range 8 {
		m := &chat.Message{ChannelType: chat.Direct, From: "bob", Type: "app:" + strconv.Itoa(i%2), Content: strconv.Itoa(i), Persist: true}
		to := "alice"
		if i%4 == 3 {
			m.From, to, m.Echo = "alice", "bob", true
		}
		uids = append(uids, h.post(m, to)...)
	}
	h.send(chat.System, "shop", "sale", "alice")
	h.send(chat.Open, "bob", "hello", "hall")
	h.send(chat.Open, "alice", "there", "hall")
	p, _ := h.connect("alice", "")

	const bob = `"channelType":"direct","channelId":"bob"`
	all := p.page(`{` + bob + `}`)
	if got := said(all.Messages); strings.Join(got, "") != "76543210" || all.More {
		t.Fatalf("got %v, more %t", got, all.More)
	}
	out, in := all.Messages[0], all.Messages[1]
	if out.MessageUID != uids[7].String() || out.ChannelID != "bob" || out.Direction != "out" || out.FromUserID != "alice" || out.SentAt != uids[7].Millis() {
		t.Errorf("%+v", out)
	}
	if in.MessageUID != uids[6].String() || in.ChannelID != "bob" || in.Direction != "in" || in.ChannelType != "direct" || in.MessageType != "app:0" {
		t.Errorf("%+v", in)
	}
	for _, c := range []struct{ data, want string }{
		{fmt.Sprintf(`"before":%q,"limit":3`, uids[5]), "432+"},
		{fmt.Sprintf(`"before":%q,"limit":3`, uids[3]), "210"},
		{fmt.Sprintf(`"after":%q,"limit":3`, uids[3]), "654+"},
		{fmt.Sprintf(`"after":%q,"limit":100`, uids[4]), "765"},
		{fmt.Sprintf(`"before":%d`, uids[0].Millis()), ""},
		{fmt.Sprintf(`"after":"%d"`, uids[7].Millis()), ""},
		{`"messageTypes":["app:1"]`, "7531"},
		{`"messageTypes":["app:1"],"limit":2`, "75+"},
		{`"messageTypes":["none"]`, ""},
	} {
		got := p.page(`{` + bob + `,` + c.data + `}`)
		text := strings.Join(said(got.Messages), "")
		if got.More {
			text += "+"
		}
		if text != c.want {
			t.Errorf("%s gives %s, want %s", c.data, text, c.want)
		}
	}
	// Page after page it is the same, whichever way.
	var back, forth []string
	for at := `"limit":3`; ; {
		page := p.page(`{` + bob + `,` + at + `}`)
		back = append(back, said(page.Messages)...)
		if !page.More {
			break
		}
		at = `"limit":3,"before":"` + page.Next + `"`
	}
	for at := `"limit":3,"after":0`; ; {
		page := p.page(`{` + bob + `,` + at + `}`)
		forth = append(said(page.Messages), forth...)
		if !page.More {
			break
		}
		at = `"limit":3,"after":"` + page.Next + `"`
	}
	if !slices.Equal(back, said(all.Messages)) || !slices.Equal(forth, back) {
		t.Errorf("in pages: %v and %v", back, forth)
	}
	if got := p.page(`{"channelType":"system","channelId":"shop"}`); len(got.Messages) != 1 || got.Messages[0].ChannelType != "system" {
		t.Errorf("%+v", got)
	}
	hall := p.page(`{"channelType":"open","channelId":"hall"}`).Messages
	if len(hall) != 2 || hall[0].Direction != "out" || hall[1].Direction != "in" || hall[0].ChannelID != "hall" || hall[1].ChannelID != "hall" {
		t.Errorf("%+v", hall)
	}
	// It is one's own view: others see none of it.
	carol, _ := h.connect("carol", "")
	if got := carol.page(`{` + bob + `}`); len(got.Messages) != 0 {
		t.Errorf("carol sees %v", said(got.Messages))
	}

	for _, c := range []struct {
		data string
		code uint32
		text string
	}{
		{`{}`, 107, "channelType: is required"},
		{`{"channelType":"club"}`, 107, `channelType: one of direct, system, open, got "club"`},
		{`{"channelType":"group","channelId":"g"}`, 108, "there are no channels of type group yet"},
		{`{"channelType":"direct"}`, 107, "channelId: is required"},
		{`{` + bob + `,"limit":0}`, 107, "limit: from 1 to 100, got 0"},
		{`{` + bob + `,"limit":101}`, 107, "limit: from 1 to 100, got 101"},
		{`{` + bob + `,"before":1,"after":1}`, 107, "after: not together with before"},
		{`{` + bob + `,"before":"yesterday"}`, 107, "before: must be a messageUID or a time in Unix milliseconds"},
		{`{` + bob + `,"before":-1}`, 107, "before: must not be negative"},
		{`{` + bob + `,"before":[]}`, 107, "before: must be a string or a whole number, got an array"},
	} {
		if _, refused := p.ask("message.history", c.data); refused == nil || refused.Code != c.code || refused.Message != c.text {
			t.Errorf("%s: %+v", c.data, refused)
		}
	}
	h.set("history.enabled", "false")
	if _, refused := p.ask("message.history", `{`+bob+`}`); refused == nil || refused.Code != 1009 {
		t.Errorf("history is off: %+v", refused)
	}
}
