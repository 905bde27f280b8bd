package serverapi

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
)

func TestPaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for path, found := range map[string]bool{
		"/v4/user/connection-status/get":     true,
		"//v4/user/connection-status/get":    true,
		"/////v4/user/connection-status/get": true,
		"/v4//user/connection-status/get":    false,
		"/v4/user/connection-status/get/":    false,
		"/v4/user/connection-status":         false,
		"/V4/user/connection-status/get":     false,
		"/v4/":                               false,
		"/v4":                                false,
		"/":                                  false,
		"/user/connection-status/get":        false,
	} {
		r := w.call(path, sample)
		switch {
		case found && r.Status == 200:
		case !found && r.Status == 404 && r.code() == 404 && r.Header.Get("Content-Type") == "application/json; charset=utf-8":
		default:
			t.Errorf("%s: %d %s", path, r.Status, r.Body)
		}
		if r.Header.Get("Location") != "" {
			t.Errorf("%s: a redirect", path)
		}
	}
	r := w.do(http.MethodPost, "/v4/nope", http.Header{}, "")
	r.want(t, 404, 404, "no such operation: the path must be one of the API, such as /v4/auth/access-token/issue")
}

func TestMethods(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, method := range []string{"GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "post"} {
		r := w.do(method, direct, w.signed(w.app), "")
		if r.Status != 405 || r.Header.Get("Allow") != "POST" || r.code() != 404 {
			t.Errorf("%s: %d %v %s", method, r.Status, r.Header, r.Body)
		}
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, good := range []string{
		"application/json", "application/json; charset=utf-8", "application/json;charset=UTF-8", "Application/JSON",
		"application/json; charset=us-ascii", "application/json; version=1", "application/vnd.parley+json", "application/problem+json; charset=utf8",
	} {
		// The document knows application/json only, so this goes around it.
		h := w.signed(w.app)
		h.Set("Content-Type", good)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, status, strings.NewReader(sample))
		r.Header = h
		rec := httptest.NewRecorder()
		if w.handler.ServeHTTP(rec, r); rec.Code != 200 {
			t.Errorf("%s: %d %s", good, rec.Code, rec.Body)
		}
	}
	for _, bad := range []string{
		"text/plain", "text/json", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json; charset=utf-16",
		"application/json; charset=latin1", "json", "application/jsonp", "/", "application/json;",
	} {
		r := w.call(status, sample, with("Content-Type", bad))
		if bad == "application/json;" { // sloppy, but clear
			r.want(t, 200, 0, "")
			continue
		}
		r.want(t, 415, 1002, "Content-Type: must be application/json, in UTF-8")
	}
	w.call(status, sample, without("Content-Type")).want(t, 415, 1002, "Content-Type: must be application/json, got none")
	w.call(status, sample, with("Content-Encoding", "gzip")).want(t, 415, 1002, "Content-Encoding: a compressed body is not taken")
	w.call(status, sample, with("Content-Encoding", "identity")).want(t, 200, 0, "")
}

func TestRequestID(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	longest := strings.Repeat("x", 36)
	for sent, kept := range map[string]bool{
		"a": true, longest: true, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6": true, "~!\"'<>": true,
		"": false, longest + "x": false, "a b": false, "ä": false, "a\x7f": false,
	} {
		for _, path := range []string{status, "/v4/nope"} {
			r := w.call(path, sample, with("X-Request-Id", sent))
			got := r.Header["X-Request-Id"]
			if len(got) != 1 || (got[0] == sent) != kept || len(got[0]) == 0 || len(got[0]) > 36 {
				t.Errorf("%q: answered with %q", sent, got)
			}
		}
	}
	seen := map[string]bool{}
	for range 100 {
		seen[w.call(status, sample).Header.Get("X-Request-Id")] = true
	}
	if len(seen) != 100 {
		t.Errorf("%d different ids in 100 calls", len(seen))
	}
}

