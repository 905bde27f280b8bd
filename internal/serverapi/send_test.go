package serverapi

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

var update = flag.Bool("update", false, "write the golden files anew")

var uidText = regexp.MustCompile(`"(messageUID|messageId)":\s*"[^"]*"`)

// mask takes out of an answer what differs every time.
func mask(s string) string { return uidText.ReplaceAllString(s, `"$1":"UID"`) }

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != strings.TrimSuffix(string(want), "\n") {
		t.Errorf("%s:\n got %s\nwant %s", path, got, want)
	}
}

// The example requests of the three pages, byte for byte, are answered as the
// pages show.
func TestPublishedExamples(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, kind := range []struct{ name, path string }{{"direct", direct}, {"system", system}, {"open", open}} {
		request, err := os.ReadFile("testdata/" + kind.name + ".request.json")
		if err != nil {
			t.Fatal(err)
		}
		r := w.call(kind.path, string(request))
		if r.Status != http.StatusOK || r.Header.Get("Content-Type") != "application/json; charset=utf-8" {
			t.Fatalf("%s: %d %v %s", kind.name, r.Status, r.Header, r.Body)
		}
		golden(t, kind.name, mask(r.Body))

		page, err := os.ReadFile("testdata/" + kind.name + ".answer.json")
		if err != nil {
			t.Fatal(err)
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, page); err != nil {
			t.Fatal(err)
		}
		// The system page's answer does not belong to its request.
		want := strings.NewReplacer("uid1", "2191", "uid2", "2192", "}]}}", "}]").Replace(mask(compact.String()))
		if !strings.HasPrefix(mask(r.Body), want) {
			t.Errorf("%s: got %s\nwhich does not begin as the page's %s", kind.name, mask(r.Body), want)
		}
	}
}

// sendBody is a send to u2 with the given fields on top, as JSON.
func sendBody(fields string) string {
	if fields != "" {
		fields = "," + fields
	}
	return `{"fromUserId":"u1","toUserIds":["u2"],"messageType":"RC:TxtMsg","content":"{\"content\":\"hi\"}"` + fields + `}`
}

func openBody(fields string) string {
	return strings.Replace(sendBody(fields), `"toUserIds"`, `"toChannelIds"`, 1)
}

