package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/websocket"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// tryConnect connects with a token and gives the answer, or the code that the
// connection was closed with.
func (h *house) tryConnect(token string) (r reply, code uint16) {
	h.t.Helper()
	p := h.dial()
	p.send(`{"connect":{"token":"` + token + `"},"id":1}`)
	line, err := p.next(10 * time.Second)
	if err != nil {
		ce, ok := errors.AsType[*websocket.CloseError](err)
		if !ok {
			h.t.Fatal(err)
		}
		return r, ce.Code
	}
	return decodeReply(h.t, line), 0
}

// call makes an rpc and gives its answer.
func (p *peer) call(id int, method, data string) reply {
	p.t.Helper()
	p.send(`{"rpc":{"method":"` + method + `","data":` + data + `},"id":` + strconv.Itoa(id) + `}`)
	for {
		if r := p.reply(); r.ID == uint32(id) {
			return r
		}
	}
}

func (r reply) code() uint32 {
	if r.Error == nil {
		return 0
	}
	return r.Error.Code
}

func sendTo(channelType, to string) string {
	return `{"channelType":"` + channelType + `","channelId":"` + to + `","messageType":"app:text","content":"x"}`
}

// A ban closes every connection of the user, for good, keeps new ones out, and
// ends when it is lifted. Messages wait meanwhile.
func TestBanClosesAndKeepsOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := h.token("bob")
	one, _ := h.connect("bob", "")
	two, _ := h.connect("bob", `{"deviceId":"d"}`)
	other, _ := h.connect("eve", "")
	must(t, h.dir.Ban(t.Context(), h.app, []string{"bob", "nobody"}, 5))
	h.Shut(h.app.ID, []string{"bob", "nobody"}, chat.KindBanned)
	for _, p := range []*peer{one, two} {
		if code := p.closed(); code != 4501 {
			t.Errorf("closed with %d", code)
		}
	}
	for _, tok := range []string{tok, h.token("bob")} {
		if _, code := h.tryConnect(tok); code != 4501 {
			t.Errorf("connecting while banned: closed with %d", code)
		}
	}
	// A token that is void as well does not send the client for a new one.
	must(t, h.dir.ExpireTokens(t.Context(), h.app, []string{"bob"}, time.Now().UnixMilli()))
	if _, code := h.tryConnect(tok); code != 4501 {
		t.Errorf("with a void token: closed with %d", code)
	}
	h.send(chat.Direct, "alice", "meanwhile", "bob", "eve")
	other.line()
	must(t, h.dir.Unban(t.Context(), h.app, []string{"bob"}))
	time.Sleep(2 * time.Millisecond)
	_, r := h.connect("bob", `{"deviceId":"d"}`)
	if pubs := r.Connect.Subs["me"].Publications; len(pubs) != 1 || pubs[0].Data.Message.Content != "meanwhile" {
		t.Errorf("after the ban: %+v", r.Connect.Subs)
	}
}

// A connection that is banned between the check of its token and its place
// among the sessions is closed too, and so is one that sends before it is told.
func TestBanInBetween(t *testing.T) {
	t.Parallel()
	var between atomic.Pointer[func()]
	h := newHouse(t, func(o *Options) { o.Directory = &pausing{o.Directory, &between} })
	tok := h.token("bob")
	ban := func() {
		must(t, h.dir.Ban(t.Context(), h.app, []string{"bob"}, 5))
		h.Shut(h.app.ID, []string{"bob"}, chat.KindBanned)
	}
	between.Store(&ban)
	if _, code := h.tryConnect(tok); code != 4501 {
		t.Errorf("banned while connecting: closed with %d", code)
	}
	between.Store(nil)
	must(t, h.dir.Unban(t.Context(), h.app, []string{"bob"}))
	p, _ := h.connect("bob", "")
	must(t, h.dir.Ban(t.Context(), h.app, []string{"bob"}, 5))
	p.send(`{"rpc":{"method":"message.send","data":` + sendTo("direct", "eve") + `},"id":2}`)
	if code := p.closed(); code != 4501 {
		t.Errorf("sending while banned: closed with %d", code)
	}
}

// pausing does something after each check of a token.
type pausing struct {
	Directory
	after *atomic.Pointer[func()]
}

func (p *pausing) Verify(ctx context.Context, token string) (*directory.Grant, error) {
	g, err := p.Directory.Verify(ctx, token)
	if f := p.after.Load(); f != nil {
		(*f)()
	}
	return g, err
}

// Who is soft-deleted is kept out; their tokens are good again afterwards.
func TestDeletedUsersAreKeptOut(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := h.token("bob")
	p, _ := h.connect("bob", "")
	must(t, h.dir.Delete(t.Context(), h.app, []string{"bob"}))
	h.Shut(h.app.ID, []string{"bob"}, chat.KindDeleted)
	if code := p.closed(); code != 4503 {
		t.Errorf("closed with %d", code)
	}
	if _, code := h.tryConnect(tok); code != 4503 {
		t.Errorf("connecting: closed with %d", code)
	}
	must(t, h.dir.Restore(t.Context(), h.app, []string{"bob"}))
	if r, code := h.tryConnect(tok); code != 0 || r.Connect == nil {
		t.Errorf("restored: closed with %d, %+v", code, r)
	}
}

