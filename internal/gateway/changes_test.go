package gateway

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

// say sends a direct message by rpc and gives its UID.
func (p *peer) say(to, content, rest string) string {
	p.t.Helper()
	raw, refused := p.ask("message.send", `{"channelType":"direct","channelId":"`+to+`","messageType":"app:t","content":"`+content+`"`+rest+`}`)
	var v struct{ MessageUID string }
	if err := json.Unmarshal(raw, &v); refused != nil || err != nil {
		p.t.Fatalf("%+v, %v", refused, err)
	}
	return v.MessageUID
}

// until reads publications until one holds the text, and gives it.
func (p *peer) until(text string) string {
	p.t.Helper()
	for {
		if line := p.line(); strings.Contains(line, text) {
			return line
		}
	}
}

func (p *peer) refused(method, data string, code uint32, text string) {
	p.t.Helper()
	if raw, refused := p.ask(method, data); refused == nil || refused.Code != code || refused.Message != text {
		p.t.Errorf("%s %s: %s %+v, want %d %s", method, data, raw, refused, code, text)
	}
}

func (p *peer) done(method, data string) string {
	p.t.Helper()
	raw, refused := p.ask(method, data)
	if refused != nil {
		p.t.Fatalf("%s %s: %+v", method, data, refused)
	}
	return string(raw)
}

func TestClientsRecall(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, _ := h.connect("alice", "")
	tablet, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", "")
	carol, _ := h.connect("carol", "")
	uid := alice.say("bob", "oops", "")
	named := `{"messageUID":"` + uid + `"`

	bob.refused("message.recall", named+`}`, 403, "messageUID: only its sender can do this")
	carol.refused("message.recall", named+`}`, 404, "messageUID: no such message, or not kept any more")
	alice.refused("message.recall", `{}`, 107, "messageUID: is required")
	alice.refused("message.recall", `{"messageUID":"x"}`, 107, "messageUID: not a message UID")

	at := alice.done("message.recall", named+`,"extra":"typo"}`)
	if again := alice.done("message.recall", named+`,"extra":"other"}`); again != at || !strings.HasPrefix(at, `{"recalledAt":1`) {
		t.Errorf("%s, and again %s", at, again)
	}
	event := `{"event":"recall","messageUID":"` + uid + `","channelType":"direct","channelId":"%","operatorId":"alice","extra":"typo",` + at[1:]
	for p, channel := range map[*peer]string{bob: "alice", tablet: "bob"} {
		if line := p.until(`"recall"`); !strings.Contains(line, strings.Replace(event, "%", channel, 1)) {
			t.Errorf("%s", line)
		}
	}
	for p, channel := range map[*peer]string{bob: "alice", tablet: "bob"} {
		page := p.page(`{"channelType":"direct","channelId":"` + channel + `"}`)
		if len(page.Messages) != 1 || page.Messages[0].MessageType != "RC:RcNtf" || strings.Contains(page.Messages[0].Content, "oops") {
			t.Errorf("%+v", page)
		}
	}
	// Who was away finds message and event, in this order.
	late, r := h.connect("bob", `{"from":"oldest"}`)
	if pubs := r.Connect.Subs["me"].Publications; len(pubs) != 2 || pubs[0].Data.Event != "message" || pubs[1].Data.Event != "recall" {
		t.Errorf("%+v", pubs)
	}
	late.page(`{"channelType":"direct","channelId":"alice"}`)
}

func TestRecallInRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	uid := h.send(chat.Open, "alice", "oops", "hall")[0].String()
	alice, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", "")
	for _, p := range []*peer{alice, bob} {
		p.send(`{"subscribe":{"channel":"open:hall"},"id":4}`)
		p.line()
	}
	bob.refused("message.recall", `{"messageUID":"`+uid+`"}`, 404, "messageUID: no such message, or not kept any more")
	at := alice.done("message.recall", `{"messageUID":"`+uid+`","isDelete":true}`)
	want := `{"push":{"channel":"open:hall","pub":{"data":{"event":"recall","messageUID":"` + uid + `","channelType":"open","channelId":"hall","operatorId":"alice","isDelete":true,` + at[1:] + `,"offset":`
	if line := bob.until("recall"); !strings.HasPrefix(line, want) {
		t.Errorf("got  %s\nwant %s", line, want)
	}
	if page := bob.page(`{"channelType":"open","channelId":"hall"}`); len(page.Messages) != 0 {
		t.Errorf("%+v", page)
	}
}