// Every field of a send reaches the courier.
func TestFieldsArrive(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const ext = `{"title":"you have a new message.","pushConfigs":[{"VIVO":{"classification":"0"}}]}`
	quoted := strconv.Quote(ext)
	all := `"pushContent":"pc","pushData":"pd","isEchoToSender":1,"count":"9999","verifyBlocklist":true,"shouldPersist":0,
		"contentAvailable":"1","hasMetadata":true,"metadata":{"a":"1","b":2,"c":[1, {"x": null}],"d":null,"e":false},
		"disablePush":0,"pushExt":` + quoted + `,"disableUpdateLastMsg":true,"needReadReceipt":1,"priority":2`
	base := chat.Message{
		App: w.app.ID, From: "u1", Type: "RC:TxtMsg", Content: `{"content":"hi"}`, RequestID: "r1",
		Flags: chat.Kept | chat.Counted | chat.Missed | chat.Pushed,
	}
	push := chat.PushOptions{Content: "pc", Data: "pd", Ext: ext, ContentAvailable: true}
	for _, c := range []struct {
		name, path, body string
		want             func(m *chat.Message)
	}{
		{"direct, all", direct, sendBody(all), func(m *chat.Message) {
			m.ChannelType, m.Push = chat.Direct, push
			m.Push.Badge, m.Push.HasBadge = 9999, true
			m.Echo, m.VerifyBlocklist, m.HasMetadata, m.DisableUpdateLast, m.NeedReadReceipt = true, true, true, true, true
			m.Metadata = map[string]string{"a": "1", "b": "2", "c": `[1,{"x":null}]`, "e": "false"}
		}},
		// Fields of the direct page alone are unknown to the others.
		{"system, all", system, sendBody(all), func(m *chat.Message) {
			m.ChannelType, m.Push, m.DisableUpdateLast = chat.System, push, true
		}},
		{"open, all", open, openBody(all), func(m *chat.Message) {
			m.ChannelType, m.Echo, m.Priority = chat.Open, true, chat.PriorityHigh
		}},
		{"system, fields of direct with nonsense", system,
			sendBody(`"isEchoToSender":"x","count":{},"metadata":7,"needReadReceipt":[]`),
			func(m *chat.Message) { m.ChannelType, m.Persist = chat.System, true }},
		{"open, fields of direct with nonsense", open, openBody(`"pushExt":7,"disablePush":"x","toUserIds":3`),
			func(m *chat.Message) { m.ChannelType, m.Persist = chat.Open, true }},
		{"defaults", direct, sendBody(""), func(m *chat.Message) { m.ChannelType, m.Persist = chat.Direct, true }},
		{"null is absent", direct, sendBody(`"shouldPersist":null,"pushContent":null,"count":null,"metadata":null,"hasMetadata":null`),
			func(m *chat.Message) { m.ChannelType, m.Persist = chat.Direct, true }},
		{"the other name of the echo", direct, sendBody(`"isSyncSender":1`),
			func(m *chat.Message) { m.ChannelType, m.Persist, m.Echo = chat.Direct, true, true }},
		{"metadata without hasMetadata is ignored", direct, sendBody(`"metadata":{"bad key!":"1"}`),
			func(m *chat.Message) { m.ChannelType, m.Persist = chat.Direct, true }},
		{"pushExt with disablePush is ignored", direct, sendBody(`"disablePush":true,"pushExt":"no JSON"`),
			func(m *chat.Message) { m.ChannelType, m.Persist, m.Push.Disabled = chat.Direct, true, true }},
		{"count with several recipients is ignored", direct,
			strings.Replace(sendBody(`"count":3`), `["u2"]`, `["u2","u3"]`, 1),
			func(m *chat.Message) { m.ChannelType, m.Persist = chat.Direct, true }},
		{"count with one recipient named twice counts", direct,
			strings.Replace(sendBody(`"count":-1`), `["u2"]`, `["u2","u2"]`, 1),
			func(m *chat.Message) {
				m.ChannelType, m.Persist, m.Push.Badge, m.Push.HasBadge = chat.Direct, true, -1, true
			}},
		{"unknown fields are ignored", direct, sendBody(`"shouldDance":{"deep":[1,2,{"a":null}]},"x":"y"`),
			func(m *chat.Message) { m.ChannelType, m.Persist = chat.Direct, true }},
		{"escapes in names and values", direct,
			`{"\u0066romUserId":"u\u0031","toUserIds":["u2"],"messageType":"RC:TxtMsg","content":"{\"content\":\"\u0068i\"}"}`,
			func(m *chat.Message) { m.ChannelType, m.Persist = chat.Direct, true }},
	} {
		if r := w.call(c.path, c.body, with("X-Request-Id", "r1")); r.Status != 200 {
			t.Errorf("%s: %d %s", c.name, r.Status, r.Body)
			continue
		}
		want := base
		c.want(&want)
		if got := w.courier.last(); !reflect.DeepEqual(*got, want) {
			t.Errorf("%s:\n got %+v\nwant %+v", c.name, *got, want)
		}
	}
}

func TestSwitchForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for form, want := range map[string]bool{
		"0": false, "1": true, "false": false, "true": true, `"0"`: false, `"1"`: true,
	} {
		if r := w.call(direct, sendBody(`"needReadReceipt":`+form)); r.Status != 200 || w.courier.last().NeedReadReceipt != want {
			t.Errorf("%s: %d %s", form, r.Status, r.Body)
		}
	}
	for form, got := range map[string]string{
		"2": "2", "-1": "-1", "1.0": "1.0", `"x"`: `"x"`, `"true"`: `"true"`, `""`: `""`, "{}": "an object", "[1]": "an array",
		`"a very long text that is cut"`: `"a very long text that is"…`,
	} {
		w.call(direct, sendBody(`"isEchoToSender":`+form)).want(t, 400, 1002, "isEchoToSender: 0 or 1, got "+got)
	}
}

func TestNumberForms(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for form, want := range map[string]int{"7": 7, `"7"`: 7, "7.0": 7, "7e0": 7, "-1": -1, `"-1"`: -1, "0": 0, "9999": 9999} {
		if r := w.call(direct, sendBody(`"count":`+form)); r.Status != 200 || w.courier.last().Push.Badge != want {
			t.Errorf("%s: %d %s", form, r.Status, r.Body)
		}
	}
	for form, got := range map[string]string{
		"1.5": "1.5", `"seven"`: `"seven"`, `""`: `""`, `" 7"`: `" 7"`, `"+7"`: `"+7"`, "true": "true", "{}": "an object", "1e999": "1e999",
		`"0x7"`: `"0x7"`, strings.Repeat("9", 40): "a number of 40 digits",
	} {
		w.call(direct, sendBody(`"count":`+form)).want(t, 400, 1002, "count: must be a whole number, got "+got)
	}
}

