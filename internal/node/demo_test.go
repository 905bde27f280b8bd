package node

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
)

// visit opens the page with a link, as a browser would.
func (h *house) visit(link string) *http.Client {
	h.t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		h.t.Fatal(err)
	}
	c := &http.Client{Transport: h.http.Transport, Timeout: h.http.Timeout, Jar: jar}
	_, ticket, _ := strings.Cut(link, "#")
	if status, body := h.ask(c, "session", `{"ticket":"`+ticket+`"}`); status != http.StatusOK {
		h.t.Fatalf("the link does not open the page: %d %s", status, body)
	}
	return c
}

func (h *house) ask(c *http.Client, name, body string) (int, string) {
	h.t.Helper()
	r, err := http.NewRequest(http.MethodPost, h.base+"/demo/api/"+name, strings.NewReader(body))
	if err != nil {
		h.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	resp, err := c.Do(r)
	if err != nil {
		h.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		h.t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// A link leads to the page, the page to tokens that connect and to messages
// that the server API has taken.
func TestDemoPage(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	h := startHouse(t, c, unchanged)
	owner, err := admin.Connect(t.Context(), c.Data)
	if err != nil {
		t.Fatal(err)
	}
	defer owner.Close()
	link, err := owner.DemoLink(t.Context())
	if err != nil || !strings.HasPrefix(link.URL, h.base+"/demo/#") {
		t.Fatalf("link %+v, %v", link, err)
	}
	for _, path := range []string{"/demo", "/demo/", "//demo/", "/demo/app.mjs"} {
		if status, body, header := h.get(path); status != http.StatusOK || body == "" || header.Get("Content-Security-Policy") == "" {
			t.Errorf("%s: %d", path, status)
		}
	}
	// What only looks like it is not the page's.
	if status, body, _ := h.get("/demonstration"); status != http.StatusNotFound || !strings.Contains(body, `"code":404`) {
		t.Errorf("/demonstration: %d %s", status, body)
	}

	browser := h.visit(link.URL)
	status, body := h.ask(browser, "token", `{"user":"ann"}`)
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(body), &answer); err != nil || status != http.StatusOK || strings.Count(answer.Token, ".") != 2 {
		t.Fatalf("token: %d %s", status, body)
	}
	for _, what := range []string{
		`{"kind":"direct","from":"ann","text":"hi","count":3}`, `{"kind":"system","text":"hi"}`, `{"kind":"open","text":"hi"}`,
	} {
		status, body := h.ask(browser, "send", what)
		if status != http.StatusOK || !strings.Contains(body, `"code":0`) {
			t.Errorf("%s: %d %s", what, status, body)
		}
	}
	// Nothing that opens anything is in the log.
	_, ticket, _ := strings.Cut(link.URL, "#")
	for _, secret := range []string{ticket, answer.Token, testSecret} {
		if strings.Contains(h.log.String(), secret) {
			t.Errorf("the log has %q", secret)
		}
	}
}

// The page is there by itself on a loopback address only, and goes by its
// setting.
func TestDemoPageSetting(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		listen, setting string
		on              bool
	}{
		{"127.0.0.1:0", demoAuto, true},
		{"localhost:0", demoAuto, true},
		{"0.0.0.0:0", demoAuto, false},
		{"0.0.0.0:0", demoOn, true},
		{"127.0.0.1:0", demoOff, false},
	} {
		t.Run(c.listen+" "+c.setting, func(t *testing.T) {
			t.Parallel()
			config := testConfig(t)
			config.Listen, config.DemoPage = c.listen, c.setting
			h := startHouse(t, config, unchanged)
			h.base = "http://" + reachable(h.Addr())
			link, err := h.Admin().DemoLink(t.Context())
			status, body, _ := h.get("/demo/")
			api, _ := h.ask(h.http, "session", `{"ticket":"x"}`)
			if c.on {
				if err != nil || status != http.StatusOK || api != http.StatusUnauthorized || !strings.HasPrefix(link.URL, h.base) {
					t.Errorf("%+v, %v; page %d, api %d", link, err, status, api)
				}
				return
			}
			if chat.KindOf(err) != chat.KindFeatureOff || status != http.StatusNotFound || api != http.StatusNotFound || strings.Contains(body, "<html") {
				t.Errorf("%+v, %v; page %d %s, api %d", link, err, status, body, api)
			}
		})
	}
}

// The app that the settings name goes before others.
func TestDemoPageApp(t *testing.T) {
	t.Parallel()
	c := testConfig(t)
	h := startHouse(t, c, unchanged)
	if _, err := h.Admin().CreateApp(t.Context(), "another", ""); err != nil {
		t.Fatal(err)
	}
	link, err := h.Admin().DemoLink(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if status, body := h.ask(h.visit(link.URL), "page", `{}`); status != http.StatusOK || !strings.Contains(body, `"app":"app"`) {
		t.Errorf("%d %s", status, body)
	}
}