func TestClientsUpdate(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", "")
	uid := alice.say("bob", "helo", "")
	bob.refused("message.update", `{"messageUID":"`+uid+`","content":"x"}`, 403, "messageUID: only its sender can do this")
	alice.refused("message.update", `{"messageUID":"`+uid+`"}`, 107, "content: is required")
	alice.refused("message.update", `{"messageUID":"`+uid+`","content":"`+strings.Repeat("x", chat.MaxContent+1)+`"}`, 30016, "content: at most 131072 bytes, got 131073")
	room := h.send(chat.Open, "alice", "x", "hall")[0].String()
	alice.refused("message.update", `{"messageUID":"`+room+`","content":"y"}`, 107, "messageUID: only direct messages can be changed")

	at := alice.done("message.update", `{"messageUID":"`+uid+`","content":"hello"}`)
	want := `{"event":"update","messageUID":"` + uid + `","content":"hello",` + at[1:]
	if line := bob.until(`"update"`); !strings.Contains(line, want) {
		t.Errorf("%s", line)
	}
	raw := bob.done("message.history", `{"channelType":"direct","channelId":"alice"}`)
	if !strings.Contains(raw, `"content":"hello"`) || !strings.Contains(raw, at[1:]) || strings.Contains(raw, "helo") {
		t.Errorf("%s", raw)
	}
}

func TestClientsMetadata(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	alice, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", "")
	carol, _ := h.connect("carol", "")
	plain := alice.say("bob", "plain", `,"metadata":{"a":"1"}`)
	// Pairs of a message that takes none are ignored, also where they break a rule.
	alice.say("bob", "ignored", `,"metadata":{"":"1"}`)
	if raw := bob.done("message.history", `{"channelType":"direct","channelId":"alice"}`); strings.Contains(raw, "etadata") {
		t.Errorf("metadata of a message without hasMetadata is kept: %s", raw)
	}
	uid := alice.say("bob", "poll", `,"hasMetadata":true,"metadata":{"a":"1"}`)
	of := func(uid, rest string) string { return `{"messageUID":"` + uid + `",` + rest + `}` }
	var many []string
	for i := range 21 {
		many = append(many, `"k`+string(rune('a'+i))+`":"v"`)
	}
	bob.refused("message.metadata.set", of(plain, `"metadata":{"k":"v"}`), 34008, "messageUID: was sent without hasMetadata")
	carol.refused("message.metadata.set", of(uid, `"metadata":{"k":"v"}`), 404, "messageUID: no such message, or not kept any more")
	bob.refused("message.metadata.set", of(uid, `"metadata":{}`), 107, "metadata: is required")
	bob.refused("message.metadata.set", of(uid, `"metadata":{`+strings.Join(many, ",")+`}`), 107, "metadata: at most 20 pairs, got 21")
	bob.refused("message.metadata.remove", of(uid, `"keys":[]`), 107, "keys: is required")

	// Either side may, and both are told: the one who did it for other devices.
	at := bob.done("message.metadata.set", of(uid, `"metadata":{"bob":"yes"}`))
	want := `{"event":"metadata","messageUID":"` + uid + `","set":{"bob":"yes"},"operatorId":"bob",` + at[1:]
	for _, p := range []*peer{alice, bob} {
		if line := p.until(`"metadata","messageUID"`); !strings.Contains(line, want) {
			t.Errorf("got  %s\nwant %s", line, want)
		}
	}
	alice.done("message.metadata.set", of(uid, `"metadata":{"x":"1"}`))
	alice.done("message.metadata.remove", of(uid, `"keys":["a","x"]`))
	alice.done("message.metadata.set", of(uid, `"metadata":{"y":"2"}`))
	line := bob.until(`"metadata","messageUID"`)
	if !strings.Contains(line, `"set":{"y":"2"},"removed":["a","x"],"operatorId":"alice"`) {
		t.Errorf("%s", line)
	}
	if raw := bob.done("message.history", `{"channelType":"direct","channelId":"alice","limit":1}`); !strings.Contains(raw, `"metadata":{"bob":"yes","y":"2"}`) {
		t.Errorf("%s", raw)
	}
	for _, i := range []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14} {
		var pairs []string
		for j := range 20 {
			pairs = append(pairs, `"f`+string(rune('a'+i))+string(rune('a'+j))+`":"v"`)
		}
		data := of(uid, `"metadata":{`+strings.Join(pairs, ",")+`}`)
		if i == 14 { // 2 and 280 are there
			bob.refused("message.metadata.set", data, 34010, "metadata: at most 300 pairs on one message")
		} else {
			bob.done("message.metadata.set", data)
		}
	}
}