// ids is a JSON array of n different ids.
func ids(n int) string {
	list := make([]string, n)
	for i := range list {
		list[i] = strconv.Quote("u" + strconv.Itoa(i))
	}
	return "[" + strings.Join(list, ",") + "]"
}

// set is body with the field changed, in place of what it was, or without it
// when value is empty.
func set(body, field, value string) string {
	var m map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &m); err != nil {
		panic(err)
	}
	delete(m, field)
	if value != "" {
		m[field] = json.RawMessage(value)
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return string(b)
}

func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func TestSendRefused(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pairs := map[string]string{}
	for i := range 101 {
		pairs["k"+strconv.Itoa(i)] = "v"
	}
	manyPairs, _ := json.Marshal(pairs)
	delete(pairs, "k100")
	for _, c := range []struct {
		path, field, value string
		code               int
		message            string
	}{
		{direct, "fromUserId", "", 1002, "fromUserId: is required"},
		{direct, "fromUserId", "null", 1002, "fromUserId: is required"},
		{direct, "fromUserId", `""`, 1002, "fromUserId: is required"},
		{direct, "fromUserId", "2191", 1002, "fromUserId: must be a string, got 2191"},
		{direct, "fromUserId", quote(strings.Repeat("u", 65)), 1002, "fromUserId: at most 64 bytes, got 65"},
		{direct, "fromUserId", `"a b"`, 1002, "fromUserId: must not contain spaces or control characters"},
		{direct, "toUserIds", "", 1002, "toUserIds: is required"},
		{direct, "toUserIds", "[]", 1002, "toUserIds: is required"},
		{direct, "toUserIds", `"u2"`, 1002, "toUserIds: must be an array of strings, got a string"},
		{direct, "toUserIds", `["u2",7]`, 1002, "toUserIds[1]: must be a string, got 7"},
		{direct, "toUserIds", `["u2",null]`, 1002, "toUserIds[1]: must be a string, got null"},
		{direct, "toUserIds", `["u2",""]`, 1002, "toUserIds[1]: is required"},
		{direct, "toUserIds", ids(1001), 1002, "toUserIds: at most 1000 items, got 1001"},
		{direct, "toUserIds", ids(5000), 1002, "toUserIds: at most 1000 items, got 5000"},
		{system, "toUserIds", ids(101), 1002, "toUserIds: at most 100 items, got 101"},
		{open, "toChannelIds", ids(101), 1002, "toChannelIds: at most 100 items, got 101"},
		{open, "toChannelIds", "", 1002, "toChannelIds: is required"},
		{direct, "messageType", "", 1002, "messageType: is required"},
		{direct, "messageType", `"RC:Nope"`, 1002, "messageType: unknown built-in type; custom types must not start with RC:"},
		{direct, "messageType", quote(strings.Repeat("ä", 33)), 1005, "messageType: at most 32 characters, got 33"},
		{direct, "content", "", 1002, "content: is required"},
		{direct, "content", "{}", 1002, "content: must be a string, got an object"},
		{direct, "content", `"hello"`, 1002, "content: must be a JSON object for built-in type RC:TxtMsg"},
		{direct, "content", quote(strings.Repeat("x", 128<<10+1)), 1005, "content: at most 131072 bytes, got 131073"},
		{direct, "pushContent", "7", 1002, "pushContent: must be a string, got 7"},
		{direct, "pushContent", quote(strings.Repeat("x", 16<<10+1)), 1005, "pushContent: at most 16384 bytes, got 16385"},
		{direct, "pushData", `{"a":1}`, 1002, "pushData: must be a string, got an object"},
		{direct, "pushData", quote(strings.Repeat("x", 16<<10+1)), 1005, "pushData: at most 16384 bytes, got 16385"},
		{direct, "count", "10000", 1002, "count: from -1 to 9999, got 10000"},
		{direct, "count", "-2", 1002, "count: from -1 to 9999, got -2"},
		{direct, "verifyBlocklist", "3", 1002, "verifyBlocklist: 0 or 1, got 3"},
		{direct, "shouldPersist", `"yes"`, 1002, `shouldPersist: 0 or 1, got "yes"`},
		{direct, "contentAvailable", "[]", 1002, "contentAvailable: 0 or 1, got an array"},
		{direct, "hasMetadata", "2", 1002, "hasMetadata: 0 or 1, got 2"},
		{direct, "metadata", `"x"`, 1002, "metadata: must be an object, got a string"},
		{direct, "disablePush", "2", 1002, "disablePush: 0 or 1, got 2"},
		{direct, "pushExt", "{}", 1002, "pushExt: must be a string, got an object"},
		{direct, "pushExt", `"{"`, 1002, "pushExt: invalid JSON at byte 1: unexpected end"},
		{direct, "pushExt", quote(`{"pushConfigs":[{},{},{"OPPO":{"notify_level":3}}]}`), 1002,
			"pushExt.pushConfigs[2].OPPO.notify_level: one of 1, 2, 16, got 3"},
		{direct, "pushExt", quote(`{"title":"` + strings.Repeat("ü", 51) + `"}`), 1005, "pushExt.title: at most 50 characters, got 51"},
		{direct, "disableUpdateLastMsg", "2", 1002, "disableUpdateLastMsg: 0 or 1, got 2"},
		{direct, "needReadReceipt", "2", 1002, "needReadReceipt: 0 or 1, got 2"},
		{system, "shouldPersist", "2", 1002, "shouldPersist: 0 or 1, got 2"},
		{system, "pushExt", `"[]"`, 1002, "pushExt: must be a JSON object, got an array"},
		{open, "priority", "4", 1002, "priority: one of 0, 1, 2, 3, got 4"},
		{open, "priority", `"high"`, 1002, `priority: must be a whole number, got "high"`},
		{open, "isEchoToSender", "2", 1002, "isEchoToSender: 0 or 1, got 2"},
		{open, "toChannelIds", `["a","b c"]`, 1002, "toChannelIds[1]: must not contain spaces or control characters"},
	} {
		body := sendBody("")
		if c.path == open {
			body = openBody("")
		}
		w.call(c.path, set(body, c.field, c.value)).want(t, 400, c.code, c.message)
	}
	for value, message := range map[string]string{
		string(manyPairs): "metadata: at most 100 pairs, got 101",
		`{"":"v"}`:        "metadata: keys must not be empty",
		`{"a b":"v"}`:     `metadata: key "a b" may hold only letters, digits and + = - _`,
	} {
		w.call(direct, sendBody(`"hasMetadata":1,"metadata":`+value)).want(t, 400, 1002, message)
	}
	long := fmt.Sprintf(`{%q:"v"}`, strings.Repeat("k", 33))
	w.call(direct, sendBody(`"hasMetadata":1,"metadata":`+long)).want(t, 400, 1005, "metadata key: at most 32 characters, got 33")
	long = fmt.Sprintf(`{"k":%q}`, strings.Repeat("ä", 4097))
	w.call(direct, sendBody(`"hasMetadata":1,"metadata":`+long)).want(t, 400, 1005, "metadata.k: at most 4096 characters, got 4097")

	// Nothing of this was sent.
	if head, err := w.store.Head(t.Context(), w.app.ID, "u2"); err != nil || head != 0 {
		t.Errorf("head %d, %v", head, err)
	}
}

