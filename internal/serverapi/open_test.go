package serverapi

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/room"
)

// openTables are the fields of the operations about open channels.
func openTables() map[string][]string {
	tables := map[string][]string{
		createRoom: createFields.Names(), endRoom: endingFields.Names(), getRoom: openOnly.Names(), destroyRooms: destroyFields.Names(),
		keepAlivePath + "/add": keepAliveFields.Names(), keepAlivePath + "/remove": keepAliveFields.Names(),
		participants: participantFields.Names(), exist: existFields.Names(),
		freezeList + "/add": freezeFields.Names(), freezeList + "/remove": freezeFields.Names(), freezeList + "/get": pageFields.Names(), frozen: openOnly.Names(),
		roomCast: broadcastOpenFields.Names(),
	}
	for path, list := range openLists {
		form := openListForms[list]
		tables[path+"/add"], tables[path+"/remove"] = form.table(true).Names(), form.table(false).Names()
		if !form.ofApp {
			tables[path+"/get"] = openOnly.Names()
		}
	}
	return tables
}

var openLists = map[string]courier.OpenList{
	roomMute: courier.MutedHere, roomBan: courier.BannedHere, globalMute: courier.MutedInAll, allowedSenders: courier.AllowedSenders,
	prioritySenders: courier.PrioritySenders, priorityTypes: courier.PriorityTypes, lowTypes: courier.LowTypes,
}

type openRoom struct {
	ChannelID        string
	CreatedAt        int64
	ParticipantCount int
	DestroyType      int
	TTLMinutes       int
	IsFrozen         bool
}

func (w *world) room(id string) openRoom {
	w.t.Helper()
	return ok[openRoom](w.t, w.call(getRoom, `{"channelId":"`+id+`"}`))
}

// done makes calls that have to be answered with nothing but that they were done.
func (w *world) done(path string, bodies ...string) {
	w.t.Helper()
	for _, body := range bodies {
		if r := w.call(path, body); r.Body != `{"code":0}` {
			w.t.Fatalf("%s %s: %d %s", path, body, r.Status, r.Body)
		}
	}
}

const noRoom = "channelId: no such open channel"

func TestOpenChannelLife(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(getRoom, `{"channelId":"c"}`).want(t, 400, 1003, noRoom)
	w.call(endRoom, `{"channelId":"c","destroyType":1}`).want(t, 400, 1003, noRoom)
	born := w.clock.ms.Load()
	w.done(createRoom, `{"channelId":"c"}`)
	if got, want := w.room("c"), (openRoom{"c", born, 0, 0, 60, false}); got != want {
		t.Errorf("a new one is %+v, want %+v", got, want)
	}

	// What is there already keeps its life and who is in it, and what is not said.
	w.sit(w.app.ID, "c", "ann")
	w.clock.advance(time.Minute)
	w.done(createRoom, `{"channelId":"c","destroyType":1,"ttlMinutes":"10080","shouldFreeze":1,"allowedSendersList":["ann"],"metadataOwnerId":"ann","metadata":{"topic":"tea","n":1}}`)
	want := openRoom{"c", born, 1, 1, 10080, true}
	for range 2 {
		if got := w.room("c"); got != want {
			t.Errorf("it is %+v, want %+v", got, want)
		}
		w.done(createRoom, `{"channelId":"c"}`, `{"channelId":"c","allowedSendersList":["ann"]}`)
	}
	w.restart()
	ch, err := w.dir.OpenChannel(t.Context(), w.app.ID, "c")
	if err != nil || w.room("c") != want || ch.Pairs["topic"].Value != "tea" || ch.Pairs["n"] != (chat.OpenPair{Value: "1", Owner: "ann", UpdatedAt: born + 60_000}) || ch.Allowed["ann"] != born+60_000 {
		t.Errorf("after a restart it is %+v, %+v, %v", w.room("c"), ch, err)
	}
	w.done(endRoom, `{"channelId":"c","destroyType":0}`, `{"channelId":"c","ttlMinutes":120}`, `{"channelId":"c"}`)
	want.DestroyType, want.TTLMinutes = 0, 120
	if got := w.room("c"); got != want {
		t.Errorf("it is %+v, want %+v", got, want)
	}

	// Ending it leaves nothing, and what is made under its name is another one.
	w.done(destroyRooms, `{"channelIds":["c","nothing","c"]}`, `{"channelIds":["c"]}`)
	w.call(getRoom, `{"channelId":"c"}`).want(t, 400, 1003, noRoom)
	if got := w.heard(w.app.ID); len(got) != 3 || !strings.HasPrefix(got[0], "ann in c heard event kv ") || !strings.HasPrefix(got[1], "ann in c heard event destroyed ") || got[2] != fmt.Sprintf("ann in c heard evicted: %d", room.Ended) {
		t.Errorf("she heard %q", got)
	}
	w.done(createRoom, `{"channelId":"c"}`)
	if got := w.room("c"); got != (openRoom{"c", born + 60_000, 0, 0, 60, false}) {
		t.Errorf("the next one is %+v", got)
	}
	w.set("open.idle", "2h")
	w.done(createRoom, `{"channelId":"d"}`)
	if got := w.room("d").TTLMinutes; got != 120 {
		t.Errorf("by the app's own: %d minutes", got)
	}
}

func TestOpenChannelRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	long := strings.Repeat("ä", 4097)
	pairs := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d":"v"`, i)
		}
		return b.String()[1:]
	}
	for _, c := range []struct {
		path, body string
		code       int
		message    string
	}{
		{createRoom, `{}`, 1002, "channelId: is required"},
		{createRoom, `{"channelId":"a b"}`, 1002, "channelId: must not contain spaces or control characters"},
		{createRoom, `{"channelId":"c","destroyType":2}`, 1002, "destroyType: one of 0, 1, got 2"},
		{createRoom, `{"channelId":"c","ttlMinutes":59}`, 1002, "ttlMinutes: from 60 to 10080, got 59"},
		{createRoom, `{"channelId":"c","ttlMinutes":10081}`, 1002, "ttlMinutes: from 60 to 10080, got 10081"},
		{createRoom, `{"channelId":"c","allowedSendersList":["a",""]}`, 1002, "allowedSendersList[1]: is required"},
		{createRoom, `{"channelId":"c","allowedSendersList":` + ids(101) + `}`, 1002, "allowedSendersList: at most 100 items, got 101"},
		{createRoom, `{"channelId":"c","metadata":{"k":"v"}}`, 1002, "metadataOwnerId: is required"},
		{createRoom, `{"channelId":"c","metadataOwnerId":"a","metadata":{"":"v"}}`, 1002, ""},
		{createRoom, `{"channelId":"c","metadataOwnerId":"a","metadata":{"a b":"v"}}`, 1002, ""},
		{createRoom, `{"channelId":"c","metadataOwnerId":"a","metadata":{"k":"` + long + `"}}`, 1005, "metadata.k: at most 4096 characters, got 4097"},
		{createRoom, `{"channelId":"c","metadataOwnerId":"a","metadata":{` + pairs(101) + `}}`, 1002, ""},
		{destroyRooms, `{}`, 1002, "channelIds: is required"},
		{destroyRooms, `{"channelIds":["a",""]}`, 1002, "channelIds[1]: is required"},
		{destroyRooms, `{"channelIds":` + ids(101) + `}`, 1002, "channelIds: at most 100 items, got 101"},
		{keepAlivePath + "/add", `{}`, 1002, "channelIds: is required"},
		{keepAlivePath + "/add", `{"channelId":" "}`, 1002, "channelIds[0]: must not contain spaces or control characters"},
		{participants, `{}`, 1002, "channelId: is required"},
		{participants, `{"channelId":"c","pageSize":501}`, 1002, "pageSize: from 1 to 500, got 501"},
		{participants, `{"channelId":"c","pageSize":0}`, 1002, "pageSize: from 1 to 500, got 0"},
		{participants, `{"channelId":"c","order":0}`, 1002, "order: one of 1, 2, got 0"},
		{exist, `{"channelId":"c"}`, 1002, "participantIds: is required"},
		{exist, `{"channelId":"c","participantIds":` + ids(1001) + `}`, 1002, "participantIds: at most 1000 items, got 1001"},
		{freezeList + "/add", `{"channelId":"c","extra":"` + long + `"}`, 1005, "extra: at most 4096 characters, got 4097"},
		{freezeList + "/add", `{}`, 1002, "channelId: is required"},
		{freezeList + "/get", `{"page":0}`, 1002, ""},
		{frozen, `{}`, 1002, "channelId: is required"},
		{roomCast, `{"fromUserId":"a","messageType":"app:t"}`, 1002, "content: is required"},
		{roomCast, `{"fromUserId":"a","messageType":"RC:Nothing","content":"{}"}`, 1002, ""},
	} {
		w.call(c.path, c.body).want(t, 400, c.code, c.message)
	}
	w.call(getRoom, `{"channelId":"c"}`).want(t, 400, 1003, noRoom)
}

