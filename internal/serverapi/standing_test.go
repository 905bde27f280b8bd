package serverapi

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// ok fails unless the call was done, and gives the answer's result.
func ok[T any](t *testing.T, r *reply) (result T) {
	t.Helper()
	var v struct {
		Code   *int `json:"code"`
		Result T    `json:"result"`
	}
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 200 || v.Code == nil || *v.Code != 0 {
		t.Fatalf("%v: %d %s", err, r.Status, r.Body)
	}
	return v.Result
}

type nothing struct{}

func list(ids ...string) string {
	b, err := json.Marshal(ids)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func (w *world) saidOf(user, what string) string {
	return strconv.Itoa(int(w.app.ID)) + "/" + user + "/" + what
}

func TestUpdateUser(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	token(t, w.call(issue, `{"userId":"ann","name":"Ann","avatarUrl":"https://example.com/a.png"}`))
	get := func() string { return w.call(user, `{"userId":"ann"}`).Body }
	created := `,"createdAt":"2026-11-22 04:00:00"}}`
	w.clock.advance(time.Hour)
	for _, c := range []struct{ body, name, avatar string }{
		{`{"userId":"ann"}`, "Ann", "https://example.com/a.png"},
		{`{"userId":"ann","name":"Ann B"}`, "Ann B", "https://example.com/a.png"},
		{`{"userId":"ann","name":null,"avatarUrl":"https://example.com/b.png"}`, "Ann B", "https://example.com/b.png"},
		{`{"userId":"ann","avatarUrl":""}`, "Ann B", ""},
		{`{"userId":"ann","name":"A","avatarUrl":"x"}`, "A", "x"},
	} {
		r := w.call(modify, c.body)
		if r.Body != `{"code":0}` {
			t.Fatalf("%s: %s", c.body, r.Body)
		}
		if got, want := get(), `{"code":0,"result":{"name":"`+c.name+`","avatarUrl":"`+c.avatar+`"`+created; got != want {
			t.Errorf("after %s: %s, want %s", c.body, got, want)
		}
	}
	w.restart()
	if !strings.Contains(get(), `"name":"A","avatarUrl":"x"`) {
		t.Error("after a restart:", get())
	}
	// Who was only banned is not a user yet.
	ok[nothing](t, w.call(ban, `{"userIds":["eve"],"durationMinutes":5}`))
	for _, c := range []struct {
		body    string
		code    int
		message string
	}{
		{`{"userId":"nobody","name":"n"}`, 400, "userId: no such user"},
		{`{"userId":"eve"}`, 400, "userId: no such user"},
		{`{"name":"n"}`, 1002, "userId: is required"},
		{`{"userId":"ann","name":""}`, 1002, "name: is required"},
		{`{"userId":"ann","name":"` + strings.Repeat("n", 129) + `"}`, 1005, "name: at most 128 bytes, got 129"},
		{`{"userId":"ann","avatarUrl":"` + strings.Repeat("a", 1025) + `"}`, 1005, "avatarUrl: at most 1024 bytes, got 1025"},
		{`{"userId":"ann","name":7}`, 1002, "name: must be a string, got 7"},
	} {
		w.call(modify, c.body).want(t, 400, c.code, c.message)
	}
}

func TestBans(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tok := token(t, w.call(issue, `{"userId":"ann","name":"Ann"}`))
	type row struct {
		UserID string `json:"userId"`
		Until  string `json:"banExpiresAt"`
	}
	listed := func(body string) []row {
		t.Helper()
		return ok[struct {
			BannedUsers []row `json:"bannedUsers"`
		}](t, w.call(banned, body)).BannedUsers
	}
	want := func(body string, want ...row) {
		t.Helper()
		if got := listed(body); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", body, got, want)
		}
	}
	if r := w.call(banned, `{}`); r.Body != `{"code":0,"result":{"bannedUsers":[]}}` {
		t.Error(r.Body)
	}
	if r := w.call(ban, `{"userIds":["ann","u\"1"],"durationMinutes":"60"}`); r.Body != `{"code":0}` {
		t.Error(r.Body)
	}
	ok[nothing](t, w.call(ban, `{"userIds":["bob"],"durationMinutes":43200}`))
	ok[nothing](t, w.call(ban, `{"userIds":["carl"],"durationMinutes":1}`))
	if want := []string{w.saidOf("ann", "banned"), w.saidOf(`u"1`, "banned"), w.saidOf("bob", "banned"), w.saidOf("carl", "banned")}; !slices.Equal(w.said.shut, want) {
		t.Errorf("connections of %v were to be closed, want %v", w.said.shut, want)
	}
	hour, month := "2026-11-22 05:00:00", "2026-12-22 04:00:00"
	all := []row{{"bob", month}, {"ann", hour}, {`u"1`, hour}, {"carl", "2026-11-22 04:01:00"}}
	want(`{}`, all...)
	want(`{"page":1,"pageSize":2}`, all[:2]...)
	want(`{"page":"2","pageSize":"3"}`, all[3:]...)
	want(`{"page":3,"pageSize":2}`)
	if _, err := w.dir.Verify(t.Context(), tok); chat.KindOf(err) != chat.KindBanned {
		t.Errorf("the token of a banned user: %v", err)
	}
	w.clock.advance(time.Minute)
	w.restart()
	want(`{}`, all[:3]...)
	ok[nothing](t, w.call(unban, `{"userIds":["bob","u\"1","nobody","bob"]}`))
	want(`{}`, all[1])
	ok[nothing](t, w.call(unban, `{"userIds":["ann"]}`))
	want(`{}`)
	if _, err := w.dir.Verify(t.Context(), tok); err != nil {
		t.Errorf("the token after the ban: %v", err)
	}
	// A ban never keeps the backend from sending.
	ok[nothing](t, w.call(ban, `{"userIds":["2191","2193"],"durationMinutes":5}`))
	w.call(direct, sendBody("")).want(t, 200, 0, "")
}