// What is just inside a limit is taken.
func TestLimitsReached(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pairs := map[string]string{}
	for i := range 99 {
		pairs["k"+strconv.Itoa(i)] = "v"
	}
	pairs[strings.Repeat("K", 28)+"+=-_"] = strings.Repeat("ä", 4096)
	metadata, _ := json.Marshal(pairs)
	for _, c := range []struct{ path, field, value string }{
		{direct, "toUserIds", ids(1000)},
		{system, "toUserIds", ids(100)},
		{open, "toChannelIds", ids(100)},
		{direct, "fromUserId", quote(strings.Repeat("ä", 32))},
		{direct, "messageType", quote(strings.Repeat("ä", 32))},
		{direct, "content", quote(`{"content":"` + strings.Repeat("x", 128<<10-14) + `"}`)},
		{direct, "pushExt", quote(`{"title":"` + strings.Repeat("ü", 50) + `"}`)},
		{direct, "metadata", string(metadata)},
	} {
		body := sendBody(`"hasMetadata":1`)
		if c.path == open {
			body = openBody("")
		}
		w.clock.advance(2e9)
		r := w.call(c.path, set(body, c.field, c.value))
		if r.Status != 200 {
			t.Errorf("%s: %d %.200s", c.field, r.Status, r.Body)
		}
	}
	if got := w.courier.last().Metadata; !maps.Equal(got, pairs) {
		t.Errorf("%d pairs of metadata arrived", len(got))
	}
}

