package serverapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

func seedBodies(f *testing.F) []string {
	var bodies []string
	for _, name := range []string{"direct", "system", "open"} {
		b, err := os.ReadFile("testdata/" + name + ".request.json")
		if err != nil {
			f.Fatal(err)
		}
		bodies = append(bodies, string(b))
	}
	return append(bodies,
		sendBody(`"hasMetadata":1,"metadata":{"a":1,"b":[{}]},"pushExt":"{\"title\":\"t\"}","count":"7","isSyncSender":true`),
		openBody(`"priority":3,"shouldPersist":"0"`),
		`{"userId":"u","name":"n","avatarUrl":null}`, `{"userIds":["u"],"expiresAt":"1"}`, `{"userId":"u"}`,
		`{"userIds":["u"],"durationMinutes":"5","muteState":1,"channelTypes":["PERSON"],"channelType":"GROUP"}`,
		`{"page":"2","pageSize":10,"offset":3,"channelType":"CHATROOM"}`,
		`{"userId":"u","targetUserIds":["v"],"blockedUserIds":["v"],"pageToken":"a1","pageSize":2,"order":1}`,
		chunkBody(1, "x", false, `"type":"html","user":{"a":[1]},"extra":"e"`, `"metadata":{"k":"v"}`), chunkBody(1, "x", true, ""),
		`{"userId":"u","channelType":"1","channelId":"v","subchannelId":"s","isPin":1,"noDisturbLevel":"5","notificationLevel":5}`,
		`{"userId":"u","tagId":"w","tagIds":["w"],"tags":[{"tagId":"w","tagName":"W"}],"channels":[{"channelId":"v","channelType":"3"}]}`,
		`{"channelId":"c","channelIds":["c","d"],"destroyType":"1","ttlMinutes":60,"metadataOwnerId":"u","metadata":{"k":1},"allowedSendersList":["u"]}`,
		`{"channelId":"c","participantIds":["u"],"messageTypes":["app:t"],"durationMinutes":1,"needNotify":1,"extra":"{}","order":2}`,
		"", "{", `{"a":`+strings.Repeat("[", 100),
	)
}

// FuzzBody gives every operation any body. Whatever it is, the answer is one of
// the API's, and it is a matter of the body alone.
func FuzzBody(f *testing.F) {
	for _, b := range seedBodies(f) {
		for i := range operations {
			f.Add(uint8(i), b)
		}
	}
	door, app := newDoor(f)
	nonce := 0
	f.Fuzz(func(t *testing.T, op uint8, body string) {
		o := operations[int(op)%len(operations)]
		r := httptest.NewRequest(http.MethodPost, o.path, strings.NewReader(body))
		nonce++
		n, ts := strconv.Itoa(nonce), strconv.FormatInt(time.Now().UnixMilli(), 10)
		r.Header = http.Header{
			"App-Key": {app.Key}, "Nonce": {n}, "Timestamp": {ts}, "Signature": {sha1Hex(app.Secret + n + ts)}, "Content-Type": {"application/json"},
		}
		rec := httptest.NewRecorder()
		door.ServeHTTP(rec, r)
		checkAnswer(t, rec)
		if rec.Code != 200 && rec.Code != 400 && rec.Code != 413 {
			t.Fatalf("%s: %d %s", o.name, rec.Code, rec.Body)
		}
	})
}

// FuzzHeaders gives a call any headers.
func FuzzHeaders(f *testing.F) {
	door, app := newDoor(f)
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	f.Add("POST", direct, app.Key, "1", now, sha1Hex(app.Secret+"1"+now), "r", "k", "application/json")
	f.Add("POST", "//v4/user/get", app.Key, strings.Repeat("9", 19), "1795320000", "x", "", "", "application/json; charset=utf-8")
	f.Add("GET", "/", "", "", "", "", strings.Repeat("x", 37), "a b", "text/plain;;")
	f.Fuzz(func(t *testing.T, method, path, key, nonce, ts, signature, id, once, media string) {
		r := httptest.NewRequest(http.MethodPost, "/", strings.NewReader(sendBody("")))
		r.Method, r.URL.Path = method, path
		r.Header = http.Header{
			"App-Key": {key}, "Rc-Nonce": {nonce}, "Timestamp": {ts}, "Signature": {signature},
			"X-Request-Id": {id}, "Idempotency-Key": {once}, "Content-Type": {media},
		}
		rec := httptest.NewRecorder()
		door.ServeHTTP(rec, r)
		checkAnswer(t, rec)
		if rec.Code >= 500 {
			t.Fatalf("%d %s", rec.Code, rec.Body)
		}
		if strings.Contains(rec.Body.String(), app.Secret) {
			t.Fatalf("the answer holds the secret: %s", rec.Body)
		}
		if got := rec.Header().Get("X-Request-Id"); got == "" || len(got) > maxRequestID {
			t.Fatalf("request id %q", got)
		}
	})
}

func checkAnswer(t *testing.T, rec *httptest.ResponseRecorder) {
	t.Helper()
	var v struct {
		Code    *int    `json:"code"`
		Message *string `json:"errorMessage"`
	}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || v.Code == nil {
		t.Fatalf("%v: %d %s", err, rec.Code, rec.Body)
	}
	if rec.Code == 200 {
		if *v.Code != 0 || v.Message != nil {
			t.Fatalf("200 with %s", rec.Body)
		}
		return
	}
	if !slices.ContainsFunc(ErrorTable(), func(r ErrorRow) bool { return r.Status == rec.Code && r.Code == *v.Code }) || v.Message == nil || *v.Message == "" {
		t.Fatalf("%d with %s", rec.Code, rec.Body)
	}
}

// FuzzHints tries the hints on any signature: they must not tell a right one
// from a wrong one, for a right one never comes to them.
func FuzzHints(f *testing.F) {
	f.Add("secret", "1", "1795320000000", strings.Repeat("a", 40))
	f.Add("", "", "", "")
	f.Fuzz(func(t *testing.T, secret, nonce, ts, signature string) {
		app := &chat.App{Key: "k", Secret: secret}
		hint := signatureHint(app, &credentials{nonce: nonce, timestamp: ts, signature: signature})
		if hint == "" || len(hint) > 300 {
			t.Fatalf("%q", hint)
		}
		if _, rule := parseTimestamp(ts); rule == "" && (len(ts) > 14 || strings.Trim(ts, "0123456789") != "") {
			t.Fatalf("%q is taken for a time", ts)
		}
	})
}