func (w *world) names(path, body, key string) []string {
	w.t.Helper()
	return ok[map[string][]string](w.t, w.call(path, body))[key]
}

func TestKeepAlive(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "open.keep-alive", "3")
	w.done(keepAlivePath+"/add", `{"channelId":"a"}`, `{"channelIds":["b","a","b"]}`, `{"channelIds":["a","b"],"channelId":"c"}`)
	w.call(keepAlivePath+"/add", `{"channelIds":["c","d"]}`).want(t, 400, 1016, "channelIds: at most 3 open channels are kept alive (open.keep-alive), these would be 4")
	w.call(getRoom, `{"channelId":"d"}`).want(t, 400, 1003, noRoom)
	w.restart()
	if got := w.names(keepAlivePath+"/get", `{}`, "channelIds"); !slices.Equal(got, []string{"a", "b", "c"}) {
		t.Errorf("kept alive are %q", got)
	}
	w.done(keepAlivePath+"/remove", `{"channelIds":["a","nothing"]}`)
	w.done(keepAlivePath+"/add", `{"channelId":"d"}`)
	w.done(destroyRooms, `{"channelIds":["b"]}`)
	if got := w.names(keepAlivePath+"/get", `{}`, "channelIds"); !slices.Equal(got, []string{"c", "d"}) {
		t.Errorf("kept alive are %q", got)
	}
	w.call(getRoom, `{"channelId":"nothing"}`).want(t, 400, 1003, noRoom)

	w.set("open.keep-alive", "2") // who is on the list already stays
	w.done(keepAlivePath+"/add", `{"channelIds":["c","d"]}`)
	w.set("open.strict", "true")
	w.call(keepAlivePath+"/add", `{"channelId":"nothing"}`).want(t, 400, 1003, noRoom)
	w.call(keepAlivePath+"/remove", `{"channelIds":["nothing"]}`).want(t, 400, 1003, noRoom)
}

func TestOpenParticipants(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if got := w.call(participants, `{"channelId":"c"}`).Body; got != `{"code":0,"result":{"total":0,"participants":[]}}` {
		t.Errorf("of none: %s", got)
	}
	w.done(createRoom, `{"channelId":"c"}`)
	for _, u := range []string{"zoe", "ann", "bob"} {
		w.sit(w.app.ID, "c", u)
		w.sit(w.app.ID, "c", u) // with two sessions
		w.clock.advance(time.Second)
	}
	all := `{"participantId":"zoe","createdAt":"2026-11-22 04:00:00"},{"participantId":"ann","createdAt":"2026-11-22 04:00:01"},{"participantId":"bob","createdAt":"2026-11-22 04:00:02"}`
	for body, want := range map[string]string{
		`{"channelId":"c"}`:                               `{"code":0,"result":{"total":3,"participants":[` + all + `]}}`,
		`{"channelId":"c","order":1,"pageSize":"3"}`:      `{"code":0,"result":{"total":3,"participants":[` + all + `]}}`,
		`{"channelId":"c","order":2,"pageSize":1}`:        `{"code":0,"result":{"total":3,"participants":[{"participantId":"bob","createdAt":"2026-11-22 04:00:02"}]}}`,
		`{"channelId":"other","order":null,"pageSize":1}`: `{"code":0,"result":{"total":0,"participants":[]}}`,
	} {
		if got := w.call(participants, body).Body; got != want {
			t.Errorf("%s: %s\nwant %s", body, got, want)
		}
	}
	got := w.call(exist, `{"channelId":"c","participantIds":["eve","ann","eve"]}`).Body
	if want := `{"code":0,"result":{"participants":[{"participantId":"eve","isInOpenChannel":0},{"participantId":"ann","isInOpenChannel":1},{"participantId":"eve","isInOpenChannel":0}]}}`; got != want {
		t.Errorf("%s", got)
	}
	if n := w.room("c").ParticipantCount; n != 3 {
		t.Errorf("%d participants", n)
	}
	w.set("open.strict", "true")
	w.call(participants, `{"channelId":"other"}`).want(t, 400, 1003, noRoom)
	w.call(exist, `{"channelId":"other","participantIds":["a"]}`).want(t, 400, 1003, noRoom)
}

