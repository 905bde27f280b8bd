// Package golden is for the tests of providers: a notification that asks for
// everything, and the files that say what becomes of it.
package golden

import (
	"flag"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

var update = flag.Bool("update", false, "write golden files anew")

// Now is when notifications are rendered.
var Now = time.UnixMilli(1_800_000_000_000)

// Example is a notification of a direct message with the pushExt that the server
// API's page gives as its example, for a device with this token.
func Example(t testing.TB, token string) push.Notification {
	t.Helper()
	text, err := os.ReadFile("../testdata/pushExt.json")
	if err != nil {
		t.Fatal(err)
	}
	return With(t, token, string(text))
}

// With is the example with another pushExt.
func With(t testing.TB, token, ext string) push.Notification {
	t.Helper()
	e, err := push.ParseExt("pushExt", ext)
	if err != nil {
		t.Fatal(err)
	}
	return push.Notification{
		App: 1, UID: chat.NewUID(Now.UnixMilli()-10_000, chat.Direct, 3, 7), User: "bob",
		To:   chat.PushDevice{ID: "d", Token: token, Package: "com.example.app"},
		From: "alice", Type: "RC:TxtMsg", ChannelType: chat.Direct, Channel: "alice",
		Title: "you have a new message.", Body: `1 < 2 & "so" on 👍🏽`, Data: `{"order":17}`,
		Badge: 5, HasBadge: true,
		Expires: Now.Add(36*time.Hour - 10*time.Second), Ext: e,
	}
}

// Check compares a request with the file testdata/name.
func Check(t *testing.T, name string, r push.Request) {
	t.Helper()
	CheckText(t, name, Text(r))
}

// Text is a request as people read it. JSON is indented, and the fields of a form
// are a line each.
func Text(r push.Request) string {
	var b strings.Builder
	b.WriteString(r.Method + " " + r.Path + "\n")
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		b.WriteString(name + ": " + r.Header[name] + "\n")
	}
	b.WriteString("\n")
	if r.Form == nil {
		b.WriteString(Indent(string(r.Body)) + "\n")
	}
	for _, name := range slices.Sorted(maps.Keys(r.Form)) {
		for _, v := range r.Form[name] {
			b.WriteString(name + " = " + Indent(v) + "\n")
		}
	}
	return b.String()
}

// Indent indents JSON objects and leaves everything else.
func Indent(s string) string {
	v := jsontext.Value(s)
	if !v.IsValid() || v.Kind() != '{' || v.Indent(jsontext.WithIndent("  ")) != nil {
		return s
	}
	return string(v)
}

// An Answer of a provider and what it means.
type Answer struct {
	Status int
	Header string // such as "Retry-After: 3"
	Body   string
	Want   push.Result
}

// Classes tries answers by name.
func Classes(t *testing.T, classify func(int, http.Header, []byte) push.Result, answers map[string]Answer) {
	t.Helper()
	for name, a := range answers {
		header := http.Header{}
		if k, v, ok := strings.Cut(a.Header, ": "); ok {
			header.Set(k, v)
		}
		if a.Status == 0 {
			a.Status = http.StatusOK
		}
		if got := classify(a.Status, header, []byte(a.Body)); got != a.Want {
			t.Errorf("%s:\n got %s %+v\nwant %s %+v", name, got.Class, got, a.Want.Class, a.Want)
		}
	}
	// Apple says nothing when all is well.
	bodiless := classify(http.StatusOK, http.Header{}, nil).Class == push.Accepted
	// Whatever comes in place of an answer is no reason to give up a token, and
	// what says nothing of success is no success.
	for _, status := range []int{200, 301, 400, 401, 403, 404, 410, 429, 500, 502, 503} {
		for _, body := range []string{"<html>Bad gateway</html>", "{", "[]", "null", `"x"`, "7", `{"x":1}`, "\x00\xff"} {
			switch r := classify(status, http.Header{}, []byte(body)); r.Class {
			case push.TokenDead, push.TokenStrike:
				t.Errorf("%d %s: %s", status, body, r.Class)
			case push.Accepted:
				if status != http.StatusOK || !bodiless {
					t.Errorf("%d %s: accepted", status, body)
				}
			}
		}
	}
}

// Fuzz tries texts and answers that nobody thought of: what is rendered has at
// most limit bytes, tokens not counted, and is JSON where it should be; and no
// answer brings anything down.
func Fuzz(f *testing.F, token string, limit int, render func(*push.Notification) (push.Request, error), classify func(int, http.Header, []byte) push.Result) {
	f.Add("title", "body", "data", 200)
	f.Add(strings.Repeat("👩\u200d👧", 40), strings.Repeat("\x01\"", 3000), strings.Repeat("中", 4000), 500)
	f.Add(`{"code":"80100000","msg":"{\"illegalTokens\":{\"noRight\":[1]}}","data":[{}],"value":{"a":{}}}`, `{"error":{"details":[{"errorCode":7}]}}`, "", 400)
	f.Add(`{"result":0,"invalidUser":[{"status":{}}],"invalidUsers":{"status":[]}}`, "\xff", "\u2028", 410)
	f.Fuzz(func(t *testing.T, title, body, data string, status int) {
		n := With(t, token, `{}`)
		n.Title, n.Body, n.Data = title, body, data
		r, err := render(&n)
		if err != nil {
			t.Fatal(err)
		}
		if r.Form == nil {
			if !jsontext.Value(r.Body).IsValid() {
				t.Fatalf("no JSON: %s", r.Body)
			}
			if size := len(r.Body) - len(token); size > limit {
				t.Fatalf("%d bytes", size)
			}
		}
		for _, answer := range []string{title, body, data} {
			classify(status, http.Header{}, []byte(answer))
		}
	})
}

// Codes tries each of the codes of a class in an answer made of it.
func Codes(t *testing.T, classify func(int, http.Header, []byte) push.Result, status int, body func(code string) string, classes map[push.Class]string) {
	t.Helper()
	for class, codes := range classes {
		for code := range strings.FieldsSeq(codes) {
			r := classify(status, http.Header{}, []byte(body(code)))
			if r.Class != class || r.Code != code || r.Unknown {
				t.Errorf("%s: %s %+v, want %s", code, r.Class, r, class)
			}
		}
	}
}
