package serverapi

import (
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

func token(t *testing.T, r *reply) string {
	t.Helper()
	var v struct {
		Result struct {
			UserID      string `json:"userId"`
			AccessToken string `json:"accessToken"`
		} `json:"result"`
	}
	if err := json.Unmarshal([]byte(r.Body), &v); err != nil || r.Status != 200 || v.Result.AccessToken == "" {
		t.Fatalf("%v: %d %s", err, r.Status, r.Body)
	}
	return v.Result.AccessToken
}

func TestUsersAndTokens(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.call(issue, `{"userId":"u\"1","name":"Ann <&> Ö","avatarUrl":"https://example.com/a.png"}`)
	tok := token(t, first)
	golden(t, "issue", strings.Replace(first.Body, tok, "TOKEN", 1))
	golden(t, "user", w.call(user, `{"userId":"u\"1"}`).Body)
	golden(t, "status-offline", w.call(status, `{"userId":"u\"1"}`).Body)
	w.said.online[strconv.Itoa(int(w.app.ID))+`/u"1`] = true
	golden(t, "status-online", w.call(status, `{"userId":"u\"1"}`).Body)

	// Issuing again keeps the date, changes the name, and voids nothing.
	w.clock.advance(time.Hour)
	again := token(t, w.call(issue, `{"userId":"u\"1","name":"Ann B","avatarUrl":null}`))
	golden(t, "user-renamed", w.call(user, `{"userId":"u\"1"}`).Body)
	for _, tok := range []string{tok, again} {
		if _, err := w.dir.Verify(t.Context(), tok); err != nil {
			t.Error(err)
		}
	}

	// Voiding the first leaves the second, also after a restart.
	cut := strconv.FormatInt(w.clock.ms.Load(), 10)
	golden(t, "expire", w.call(expire, `{"userIds":["u\"1","nobody"],"expiresAt":"`+cut+`"}`).Body)
	id := strconv.Itoa(int(w.app.ID))
	if want := []string{id + `/u"1/` + cut, id + "/nobody/" + cut}; !slices.Equal(w.said.expired, want) {
		t.Errorf("connections of %v were to be closed, want %v", w.said.expired, want)
	}
	w.restart()
	if _, err := w.dir.Verify(t.Context(), tok); !errors.Is(err, &chat.Error{Kind: chat.KindTokenExpired}) {
		t.Error(err)
	}
	if _, err := w.dir.Verify(t.Context(), again); err != nil {
		t.Error(err)
	}
	w.call(user, `{"userId":"nobody"}`).want(t, 400, 400, "userId: no such user")
}

func TestUsersRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	future := strconv.FormatInt(w.clock.ms.Load()+1, 10)
	for _, c := range []struct {
		path, body string
		code       int
		message    string
	}{
		{issue, `{}`, 1002, "userId: is required"},
		{issue, `{"userId":7,"name":"n"}`, 1002, "userId: must be a string, got 7"},
		{issue, `{"userId":"a b","name":"n"}`, 1002, "userId: must not contain spaces or control characters"},
		{issue, `{"userId":"` + strings.Repeat("u", 65) + `","name":"n"}`, 1002, "userId: at most 64 bytes, got 65"},
		{issue, `{"userId":"u"}`, 1002, "name: is required"},
		{issue, `{"userId":"u","name":""}`, 1002, "name: is required"},
		{issue, `{"userId":"u","name":"` + strings.Repeat("n", 129) + `"}`, 1005, "name: at most 128 bytes, got 129"},
		{issue, `{"userId":"u","name":"n","avatarUrl":{}}`, 1002, "avatarUrl: must be a string, got an object"},
		{issue, `{"userId":"u","name":"n","avatarUrl":"` + strings.Repeat("a", 1025) + `"}`, 1005, "avatarUrl: at most 1024 bytes, got 1025"},
		{expire, `{"expiresAt":1}`, 1002, "userIds: is required"},
		{expire, `{"userIds":[],"expiresAt":1}`, 1002, "userIds: is required"},
		{expire, `{"userIds":"u","expiresAt":1}`, 1002, "userIds: must be an array of strings, got a string"},
		{expire, `{"userIds":` + ids(1001) + `,"expiresAt":1}`, 1002, "userIds: at most 1000 items, got 1001"},
		{expire, `{"userIds":["u",""],"expiresAt":1}`, 1002, "userIds[1]: is required"},
		{expire, `{"userIds":["u"]}`, 1002, "expiresAt: is required"},
		{expire, `{"userIds":["u"],"expiresAt":null}`, 1002, "expiresAt: is required"},
		{expire, `{"userIds":["u"],"expiresAt":"now"}`, 1002, `expiresAt: must be a whole number, got "now"`},
		{expire, `{"userIds":["u"],"expiresAt":0}`, 1002, "expiresAt: must be a time in Unix milliseconds"},
		{expire, `{"userIds":["u"],"expiresAt":` + future + `}`, 1002, ""},
		{user, `{}`, 1002, "userId: is required"},
		{user, `{"userId":["u"]}`, 1002, "userId: must be a string, got an array"},
		{user, `{"userId":"u"}`, 400, "userId: no such user"},
		{status, `{}`, 1002, "userId: is required"},
		{status, `{"userId":"a b"}`, 1002, "userId: must not contain spaces or control characters"},
	} {
		w.call(c.path, c.body).want(t, 400, c.code, c.message)
	}
	if len(w.said.expired) != 0 {
		t.Error("a refused call closed connections:", w.said.expired)
	}
}

