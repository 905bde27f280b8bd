package console

import (
	"bytes"
	"context"
	"crypto/sha1"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

const testSecret = "console-test-secret"

// A house is a page over a server API that only notes what it is asked.
type house struct {
	t    *testing.T
	page *Console
	log  bytes.Buffer

	mu    sync.Mutex
	clock time.Time
	app   *chat.App
	calls []noted
	fail  int // the status of all calls, when it is not 0
}

type noted struct {
	path string
	body map[string]any
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, clock: time.UnixMilli(1_700_000_000_000), app: &chat.App{ID: 1, Key: "shop", Secret: testSecret}}
	h.page = New(Options{
		App: func() *chat.App { return h.app },
		Token: func(_ context.Context, app *chat.App, user string) (string, error) {
			return "token of " + user + " in " + app.Key, nil
		},
		Calls: http.HandlerFunc(h.call), Version: "1.2.3", Now: h.now, Logger: slog.New(slog.NewTextHandler(&h.log, nil)),
	})
	return h
}

func (h *house) now() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.clock
}

func (h *house) advance(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clock = h.clock.Add(d)
}

// call stands for the server API: it takes what is signed well.
func (h *house) call(w http.ResponseWriter, r *http.Request) {
	sum := sha1.Sum([]byte(testSecret + r.Header.Get("Nonce") + r.Header.Get("Timestamp")))
	if r.Header.Get("App-Key") != "shop" || r.Header.Get("Signature") != hex.EncodeToString(sum[:]) || len(r.Header.Get("Nonce")) > 18 {
		h.t.Errorf("a call is signed badly: %v", r.Header)
	}
	var body map[string]any
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
		h.t.Error(err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, noted{r.URL.Path, body})
	if h.fail != 0 {
		w.WriteHeader(h.fail)
		fmt.Fprint(w, `{"code":1,"errorMessage":"no"}`)
		return
	}
	if body["messageType"] == "RC:StreamMsg" {
		fmt.Fprint(w, `{"code":0,"result":{"messageUID":"U1","messageId":"M1"}}`)
		return
	}
	fmt.Fprint(w, `{"code":0}`)
}

// A browser has at most one cookie.
type browser struct {
	*house
	cookie *http.Cookie
}

func (b *browser) do(r *http.Request) (*http.Response, string) {
	b.t.Helper()
	if b.cookie != nil {
		r.AddCookie(b.cookie)
	}
	w := httptest.NewRecorder()
	b.page.ServeHTTP(w, r)
	resp := w.Result()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return resp, string(body)
}

func (b *browser) get(path string) (*http.Response, string) {
	b.t.Helper()
	return b.do(httptest.NewRequest(http.MethodGet, path, nil))
}

func request(name, body string) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "http://127.0.0.1:8080/demo/api/"+name, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return r
}

// ask makes a request, and checks its status.
func (b *browser) ask(status int, name, body string) map[string]any {
	b.t.Helper()
	resp, text := b.do(request(name, body))
	if resp.StatusCode != status {
		b.t.Fatalf("%s %s: status %d, want %d; %s", name, body, resp.StatusCode, status, text)
	}
	if resp.Header.Get("Cache-Control") != "no-store" {
		b.t.Errorf("%s may be cached", name)
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		b.t.Fatalf("%s: %s: %v", name, text, err)
	}
	return v
}

func exchangeBody(ticket string) string { return `{"ticket":"` + ticket + `"}` }

// enter lets a browser in.
func (h *house) enter() *browser {
	h.t.Helper()
	ticket, _ := h.page.Ticket()
	b := &browser{house: h}
	resp, body := b.do(request("session", exchangeBody(ticket)))
	if resp.StatusCode != http.StatusOK || len(resp.Cookies()) != 1 {
		h.t.Fatalf("exchange: %d, %v, %s", resp.StatusCode, resp.Cookies(), body)
	}
	b.cookie = resp.Cookies()[0]
	return b
}