func TestMutes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	type page struct {
		Total *int     `json:"totalCount"`
		IDs   []string `json:"mutedUserIds"`
	}
	want := func(body string, total int, ids ...string) {
		t.Helper()
		if p := ok[page](t, w.call(muted, body)); p.Total == nil || *p.Total != total || !slices.Equal(p.IDs, ids) {
			t.Errorf("%s: %v, want %v of %d", body, p, ids, total)
		}
	}
	if r := w.call(muted, `{"channelType":"PERSON"}`); r.Body != `{"code":0,"result":{"totalCount":0,"mutedUserIds":[]}}` {
		t.Error(r.Body)
	}
	// The published example, and the form with one type as text.
	if r := w.call(mute, `{"userIds":["u1"],"muteState":1,"channelTypes":["PERSON","GROUP"]}`); r.Body != `{"code":0}` {
		t.Error(r.Body)
	}
	w.clock.advance(time.Second)
	ok[nothing](t, w.call(mute, `{"userIds":["u3","u2"],"muteState":"1","channelType":"CHATROOM"}`))
	ok[nothing](t, w.call(mute, `{"userIds":["b","a"],"muteState":true,"channelTypes":["PERSON"],"channelType":"PERSON"}`))
	w.clock.advance(time.Second)
	ok[nothing](t, w.call(mute, `{"userIds":["u1","c"],"muteState":1,"channelTypes":["PERSON"],"channelType":"CHATROOM"}`))
	for range 2 {
		want(`{"channelType":"PERSON"}`, 4, "u1", "a", "b", "c")
		want(`{"channelType":"PERSON","offset":1,"pageSize":2}`, 4, "a", "b")
		want(`{"channelType":"PERSON","offset":"4"}`, 4)
		want(`{"channelType":"GROUP"}`, 1, "u1")
		want(`{"channelType":"CHATROOM"}`, 4, "u2", "u3", "c", "u1")
		w.restart()
	}
	ok[nothing](t, w.call(mute, `{"userIds":["u1","nobody"],"muteState":0,"channelTypes":["PERSON","CHATROOM"]}`))
	want(`{"channelType":"PERSON"}`, 3, "a", "b", "c")
	want(`{"channelType":"GROUP"}`, 1, "u1")
	many := ids(150)
	ok[nothing](t, w.call(mute, `{"userIds":`+many+`,"muteState":1,"channelType":"GROUP"}`))
	if p := ok[page](t, w.call(muted, `{"channelType":"GROUP"}`)); *p.Total < 150 || len(p.IDs) != 100 {
		t.Errorf("%d of %d muted users without a page size", len(p.IDs), *p.Total)
	}
}