// The document and the table of operations have the same operations, and the
// fields of each are those that are read.
func TestDocumentIsComplete(t *testing.T) {
	t.Parallel()
	doc, err := loadDocument()
	if err != nil {
		t.Fatal(err)
	}
	tables := map[string][]string{
		direct: directFields.Names(), system: systemFields.Names(), open: openFields.Names(),
		issue: issueFields.Names(), expire: expireFields.Names(), user: userFields.Names(), status: userFields.Names(),
		modify: updateFields.Names(), ban: banFields.Names(), unban: unbanFields.Names(), banned: pageFields.Names(),
		mute: muteFields.Names(), muted: mutedFields.Names(),
		softDelete: deletionFields.Names(), restore: deletionFields.Names(), deleted: pageFields.Names(),
		block: blockFields.Names(), unblock: unblockFields.Names(), blocklist: blocklistFields.Names(),
		tracePath: traceFields.Names(), setTags: setTagsFields.Names(), getTags: getTagsFields.Names(),
		castAll: broadcastAllFields.Names(), castOnline: broadcastOnlineFields.Names(), castRecall: recallBroadcastFields.Names(),
		byTag: pushFields.Names(), byPackage: pushFields.Names(),
	}
	maps.Copy(tables, openTables())
	maps.Copy(tables, archiveTables)
	for path, item := range doc.Paths.Map() {
		if !strings.HasPrefix(path, "/v4") {
			continue
		}
		i := slices.IndexFunc(operations, func(o operation) bool { return o.path == path })
		if i < 0 || len(item.Operations()) != 1 || item.Post == nil {
			t.Errorf("%s is described but not served", path)
			continue
		}
		o := operations[i]
		if item.Post.OperationID != o.name {
			t.Errorf("%s is %s in the document and %s in the table", path, item.Post.OperationID, o.name)
		}
		got := slices.Sorted(maps.Keys(item.Post.RequestBody.Value.Content.Get("application/json").Schema.Value.Properties))
		want := slices.Sorted(slices.Values(tables[path]))
		if !slices.Equal(got, want) {
			t.Errorf("%s: the document has the fields %v, the table %v", path, got, want)
		}
		key := item.Post.Parameters.GetByInAndName("header", idempotencyKey) != nil
		if key != o.idempotent || (item.Post.Responses.Value("409") != nil) != o.idempotent {
			t.Errorf("%s: Idempotency-Key and 409 in the document: %t, in the table: %t", path, key, o.idempotent)
		}
	}
	for _, o := range operations {
		if doc.Paths.Value(o.path) == nil {
			t.Errorf("%s is served but not described", o.path)
		}
	}
	for _, path := range []string{"/healthz", "/readyz", "/metrics", "/openapi.yaml"} {
		if doc.Paths.Value(path) == nil {
			t.Errorf("%s is not described", path)
		}
	}
	// Both spellings of the signing headers.
	if n := len(doc.Security); n != 2 {
		t.Errorf("%d ways to sign", n)
	}
}