// change is the body of a change of a list.
func (f *openListForm) change(channel, minutes string, names ...string) string {
	b := `{"` + f.item + `":` + list(names...)
	if !f.ofApp {
		b += `,"channelId":"` + channel + `"`
	}
	if f.until != "" && minutes != "" {
		b += `,"durationMinutes":` + minutes
	}
	return b + `}`
}

// listed is the answer to the question what is on a list.
func (w *world) listed(path, channel string) string {
	w.t.Helper()
	r := w.call(path+"/get", `{"channelId":"`+channel+`"}`)
	if r.Status != 200 {
		w.t.Fatalf("%s: %s", path, r.Body)
	}
	return strings.TrimSuffix(strings.TrimPrefix(r.Body, `{"code":0,"result":`), `}`)
}

func TestOpenLists(t *testing.T) {
	t.Parallel()
	for path, list := range openLists {
		form := openListForms[list]
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			want := func(when string, names ...string) {
				t.Helper()
				var items []string
				for _, n := range names {
					n, until, _ := strings.Cut(n, "|")
					item := `"` + n + `"`
					if form.until != "" {
						item = `{"participantId":"` + n + `","` + form.until + `":"2026-11-22 ` + until + `"}`
					}
					items = append(items, item)
				}
				if got, want := w.listed(path, "c"), `{"`+form.key+`":[`+strings.Join(items, ",")+`]}`; got != want {
					t.Errorf("%s: %s\nwant %s", when, got, want)
				}
			}
			change := func(what, minutes string, names ...string) {
				t.Helper()
				w.done(path+"/"+what, form.change("c", minutes, names...))
			}
			want("nothing")
			change("remove", "", "u")
			if !form.ofApp {
				w.call(getRoom, `{"channelId":"c"}`).want(t, 400, 1003, noRoom)
			}
			change("add", "10", "z", "y", "z")
			want("two at once", "y|04:10:00", "z|04:10:00")
			w.clock.advance(time.Minute)
			change("add", `"5"`, "a", "z") // from now on; places stay
			want("more", "y|04:10:00", "z|04:06:00", "a|04:06:00")
			if !form.ofApp {
				w.listed(path, "other")
				if got := w.listed(path, "other"); !strings.Contains(got, ":[]") {
					t.Errorf("the other channel has %s", got)
				}
			}
			change("remove", "", "y", "nobody")
			want("one less", "z|04:06:00", "a|04:06:00")
			w.restart()
			want("after a restart", "z|04:06:00", "a|04:06:00")
			w.clock.advance(5 * time.Minute)
			if form.until != "" {
				want("at the end")
				change("add", "1", "b")
				want("and then", "b|04:07:00")
				// What is over is forgotten with the next change.
				id := "c"
				if form.ofApp {
					id = ""
				}
				ch, err := w.dir.OpenChannel(t.Context(), w.app.ID, id)
				if err != nil || len(ch.Muted)+len(ch.Banned) != 1 {
					t.Errorf("kept are %v, %v, %v", ch.Muted, ch.Banned, err)
				}
			} else {
				want("later", "z", "a")
			}

			refused := func(minutes, message string, names ...string) {
				t.Helper()
				w.call(path+"/add", form.change("c", minutes, names...)).want(t, 400, 1002, message)
			}
			field := form.item
			refused("5", field+": is required")
			refused("5", field+"[1]: is required", "x", "")
			refused("5", field+": at most 20 items, got 21", strings.Split(strings.Trim(ids(21), `[]"`), `","`)...)
			if form.until != "" {
				refused("", "durationMinutes: is required", "x")
				refused("0", "durationMinutes: from 1 to 43200, got 0", "x")
				refused("43201", "durationMinutes: from 1 to 43200, got 43201", "x")
				change("add", "43200", "x")
			}
			if form.item == "messageTypes" {
				w.call(path+"/add", `{"messageTypes":["RC:Nothing"]}`).want(t, 400, 1002, "messageTypes[0]: unknown built-in type; custom types must not start with RC:")
			}
			if !form.ofApp {
				w.call(path+"/add", form.change("", "5", "x")).want(t, 400, 1002, "channelId: is required")
				w.call(path+"/get", `{}`).want(t, 400, 1002, "channelId: is required")
				w.set("open.strict", "true")
				for _, what := range []string{"add", "remove"} {
					w.call(path+"/"+what, form.change("other", "5", "x")).want(t, 400, 1003, noRoom)
				}
				w.call(path+"/get", `{"channelId":"other"}`).want(t, 400, 1003, noRoom)
				change("add", "5", "x")
			}
		})
	}
}