func TestBadJSON(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for body, message := range map[string]string{
		"":                                       "body: must be a JSON object, got nothing",
		" \n":                                    "body: must be a JSON object, got nothing",
		"[]":                                     "body: must be a JSON object, got an array",
		"null":                                   "body: must be a JSON object, got null",
		`"x"`:                                    "body: must be a JSON object, got a string",
		"{":                                      "body: invalid JSON at byte 1: unexpected end",
		`{"a":}`:                                 "body: invalid JSON at byte 5: invalid character '}' at start of value",
		`{"fromUserId":"u`:                       "body: invalid JSON at byte 16: unexpected end",
		"{}x":                                    "body: invalid JSON at byte 2: invalid character 'x' at start of value",
		"{}{}":                                   "",
		`{'a':1}`:                                `body: invalid JSON at byte 1: invalid character '\'' at start of value`,
		"{\"content\":\"\xff\"}":                 "body: invalid JSON at byte 12: invalid UTF-8",
		`{"content":"\ud800"}`:                   "",
		`{"x":1,"x":2}`:                          `body: invalid JSON at byte 7: the name "x" comes twice in one object`,
		`{"metadata":{"k":"1","k":"2"}}`:         `body: invalid JSON at byte 21: the name "k" comes twice in one object`,
		`{"fromUserId":"a","\u0066romUserId":1}`: `body: invalid JSON at byte 18: the name "fromUserId" comes twice in one object`,
		strings.Repeat(`{"a":`, 20000):           "",
	} {
		w.call(direct, body).want(t, 400, 1002, message)
	}
}

// Apps do not see each other: not their users, keys, limits or idempotency.
func TestAppsAreApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.direct", "1/m")
	one, two := w.app, w.newApp("other", "another-secret")
	as := func(app *chat.App, path, body string, edits ...func(http.Header)) *reply {
		t.Helper()
		h := w.signed(app)
		for _, edit := range edits {
			edit(h)
		}
		return w.do(http.MethodPost, path, h, body)
	}
	if r := as(one, issue, `{"userId":"u1","name":"One"}`); r.Status != 200 {
		t.Fatal(r)
	}
	as(one, user, `{"userId":"u1"}`).want(t, 200, 0, "")
	as(two, user, `{"userId":"u1"}`).want(t, 400, 400, "userId: no such user")

	key := with("Idempotency-Key", "k")
	first := as(one, direct, sendBody(""), key)
	second := as(two, direct, sendBody(""), key)
	if first.Status != 200 || second.Status != 200 || first.Body == second.Body || second.Header.Get("Idempotency-Replayed") != "" {
		t.Errorf("%v\n%v", first, second)
	}
	as(one, direct, sendBody("")).want(t, 429, 1008, "")
	as(two, direct, sendBody("")).want(t, 200, 0, "")

	w.said.online[strconv.Itoa(int(one.ID))+"/u1"] = true
	if r := as(two, status, `{"userId":"u1"}`); !strings.Contains(r.Body, `"0"`) {
		t.Error(r.Body)
	}
	// One app's secret does not sign for another.
	h := w.signed(two)
	h.Set("App-Key", one.Key)
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 401, 1004, "")
	for _, app := range []*chat.App{one, two} {
		if head, err := w.store.Head(t.Context(), app.ID, "u2"); err != nil || head == 0 || app == one && head != 1 {
			t.Errorf("%s: head %d, %v", app.Key, head, err)
		}
	}
}

func TestRecipientsOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.call(direct, set(sendBody(""), "toUserIds", `["b","a","b","c","a","u1"]`))
	r.want(t, 200, 0, "")
	golden(t, "duplicates", mask(r.Body))
}

func TestIDsThatNeedEscapes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	r := w.call(direct, set(sendBody(""), "toUserIds", `["a\"b","<ü>","\\"]`))
	r.want(t, 200, 0, "")
	golden(t, "escapes", mask(r.Body))
}