// A link opens the page once, and not after its time.
func TestTicketOpensOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	stranger := &browser{house: h}
	ticket, until := h.page.Ticket()
	if got := until.Sub(h.now()); got != ticketTime {
		t.Errorf("a ticket lives %s", got)
	}
	stranger.ask(http.StatusUnauthorized, "page", `{}`)
	stranger.ask(http.StatusOK, "session", exchangeBody(ticket))
	if v := stranger.ask(http.StatusUnauthorized, "session", exchangeBody(ticket)); v["code"] != "link" || !strings.Contains(v["text"].(string), "used") {
		t.Errorf("a used link: %v", v)
	}
	late, _ := h.page.Ticket()
	h.advance(ticketTime)
	if v := stranger.ask(http.StatusUnauthorized, "session", exchangeBody(late)); v["code"] != "link" {
		t.Errorf("a link after its time: %v", v)
	}
	for _, wrong := range []string{"", "x", strings.ToLower(late)} {
		stranger.ask(http.StatusUnauthorized, "session", exchangeBody(wrong))
	}
	if strings.Contains(h.log.String(), ticket) || h.log.Len() > 0 {
		t.Errorf("logged: %s", &h.log)
	}
}

// Two who try the same link at once: one of them is let in.
func TestTicketOpensOnceAtOnce(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	ticket, _ := h.page.Ticket()
	var in sync.Map
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			if _, _, err := h.page.doorman.exchange(ticket); err == nil {
				in.Store(i, true)
			}
		})
	}
	wg.Wait()
	n := 0
	in.Range(func(any, any) bool { n++; return true })
	if n != 1 {
		t.Errorf("%d were let in", n)
	}
}

func TestCookie(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	c := h.enter().cookie
	if c.Name != "parley-demo-8080" || !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Path != "/demo/api/" || c.Domain != "" || c.MaxAge != int(sessionTime.Seconds()) || c.Secure {
		t.Errorf("cookie: %v", c)
	}
	// Over TLS it stays there.
	ticket, _ := h.page.Ticket()
	r := request("session", exchangeBody(ticket))
	r.TLS = &tls.ConnectionState{}
	resp, _ := (&browser{house: h}).do(r)
	if got := resp.Cookies(); len(got) != 1 || !got[0].Secure {
		t.Errorf("cookie over TLS: %v", got)
	}
}

func TestSessionEnds(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b := h.enter()
	v := b.ask(http.StatusOK, "page", `{}`)
	if v["version"] != "1.2.3" || v["app"] != "shop" || fmt.Sprint(v["users"]) != "[ann bob]" || v["channel"] != "lobby" {
		t.Errorf("page: %v", v)
	}
	h.advance(sessionTime - time.Second)
	b.ask(http.StatusOK, "page", `{}`)
	h.advance(time.Second)
	if v := b.ask(http.StatusUnauthorized, "page", `{}`); v["code"] != "session" {
		t.Errorf("after its time: %v", v)
	}
	b.cookie = &http.Cookie{Name: b.cookie.Name, Value: "made up"}
	b.ask(http.StatusUnauthorized, "token", `{"user":"ann"}`)
	if len(h.page.doorman.sessions) != 0 {
		t.Error("a session that is over is kept")
	}
}

// Neither links nor sessions pile up; the newest stay good.
func TestBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	var first, last string
	for i := range 3 * maxTickets {
		last, _ = h.page.Ticket()
		if i == 0 {
			first = last
		}
		h.advance(time.Millisecond)
	}
	b := &browser{house: h}
	b.ask(http.StatusUnauthorized, "session", exchangeBody(first))
	b.ask(http.StatusOK, "session", exchangeBody(last))
	oldest := h.enter()
	for range maxSessions {
		h.advance(time.Millisecond)
		b = h.enter()
	}
	oldest.ask(http.StatusUnauthorized, "page", `{}`)
	b.ask(http.StatusOK, "page", `{}`)
	if n, m := len(h.page.doorman.tickets), len(h.page.doorman.sessions); n > maxTickets || m > maxSessions {
		t.Errorf("%d tickets, %d sessions", n, m)
	}
}

// Who guesses is slowed down, and does not keep out who has a link.
func TestRates(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	guesser := &browser{house: h}
	for range wrongBurst {
		guesser.ask(http.StatusUnauthorized, "session", exchangeBody("guess"))
	}
	guesser.ask(http.StatusTooManyRequests, "session", exchangeBody("guess"))
	b := h.enter()

	for range sessionBurst {
		b.ask(http.StatusOK, "page", `{}`)
	}
	if v := b.ask(http.StatusTooManyRequests, "page", `{}`); v["code"] != "busy" {
		t.Errorf("too many: %v", v)
	}
	h.enter().ask(http.StatusOK, "page", `{}`)
	h.advance(time.Second)
	b.ask(http.StatusOK, "page", `{}`)

	for range textsBurst / maxCount {
		b.ask(http.StatusOK, "send", `{"kind":"direct","from":"ann","text":"x","count":50}`)
	}
	b.ask(http.StatusTooManyRequests, "send", `{"kind":"direct","from":"ann","text":"x","count":50}`)
	if len(h.calls) != textsBurst {
		t.Errorf("%d calls", len(h.calls))
	}
}

func TestSendingAtOnceIsBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b := h.enter()
	for range maxSending {
		h.page.sending <- struct{}{}
	}
	b.ask(http.StatusTooManyRequests, "send", `{"kind":"system","text":"x"}`)
	<-h.page.sending
	b.ask(http.StatusOK, "send", `{"kind":"system","text":"x"}`)
	if len(h.page.sending) != maxSending-1 {
		t.Error("a place was not given back")
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b := h.enter()
	for _, user := range []string{"ann", "bob"} {
		if v := b.ask(http.StatusOK, "token", `{"user":"`+user+`"}`); v["token"] != "token of "+user+" in shop" {
			t.Errorf("token: %v", v)
		}
	}
	for _, body := range []string{`{"user":"alice"}`, `{"user":""}`, `{}`, `{"user":"ann","app":"other"}`, `{"user":"ann"} {}`, `[]`, ``} {
		b.ask(http.StatusBadRequest, "token", body)
	}
	h.app = nil
	b.ask(http.StatusConflict, "token", `{"user":"ann"}`)
	b.ask(http.StatusConflict, "page", `{}`)
	b.ask(http.StatusConflict, "send", `{"kind":"open","text":"x"}`)
}

// The backend sends signed calls, to the page's own users and channel.
func TestSend(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]noted{
		`{"kind":"direct","from":"bob","text":" hi \"you\" "}`: {"/v4/direct-channel/message/send", map[string]any{
			"fromUserId": "bob", "toUserIds": []any{"ann"}, "messageType": "RC:TxtMsg", "content": `{"content":"hi \"you\""}`, "isEchoToSender": 1.0,
			"needReadReceipt": 1.0, "hasMetadata": 1.0,
		}},
		`{"kind":"system","text":"hi"}`: {"/v4/system-channel/message/send", map[string]any{
			"fromUserId": "news", "toUserIds": []any{"ann", "bob"}, "messageType": "RC:TxtMsg", "content": `{"content":"hi"}`,
		}},
		`{"kind":"open","text":"hi"}`: {"/v4/open-channel/message/send", map[string]any{
			"fromUserId": "news", "toChannelIds": []any{"lobby"}, "messageType": "RC:TxtMsg", "content": `{"content":"hi"}`,
		}},
	} {
		h := newHouse(t)
		v := h.enter().ask(http.StatusOK, "send", body)
		if len(h.calls) != 1 || fmt.Sprint(h.calls[0]) != fmt.Sprint(want) {
			t.Errorf("%s called %v", body, h.calls)
		}
		if v["sent"] != 1.0 || v["status"] != 200.0 || v["path"] != want.path || fmt.Sprint(v["request"]) != fmt.Sprint(want.body) || fmt.Sprint(v["answer"]) != "map[code:0]" {
			t.Errorf("%s: %v", body, v)
		}
	}
	h := newHouse(t)
	b := h.enter()
	for _, body := range []string{
		`{"kind":"direct","from":"alice","text":"x"}`, `{"kind":"direct","text":"x"}`, `{"kind":"system","from":"ann","text":"x"}`,
		`{"kind":"group","text":"x"}`, `{"kind":"open","text":"  "}`, `{"kind":"open","text":"x","count":51}`, `{"kind":"open","text":"x","count":-1}`,
		`{"kind":"open","text":"x","to":"alice"}`, `{"kind":"open","text":"` + strings.Repeat("é", maxText+1) + `"}`,
	} {
		b.ask(http.StatusBadRequest, "send", body)
	}
	b.ask(http.StatusRequestEntityTooLarge, "send", `{"kind":"open","text":"`+strings.Repeat("x", maxBody)+`"}`)
	if len(h.calls) != 0 {
		t.Errorf("refused requests called %v", h.calls)
	}
	b.ask(http.StatusOK, "send", `{"kind":"open","text":"`+strings.Repeat("é", maxText)+`"}`)
}

