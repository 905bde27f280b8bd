package gateway

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

// list changes a list of the channel c and tells of it.
func (h *house) list(which courier.OpenList, add bool, users ...string) {
	h.t.Helper()
	if err := h.courier.ChangeOpenList(h.t.Context(), h.app, &courier.OpenListChange{
		List: which, Channel: "c", Names: users, Add: add, Minutes: 5, Notice: courier.Notice{Wanted: true, Extra: `{"why":"\""}`},
	}); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) freeze(on bool) {
	h.t.Helper()
	if err := h.courier.FreezeOpen(h.t.Context(), h.app, "c", on, courier.Notice{Wanted: true}); err != nil {
		h.t.Fatal(err)
	}
}

var anyNumber = regexp.MustCompile(`("(?:until|at|offset)"):\d+`)

// heard waits for an event and gives its publication, with numbers left out.
func (p *peer) heard(event string) string {
	p.t.Helper()
	for {
		if line := p.line(); strings.Contains(line, `"event":"`+event+`"`) {
			return anyNumber.ReplaceAllString(line, "$1:n")
		}
	}
}

// writes sends a message to the channel c and gives the error's code.
func (p *peer) writes() uint32 {
	p.t.Helper()
	p.send(`{"rpc":{"method":"message.send","data":{"channelType":"open","channelId":"c","messageType":"app:t","content":"x"}},"id":3}`)
	for {
		switch r := p.reply(); {
		case r.ID != 3:
		case r.Error != nil:
			return r.Error.Code
		default:
			return 0
		}
	}
}

// What a backend says of users in an open channel is told there and holds for
// their sessions at once.
func TestModerationReachesSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	bob, _ := h.connect("bob", "")
	tab, _ := h.connect("bob", "")
	eve, _ := h.connect("eve", "")
	for _, p := range []*peer{bob, tab, eve} {
		if _, refused := p.enter("c", ""); refused != nil {
			t.Fatal(refused)
		}
	}
	want := func(event, text string, peers ...*peer) {
		t.Helper()
		for _, p := range peers {
			if got := p.heard(event); got != text {
				t.Errorf("heard %s\nwant  %s", got, text)
			}
		}
	}
	inC := func(data string) string {
		return `{"push":{"channel":"open:c","pub":{"data":{` + data + `,"at":n},"offset":n}}}`
	}
	const extra = `"extra":"{\"why\":\"\\\"\"}"`
	writes := func(p *peer, code uint32) {
		t.Helper()
		if got := p.writes(); got != code {
			t.Errorf("writing: %d, want %d", got, code)
		}
	}

	h.list(courier.MutedHere, true, "bob", "zoe")
	want("mute", inC(`"event":"mute","on":true,"userIds":["bob","zoe"],"until":n,`+extra), bob, tab, eve)
	writes(bob, 23408)
	writes(tab, 23408)
	writes(eve, 0)
	h.list(courier.MutedHere, false, "bob")
	want("mute", inC(`"event":"mute","on":false,"userIds":["bob"],`+extra), bob, tab, eve)
	writes(bob, 0)

	// Of what holds everywhere only those are told whom it concerns.
	h.list(courier.MutedInAll, true, "bob", "zoe")
	const whisper = `{"push":{"channel":"me","pub":{"data":{"event":"mute","on":true,"userIds":["bob"],"until":n,"all":true,` + extra + `,"at":n}}}}`
	want("mute", whisper, bob, tab)
	writes(bob, 23408)
	h.list(courier.MutedInAll, false, "bob")
	want("mute", strings.Replace(strings.Replace(whisper, "true", "false", 1), `"until":n,`, "", 1), bob, tab)

	h.freeze(true)
	want("freeze", inC(`"event":"freeze","on":true`), bob, tab, eve)
	writes(bob, 23408)
	writes(eve, 23408)
	h.list(courier.AllowedSenders, true, "bob")
	want("allow", inC(`"event":"allow","on":true,"userIds":["bob"],`+extra), bob, eve)
	writes(bob, 0)
	writes(eve, 23408)
	h.freeze(false)
	want("freeze", inC(`"event":"freeze","on":false`), bob, eve)
	writes(eve, 0)

	// All of their sessions are put out, and the user cannot come back.
	h.list(courier.BannedHere, true, "bob")
	for _, p := range []*peer{bob, tab} {
		if code := p.put("c"); code != 2101 {
			t.Errorf("put out with %d", code)
		}
	}
	want("ban", inC(`"event":"ban","on":true,"userIds":["bob"],"until":n,`+extra), eve)
	writes(bob, 23409)
	if _, refused := tab.enter("c", ""); refused == nil || refused.Code != 23409 {
		t.Errorf("entering: %+v", refused)
	}
	h.list(courier.BannedHere, false, "bob")
	want("ban", inC(`"event":"ban","on":false,"userIds":["bob"],`+extra), eve)
	if _, refused := tab.enter("c", ""); refused != nil {
		t.Errorf("entering: %+v", refused)
	}
	writes(tab, 0)
}

// A notice has its place among what is said, so who was cut off for a moment
// hears of it too.
func TestNoticesAreRecovered(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	in, _ := h.connect("in", "")
	in.enter("c", "")
	away, _ := h.connect("away", "")
	away.send(`{"subscribe":{"channel":"open:c"},"id":2}`)
	was := away.reply().Subscribe
	away.ws.Abort()
	h.send(chat.Open, "alice", "before", "c")
	h.list(courier.MutedHere, true, "bob")
	h.send(chat.Open, "alice", "after", "c")
	for {
		if got := in.said(); got.Pub.Data.Message.Content == "after" {
			break
		}
	}
	back, _ := h.connect("away", "")
	back.send(fmt.Sprintf(`{"subscribe":{"channel":"open:c","recover":true,"epoch":"%s","offset":%d},"id":2}`, was.Epoch, was.Offset))
	var got []string
	for _, p := range back.reply().Subscribe.Publications {
		got = append(got, p.Data.Event+p.Data.Message.Content)
	}
	if strings.Join(got, " ") != "messagebefore mute messageafter" {
		t.Errorf("recovered %q", got)
	}
}

// What is said in all open channels comes to everybody who is in one, under the
// name of each channel.
func TestBroadcastInAllChannels(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("open.single", "false")
	bob, _ := h.connect("bob", "")
	host, _ := h.connect("host", "")
	for _, id := range []string{"a", "b"} {
		bob.enter(id, "")
		host.enter(id, "")
	}
	m := &chat.Message{App: h.app.ID, ChannelType: chat.Open, From: "host", Type: "app:t", Content: "to all"}
	sent, err := h.courier.BroadcastOpen(t.Context(), h.app, &courier.Send{Message: m})
	if err != nil || len(sent.Placed) != 2 {
		t.Fatal(sent, err)
	}
	heard := map[string]string{}
	for range 2 {
		p := bob.said()
		heard[p.Channel+" "+p.Pub.Data.Message.ChannelID] = p.Pub.Data.Message.MessageUID
	}
	for _, p := range sent.Placed {
		if uid := heard["open:"+p.Target+" "+p.Target]; uid != p.UID.String() {
			t.Errorf("in %s he heard %q of %v", p.Target, p.UID, heard)
		}
	}
	if m, err := h.store.Message(t.Context(), sent.Placed[0].UID); chat.KindOf(err) != chat.KindNotFound {
		t.Errorf("kept is %+v, %v", m, err)
	}
	h.send(chat.Open, "eve", "next", "a")
	if got := host.said().Pub.Data.Message; got.Content != "next" {
		t.Errorf("without an echo the host heard %+v", got)
	}
}
