package pushtest

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// MIRules are what the app behind a simulator of Xiaomi has agreed with it.
type MIRules struct {
	// Channels are the app's, and whether they are private: such a channel takes
	// nothing but templates. nil is that every name is one, and none is private.
	Channels map[string]bool
	Daily    int           // how many notifications a day; 0 is as many as the options say
	Feedback time.Duration // how seldom the list of dead tokens may be asked for
	Retired  bool          // there is no such list any more
}

// NewMI makes a simulator of Xiaomi's Mi Push.
func NewMI(o Options) *Sim {
	return newSim(chat.MI, o, &mi{secret: o.secret("MI app secret")})
}

// SetMIRules sets the rules of a simulator of Xiaomi.
func (s *Sim) SetMIRules(r MIRules) {
	m := s.kind.(*mi)
	m.mu.Lock()
	m.rules = r
	m.mu.Unlock()
}

type mi struct {
	secret string
	ids    atomic.Uint64
	jobs   memory // tokens and jobkeys of what was shown

	mu    sync.Mutex
	rules MIRules
	today dayCount
	told  map[string]time.Time // dead tokens that were told, and when each had died
	asked time.Time            // when they were asked for
}

func (m *mi) auth(*http.Request) bool { return false } // there are no access tokens
func (m *mi) revoke()                 {}
func (m *mi) http2() bool             { return false }

func (m *mi) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{"appSecret": m.secret}}
}

// Codes of Xiaomi's. Where its pages do not say which it is, it is the one that
// fits best.
const (
	miQuota    = "200001"
	miAuth     = "21301"
	miPackage  = "22006"
	miChannel  = "27001"
	miReview   = "26006" // a private channel wants a template
	miMissing  = "10016"
	miValue    = "10017"
	miTooLong  = "65009"
	miExtras   = "65014" // too many of them
	miExtra    = "65015" // one of them is too long, or wrong
	miCallback = "65037"
	miParam    = "65038"
	miTarget   = "20301"
	miTooOften = "10030"
)

func (m *mi) refuse(w http.ResponseWriter, code string) {
	var v struct {
		Result      string `json:"result"`
		Reason      string `json:"reason"`
		Code        int    `json:"code"`
		Description string `json:"description"`
		Info        string `json:"info"`
		TraceID     string `json:"trace_id"`
	}
	v.Result, v.TraceID, v.Description = "error", m.id("T"), "refused"
	var err error
	if v.Code, err = strconv.Atoi(code); err != nil {
		v.Code, v.Reason = 10000, code // of those that are words, such as channel_exceed_quota
	}
	writeObject(w, v)
}

// writeObject answers 200 with v, as most providers do whatever they have to say.
func writeObject(w http.ResponseWriter, v any) {
	body, err := json.Marshal(v, json.Deterministic(true))
	if err != nil {
		panic("pushtest: " + err.Error()) // a type without a JSON form
	}
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_, _ = w.Write(body)
}

func (m *mi) id(kind string) string { return fmt.Sprintf("%s%012d", kind, m.ids.Add(1)) }

func (m *mi) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	route := r.Method + " " + r.URL.Path
	switch route {
	case "POST /v3/message/regid", "GET /v1/feedback/fetch_invalid_regids", "GET /v1/trace/message/status":
	default:
		http.NotFound(w, r)
		return
	}
	code := miAuth
	if key, ok := strings.CutPrefix(r.Header.Get("Authorization"), "key="); ok && key == m.secret {
		switch route {
		case "POST /v3/message/regid":
			code = m.send(s, w, r)
			if code != "" {
				s.refused()
			}
		case "GET /v1/feedback/fetch_invalid_regids":
			code = m.feedback(s, w, r)
		default:
			code = miValue // there is no such message
		}
	}
	if code != "" {
		m.refuse(w, code)
	}
}

// feedback tells of dead tokens, of each once.
func (m *mi) feedback(s *Sim, w http.ResponseWriter, r *http.Request) (code string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.rules.Retired {
		http.NotFound(w, r)
		return ""
	}
	now := s.Now()
	if m.rules.Feedback > 0 && now.Sub(m.asked) < m.rules.Feedback {
		return miTooOften
	}
	m.asked = now
	if m.told == nil {
		m.told = map[string]time.Time{}
	}
	writeObject(w, miAnswer{Result: "ok", TraceID: m.id("T"), Data: miData{List: s.dead(m.told, 1000)}})
	return ""
}