func TestSoftDeletion(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tokens := map[string]string{}
	for _, u := range []string{"ann", "bob", "carl"} {
		tokens[u] = token(t, w.call(issue, `{"userId":"`+u+`","name":"N"}`))
	}
	want := func(body string, ids ...string) {
		t.Helper()
		got := ok[struct {
			UserIDs []string `json:"userIds"`
		}](t, w.call(deleted, body)).UserIDs
		if !slices.Equal(got, ids) {
			t.Errorf("%s: %v, want %v", body, got, ids)
		}
	}
	if r := w.call(deleted, `{}`); r.Body != `{"code":0,"result":{"userIds":[]}}` {
		t.Error(r.Body)
	}
	r := w.call(softDelete, `{"userIds":["carl"]}`, with("X-Request-Id", "r-1"))
	if r.Body != `{"code":0,"result":{"operationId":"r-1"}}` {
		t.Error(r.Body)
	}
	w.clock.advance(time.Second)
	ok[nothing](t, w.call(softDelete, `{"userIds":["bob","ann","carl"]}`))
	want(`{}`, "carl", "ann", "bob")
	want(`{"page":2,"pageSize":2}`, "bob")
	if want := []string{w.saidOf("carl", "deleted"), w.saidOf("bob", "deleted"), w.saidOf("ann", "deleted"), w.saidOf("carl", "deleted")}; !slices.Equal(w.said.shut, want) {
		t.Errorf("connections of %v were to be closed, want %v", w.said.shut, want)
	}
	// All or none.
	w.call(softDelete, `{"userIds":["ann","nobody"]}`).want(t, 400, 400, "userIds[1]: no such user")
	w.call(restore, `{"userIds":["ann","nobody"]}`).want(t, 400, 400, "userIds[1]: no such user")
	w.restart()
	want(`{}`, "carl", "ann", "bob")
	if _, err := w.dir.Verify(t.Context(), tokens["ann"]); chat.KindOf(err) != chat.KindDeleted {
		t.Errorf("the token of a deleted user: %v", err)
	}
	// A new token is as good as the old ones: good once the user is restored.
	token(t, w.call(issue, `{"userId":"ann","name":"Ann"}`))
	if ok[struct {
		ID string `json:"operationId"`
	}](t, w.call(restore, `{"userIds":["ann","carl"]}`)).ID == "" {
		t.Error("no operationId")
	}
	want(`{}`, "bob")
	if _, err := w.dir.Verify(t.Context(), tokens["ann"]); err != nil {
		t.Errorf("the token of a restored user: %v", err)
	}
	ok[nothing](t, w.call(restore, `{"userIds":["ann"]}`))
	// The limit counts users.
	w.set("limits.default", "3/m")
	w.call(softDelete, `{"userIds":["ann","bob"]}`).want(t, 200, 0, "")
	w.call(softDelete, `{"userIds":["ann","bob"]}`).want(t, 429, 1008, "")
	w.call(softDelete, `{"userIds":["a","b","c","d"]}`).want(t, 400, 1002, "")
}