// Mutes bind a user's clients in channels of their type, and not the backend.
func TestMutedClients(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	p, _ := h.connect("bob", "")
	mute := func(on bool, types ...chat.ChannelType) {
		t.Helper()
		must(t, h.dir.Mute(t.Context(), h.app, []string{"bob"}, types, on))
	}
	want := func(what string, direct, open uint32) {
		t.Helper()
		if code := p.call(2, "message.send", sendTo("direct", "eve")).code(); code != direct {
			t.Errorf("%s: direct is answered with %d, want %d", what, code, direct)
		}
		if code := p.call(3, "message.send", sendTo("open", "lobby")).code(); code != open {
			t.Errorf("%s: open is answered with %d, want %d", what, code, open)
		}
	}
	want("not muted", 0, 0)
	mute(true, chat.Open)
	want("muted in open channels", 0, 23408)
	mute(true, chat.Direct)
	want("muted in both", 20106, 23408)
	h.send(chat.Direct, "bob", "from the backend", "eve")
	h.send(chat.Open, "bob", "from the backend", "lobby")
	mute(false, chat.Open, chat.Direct)
	mute(true, chat.Group)
	want("muted in groups", 0, 0)
}

// A client's message to who has blocked its user is refused, and only that.
func TestBlockedClients(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	bob, _ := h.connect("bob", "")
	eve, _ := h.connect("eve", "")
	if r := eve.call(2, "blocklist.add", `{"userIds":["bob"]}`); r.Error != nil || string(r.RPC.Data) != "{}" {
		t.Fatalf("%+v", r)
	}
	msg := strings.TrimSuffix(sendTo("direct", "eve"), "}") + `,"clientMsgId":"m1"}`
	r := bob.call(2, "message.send", msg)
	if r.code() != 405 || r.Error.Temporary || r.Error.Message != "the recipient has blocked you" {
		t.Errorf("%+v", r.Error)
	}
	if r := eve.call(3, "message.send", sendTo("direct", "bob")); r.Error != nil {
		t.Errorf("who blocks can still write: %+v", r.Error)
	}
	if r := bob.call(3, "message.send", sendTo("open", "eve")); r.Error != nil {
		t.Errorf("a channel of that name: %+v", r.Error)
	}
	if sent, err := h.courier.Send(t.Context(), h.app, &courier.Send{
		Message: &chat.Message{App: h.app.ID, ChannelType: chat.Direct, From: "bob", Type: "app:text", Content: "x"}, Targets: []string{"eve"},
	}); err != nil || len(sent.Placed) != 1 {
		t.Errorf("the backend passes: %+v, %v", sent, err)
	}
	if r := eve.call(4, "blocklist.remove", `{"userIds":["bob","nobody"]}`); r.Error != nil {
		t.Errorf("%+v", r.Error)
	}
	// What was refused was not done: its clientMsgId is free.
	if r := bob.call(4, "message.send", msg); r.Error != nil {
		t.Errorf("no longer blocked: %+v", r.Error)
	}
}

func TestBlocklistCalls(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p, _ := h.connect("bob", "")
	list := func(data string) (ids []string, next string) {
		t.Helper()
		r := p.call(9, "blocklist.list", data)
		if r.Error != nil {
			t.Fatalf("%s: %+v", data, r.Error)
		}
		var v struct {
			UserIDs   []string `json:"userIds"`
			PageToken string   `json:"pageToken"`
		}
		must(t, json.Unmarshal(r.RPC.Data, &v))
		return v.UserIDs, v.PageToken
	}
	if r := p.call(9, "blocklist.list", "{}"); string(r.RPC.Data) != `{"userIds":[]}` {
		t.Errorf("an empty list is %s", r.RPC.Data)
	}
	var all []string
	for i := range 25 {
		all = append(all, fmt.Sprint("u", i))
	}
	for _, some := range [][]string{all[:20], all[15:]} {
		ids, err := json.Marshal(some)
		must(t, err)
		if r := p.call(2, "blocklist.add", `{"userIds":`+string(ids)+`}`); r.Error != nil {
			t.Fatalf("%+v", r.Error)
		}
	}
	back := slices.Clone(all)
	slices.Reverse(back)
	for order, want := range [][]string{all, back} {
		var got []string
		for token, pages := "", 0; ; pages++ {
			ids, next := list(fmt.Sprintf(`{"pageSize":10,"order":%d,"pageToken":"%s"}`, order, token))
			if got = append(got, ids...); next == "" {
				if pages != 2 {
					t.Errorf("%d pages after the first", pages)
				}
				break
			}
			token = next
		}
		if !slices.Equal(got, want) {
			t.Errorf("order %d: %v", order, got)
		}
	}
	for _, tt := range []struct{ method, data, message string }{
		{"blocklist.add", `{}`, "userIds: is required"},
		{"blocklist.add", `{"userIds":["a b"]}`, "userIds[0]: must not contain spaces or control characters"},
		{"blocklist.add", `{"userIds":["x","bob"]}`, "userIds[1]: must be somebody else than the list's owner"},
		{"blocklist.add", `{"userIds":[` + strings.Repeat(`"x",`, 20) + `"y"]}`, "userIds: at most 20 items, got 21"},
		{"blocklist.remove", `{"userIds":[]}`, "userIds: is required"},
		{"blocklist.list", `{"pageSize":0}`, "pageSize: from 1 to 1000, got 0"},
		{"blocklist.list", `{"pageToken":"!"}`, "pageToken: must be one that an answer gave"},
		{"blocklist.list", `{"order":2}`, "order: one of 0, 1, got 2"},
	} {
		if r := p.call(3, tt.method, tt.data); r.code() != 107 || r.Error.Message != tt.message {
			t.Errorf("%s %s: %+v", tt.method, tt.data, r.Error)
		}
	}
}