func TestBodySize(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	pad := func(n int) string { return sample + strings.Repeat(" ", n-len(sample)) }
	w.call(status, pad(4<<20)).want(t, 200, 0, "")
	r := w.call(status, pad(4<<20+1))
	r.want(t, 413, 1005, "body: at most 4194304 bytes, got 4194305")
	if r.Header.Get("Connection") != "close" {
		t.Error(r.Header)
	}
	// Without a length the body is read no further than it must be.
	read := 0
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, status, readerFunc(func(p []byte) (int, error) {
		read += len(p)
		return copy(p, strings.Repeat(" ", len(p))), nil
	}))
	req.ContentLength = -1
	req.Header = w.signed(w.app)
	rec := httptest.NewRecorder()
	if w.handler.ServeHTTP(rec, req); rec.Code != 413 || !strings.Contains(rec.Body.String(), "got more than 4194304") || read > 8<<20 {
		t.Errorf("%d %s after %d bytes", rec.Code, rec.Body, read)
	}
	// A body that breaks off was not the caller's whole word.
	req = httptest.NewRequestWithContext(t.Context(), http.MethodPost, status, readerFunc(func([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }))
	req.Header = w.signed(w.app)
	rec = httptest.NewRecorder()
	if w.handler.ServeHTTP(rec, req); rec.Code != 400 || !strings.Contains(rec.Body.String(), "body: could not be read to its end") {
		t.Errorf("%d %s", rec.Code, rec.Body)
	}
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestNotReady(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	stopping := errors.New("stopping")
	w.ready.Store(&stopping)
	r := w.call(status, sample)
	r.want(t, 503, 1050, "the server does not take calls now")
	if r.Header.Get("Retry-After") != "1" {
		t.Error(r.Header)
	}
	full := error(&chat.Error{Kind: chat.KindUnavailable, Rule: "the disk is full", RetryAfter: 4100 * time.Millisecond})
	w.ready.Store(&full)
	r = w.call(status, sample)
	r.want(t, 503, 1050, "the disk is full")
	if r.Header.Get("Retry-After") != "5" {
		t.Error(r.Header)
	}
	w.do(http.MethodPost, "/v4/nope", w.signed(w.app), "").want(t, 404, 404, "")
}

// Every kind of failure is answered as its row says, and what goes wrong inside
// stays inside.
func TestEveryKind(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for _, k := range chat.Kinds() {
		row, ok := kindRows[k]
		if !ok || row.Status < 400 || row.Code == 0 || row.Meaning == "" || row.Repeat == "" {
			t.Errorf("%s: row %+v", k, row)
		}
		w.courier.hold(func(context.Context) error {
			return &chat.Error{Kind: k, Field: "f", Rule: "r", RetryAfter: 1500 * time.Millisecond}
		})
		h := w.signed(w.app)
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, direct, strings.NewReader(sendBody("")))
		r.Header = h
		rec := httptest.NewRecorder()
		w.handler.ServeHTTP(rec, r)
		message := "f: r"
		switch k {
		case chat.KindInternal:
			message = internalText
		case chat.KindUnknown:
			message += unknownAdvice
		}
		want := fmt.Sprintf(`{"code":%d,"errorMessage":%s}`, row.Code, quote(message))
		if rec.Code != row.Status || rec.Body.String() != want {
			t.Errorf("%s: %d %s, want %d %s", k, rec.Code, rec.Body, row.Status, want)
		}
		if wait := rec.Header().Get("Retry-After"); (wait == "2") != (row.Status == 429 || row.Status == 503) {
			t.Errorf("%s: Retry-After %q", k, wait)
		}
	}
	w.courier.hold(func(context.Context) error { return fmt.Errorf("pebble: %w", os.ErrPermission) })
	w.call(direct, sendBody("")).want(t, 500, 1000, internalText)
	if !strings.Contains(w.log.String(), "permission denied") {
		t.Error("the log does not say what happened")
	}
	w.courier.hold(func(ctx context.Context) error { return context.Canceled })
	w.call(direct, sendBody("")).want(t, 503, 1050, "")
}

func TestErrorTable(t *testing.T) {
	t.Parallel()
	rows := ErrorTable()
	names := map[string]bool{}
	last := 0
	for _, r := range rows {
		if names[r.Kind] || r.Kind == "" || r.Status < last || r.Meaning == elseDoor {
			t.Errorf("row %+v", r)
		}
		names[r.Kind], last = true, r.Status
	}
	var b strings.Builder
	for _, r := range rows {
		fmt.Fprintf(&b, "%d %d %s\n", r.Status, r.Code, r.Kind)
	}
	golden(t, "errors", strings.TrimSpace(b.String()))
}