// Lists are bounded, and what would be too much is refused whole.
func TestOpenListsAreBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.default", "0")
	fill := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprint("n", i))
		}
		return all
	}
	for path, n := range map[string]int{prioritySenders: 5, priorityTypes: 20, lowTypes: 20} {
		form := openListForms[openLists[path]]
		w.done(path+"/add", form.change("c", "", fill(n)...))
		w.call(path+"/add", form.change("c", "", "n0", "more")).want(t, 400, 1002, fmt.Sprintf("%s: at most %d on the list, these would be %d", form.item, n, n+1))
		w.done(path+"/add", form.change("c", "", "n0", "n1"))
		w.done(path+"/remove", form.change("c", "", "n0"))
		w.done(path+"/add", form.change("c", "", "more"))
	}
	if _, err := w.dir.ChangeOpenChannel(t.Context(), w.app, "c", true, func(ch *chat.OpenChannel) error {
		for _, name := range fill(10_000) {
			ch.Banned[name] = chat.Restriction{Until: w.clock.ms.Load() + 1000}
		}
		for _, name := range fill(1000) {
			ch.Allowed[name] = 1
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	w.call(roomBan+"/add", `{"channelId":"c","participantIds":["x"],"durationMinutes":1}`).want(t, 400, 1002, "participantIds: at most 10000 on the list, these would be 10001")
	w.call(allowedSenders+"/add", `{"channelId":"c","participantIds":["x"]}`).want(t, 400, 1002, "participantIds: at most 1000 on the list, these would be 1001")
	w.call(createRoom, `{"channelId":"c","allowedSendersList":["x"]}`).want(t, 400, 1002, "allowedSendersList: at most 1000 on the list, these would be 1001")
	w.clock.advance(time.Second)
	w.done(roomBan+"/add", `{"channelId":"c","participantIds":["x"],"durationMinutes":1}`)
}

func TestFreezes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	state := func(id, want string) {
		t.Helper()
		if got := w.call(frozen, `{"channelId":"`+id+`"}`).Body; got != `{"code":0,"result":{"status":`+want+`}}` {
			t.Errorf("%s: %s", id, got)
		}
	}
	state("a", "0")
	w.done(freezeList+"/remove", `{"channelId":"a"}`)
	w.call(getRoom, `{"channelId":"a"}`).want(t, 400, 1003, noRoom)
	for _, id := range []string{"a", "b", "c"} {
		w.done(freezeList+"/add", `{"channelId":"`+id+`"}`, `{"channelId":"`+id+`","needNotify":true,"extra":"{}"}`)
	}
	w.done(freezeList+"/remove", `{"channelId":"b"}`)
	w.restart()
	state("a", "1")
	state("b", "0")
	if got := w.names(freezeList+"/get", `{}`, "channelIds"); !slices.Equal(got, []string{"a", "c"}) {
		t.Errorf("frozen are %q", got)
	}
	if got := w.names(freezeList+"/get", `{"page":2,"pageSize":1}`, "channelIds"); !slices.Equal(got, []string{"c"}) {
		t.Errorf("the second is %q", got)
	}
	w.set("open.strict", "true")
	w.call(freezeList+"/add", `{"channelId":"d"}`).want(t, 400, 1003, noRoom)
	w.call(freezeList+"/remove", `{"channelId":"d"}`).want(t, 400, 1003, noRoom)
	w.call(frozen, `{"channelId":"d"}`).want(t, 400, 1003, noRoom)
}

// A list of more than one read of the store.
func TestManyFrozenChannels(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 2100
	var all []string
	for i := range n {
		id := fmt.Sprintf("c%04d", i)
		all = append(all, id)
		if _, err := w.dir.ChangeOpenChannel(t.Context(), w.app, id, true, func(c *chat.OpenChannel) error { c.Frozen = true; return nil }); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for page := 1; ; page++ {
		part := w.names(freezeList+"/get", fmt.Sprintf(`{"page":%d,"pageSize":700}`, page), "channelIds")
		if len(part) == 0 {
			break
		}
		got = append(got, part...)
	}
	if !slices.Equal(got, all) {
		t.Errorf("%d channels in pages, want %d in order", len(got), n)
	}
}

// What is said of users holds for what their clients send from then on, and until
// it ends.
func TestClientsAreHeldToIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	try := func(user string, kind chat.Kind) {
		t.Helper()
		m := &chat.Message{App: w.app.ID, ChannelType: chat.Open, Origin: chat.FromClient, From: user, Type: "app:t", Content: "x"}
		_, err := w.courier.Send(t.Context(), w.app, &courier.Send{Message: m, Targets: []string{"c"}})
		if (err != nil || kind != 0) && (err == nil || chat.KindOf(err) != kind) {
			t.Errorf("%s: %v, want %v", user, err, kind)
		}
	}
	five := `"durationMinutes":5}`
	w.done(roomMute+"/add", `{"channelId":"c","participantIds":["ann"],`+five)
	w.done(roomBan+"/add", `{"channelId":"c","participantIds":["bob"],`+five)
	w.done(globalMute+"/add", `{"participantIds":["eve"],`+five)
	try("ann", chat.KindMutedOpen)
	try("bob", chat.KindBannedOpen)
	try("eve", chat.KindMutedOpen)
	try("dan", 0)
	w.clock.advance(5*time.Minute - time.Millisecond)
	try("ann", chat.KindMutedOpen)
	w.restart()
	try("bob", chat.KindBannedOpen)
	w.clock.advance(time.Millisecond)
	for _, u := range []string{"ann", "bob", "eve"} {
		try(u, 0)
	}
	w.done(freezeList+"/add", `{"channelId":"c"}`)
	w.done(roomMute+"/add", `{"channelId":"c","participantIds":["ann"],`+five)
	w.done(allowedSenders+"/add", `{"channelId":"c","participantIds":["ann"]}`)
	try("ann", 0)
	try("dan", chat.KindMutedOpen)
	w.done(allowedSenders+"/remove", `{"channelId":"c","participantIds":["ann"]}`)
	w.done(freezeList+"/remove", `{"channelId":"c"}`)
	try("ann", chat.KindMutedOpen)
	try("dan", 0)
	w.done(roomMute+"/remove", `{"channelId":"c","participantIds":["ann"]}`)
	try("ann", 0)
}

// Those in a channel are told what is new, when they are to be, in its place.
func TestOpenNotices(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.done(createRoom, `{"channelId":"c"}`)
	w.sit(w.app.ID, "c", "ann")
	w.sit(w.app.ID, "c", "bob")
	tell := `,"needNotify":1,"extra":"{\"why\":1}"`
	five := `"durationMinutes":5,"channelId":"c"`
	calls := []struct{ path, body, heard string }{
		{roomMute + "/add", `{"participantIds":["x"],` + five + `}`, ""},
		{roomMute + "/add", `{"participantIds":["x"],` + five + tell + `}`, ""}, // is so already
		{roomMute + "/add", `{"participantIds":["x","ann"],` + five + tell + `}`, "mute on ann 300000"},
		{roomMute + "/remove", `{"participantIds":["nobody"],"channelId":"c"` + tell + `}`, ""},
		{roomMute + "/remove", `{"participantIds":["nobody","x","ann"],"channelId":"c"` + tell + `}`, "mute off x,ann 0"},
		{freezeList + "/add", `{"channelId":"c"` + tell + `}`, "freeze on  0"},
		{freezeList + "/add", `{"channelId":"c"` + tell + `}`, ""},
		{freezeList + "/remove", `{"channelId":"c"` + tell + `}`, "freeze off  0"},
		{freezeList + "/add", `{"channelId":"c"}`, ""},
		{freezeList + "/remove", `{"channelId":"c"}`, ""},
		{allowedSenders + "/add", `{"participantIds":["x"],"channelId":"c"` + tell + `}`, "allow on x 0"},
		{allowedSenders + "/remove", `{"participantIds":["x"],"channelId":"c"` + tell + `}`, "allow off x 0"},
		{prioritySenders + "/add", `{"participantIds":["x"],"channelId":"c"` + tell + `}`, ""},
		{globalMute + "/add", `{"participantIds":["ann"],` + five + tell + `}`, ""}, // her alone, not here
		{roomBan + "/add", `{"participantIds":["bob"],` + five + tell + `}`, "ban on bob 300000"},
	}
	var want []string
	for _, c := range calls {
		w.wait(room.Key{App: w.app.ID, Channel: "c"}) // a ban does not wait for what was said before
		w.done(c.path, c.body)
		if c.heard != "" {
			want = append(want, c.heard)
		}
	}
	w.wait(room.Key{App: w.app.ID, Channel: "c"})
	read := func(s *seat) (list []string) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for _, line := range s.lines {
			kind, raw, found := strings.Cut(strings.TrimPrefix(line, "event "), " ")
			var n chat.RoomNews
			if !found || json.Unmarshal([]byte(raw), &n) != nil || kind != "evicted:" && n.Extra != `{"why":1}` {
				list = append(list, line)
				continue
			}
			on, until := "off", int64(0)
			if n.On {
				on = "on"
			}
			if n.Until > 0 {
				until = n.Until - w.clock.ms.Load()
			}
			list = append(list, fmt.Sprintf("%s %s %s %d", kind, on, strings.Join(n.Users, ","), until))
		}
		return list
	}
	if got := read(w.seats[0]); !slices.Equal(got, want) {
		t.Errorf("ann heard %q\nwant      %q", got, want)
	}
	// Who is banned is out before the others are told.
	if got, want := read(w.seats[1]), append(slices.Clone(want[:len(want)-1]), fmt.Sprintf("evicted: %d", room.Barred)); !slices.Equal(got, want) {
		t.Errorf("bob heard %q\nwant      %q", got, want)
	}
	if got := w.call(exist, `{"channelId":"c","participantIds":["ann","bob"]}`).Body; !strings.Contains(got, `"ann","isInOpenChannel":1`) || !strings.Contains(got, `"bob","isInOpenChannel":0`) {
		t.Error(got)
	}
	// A ban is carried out again, also when it is so already.
	w.rooms.Enter(w.seats[1].key, &sitting{seat: w.seats[1]}, nil, "")
	w.done(roomBan+"/add", `{"participantIds":["bob"],`+five+`}`)
	if n := w.room("c").ParticipantCount; n != 1 {
		t.Errorf("%d participants", n)
	}
}