func TestBlocklists(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.set("limits.default", "0")
	type page struct {
		Token *string  `json:"pageToken"`
		Next  *string  `json:"next"`
		IDs   []string `json:"blockedUserIds"`
	}
	read := func(body string) (ids []string, next string) {
		t.Helper()
		p := ok[page](t, w.call(blocklist, body))
		if p.Token == nil || p.Next == nil || *p.Token != *p.Next {
			t.Fatalf("%s: the two names of the cursor: %+v", body, p)
		}
		return p.IDs, *p.Token
	}
	if r := w.call(blocklist, `{"userId":"ann"}`); r.Body != `{"code":0,"result":{"pageToken":"","next":"","blockedUserIds":[]}}` {
		t.Error(r.Body)
	}
	if r := w.call(block, `{"userId":"ann","targetUserIds":["zoe","u\"1","zoe"]}`); r.Body != `{"code":0}` {
		t.Error(r.Body)
	}
	ok[nothing](t, w.call(block, `{"userId":"ann","targetUserIds":["abe","zoe"]}`))
	for range 2 {
		if ids, next := read(`{"userId":"ann"}`); !slices.Equal(ids, []string{"zoe", `u"1`, "abe"}) || next != "" {
			t.Errorf("%v, then %q", ids, next)
		}
		if ids, _ := read(`{"userId":"ann","order":"1"}`); !slices.Equal(ids, []string{"abe", `u"1`, "zoe"}) {
			t.Errorf("last first: %v", ids)
		}
		w.restart()
	}
	// A page goes on where the one before ended, whatever happens to the list.
	ids, next := read(`{"userId":"ann","pageSize":2}`)
	if len(ids) != 2 || next == "" {
		t.Fatalf("%v, then %q", ids, next)
	}
	ok[nothing](t, w.call(unblock, `{"userId":"ann","blockedUserIds":["zoe","u\"1","nobody"]}`))
	ok[nothing](t, w.call(block, `{"userId":"ann","targetUserIds":["max"]}`))
	if ids, next := read(`{"userId":"ann","pageSize":2,"pageToken":"` + next + `"}`); !slices.Equal(ids, []string{"abe", "max"}) || next != "" {
		t.Errorf("%v, then %q", ids, next)
	}

	// Up to 3000, and pages of 1000 unless asked for others.
	for i := 0; i < 2998; i += 20 {
		var some []string
		for j := i; j < min(i+20, 2998); j++ {
			some = append(some, fmt.Sprint("m", j))
		}
		ok[nothing](t, w.call(block, `{"userId":"ann","targetUserIds":`+list(some...)+`}`))
	}
	w.call(block, `{"userId":"ann","targetUserIds":["max","onemore"]}`).want(t, 400, 1002, "blocklist: at most 3000 users, got 3001")
	w.call(block, `{"userId":"ann","targetUserIds":["max","m7"]}`).want(t, 200, 0, "")
	seen, token := map[string]bool{}, ""
	for pages := 1; ; pages++ {
		ids, next := read(`{"userId":"ann","pageToken":"` + token + `"}`)
		for _, id := range ids {
			seen[id] = true
		}
		if next == "" {
			if pages != 3 || len(seen) != 3000 {
				t.Errorf("%d users in %d pages", len(seen), pages)
			}
			break
		}
		token = next
	}
}

// verifyBlocklist leaves out those between whom and the sender there is a
// block, and a repeat is answered as the first call was.
func TestVerifyBlocklist(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ok[nothing](t, w.call(block, `{"userId":"bob","targetUserIds":["ann"]}`))
	ok[nothing](t, w.call(block, `{"userId":"ann","targetUserIds":["carl"]}`))
	body := func(verify string, to ...string) string {
		return `{"fromUserId":"ann","toUserIds":` + list(to...) + `,"messageType":"app:x","content":"x","verifyBlocklist":` + verify + `}`
	}
	type sent struct {
		UIDs []struct{ UserID string } `json:"messageUIDs"`
		IDs  []struct{ UserID string } `json:"messageIds"`
	}
	names := func(r *reply) (ids []string) {
		t.Helper()
		s := ok[sent](t, r)
		if len(s.UIDs) != len(s.IDs) {
			t.Errorf("the two lists differ: %s", r.Body)
		}
		for _, u := range s.UIDs {
			ids = append(ids, u.UserID)
		}
		return ids
	}
	to := []string{"dora", "bob", "carl", "erin"}
	if got := names(w.call(direct, body("0", to...))); !slices.Equal(got, to) {
		t.Errorf("without the switch: %v", got)
	}
	key, none := with("Idempotency-Key", "k1"), with("Idempotency-Key", "k2")
	first := w.call(direct, body("1", to...), key)
	if got := names(first); !slices.Equal(got, []string{"dora", "erin"}) {
		t.Errorf("with the switch: %v", got)
	}
	const empty = `{"code":0,"result":{"messageUIDs":[],"messageIds":[]}}`
	if r := w.call(direct, body("1", "bob", "carl")); r.Status != 200 || r.Body != empty {
		t.Errorf("everybody left out: %d %s", r.Status, r.Body)
	}
	if r := w.call(direct, body("1", "bob", "carl"), none); r.Status != 200 || r.Body != empty {
		t.Errorf("everybody left out, with a key: %d %s", r.Status, r.Body)
	}
	ok[nothing](t, w.call(unblock, `{"userId":"bob","blockedUserIds":["ann"]}`))
	ok[nothing](t, w.call(block, `{"userId":"dora","targetUserIds":["ann"]}`))
	for range 2 {
		for _, again := range []*reply{w.call(direct, body("1", to...), key), w.call(direct, body("1", "bob", "carl"), none)} {
			if again.Header.Get("Idempotency-Replayed") != "true" || again.Body != first.Body && again.Body != empty {
				t.Errorf("the repeat: %v %s", again.Header, again.Body)
			}
		}
		w.restart()
	}
	for u, want := range map[string]uint64{"bob": 1, "carl": 1, "dora": 2, "erin": 2} {
		if n, err := w.store.Head(t.Context(), w.app.ID, u); err != nil || n != want {
			t.Errorf("%s has %d messages, %v, want %d", u, n, err, want)
		}
	}
}

func TestStandingRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, c := range []struct{ path, body, message string }{
		{ban, `{"durationMinutes":5}`, "userIds: is required"},
		{ban, `{"userIds":[],"durationMinutes":5}`, "userIds: is required"},
		{ban, `{"userIds":["a",""],"durationMinutes":5}`, "userIds[1]: is required"},
		{ban, `{"userIds":` + ids(21) + `,"durationMinutes":5}`, "userIds: at most 20 items, got 21"},
		{ban, `{"userIds":["a"]}`, "durationMinutes: is required"},
		{ban, `{"userIds":["a"],"durationMinutes":0}`, "durationMinutes: from 1 to 43200, got 0"},
		{ban, `{"userIds":["a"],"durationMinutes":43201}`, "durationMinutes: from 1 to 43200, got 43201"},
		{ban, `{"userIds":["a"],"durationMinutes":1.5}`, "durationMinutes: must be a whole number, got 1.5"},
		{unban, `{}`, "userIds: is required"},
		{unban, `{"userIds":` + ids(21) + `}`, "userIds: at most 20 items, got 21"},
		{banned, `{"page":0}`, "page: from 1 to 1048576, got 0"},
		{banned, `{"pageSize":0}`, "pageSize: from 1 to 1000, got 0"},
		{banned, `{"pageSize":1001}`, "pageSize: from 1 to 1000, got 1001"},
		{banned, `{"page":9223372036854775807}`, "page: from 1 to 1048576, got 9223372036854775807"},
		{deleted, `{"page":-1}`, "page: from 1 to 1048576, got -1"},
		{mute, `{"muteState":1,"channelType":"PERSON"}`, "userIds: is required"},
		{mute, `{"userIds":["a"],"channelType":"PERSON"}`, "muteState: is required"},
		{mute, `{"userIds":["a"],"muteState":2,"channelType":"PERSON"}`, "muteState: 0 or 1, got 2"},
		{mute, `{"userIds":["a"],"muteState":1}`, "channelTypes: is required"},
		{mute, `{"userIds":["a"],"muteState":1,"channelTypes":[]}`, "channelTypes: is required"},
		{mute, `{"userIds":["a"],"muteState":1,"channelTypes":["PERSON","person"]}`, `channelTypes[1]: one of PERSON, GROUP, CHATROOM, got "person"`},
		{mute, `{"userIds":["a"],"muteState":1,"channelTypes":["PERSON",""]}`, `channelTypes[1]: is required`},
		{mute, `{"userIds":["a"],"muteState":1,"channelType":"1"}`, `channelType: one of PERSON, GROUP, CHATROOM, got "1"`},
		{mute, `{"userIds":` + ids(1001) + `,"muteState":1,"channelType":"PERSON"}`, "userIds: at most 1000 items, got 1001"},
		{muted, `{}`, "channelType: is required"},
		{muted, `{"channelType":"x"}`, `channelType: one of PERSON, GROUP, CHATROOM, got "x"`},
		{muted, `{"channelType":"PERSON","offset":-1}`, "offset: from 0 to 1073741824, got -1"},
		{muted, `{"channelType":"PERSON","pageSize":1001}`, "pageSize: from 1 to 1000, got 1001"},
		{softDelete, `{}`, "userIds: is required"},
		{softDelete, `{"userIds":` + ids(101) + `}`, "userIds: at most 100 items, got 101"},
		{restore, `{"userIds":["a b"]}`, "userIds[0]: must not contain spaces or control characters"},
		{block, `{"targetUserIds":["a"]}`, "userId: is required"},
		{block, `{"userId":"u"}`, "targetUserIds: is required"},
		{block, `{"userId":"u","blockedUserIds":["a"]}`, "targetUserIds: is required"},
		{block, `{"userId":"u","targetUserIds":["a","u"]}`, "targetUserIds[1]: must be somebody else than the list's owner"},
		{block, `{"userId":"u","targetUserIds":` + ids(21) + `}`, "targetUserIds: at most 20 items, got 21"},
		{unblock, `{"userId":"u","targetUserIds":["a"]}`, "blockedUserIds: is required"},
		{unblock, `{"userId":"u","blockedUserIds":` + ids(1001) + `}`, "blockedUserIds: at most 1000 items, got 1001"},
		{blocklist, `{}`, "userId: is required"},
		{blocklist, `{"userId":"u","pageSize":1001}`, "pageSize: from 1 to 1000, got 1001"},
		{blocklist, `{"userId":"u","order":2}`, "order: one of 0, 1, got 2"},
		{blocklist, `{"userId":"u","pageToken":"-1"}`, "pageToken: must be one that an answer gave"},
	} {
		w.call(c.path, c.body).want(t, http.StatusBadRequest, 1002, c.message)
		w.clock.advance(time.Second) // so that no limit has a say
	}
	if len(w.said.shut) != 0 {
		t.Error("a refused call closed connections:", w.said.shut)
	}
}