func TestPanic(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := httptest.NewServer(w.handler)
	defer srv.Close()
	post := func(body string, edits ...func(http.Header)) (*http.Response, string) {
		t.Helper()
		r, _ := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL+direct, strings.NewReader(body))
		r.Header = w.signed(w.app)
		for _, edit := range edits {
			edit(r.Header)
		}
		resp, err := srv.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp, string(b)
	}
	w.courier.hold(func(context.Context) error { panic("at the disco") })
	resp, body := post(sendBody(""), with("X-Request-Id", "disco-1"), with("Idempotency-Key", "k"))
	if resp.StatusCode != 500 || body != fmt.Sprintf(`{"code":1000,"errorMessage":%q}`, internalText) || resp.Header.Get("X-Request-Id") != "disco-1" {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if log := w.log.String(); !strings.Contains(log, `"request_id":"disco-1"`) || !strings.Contains(log, "at the disco") || !strings.Contains(log, "http_test.go") {
		t.Error("the log does not tell of the panic:", log)
	}
	// The key was let go of, and the connection still serves.
	w.courier.hold(nil)
	if resp, body = post(sendBody(""), with("Idempotency-Key", "k")); resp.StatusCode != 200 {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

// Over a real connection: doubled slashes, keep-alive after errors, a large
// answer with its length.
func TestOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	srv := httptest.NewServer(w.handler)
	defer srv.Close()
	conn, err := net.Dial("tcp", srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	ask := func(path, body string) *http.Response {
		t.Helper()
		r, _ := http.NewRequest(http.MethodPost, "http://host"+path, strings.NewReader(body))
		r.Header = w.signed(w.app)
		if err := r.Write(conn); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, r)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body = io.NopCloser(bytes.NewReader(b))
		return resp
	}
	for _, c := range []struct {
		path, body string
		status     int
	}{
		{"//v4/user/connection-status/get", sample, 200},
		{"/v4/nope", sample, 404},
		{direct, "{", 400},
		{direct, set(sendBody(""), "toUserIds", ids(1000)), 200},
		{status, sample, 200},
	} {
		resp := ask(c.path, c.body)
		b, _ := io.ReadAll(resp.Body)
		if resp.StatusCode != c.status || resp.Close || resp.ContentLength != int64(len(b)) {
			t.Errorf("%s: %d, close %t, %d bytes of %d", c.path, resp.StatusCode, resp.Close, len(b), resp.ContentLength)
		}
	}
}

// A caller who goes away while the commit is under way does not undo it.
func TestCallerGoesAway(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(t.Context())
	w.courier.hold(func(context.Context) error { cancel(); return nil })
	h := w.signed(w.app)
	h.Set("Idempotency-Key", "k")
	r := httptest.NewRequestWithContext(ctx, http.MethodPost, direct, strings.NewReader(sendBody("")))
	r.Header = h
	w.handler.ServeHTTP(httptest.NewRecorder(), r)
	w.courier.hold(nil)
	w.do(http.MethodPost, direct, h, sendBody("")).want(t, 200, 0, "")
	if w.head("u2") != 1 {
		t.Error("head", w.head("u2"))
	}
}

func TestShed(t *testing.T) {
	t.Parallel()
	uid := chat.NewUID(1, chat.Open, 0, 1)
	got := appendSent(nil, &courier.Sent{
		Placed: []courier.Placement{{Target: "a", UID: uid}},
		Shed:   []courier.Shed{{Channel: "b", Reason: "low priority"}, {Channel: `c"`, Reason: "full"}},
	}, `{"channelId":`)
	golden(t, "shed", mask(string(got)))
	golden(t, "nobody", string(appendSent(nil, &courier.Sent{}, `{"userId":`)))
}

func TestMetricsAndLog(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.call(direct, sendBody(""), with("X-Request-Id", "fine"))
	w.call(direct, set(sendBody(""), "content", `"top secret text"`), with("X-Request-Id", "bad"))
	w.call("/v4/user/remove", sample)
	w.call("/v4/who/knows", sample)
	if err := testutil.GatherAndCompare(w.metrics, strings.NewReader(`
# HELP parley_http_requests_total Calls answered, by operation and HTTP status.
# TYPE parley_http_requests_total counter
`+func() string {
		var b strings.Builder
		for i := range operations {
			n := 0
			if operations[i].path == direct {
				n = 1
				b.WriteString("parley_http_requests_total{code=\"400\",operation=\"sendDirectChannelMessage\"} 1\n")
			}
			fmt.Fprintf(&b, "parley_http_requests_total{code=\"200\",operation=%q} %d\n", operations[i].name, n)
		}
		return b.String()
	}()+`parley_http_requests_total{code="404",operation="unknown"} 2
`), "parley_http_requests_total"); err != nil {
		t.Error(err)
	}
	if n, err := testutil.GatherAndCount(w.metrics, "parley_http_request_seconds"); err != nil || n != len(operations)+1 {
		t.Error(n, err)
	}
	var lines []map[string]any
	for line := range strings.Lines(w.log.String()) {
		var m map[string]any
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, m)
	}
	if len(lines) != 3 {
		t.Fatalf("%d lines, want one per refused call: %v", len(lines), lines)
	}
	l := lines[0]
	delete(l, "time")
	want := map[string]any{
		"level": "DEBUG", "msg": "call refused", "request_id": "bad", "operation": "sendDirectChannelMessage", "status": 400., "code": 1002.,
		"reason": "invalid", "error": "content: must be a JSON object for built-in type RC:TxtMsg", "app_key": w.app.Key,
	}
	for k, v := range want {
		if l[k] != v {
			t.Errorf("%s is %v, want %v", k, l[k], v)
		}
	}
	if len(l) != len(want) || strings.Contains(w.log.String(), "top secret") {
		t.Errorf("line %v", l)
	}
}

