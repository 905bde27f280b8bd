package node

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// A market is a tower with all providers around it.
type market struct {
	*tower
	sims      map[chat.PushProvider]*pushtest.Sim
	addresses map[chat.PushProvider]string
	mu        sync.Mutex
	seen      map[chat.PushProvider][]seen
}

// seen is a request as a provider got it.
type seen struct {
	method, path string
	header       http.Header
	body         string
}

// tokenOf is a token as the provider's look.
func tokenOf(p chat.PushProvider) string {
	switch p {
	case chat.APNs:
		return strings.Repeat("0a1b2c3d", 8)
	case chat.OPPO:
		return "OPPO_CN_" + strings.Repeat("5e6f", 8)
	}
	return strings.ToLower(p.String()) + "-" + strings.Repeat("7a8b", 8)
}

func newMarket(t *testing.T) *market {
	t.Helper()
	server, err := pushtest.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, server.CA, 0o600); err != nil {
		t.Fatal(err)
	}
	m := &market{
		sims: map[chat.PushProvider]*pushtest.Sim{}, addresses: map[chat.PushProvider]string{}, seen: map[chat.PushProvider][]seen{},
	}
	m.tower = newTower(t, func(c *Config) { c.PushCA, c.PushGrace = ca, time.Millisecond })
	for p, of := range pushtest.All() {
		m.sims[p] = of(pushtest.Options{Strangers: true, Seen: func(r *http.Request, body string) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.seen[p] = append(m.seen[p], seen{r.Method, r.URL.RequestURI(), r.Header.Clone(), body})
		}})
		if m.addresses[p], err = server.Serve(m.sims[p], "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
		c := m.sims[p].Credential(m.addresses[p])
		m.credential(&c)
		m.done("/v4x/push/device/register", fmt.Sprintf(`{"userId":%q,"deviceId":"phone","provider":%q,"token":%q,"package":%q,"language":"de"}`,
			p.String(), p.String(), pushtest.Token(p, tokenOf(p)), cmp.Or(c.Package, "com.example.chat")))
	}
	return m
}

func (m *market) credential(c *chat.PushCredential) {
	m.t.Helper()
	k := admin.PushKey{Provider: c.Provider.String(), Package: c.Package, Environment: c.Environment.String()}
	if _, err := m.Admin().SetPushCredential(m.t.Context(), "app", k, c.BaseURL, c.Fields, false); err != nil {
		m.t.Fatal(err)
	}
}

// What a preview shows is what the provider gets when the message is sent, for every
// provider, but for what names the message, tells the time, and proves who sends it.
func TestPushPreview(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	var users []string
	for _, p := range chat.PushProviders() {
		users = append(users, p.String())
	}
	to, err := json.Marshal(users)
	if err != nil {
		t.Fatal(err)
	}
	m.token("ann")
	body := fmt.Sprintf(`{"fromUserId":"ann","toUserIds":%s,"messageType":"RC:TxtMsg","content":"{\"content\":\"Hello\"}","pushData":"{\"k\":1}","pushExt":"{\"title\":\"News\"}"}`, to)
	var v struct {
		Result struct {
			Recipients []struct {
				UserID  string `json:"userId"`
				Reason  string
				Devices []struct {
					Error, Title, Body string
					Request            struct {
						Method, Path string
						Headers      map[string]string
						Body         json.RawMessage
						Form         map[string]string
					}
				}
			}
		}
	}
	answer := m.done("/v4x/push/preview", body)
	if err := json.Unmarshal([]byte(answer), &v); err != nil || len(v.Result.Recipients) != len(users) {
		t.Fatalf("%v: %s", err, answer)
	}
	for _, p := range chat.PushProviders() {
		m.mu.Lock()
		if len(m.seen[p]) > 0 {
			t.Errorf("%s was asked for a preview: %+v", p, m.seen[p])
		}
		m.mu.Unlock()
		if strings.Contains(answer, tokenOf(p)) {
			t.Errorf("the token of %s is in the answer", p)
		}
	}
	m.done(sendPath, body)
	for i, p := range chat.PushProviders() {
		r := v.Result.Recipients[i]
		if r.UserID != p.String() || r.Reason != "away" || len(r.Devices) != 1 || r.Devices[0].Error != "" || r.Devices[0].Title != "News" || r.Devices[0].Body != "Hello" {
			t.Errorf("%+v", r)
			continue
		}
		shown, got := r.Devices[0].Request, m.sent(p)
		if p == chat.WEB {
			// What is sent is encrypted, and the whole address is nobody's to see.
			got.path = "https://fcm.googleapis.com/" + chat.ShortToken(got.path)
			m.until("the browser shows it", func() bool { return len(m.sims[p].Log(tokenOf(p))) > 0 })
			got.body = m.sims[p].Log(tokenOf(p))[0].Payload
		}
		if shown.Method != got.method || masked(p, shown.Path) != masked(p, got.path) {
			t.Errorf("%s: %s %s, sent %s %s", p, shown.Method, shown.Path, got.method, got.path)
		}
		for name, value := range shown.Headers {
			if masked(p, value) != masked(p, got.header.Get(name)) {
				t.Errorf("%s: %s is %q, sent %q", p, name, value, got.header.Get(name))
			}
		}
		if shown.Form == nil {
			if masked(p, string(shown.Body)) != masked(p, got.body) {
				t.Errorf("%s:\nshown %s\nsent  %s", p, masked(p, string(shown.Body)), masked(p, got.body))
			}
			continue
		}
		form, err := url.ParseQuery(got.body)
		if err != nil {
			t.Fatal(err)
		}
		proof := []string{"sign", "auth_token"}
		for _, name := range slices.Sorted(maps.Keys(form)) {
			value, there := shown.Form[name]
			if slices.Contains(proof, name) {
				if there {
					t.Errorf("%s: %s is shown", p, name)
				}
			} else if masked(p, value) != masked(p, form.Get(name)) {
				t.Errorf("%s: %s is %s, sent %s", p, name, masked(p, value), masked(p, form.Get(name)))
			}
		}
		for name := range shown.Form {
			if !form.Has(name) {
				t.Errorf("%s: %s is shown and was not sent", p, name)
			}
		}
	}
}

