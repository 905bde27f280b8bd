package serverapi

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
)

const (
	setOpenMeta    = "/v4/open-channel/metadata/batch/set"
	removeOpenMeta = "/v4/open-channel/metadata/batch/remove"
	getOpenMeta    = "/v4/open-channel/metadata/batch/get"
)

func init() {
	archiveTables[setOpenMeta] = setOpenMetadataFields.Names()
	archiveTables[removeOpenMeta] = removeOpenMetadataFields.Names()
	archiveTables[getOpenMeta] = getOpenMetadataFields.Names()
}

// openPairs are a channel's pairs: key=value owner shouldAutoDelete.
func (w *world) openPairs(rest string) string {
	w.t.Helper()
	type pair struct {
		Key, Value, MetadataOwnerID string
		ShouldAutoDelete            int
		UpdatedAt                   int64
	}
	var list []string
	for _, p := range ok[struct{ Metadata []pair }](w.t, w.call(getOpenMeta, `{"channelId":"c"`+rest+`}`)).Metadata {
		list = append(list, fmt.Sprintf("%s=%s %s %d +%d", p.Key, p.Value, p.MetadataOwnerID, p.ShouldAutoDelete, (p.UpdatedAt-start)/1000))
	}
	return strings.Join(list, ", ")
}

var start = time.Date(2026, 11, 22, 4, 0, 0, 0, time.UTC).UnixMilli()

func (w *world) wantOpenPairs(want string) {
	w.t.Helper()
	if got := w.openPairs(""); got != want {
		w.t.Errorf("there are %s\nwant      %s", got, want)
	}
}

// A guest is somebody in a room, and heard what was said there of pairs.
type guest struct {
	room.Place
	user  string
	heard *heard
}

type heard struct {
	mu   sync.Mutex
	news []string
}

func (g *guest) User() string      { return g.user }
func (g *guest) Evict(room.Reason) {}
func (g *guest) Deliver(b *room.Batch, after uint64) bool {
	g.heard.mu.Lock()
	defer g.heard.mu.Unlock()
	for _, p := range b.Since(after) {
		if ev := p.Message.Event; ev != nil && ev.Kind == chat.EventPairs {
			set, _ := json.Marshal(ev.Set)
			g.heard.news = append(g.heard.news, fmt.Sprintf("%s%v by %s", set, ev.Removed, ev.Operator))
		}
	}
	return false
}

// want waits until this was heard and nothing else.
func (h *heard) want(t *testing.T, want ...string) {
	t.Helper()
	news := func() string {
		h.mu.Lock()
		defer h.mu.Unlock()
		return strings.Join(h.news, "; ")
	}
	for end := time.Now().Add(time.Minute); news() != strings.Join(want, "; "); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("heard %s\nwant %s", news(), strings.Join(want, "; "))
		}
	}
}

func TestOpenMetadata(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(getOpenMeta, `{"channelId":"c"}`).want(t, 400, 1003, "channelId: no such open channel")
	w.call(removeOpenMeta, `{"channelId":"c","metadataOwnerId":"u1","metadataKeys":["a"]}`).want(t, 400, 1003, "channelId: no such open channel")
	said := new(heard)
	enter := func(users ...string) {
		for _, u := range users {
			w.rooms.Enter(room.Key{App: w.app.ID, Channel: "c"}, &guest{user: u, heard: said}, nil, "")
		}
	}
	enter("g")

	ok[nothing](t, w.call(setOpenMeta, `{"channelId":"c","metadataOwnerId":"u1","metadata":{"b":"2","a":"1"}}`))
	w.wantOpenPairs("a=1 u1 0 +0, b=2 u1 0 +0")
	w.clock.advance(time.Second)
	// The same again changes nothing; another owner's is taken over.
	ok[nothing](t, w.call(setOpenMeta, `{"channelId":"c","metadataOwnerId":"u1","metadata":{"b":"2"}}`))
	ok[nothing](t, w.call(setOpenMeta, `{"channelId":"c","metadataOwnerId":"u2","metadata":{"a":"1","c":{"n":1}},"shouldAutoDelete":1}`))
	w.wantOpenPairs(`a=1 u2 1 +1, b=2 u1 0 +0, c={"n":1} u2 1 +1`)
	if got := w.openPairs(`,"metadataKeys":["c","no","b","c"]`); got != `b=2 u1 0 +0, c={"n":1} u2 1 +1` {
		t.Errorf("named are %s", got)
	}
	ok[nothing](t, w.call(removeOpenMeta, `{"channelId":"c","metadataOwnerId":"u3","metadataKeys":["b","no"]}`))
	ok[nothing](t, w.call(removeOpenMeta, `{"channelId":"c","metadataOwnerId":"u3","metadataKeys":["b"]}`))
	told := []string{`{"a":"1","b":"2"}[] by u1`, `{"a":"1","c":"{\"n\":1}"}[] by u2`, `{}[b] by u3`}
	said.want(t, told...)

	// To make a channel that is there tells of what it has more.
	ok[nothing](t, w.call("/v4/open-channel/create", `{"channelId":"c","metadataOwnerId":"u2","metadata":{"d":"1"}}`))
	told = append(told, `{"d":"1"}[] by u2`)
	ok[nothing](t, w.call(removeOpenMeta, `{"channelId":"c","metadataOwnerId":"u2","metadataKeys":["d"]}`))
	told = append(told, `{}[d] by u2`)

	// u2 is not there, so the pairs stay until they were.
	for range 2 {
		w.restart()
		w.wantOpenPairs(`a=1 u2 1 +1, c={"n":1} u2 1 +1`)
	}
	enter("u2")
	w.wantOpenPairs(`a=1 u2 1 +1, c={"n":1} u2 1 +1`)

	// A stop of the server is no leaving, and the owner has 30 seconds to come back.
	w.clock.advance(time.Second)
	w.restart()
	w.clock.advance(29 * time.Second)
	w.wantOpenPairs(`a=1 u2 1 +1, c={"n":1} u2 1 +1`)
	enter("u2")
	w.wantOpenPairs(`a=1 u2 1 +1, c={"n":1} u2 1 +1`)
	w.clock.advance(time.Hour)
	w.wantOpenPairs(`a=1 u2 1 +1, c={"n":1} u2 1 +1`)
	w.restart()
	ok[nothing](t, w.call(setOpenMeta, `{"channelId":"c","metadataOwnerId":"u2","metadata":{"a":"1"},"shouldAutoDelete":1}`)) // as it is
	w.clock.advance(30 * time.Second)
	enter("g")
	w.wantOpenPairs("")
	said.want(t, append(told, `{}[a c] by u2`)...)
}