func TestSendMany(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b := h.enter()
	if v := b.ask(http.StatusOK, "send", `{"kind":"direct","from":"ann","text":"n","count":3}`); v["sent"] != 3.0 {
		t.Errorf("sent %v", v)
	}
	for i, c := range h.calls {
		if want := fmt.Sprintf(`{"content":"n (%d of 3)"}`, i+1); c.body["content"] != want {
			t.Errorf("call %d has %s", i, c.body["content"])
		}
	}
	// What is refused is told as it is, and nothing goes after it.
	h.fail = http.StatusTooManyRequests
	v := b.ask(http.StatusOK, "send", `{"kind":"direct","from":"ann","text":"n","count":3}`)
	if v["sent"] != 0.0 || v["status"] != 429.0 || fmt.Sprint(v["answer"]) != "map[code:1 errorMessage:no]" || len(h.calls) != 4 {
		t.Errorf("refused: %v after %d calls", v, len(h.calls))
	}
}

// The bot writes its answer in chunks of one stream, to the end, also when
// whoever asked has gone.
func TestAnswer(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.page.pace = time.Microsecond
	b := h.enter()
	r := request("answer", `{"user":"bob"}`)
	gone, leave := context.WithCancel(t.Context())
	leave()
	_, body := b.do(r.WithContext(gone))
	var text strings.Builder
	for i, c := range h.calls {
		content := c.body["content"].(map[string]any)
		text.WriteString(content["content"].(string))
		id, has := content["messageId"]
		if c.path != "/v4/direct-channel/message/stream/send" || c.body["fromUserId"] != "bot" || c.body["toUserId"] != "bob" ||
			content["seq"] != float64(i+1) || content["complete"] != (i == len(h.calls)-1) || has != (i > 0) || has && id != "M1" {
			t.Errorf("chunk %d: %v", i+1, c)
		}
	}
	if text.String() != botAnswer || len(h.calls) < 10 {
		t.Errorf("%d chunks make %q", len(h.calls), &text)
	}
	if want := fmt.Sprintf(`"sent":%d,`, len(h.calls)); !strings.Contains(body, want) {
		t.Errorf("told %s, without %s", body, want)
	}
	for _, body := range []string{`{"user":"alice"}`, `{}`, `{"user":"ann","text":"x"}`, ``} {
		b.ask(http.StatusBadRequest, "answer", body)
	}
	// What is refused ends it.
	h.calls, h.fail = nil, http.StatusTooManyRequests
	if v := b.ask(http.StatusOK, "answer", `{"user":"ann"}`); v["sent"] != 0.0 || v["status"] != 429.0 || len(h.calls) != 1 {
		t.Errorf("refused: %v after %d calls", v, len(h.calls))
	}
	for range maxAnswers {
		h.page.answering <- struct{}{}
	}
	b.ask(http.StatusTooManyRequests, "answer", `{"user":"ann"}`)
}

// A server that stops does not wait for pauses: the answer comes to its end.
func TestAnswerIsHurriedByClose(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.page.pace = time.Hour
	b := h.enter()
	h.page.Close()
	h.page.Close()
	if v := b.ask(http.StatusOK, "answer", `{"user":"ann"}`); v["sent"] != float64(len(h.calls)) || len(h.calls) < 10 {
		t.Errorf("%v after %d calls", v, len(h.calls))
	}
}

// Who cannot be the page itself is refused before anything is done.
func TestOtherPagesAreRefused(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b := h.enter()
	for name, c := range map[string]struct {
		status int
		change func(*http.Request)
	}{
		"the page itself":  {http.StatusOK, func(*http.Request) {}},
		"another site":     {http.StatusForbidden, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }},
		"another port":     {http.StatusForbidden, func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }},
		"an older browser": {http.StatusForbidden, func(r *http.Request) { r.Header.Del("Sec-Fetch-Site"); r.Header.Set("Origin", "http://127.0.0.1:9") }},
		"a form":           {http.StatusUnsupportedMediaType, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }},
		"a link":           {http.StatusMethodNotAllowed, func(r *http.Request) { r.Method = http.MethodGet }},
		"a path":           {http.StatusNotFound, func(r *http.Request) { r.URL.Path = "/demo/api/tokens" }},
		"a cookie less":    {http.StatusUnauthorized, func(r *http.Request) { r.Header.Del("Cookie") }},
	} {
		r := request("token", `{"user":"ann"}`)
		r.AddCookie(b.cookie)
		c.change(r)
		if resp, body := (&browser{house: h}).do(r); resp.StatusCode != c.status {
			t.Errorf("%s: %d %s", name, resp.StatusCode, body)
		}
	}
}