func TestRateLimits(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "limits.direct", "6/m", "limits.token", "2/s", "limits.default", "1/s", "limits.open", "0")
	want := func(r *reply, retry, limit, remaining, reset string) {
		t.Helper()
		r.want(t, 429, 1008, "")
		for name, v := range map[string]string{"Retry-After": retry, "RateLimit-Limit": limit, "RateLimit-Remaining": remaining, "RateLimit-Reset": reset} {
			if got := r.Header.Get(name); got != v {
				t.Errorf("%s is %q, want %q", name, got, v)
			}
		}
	}
	to := func(n int) string { return set(sendBody(""), "toUserIds", ids(n)) }
	// Duplicates are dropped before counting.
	w.call(direct, set(sendBody(""), "toUserIds", `["a","a","b","a"]`)).want(t, 200, 0, "")
	// A call that does not fit is refused whole and costs nothing.
	r := w.call(direct, to(5))
	want(r, "10", "6", "4", "20")
	if r.message() != "over the limit of 6/m: 5 asked, 4 left" {
		t.Error(r.message())
	}
	w.call(direct, to(4)).want(t, 200, 0, "")
	want(w.call(direct, to(1)), "10", "6", "0", "60")
	w.clock.advance(10*time.Second - time.Millisecond)
	want(w.call(direct, to(1)), "1", "6", "0", "51")
	w.clock.advance(time.Millisecond)
	w.call(direct, to(1)).want(t, 200, 0, "")
	// One that can never fit is another thing.
	w.call(direct, to(7)).want(t, 400, 1002, "toUserIds: 7 in one call can never fit the limit of 6/m")
	// Kinds of sends have budgets of their own, and 0 is no limit.
	w.call(system, to(100)).want(t, 200, 0, "")
	want(w.call(system, to(1)), "1", "100", "0", "1")
	for range 20 {
		w.call(open, openBody(`"shouldPersist":0`)).want(t, 200, 0, "")
	}

	// Calls about users, counted per operation.
	w.clock.advance(time.Minute)
	for i := range 2 {
		w.call(issue, `{"userId":"u`+strconv.Itoa(i)+`","name":"n"}`).want(t, 200, 0, "")
	}
	want(w.call(issue, `{"userId":"u2","name":"n"}`), "1", "2", "0", "1")
	w.call(user, `{"userId":"u1"}`).want(t, 200, 0, "")
	want(w.call(user, `{"userId":"u1"}`), "1", "1", "0", "1")
	w.call(status, `{"userId":"u1"}`).want(t, 200, 0, "")
	want(w.call(status, `{"userId":"u1"}`), "1", "1", "0", "1")
	// A change of the limit is in force at once.
	w.set("limits.default", "0")
	w.call(user, `{"userId":"u1"}`).want(t, 200, 0, "")
}