// What one app says of its users is neither seen nor changed by another app,
// with any of the operations.
func TestStandingOfAppsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	one, two := w.app, w.newApp("other", "another-secret")
	as := func(app *chat.App, path, body string) string {
		t.Helper()
		return w.do(http.MethodPost, path, w.signed(app), body).Body
	}
	reads := []struct{ path, body string }{
		{user, `{"userId":"ann"}`}, {banned, `{}`}, {muted, `{"channelType":"PERSON"}`}, {deleted, `{}`}, {blocklist, `{"userId":"ann"}`},
		{getTags, `{"userIds":["ann"]}`},
	}
	state := func(app *chat.App) (all []string) {
		t.Helper()
		for _, r := range reads {
			all = append(all, as(app, r.path, r.body))
		}
		return all
	}
	blank := state(two)
	for _, c := range []struct{ path, body string }{
		{issue, `{"userId":"ann","name":"Ann"}`},
		{ban, `{"userIds":["ann"],"durationMinutes":5}`},
		{mute, `{"userIds":["ann"],"muteState":1,"channelType":"PERSON"}`},
		{softDelete, `{"userIds":["ann"]}`},
		{block, `{"userId":"ann","targetUserIds":["bob"]}`},
		{setTags, `{"userIds":["ann"],"tags":["t"]}`},
	} {
		if body := as(one, c.path, c.body); !strings.HasPrefix(body, `{"code":0`) {
			t.Fatal(body)
		}
	}
	if got := state(two); !slices.Equal(got, blank) {
		t.Errorf("the other app sees %v", got)
	}
	before := state(one)
	for i := range before {
		if before[i] == blank[i] {
			t.Errorf("%s has nothing to tell: %s", reads[i].path, before[i])
		}
	}
	for _, c := range []struct{ path, body string }{
		{issue, `{"userId":"ann","name":"Somebody else"}`},
		{modify, `{"userId":"ann","name":"Nobody"}`},
		{unban, `{"userIds":["ann"]}`},
		{mute, `{"userIds":["ann"],"muteState":0,"channelType":"PERSON"}`},
		{restore, `{"userIds":["ann"]}`},
		{unblock, `{"userId":"ann","blockedUserIds":["bob"]}`},
		{setTags, `{"userIds":["ann"],"tags":[]}`},
	} {
		if body := as(two, c.path, c.body); !strings.HasPrefix(body, `{"code":0`) {
			t.Fatal(body)
		}
	}
	if got := state(one); !slices.Equal(got, before) {
		t.Errorf("the other app changed %v to %v", before, got)
	}
	send := `{"fromUserId":"bob","toUserIds":["ann"],"messageType":"app:x","content":"x","verifyBlocklist":1}`
	if body := as(two, direct, send); !strings.Contains(body, "ann") {
		t.Errorf("a block of another app counts: %s", body)
	}
	if body := as(one, direct, send); strings.Contains(body, "ann") {
		t.Errorf("the app's own block does not count: %s", body)
	}
}
