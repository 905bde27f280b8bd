package push

import (
	"testing"
	"time"
)

func TestByStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]Result{
		200: {Class: Retry, Code: "unreadable"},
		301: {Class: ConfigHalt, Code: "http 301"},
		400: {Class: PayloadBad, Code: "http 400", Unknown: true},
		401: {Class: AuthRefresh, Code: "http 401"},
		403: {Class: AuthRefresh, Code: "http 403"},
		404: {Class: ConfigHalt, Code: "http 404"},
		408: {Class: Retry, Code: "http 408", After: time.Minute},
		413: {Class: PayloadBad, Code: "http 413"},
		418: {Class: PayloadBad, Code: "http 418", Unknown: true},
		429: {Class: RetryAfter, Code: "http 429", After: time.Minute},
		500: {Class: Retry, Code: "http 500", After: time.Minute},
		502: {Class: Retry, Code: "http 502", After: time.Minute},
		503: {Class: RetryAfter, Code: "http 503", After: time.Minute},
	} {
		if got := ByStatus(status, time.Minute); got != want {
			t.Errorf("%d: %+v, want %+v", status, got, want)
		}
	}
}

func TestParseRetryAfter(t *testing.T) {
	t.Parallel()
	const now = "Sun, 06 Nov 1994 08:49:37 GMT"
	for _, c := range []struct {
		after, date string
		want        time.Duration
	}{
		{"", "", 0},
		{"0", "", 0},
		{"7", "", 7 * time.Second},
		{" 7 ", now, 7 * time.Second},
		{"7200", "", time.Hour},
		{"99999999999", "", 0},
		{"-3", "", 0},
		{"soon", now, 0},
		{"Sun, 06 Nov 1994 08:50:37 GMT", now, time.Minute},
		{"Sun, 06 Nov 1994 08:49:00 GMT", now, 0},
		{"Mon, 07 Nov 1994 08:49:00 GMT", now, time.Hour},
		{"Sun, 06 Nov 1994 08:50:37 GMT", "", 0},
	} {
		header := map[string]string{"Retry-After": c.after, "Date": c.date}
		if got := ParseRetryAfter(func(name string) string { return header[name] }); got != c.want {
			t.Errorf("%q at %q: %s, want %s", c.after, c.date, got, c.want)
		}
	}
}

// Whatever kind a code is of, it is read.
func TestCode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Code{
		`{"code":"80000000"}`:          "80000000",
		`{"code":80000000}`:            "80000000",
		`{"code":-1}`:                  "-1",
		`{"code":" 200 "}`:             "200",
		`{"code":null}`:                "",
		`{"code":[1]}`:                 "",
		`{"code":true}`:                "",
		`{}`:                           "",
		`{"x":{"y":[]},"code":0}`:      "0",
		`{"code":"1","code":"2","c":}`: "",
	} {
		var v struct {
			Code Code `json:"code"`
		}
		if ok := ReadJSON([]byte(text), &v); ok && v.Code != want || !ok && want != "" {
			t.Errorf("%s: %q, %t; want %q", text, v.Code, ok, want)
		}
	}
}

// No code that nobody knows costs a token.
func TestUnknownCodes(t *testing.T) {
	t.Parallel()
	table := Classes{"1": {Class: TokenDead}}
	if r := table.Of("1"); r.Class != TokenDead || r.Code != "1" || r.Unknown {
		t.Errorf("%+v", r)
	}
	if r := table.Of("2"); r.Class != PayloadBad || r.Code != "2" || !r.Unknown {
		t.Errorf("%+v", r)
	}
	for c := range Class(len(classWords)) {
		if c.String() == "" {
			t.Errorf("class %d has no word", c)
		}
	}
}

func TestCodeOrStatus(t *testing.T) {
	t.Parallel()
	table := Classes{"1": {Class: Retry}, "2": {Class: TokenDead}}
	for _, c := range []struct {
		code   string
		status int
		want   Result
	}{
		{"1", 400, Result{Class: Retry, Code: "1", After: time.Second}},
		{"2", 500, Result{Class: TokenDead, Code: "2"}},
		{"3", 200, Result{Class: PayloadBad, Code: "3", Unknown: true}},
		{"3", 500, Result{Class: Retry, Code: "3", After: time.Second, Unknown: true}},
		{"", 200, Result{Class: Retry, Code: "unreadable"}},
		{"", 401, Result{Class: AuthRefresh, Code: "http 401"}},
	} {
		if got := table.Or(c.code, c.status, time.Second); got != c.want {
			t.Errorf("%q with %d: %+v, want %+v", c.code, c.status, got, c.want)
		}
	}
}