// dead are tokens of phones whose app was removed, at most limit of those that were
// not told of it yet. They are from then on.
func (s *Sim) dead(told map[string]time.Time, limit int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := []string{}
	for token, p := range s.phones {
		if p.Gone && !told[token].Equal(p.GoneAt) {
			list = append(list, token)
		}
	}
	slices.Sort(list)
	list = list[:min(len(list), limit)]
	for _, token := range list {
		told[token] = s.phones[token].GoneAt
	}
	return list
}

type miAnswer struct {
	Result  string `json:"result"`
	TraceID string `json:"trace_id"`
	Code    int    `json:"code"`
	Data    miData `json:"data"`
	Info    string `json:"info,omitzero"`
}

type miData struct {
	ID   string   `json:"id,omitzero"`
	List []string `json:"list,omitzero"`
}

var miJobKey = regexp.MustCompile(`^[0-9A-Za-z-][0-9A-Za-z_-]{0,11}$`)

// miFields are the fields of a form, and which code a wrong value has.
var miFields = map[string]func(v string) (code string){
	"registration_id":         func(v string) string { return unless(v != "", miMissing) },
	"restricted_package_name": func(v string) string { return unless(v != "", miPackage) },
	"payload":                 func(v string) string { return unless(len(v) < 4096, miTooLong) },
	"title":                   func(v string) string { return miText(v, 50) },
	"description":             func(v string) string { return miText(v, 128) },
	"pass_through":            func(v string) string { return unless(v == "0" || v == "1", miValue) },
	"notify_type":             func(v string) string { return miNumber(v, -1, 7) },
	"notify_id":               func(v string) string { return miNumber(v, 0, 1<<31-1) },
	"time_to_live":            func(v string) string { return miNumber(v, 1, 1<<62) },
	"time_to_send":            func(v string) string { return miNumber(v, 1, 1<<62) },

	"extra.channel_id":                  func(v string) string { return unless(v != "", miChannel) },
	"extra.notification_large_icon_uri": func(v string) string { return unless(strings.HasPrefix(v, "https://"), miValue) },
	"extra.notify_foreground":           func(v string) string { return miNumber(v, 0, 1) },
	"extra.notify_effect":               func(v string) string { return miNumber(v, 1, 3) },
	"extra.intent_uri":                  func(v string) string { return unless(v != "", miValue) },
	"extra.web_uri":                     func(v string) string { return unless(strings.HasPrefix(v, "http"), miValue) },
	"extra.only_send_once":              func(v string) string { return unless(v == "1", miValue) },
	"extra.jobkey":                      func(v string) string { return unless(miJobKey.MatchString(v), miValue) },
	"extra.callback":                    func(v string) string { return unless(strings.HasPrefix(v, "http") && len(v) <= 128, miCallback) },
	"extra.callback.param":              func(v string) string { return unless(len(v) <= 64, miParam) },
	"extra.callback.type":               func(v string) string { return miNumber(v, 1, 1<<16) },
	"extra.template_id":                 func(v string) string { return unless(v != "", miExtra) },
	"extra.template_param":              miVariables,
	"extra.sound_uri":                   func(v string) string { return unless(v != "", miValue) },
	"extra.ticker":                      func(string) string { return "" },
}

func unless(good bool, code string) string {
	if good {
		return ""
	}
	return code
}

func miText(v string, limit int) string {
	if strings.TrimSpace(v) == "" {
		return miMissing
	}
	return unless(utf8.RuneCountInString(v) < limit, miTooLong)
}

func miNumber(v string, least, most int64) string {
	n, err := strconv.ParseInt(v, 10, 64)
	return unless(err == nil && n >= least && n <= most && strconv.FormatInt(n, 10) == v, miValue)
}

func miVariables(v string) string {
	var list map[string]string
	if json.Unmarshal([]byte(v), &list) != nil || list == nil {
		return miExtra
	}
	for _, text := range list {
		if n := utf8.RuneCountInString(text); n > 128 || strings.TrimSpace(text) == "" || strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.So, r) }) {
			return miExtra
		}
	}
	return ""
}