// sent is the request by which the provider was told, once it was.
func (m *market) sent(p chat.PushProvider) seen {
	m.t.Helper()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		m.mu.Lock()
		for _, s := range m.seen[p] {
			if strings.Contains(s.path+s.body, tokenOf(p)) {
				m.mu.Unlock()
				return s
			}
		}
		m.mu.Unlock()
	}
	m.t.Fatalf("%s was never asked", p)
	return seen{}
}

var (
	namesMessage = regexp.MustCompile(`[0-9A-Z]{4}(-[0-9A-Z]{4}){3}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|"notifyKey":"[^"]*"`)
	anyNumber    = regexp.MustCompile(`[0-9]+`)
)

// masked is a text without the token, and without what is of one message and moment.
func masked(p chat.PushProvider, text string) string {
	text = strings.ReplaceAll(text, tokenOf(p), chat.ShortToken(tokenOf(p)))
	return anyNumber.ReplaceAllString(namesMessage.ReplaceAllString(text, "U"), "0")
}

// Credentials are asked after at their providers, by the owner and by the app; what
// a provider refuses is not set when it is to be asked first.
func TestPushCheck(t *testing.T) {
	t.Parallel()
	m := newMarket(t)
	// The tower's own, which would be asked after where Meizu is.
	if err := m.Admin().RemovePushCredential(t.Context(), "app", admin.PushKey{Provider: "MEIZU"}); err != nil {
		t.Fatal(err)
	}
	meizu := m.sims[chat.MEIZU].Credential(m.addresses[chat.MEIZU])
	m.credential(&meizu)
	check := func(k admin.PushKey) map[string]admin.PushChecked {
		t.Helper()
		list, err := m.Admin().CheckPushCredentials(t.Context(), "app", k)
		if err != nil {
			t.Fatal(err)
		}
		found := map[string]admin.PushChecked{}
		for _, c := range list {
			found[c.Provider] = c
		}
		return found
	}
	found := check(admin.PushKey{})
	if len(found) != len(chat.PushProviders()) {
		t.Errorf("%+v", found)
	}
	for p, c := range found {
		if c.Verdict != "good" || c.Advice != "" || c.Fingerprint == "" {
			t.Errorf("%s: %+v", p, c)
		}
	}
	for p, s := range m.sims {
		if n := len(s.Log(tokenOf(p))); n != 0 {
			t.Errorf("%s: a check was shown", p)
		}
	}

	bad := m.sims[chat.VIVO].Credential(m.addresses[chat.VIVO])
	bad.Fields = maps.Clone(bad.Fields)
	bad.Fields["appSecret"] = "hush-wrong"
	k := admin.PushKey{Provider: "VIVO", Package: bad.Package}
	if _, err := m.Admin().SetPushCredential(t.Context(), "app", k, bad.BaseURL, bad.Fields, true); chat.KindOf(err) != chat.KindInvalid || strings.Contains(err.Error(), "hush") {
		t.Errorf("%v", err)
	}
	if c := check(k)["VIVO"]; c.Verdict != "good" {
		t.Errorf("one that was refused is set: %+v", c)
	}
	m.credential(&bad)
	if c := check(admin.PushKey{Provider: "vivo"})["VIVO"]; c.Verdict != "refused" || c.Class != "config_halt" || c.Code == "" || c.Advice == "" {
		t.Errorf("%+v", c)
	}
	answer := m.done("/v4x/push/credential/check", `{"provider":"VIVO"}`)
	if !strings.Contains(answer, `"verdict":"refused"`) || strings.Contains(answer, "hush") || strings.Count(answer, "fingerprint") != 1 {
		t.Errorf("%s", answer)
	}
	// Where nobody answers, nothing is known, and it is set.
	bad.BaseURL = "https://127.0.0.1:1"
	said, err := m.Admin().SetPushCredential(t.Context(), "app", k, bad.BaseURL, bad.Fields, true)
	if err != nil || said.Verdict != "unknown" || said.Advice == "" {
		t.Errorf("%+v, %v", said, err)
	}
}