func TestFailuresAreNotTold(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.page.Token = func(context.Context, *chat.App, string) (string, error) { return "", errors.New("the disk is gone") }
	v := h.enter().ask(http.StatusInternalServerError, "token", `{"user":"ann"}`)
	if strings.Contains(fmt.Sprint(v), "disk") || !strings.Contains(h.log.String(), "the disk is gone") {
		t.Errorf("told %v, logged %s", v, &h.log)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	b := &browser{house: newHouse(t)}
	for name, want := range map[string]string{
		"": "text/html; charset=utf-8", "index.html": "text/html; charset=utf-8", "app.mjs": "text/javascript; charset=utf-8", "parley-push.js": "text/javascript; charset=utf-8",
		"style.css": "text/css; charset=utf-8", "icon.svg": "image/svg+xml", "vendor/centrifuge-LICENSE.txt": "text/plain; charset=utf-8",
	} {
		resp, body := b.get(Path + name)
		if resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Type") != want || body == "" {
			t.Errorf("%q: %d %s", name, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		checkProtected(t, resp)
		r := httptest.NewRequest(http.MethodGet, Path+name, nil)
		r.Header.Set("If-None-Match", resp.Header.Get("ETag"))
		if again, _ := b.do(r); again.StatusCode != http.StatusNotModified {
			t.Errorf("%q is sent again: %d", name, again.StatusCode)
		}
	}
	for _, name := range []string{"nothing", "vendor", "vendor/", "../console.go", "static/index.html", "api", "%2e%2e/", "index.html/"} {
		resp, _ := b.get(Path + name)
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %d", name, resp.StatusCode)
		}
		checkProtected(t, resp)
	}
	if resp, _ := b.get("/demo"); resp.StatusCode != http.StatusPermanentRedirect || resp.Header.Get("Location") != Path {
		t.Errorf("/demo: %d to %s", resp.StatusCode, resp.Header.Get("Location"))
	}
	if resp, _ := b.do(httptest.NewRequest(http.MethodPost, Path, nil)); resp.StatusCode != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", resp.StatusCode)
	}
}

func checkProtected(t *testing.T, resp *http.Response) {
	t.Helper()
	csp := resp.Header.Get("Content-Security-Policy")
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(csp, want) {
			t.Errorf("%s: the policy %q lacks %s", resp.Header.Get("Content-Type"), csp, want)
		}
	}
	if strings.Contains(csp, "unsafe") || strings.Contains(csp, "*") {
		t.Errorf("the policy %q is loose", csp)
	}
	if resp.Header.Get("X-Content-Type-Options") != "nosniff" || resp.Header.Get("Referrer-Policy") != "no-referrer" {
		t.Errorf("headers: %v", resp.Header)
	}
}

// The page keeps to its own policy: no code or style inline, nothing from
// elsewhere, and every file that is named is there.
func TestPageIsWhole(t *testing.T) {
	t.Parallel()
	files := pageFiles()
	inline := regexp.MustCompile(`(?i)<script(?:[^>]*src=)?[^>]*>[^<]+|<style|\sstyle=|\son[a-z]+=|javascript:`)
	far := regexp.MustCompile(`(?i)(?:src|href|from|import|url)\s*[=(]?\s*['"]?(?:https?:)?//`)
	named := regexp.MustCompile(`(?:src|href)="([a-z][^"]*)"|from '\./([^']+)'`)
	for name, f := range files {
		if f.mediaType == "" {
			t.Errorf("%s has no media type", name)
		}
		if strings.HasPrefix(name, "vendor/") {
			continue
		}
		if m := inline.Find(f.body); m != nil && strings.HasSuffix(name, ".html") {
			t.Errorf("%s has inline code: %s", name, m)
		}
		if m := far.Find(f.body); m != nil {
			t.Errorf("%s loads from elsewhere: %s", name, m)
		}
		if bytes.Contains(f.body, []byte("innerHTML")) {
			t.Errorf("%s writes markup", name)
		}
		for _, m := range named.FindAllSubmatch(f.body, -1) {
			to := path.Join(path.Dir(name), string(m[1])+string(m[2]))
			if files[to] == nil {
				t.Errorf("%s names %s, which is not there", name, to)
			}
		}
	}
	if files[""] == nil || len(files) < 8 {
		t.Errorf("only %d files", len(files))
	}
}