// The checks against the document would notice a wrong answer.
func TestDocumentIsStrict(t *testing.T) {
	t.Parallel()
	h := http.Header{
		"App-Key": {"k"}, "Nonce": {"1"}, "Timestamp": {"1"}, "Signature": {"s"}, "Content-Type": {"application/json"},
	}
	answer := func(status int, body string) *reply {
		return &reply{status, http.Header{"Content-Type": contentType, "X-Request-Id": {"r"}}, body}
	}
	const fine = `{"code":0,"result":{"messageUIDs":[],"messageIds":[]}}`
	if err := validate("POST", direct, h, sendBody(""), answer(200, fine)); err != nil {
		t.Fatal(err)
	}
	for _, r := range []*reply{
		answer(200, `{"code":0}`), answer(200, `{"code":200,"result":{"messageUIDs":[],"messageIds":[]}}`),
		answer(200, `{"code":0,"result":{"messageUIDs":[{"userId":"u","messageUID":"x"}],"messageIds":[]}}`),
		answer(200, `{"code":0,"result":{"messageUIDs":[],"messageIds":[],"more":1}}`),
		answer(400, `{"code":1002}`), answer(400, `{"code":7,"errorMessage":"x"}`), answer(418, `{"code":1002,"errorMessage":"x"}`),
		answer(429, `{"code":1008,"errorMessage":"x"}`), {200, http.Header{"Content-Type": contentType}, fine},
	} {
		if err := validate("POST", direct, h, sendBody(""), r); err == nil {
			t.Errorf("%d %s passed", r.Status, r.Body)
		}
	}
	for _, body := range []string{"{}", sendBody(`"count":10000`), sendBody(`"isEchoToSender":2`), set(sendBody(""), "toUserIds", ids(1001))} {
		if err := validate("POST", direct, h, body, answer(200, fine)); err == nil {
			t.Errorf("%.100s passed", body)
		}
	}
	if err := validate("POST", direct, http.Header{"Content-Type": {"application/json"}}, sendBody(""), answer(200, fine)); err == nil {
		t.Error("an unsigned request passed")
	}
}

// The manual speaks of every path and field.
func TestManualIsComplete(t *testing.T) {
	t.Parallel()
	manual, err := os.ReadFile("../../docs/server-api.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range operations {
		if !strings.Contains(string(manual), "`POST "+o.path+"`") {
			t.Errorf("%s is missing", o.path)
		}
	}
	for _, names := range [][]string{directFields.Names(), systemFields.Names(), openFields.Names(), issueFields.Names(), expireFields.Names(), userFields.Names(),
		updateFields.Names(), banFields.Names(), pageFields.Names(), muteFields.Names(), mutedFields.Names(), blockFields.Names(),
		unblockFields.Names(), blocklistFields.Names(), traceFields.Names(), setTagsFields.Names(), getTagsFields.Names(),
		broadcastAllFields.Names(), broadcastOnlineFields.Names(), recallBroadcastFields.Names(), pushFields.Names(),
		audienceFields.Names(), pushedFields.Names(), noticeFields.Names(), slices.Concat(slices.Collect(maps.Values(openTables()))...)} {
		for _, name := range names {
			if !strings.Contains(string(manual), "`"+name+"`") {
				t.Errorf("%s is missing", name)
			}
		}
	}
}