// Those in a channel are told of changes in the order in which these were made,
// whoever made them at the same time.
func TestOpenNoticesInOrder(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.default", "0")
	w.done(createRoom, `{"channelId":"c"}`)
	ann := w.sit(w.app.ID, "c", "ann")
	var wg sync.WaitGroup
	for i := range 8 {
		what := []string{"/add", "/remove"}[i%2]
		wg.Go(func() {
			for range 40 {
				w.done(freezeList+what, `{"channelId":"c","needNotify":1}`)
			}
		})
	}
	wg.Wait()
	w.wait(ann.key)
	on := false
	for i, line := range ann.lines {
		if now := strings.Contains(line, `"On":true`); now == on {
			t.Fatalf("told the same twice, the second time as %d of %d: %s", i, len(ann.lines), line)
		}
		on = !on
	}
	if w.room("c").IsFrozen != on || len(ann.lines) < 2 {
		t.Errorf("told last that it is frozen: %t, of %d", on, len(ann.lines))
	}
}

func TestOpenBroadcast(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.open-broadcast", "0")
	body := func(text, more string) string {
		return `{"fromUserId":"host","messageType":"RC:TxtMsg","content":` + quoted(`{"content":"`+text+`"}`) + more + `}`
	}
	w.done(roomCast, body("nobody hears it", ""))
	const rooms = 1100 // several blocks
	var hosts, all []*seat
	for i := range rooms {
		id := fmt.Sprint("c", i)
		if i < 3 {
			w.done(createRoom, `{"channelId":"`+id+`"}`)
			hosts = append(hosts, w.sit(w.app.ID, id, "host"))
			all = append(all, w.sit(w.app.ID, id, "ann"))
			continue
		}
		s := &seat{key: room.Key{App: w.app.ID, Channel: id}, user: "ann"}
		w.rooms.Enter(s.key, &sitting{seat: s}, nil, "")
		all = append(all, s)
	}
	other := w.newApp("other", "secret")
	stranger := &seat{key: room.Key{App: other.ID, Channel: "c0"}, user: "ann"}
	w.rooms.Enter(stranger.key, &sitting{seat: stranger}, nil, "")

	w.set("open.intake.shared", "0")
	w.set("open.intake.high", "0") // which is no matter
	w.done(roomCast, body("one", ""), body("two", `,"isEchoToSender":1`))
	lines := func(s *seat) string {
		s.mu.Lock()
		defer s.mu.Unlock()
		return strings.Join(s.lines, "; ")
	}
	for _, s := range append(slices.Clone(all), hosts...) {
		w.wait(s.key)
		want := `host: RC:TxtMsg {"content":"two"}`
		if s.user == "ann" {
			want = `host: RC:TxtMsg {"content":"one"}; ` + want
		}
		if got := lines(s); got != want {
			t.Fatalf("%s in %s heard %s", s.user, s.key.Channel, got)
		}
	}
	if got := lines(stranger); got != "" {
		t.Errorf("another app heard %s", got)
	}
	// Nothing of it is kept.
	now := w.clock.ms.Load()
	if got := w.history(openHistory, fmt.Sprintf(`{"userId":"ann","channelId":"c0","startAt":%d,"endAt":%d,"includeStart":1}`, now+1000, now-1000)); len(got) != 0 {
		t.Errorf("history has %v", got)
	}
	key := with("Idempotency-Key", "k")
	w.set("limits.open-broadcast", "1/s")
	for range 3 {
		w.call(roomCast, body("once", ""), key).want(t, 200, 0, "")
	}
	w.call(roomCast, body("too soon", "")).want(t, 429, 1008, "")
	w.wait(all[0].key)
	if got := lines(all[0]); strings.Count(got, "once") != 1 || strings.Contains(got, "soon") {
		t.Errorf("ann heard %s", got)
	}
	w.set("users.registered-only", "true")
	w.clock.advance(time.Second)
	w.call(roomCast, body("x", "")).want(t, 400, 400, "")
	w.set("broadcast.enabled", "false")
	w.call(roomCast, body("x", "")).want(t, 430, 1009, "broadcasts are switched off for this app (broadcast.enabled)")
}
