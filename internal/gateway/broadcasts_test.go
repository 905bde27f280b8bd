package gateway

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

// broadcast sends a broadcast and gives its UID.
func (h *house) broadcast(k chat.BroadcastKind, content string, a ...chat.Audience) chat.UID {
	h.t.Helper()
	q := &courier.BroadcastRequest{Kind: k, Message: &chat.Message{App: h.app.ID, ChannelType: chat.System, From: "news", Type: "app:text", Content: content}}
	for _, a := range a {
		q.Audience = a
	}
	sent, err := h.courier.Broadcast(context.Background(), h.app, q)
	if err != nil {
		h.t.Fatal(err)
	}
	return sent.Placed[0].UID
}

// contents are those of publications, behind their offsets.
func contents(list []pub) (out []string) {
	for _, p := range list {
		out = append(out, fmt.Sprint(p.Offset, " ", p.Data.Message.Content))
	}
	return out
}

func wantList(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if strings.Join(got, "|") != strings.Join(want, "|") {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestBroadcasts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, _ := h.connect("ann", `{"deviceId":"phone"}`)
	tablet, _ := h.connect("ann", "")
	bob, _ := h.connect("bob", `{"deviceId":"phone"}`)
	bob.ws.Abort()
	eventually(t, "bob is gone", func() bool { return !h.Online(h.app.ID, "bob") })
	h.token("cho")
	h.send(chat.Direct, "ann", "before", "bob", "cho")
	sent := h.broadcast(chat.BroadcastAll, "to all")

	for _, p := range []*peer{ann, tablet} {
		r := p.reply()
		if m := r.Push.Pub.Data.Message; r.Push.Pub.Offset != 1 || m.Content != "to all" || m.ChannelType != "system" || m.ChannelID != "news" || m.Direction != "in" ||
			m.MessageUID == sent.String() || m.SentAt < sent.Millis() {
			t.Errorf("%+v", r.Push.Pub)
		}
	}

	// Who was away finds it behind what was missed, in the answer; a second
	// connection and another device find it where it is.
	_, r := h.connect("bob", `{"deviceId":"phone"}`)
	me := r.Connect.Subs["me"]
	if !me.Recovered || me.Offset != 0 {
		t.Errorf("%+v", me)
	}
	wantList(t, "bob", contents(me.Publications), "1 before", "2 to all")
	_, r = h.connect("bob", `{"from":"oldest"}`)
	wantList(t, "bob again", contents(r.Connect.Subs["me"].Publications), "1 before", "2 to all")
	p := h.dial()
	p.send(`{"connect":{"token":"` + h.token("bob") + `","subs":{"me":{"recover":true,"epoch":"` + me.Epoch + `","offset":1}}},"id":1}`)
	wantList(t, "bob by position", contents(p.reply().Connect.Subs["me"].Publications), "2 to all")

	// For who starts now, what came with the connect is new, and nothing else.
	cho, r := h.connect("cho", "")
	if me := r.Connect.Subs["me"]; me.Recovered || me.Offset != 1 || len(me.Publications) != 0 {
		t.Errorf("%+v", me)
	}
	if r := cho.reply(); r.Push.Pub.Offset != 2 || r.Push.Pub.Data.Message.Content != "to all" {
		t.Errorf("%+v", r.Push)
	}
	_, r = h.connect("cho", "")
	if me := r.Connect.Subs["me"]; me.Offset != 2 {
		t.Errorf("%+v", me)
	}

	// And somebody new.
	_, r = h.connect("new", `{"from":"oldest"}`)
	wantList(t, "new", contents(r.Connect.Subs["me"].Publications), "1 to all")

	h.broadcast(chat.BroadcastOnline, "online")
	if r := ann.reply(); r.Push.Pub.Offset != 2 || r.Push.Pub.Data.Message.Content != "online" {
		t.Errorf("%+v", r.Push)
	}
	_, r = h.connect("dan", `{"from":"oldest"}`)
	wantList(t, "dan", contents(r.Connect.Subs["me"].Publications), "1 to all", "2 online")
}

func TestBroadcastRecalls(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ann, _ := h.connect("ann", "")
	sent := h.broadcast(chat.BroadcastAll, "oops")
	mine := ann.reply().Push.Pub.Data.Message.MessageUID
	bob, r := h.connect("bob", `{"from":"oldest"}`)
	theirs := r.Connect.Subs["me"].Publications[0].Data.Message.MessageUID
	if !strings.Contains(string(r.Connect.Data), `"unread":{"total":1}`) {
		t.Errorf("%s", r.Connect.Data)
	}
	bob.ws.Abort()
	eventually(t, "bob is gone", func() bool { return !h.Online(h.app.ID, "bob") })
	if err := h.courier.RecallBroadcast(context.Background(), h.app, &courier.BroadcastRecallRequest{UID: sent, From: "news", Extra: "x"}); err != nil {
		t.Fatal(err)
	}
	event := `{"event":"recall","messageUID":"%s","channelType":"system","channelId":"news","operatorId":"news","extra":"x"`
	if line := ann.line(); !strings.Contains(line, fmt.Sprintf(event, mine)) {
		t.Error(line)
	}
	p := h.dial()
	p.send(`{"connect":{"token":"` + h.token("bob") + `","data":{"from":"oldest"}},"id":1}`)
	if line := p.line(); !strings.Contains(line, fmt.Sprintf(event, theirs)) || strings.Count(line, `"offset"`) != 2 || !strings.Contains(line, `"unread":{"total":0}`) {
		t.Error(line)
	}
	_, r = h.connect("cho", `{"from":"oldest"}`)
	if me := r.Connect.Subs["me"]; len(me.Publications) != 0 {
		t.Errorf("cho has %+v", me)
	}
}

func TestBroadcastAudiences(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	if err := h.dir.SetTags(context.Background(), h.app, []string{"ann", "cho"}, []string{"beta"}); err != nil {
		t.Fatal(err)
	}
	ann, _ := h.connect("ann", `{"platform":"ios","package":"com.example.app"}`)
	bob, _ := h.connect("bob", `{"platform":"web","package":"com.example.app"}`)
	ios := chat.Audience{Package: "com.example.app", Platforms: []string{"ios"}}
	h.set("limits.broadcast-hour", "0")
	h.set("limits.broadcast-day", "0")
	h.broadcast(chat.BroadcastTag, "for beta", chat.Audience{AllTags: []string{"beta"}})
	h.broadcast(chat.BroadcastPackage, "for the app", ios)
	h.broadcast(chat.BroadcastAll, "for all")
	for i, want := range []string{"for beta", "for the app", "for all"} {
		if r := ann.reply(); r.Push.Pub.Offset != uint64(i+1) || r.Push.Pub.Data.Message.Content != want {
			t.Errorf("%+v, want %s", r.Push, want)
		}
	}
	if r := bob.reply(); r.Push.Pub.Offset != 1 || r.Push.Pub.Data.Message.Content != "for all" {
		t.Errorf("%+v", r.Push)
	}
	_, r := h.connect("bob", `{"platform":"iOS","package":"com.example.app","from":"oldest"}`)
	wantList(t, "bob", contents(r.Connect.Subs["me"].Publications), "1 for all", "2 for the app")
	_, r = h.connect("cho", `{"from":"oldest"}`)
	wantList(t, "cho", contents(r.Connect.Subs["me"].Publications), "1 for beta", "2 for all")
}

// A session is found with what it said of itself, as is each of a user's.
func TestConnected(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	other, err := h.dir.CreateApp(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	h.connect("ann", `{"platform":"ios","package":"p"}`)
	h.connect("bob", "")
	h.connect("ann", `{"platform":"web"}`)
	all := func(app chat.AppID) (list []courier.Session) {
		for part, parts := 0, 1; part < parts; part++ {
			var some []courier.Session
			some, parts = h.Connected(app, part)
			list = append(list, some...)
		}
		return list
	}
	list := all(h.app.ID)
	if len(list) != 3 || len(all(other.ID)) != 0 {
		t.Fatalf("%+v", list)
	}
	seen := map[courier.Session]bool{}
	for i, s := range list {
		seen[s] = true
		if s.User == "bob" && i == 1 {
			t.Error("a user's sessions are not together")
		}
	}
	for _, want := range []courier.Session{{User: "ann", Client: chat.Client{Platform: "ios", Package: "p"}}, {User: "ann", Client: chat.Client{Platform: "web"}}, {User: "bob"}} {
		if !seen[want] {
			t.Errorf("%+v is missing in %+v", want, list)
		}
	}
}

// A lateStore lets something happen while somebody first asks where bob's timeline
// ends.
type lateStore struct {
	Store
	once    sync.Once
	happens func()
}

func (s *lateStore) Head(ctx context.Context, app chat.AppID, user string) (uint64, error) {
	if user == "bob" {
		s.once.Do(s.happens)
	}
	return s.Store.Head(ctx, app, user)
}

// A connection that starts now gets a broadcast that comes while it is made, whether
// it is the connect that gives it or the pass over those who are connected.
func TestBroadcastDuringConnect(t *testing.T) {
	t.Parallel()
	s := &lateStore{}
	h := newHouse(t, func(o *Options) { s.Store, o.Store = o.Store, s })
	s.happens = func() {
		h.broadcast(chat.BroadcastAll, "to all")
		if h.Online(h.app.ID, "bob") { // so the pass finds him
			eventually(t, "bob is given it", func() bool {
				head, err := h.store.Head(context.Background(), h.app.ID, "bob")
				return err != nil || head > 0
			})
		}
	}
	bob, r := h.connect("bob", "")
	if me := r.Connect.Subs["me"]; me.Recovered || me.Offset != 0 {
		t.Errorf("%+v", me)
	}
	if r := bob.reply(); r.Push.Pub.Offset != 1 || r.Push.Pub.Data.Message.Content != "to all" {
		t.Errorf("%+v", r.Push)
	}
}

// A deaf courier cannot give broadcasts until it hears.
type deaf struct {
	Courier
	hears atomic.Bool
}

func (d *deaf) Touch(ctx context.Context, app *chat.App, u *chat.User, client chat.Client) (int, error) {
	if !d.hears.Load() {
		return 0, errors.New("the disk is on fire")
	}
	return d.Courier.Touch(ctx, app, u, client)
}

// Who cannot be given broadcasts is let in all the same, and given them the next
// time.
func TestConnectWithoutBroadcasts(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.broadcast(chat.BroadcastAll, "to all")
	d := &deaf{Courier: h.courier}
	h.Attach(d)
	p, r := h.connect("bob", `{"from":"oldest"}`)
	if me := r.Connect.Subs["me"]; !me.Recovered || len(me.Publications) != 0 {
		t.Errorf("%+v", me)
	}
	p.ws.Abort()
	d.hears.Store(true)
	_, r = h.connect("bob", `{"from":"oldest"}`)
	wantList(t, "bob", contents(r.Connect.Subs["me"].Publications), "1 to all")
}