// read checks all of a form that can be checked without knowing the app.
func (m *mi) read(r *http.Request) (form url.Values, custom int, code string) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" || r.ParseForm() != nil {
		return nil, 0, miValue
	}
	form = r.PostForm
	customs := 0
	for name, values := range form {
		check, known := miFields[name]
		extra, isExtra := strings.CutPrefix(name, "extra.")
		switch {
		case len(values) != 1, !known && !isExtra, !utf8.ValidString(values[0]):
			return nil, 0, miValue
		case known:
			if code := check(values[0]); code != "" {
				return nil, 0, code
			}
		default:
			custom++
			customs += utf8.RuneCountInString(extra) + utf8.RuneCountInString(values[0])
		}
	}
	if custom > 10 {
		return nil, 0, miExtras
	}
	if customs > 1024 {
		return nil, 0, miExtra
	}
	for _, name := range [...]string{"registration_id", "pass_through", "payload"} {
		if !form.Has(name) {
			return nil, 0, miMissing
		}
	}
	if form.Get("pass_through") == "0" && (!form.Has("title") || !form.Has("description")) {
		return nil, 0, miMissing
	}
	switch effect := form.Get("extra.notify_effect"); {
	case effect == "2" && !form.Has("extra.intent_uri"), effect == "3" && !form.Has("extra.web_uri"), form.Has("extra.template_param") && !form.Has("extra.template_id"):
		return nil, 0, miMissing
	}
	return form, custom, unless(form.Has("restricted_package_name"), miPackage)
}

func (m *mi) send(s *Sim, w http.ResponseWriter, r *http.Request) (code string) {
	form, custom, code := m.read(r)
	if code != "" {
		return code
	}
	now := s.Now()
	m.mu.Lock()
	rules := m.rules
	m.mu.Unlock()
	if id := form.Get("extra.channel_id"); id != "" && rules.Channels != nil {
		private, there := rules.Channels[id]
		switch {
		case !there:
			return miChannel
		case private && !form.Has("extra.template_id"):
			return miReview
		}
	}
	tokens := strings.Split(form.Get("registration_id"), ",")
	if len(tokens) > 1000 {
		return miValue
	}
	var live []string
	for _, token := range tokens {
		p, found := s.phone(token)
		if !found || p.Gone {
			continue
		}
		if p.Package != "" && p.Package != form.Get("restricted_package_name") {
			return miPackage
		}
		live = append(live, token)
	}
	if len(live) == 0 {
		return miTarget
	}
	m.mu.Lock()
	fits := m.today.spend(now.Unix(), cmp.Or(rules.Daily, s.options.Daily, 1_000_000))
	m.mu.Unlock()
	if !fits {
		return miQuota
	}
	n, ok := extrasOf(form.Get("payload"))
	n.ID = m.id("sdm")
	n.Title, n.Body, n.Badge = form.Get("title"), form.Get("description"), -1
	n.Silent = form.Get("pass_through") == "1"
	// A phone shows one notification of an app, unless they have numbers.
	n.Key = "notification " + form.Get("notify_id")
	ttl := int64(14 * 24 * time.Hour / time.Millisecond)
	if v, err := strconv.ParseInt(form.Get("time_to_live"), 10, 64); err == nil {
		ttl = min(ttl, v)
	}
	n.Expires = now.Add(time.Duration(ttl) * time.Millisecond)
	// A lifetime of less than a second is one in seconds; extras of the app's own
	// come to where nothing reads them.
	if !ok || ttl < 1000 || custom > 0 {
		s.odd()
	}
	for _, token := range live {
		n.Token = token
		// Of notifications with one key the first is shown.
		if key := form.Get("extra.jobkey"); key == "" || m.jobs.first(token+" "+key) {
			s.show(n)
		}
	}
	writeObject(w, miAnswer{Result: "ok", TraceID: m.id("T"), Data: miData{ID: n.ID}, Info: fmt.Sprintf("Received push messages for %d regid", len(live))})
	return ""
}

// extrasOf reads what the app gets beside what is shown, as it is written for
// those providers that take one text for all of it.
func extrasOf(text string) (n Shown, ok bool) {
	var v struct {
		AppData string         `json:"appData"`
		Card    jsontext.Value `json:"rc"`
		Removes string         `json:"rc-dlt-identifier"`
	}
	ok = json.Unmarshal([]byte(text), &v) == nil && v.Card.Kind() == '{'
	n.Data, n.Card, n.Removes = v.AppData, string(v.Card), v.Removes
	return n, ok
}