func TestOpenMetadataRefuses(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.open-metadata", "30/h")
	pairs := func(n int, from int) string {
		var list []string
		for i := range n {
			list = append(list, fmt.Sprintf(`"k%d":"v"`, from+i))
		}
		return `{"channelId":"c","metadataOwnerId":"u","metadata":{` + strings.Join(list, ",") + `}}`
	}
	for _, tt := range []struct {
		path, body string
		code       int
		message    string
	}{
		{setOpenMeta, `{"metadataOwnerId":"u","metadata":{"a":"1"}}`, 1002, "channelId: is required"},
		{setOpenMeta, `{"channelId":"c","metadata":{"a":"1"}}`, 1002, "metadataOwnerId: is required"},
		{setOpenMeta, `{"channelId":"c","metadataOwnerId":"u"}`, 1002, "metadata: is required"},
		{setOpenMeta, `{"channelId":"c","metadataOwnerId":"u","metadata":[]}`, 1002, "metadata: must be an object, got an array"},
		{setOpenMeta, `{"channelId":"c","metadataOwnerId":"u","metadata":{"a b":"1"}}`, 1002, `metadata key: "a b" may hold only letters, digits and + = - _`},
		{setOpenMeta, `{"channelId":"c","metadataOwnerId":"u","metadata":{"a":"` + strings.Repeat("x", 4097) + `"}}`, 1005, "metadata.a: at most 4096 characters, got 4097"},
		{setOpenMeta, pairs(21, 0), 1002, "metadata: at most 20 pairs, got 21"},
		{removeOpenMeta, `{"channelId":"c","metadataOwnerId":"u"}`, 1002, "metadataKeys: is required"},
		{removeOpenMeta, `{"channelId":"c","metadataOwnerId":"u","metadataKeys":["a","é"]}`, 1002, `metadataKeys[1]: "é" may hold only letters, digits and + = - _`},
		{getOpenMeta, `{"channelId":"c","metadataKeys":[""]}`, 1002, "metadataKeys[0]: must not be empty"},
	} {
		w.call(tt.path, tt.body).want(t, 400, tt.code, tt.message)
	}
	// The limit counts pairs, set and removed together. What is refused cost nothing.
	ok[nothing](t, w.call(setOpenMeta, pairs(20, 0)))
	w.call(setOpenMeta, pairs(11, 20)).want(t, 429, 1008, "over the limit of 30/h: 11 asked, 10 left")
	ok[nothing](t, w.call(removeOpenMeta, `{"channelId":"c","metadataOwnerId":"u","metadataKeys":["k1","k2"]}`))
	w.call(setOpenMeta, pairs(9, 20)).want(t, 429, 1008, "over the limit of 30/h: 9 asked, 8 left")

	w.set("limits.open-metadata", "0")
	for i := range 5 {
		ok[nothing](t, w.call(setOpenMeta, pairs(20, 20*i)))
	}
	was := w.openPairs("")
	w.call(setOpenMeta, pairs(2, 99)).want(t, 400, 1002, "an open channel has at most 100 pairs, these would make it 101")
	w.wantOpenPairs(was)

	w.set("open.strict", "true")
	strict := `{"channelId":"none","metadataOwnerId":"u","metadata":{"a":"1"}}`
	w.call(setOpenMeta, strict).want(t, 400, 1003, "channelId: no such open channel")
	w.set("open.strict", "false")
	ok[nothing](t, w.call(setOpenMeta, strict))
}
