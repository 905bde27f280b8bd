package pushtest

import (
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/parleychat/parley/internal/chat"
)

// OPPORules are what the app behind a simulator of OPPO has agreed with it.
type OPPORules struct {
	Region     string          // cn or global: the phones of the other side are not known here
	Channels   map[string]bool // those that were registered; nil is any
	Categories map[string]bool // those that were approved; nil is any
	NoBanner   bool            // the strongest level was not approved
	Daily      int             // how many notifications a day; 0 is as many as the options say
	Feedback   time.Duration   // how seldom the list of dead tokens may be asked for
}

// NewOPPO makes a simulator of OPPO Push.
func NewOPPO(o Options) *Sim {
	return newSim(chat.OPPO, o, &oppo{key: o.secret("OPPO app key"), secret: o.secret("OPPO master secret"), tokens: map[string]time.Time{}})
}

// SetOPPORules sets the rules of a simulator of OPPO.
func (s *Sim) SetOPPORules(r OPPORules) {
	o := s.kind.(*oppo)
	o.mu.Lock()
	o.rules = r
	o.mu.Unlock()
}

type oppo struct {
	key, secret string
	ids         atomic.Uint64
	sent        memory // tokens and app_message_ids

	mu     sync.Mutex
	rules  OPPORules
	tokens map[string]time.Time // access tokens, and when they were made
	today  dayCount
	told   map[string]time.Time // dead tokens that were told, and when each had died
	asked  time.Time            // when they were asked for
}

const (
	oppoAuthPath     = "/server/v1/auth"
	oppoSendPath     = "/server/v1/message/notification/unicast"
	oppoBatchPath    = "/server/v1/message/notification/unicast_batch"
	oppoFeedbackPath = "/server/v1/feedback/fetch_invalid_regidList"

	oppoMaxSkew  = 10 * time.Minute
	oppoTokenTTL = 24 * time.Hour
	oppoMaxBatch = 1000
)

// Codes of OPPO's.
const (
	oppoAuthToken     = "11"
	oppoMethod        = "12"
	oppoLimited       = "13"
	oppoKey           = "14"
	oppoNoKey         = "15"
	oppoSign          = "16"
	oppoNoSign        = "17"
	oppoNoTimestamp   = "18"
	oppoTimestamp     = "19"
	oppoNoSuchMethod  = "20"
	oppoNoAuthToken   = "29"
	oppoDuplicate     = "32"
	oppoDaily         = "33"
	oppoMissing       = "40"
	oppoInvalid       = "41"
	oppoCategoryLevel = "67"
	oppoTarget        = "10000"
)

func (o *oppo) auth(r *http.Request) bool { return r.URL.Path == oppoAuthPath }
func (o *oppo) http2() bool               { return false }

func (o *oppo) revoke() {
	o.mu.Lock()
	o.tokens = map[string]time.Time{}
	o.mu.Unlock()
}

func (o *oppo) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{"appKey": o.key, "masterSecret": o.secret}}
}

func (o *oppo) refuse(w http.ResponseWriter, code string) {
	n, _ := strconv.Atoi(code)
	writeObject(w, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
	}{n, "refused"})
}

// take answers with what was asked for.
func (o *oppo) take(w http.ResponseWriter, data any) {
	writeObject(w, struct {
		Code    int    `json:"code"`
		Message string `json:"message"`
		Data    any    `json:"data"`
	}{0, "Success", data})
}

func (o *oppo) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	var code string
	sends := r.URL.Path == oppoSendPath || r.URL.Path == oppoBatchPath
	switch {
	case r.URL.Path == oppoFeedbackPath && r.Method == http.MethodGet:
		code = o.feedback(s, w, r)
	case r.URL.Path != oppoAuthPath && !sends:
		code = oppoNoSuchMethod
	case r.Method != http.MethodPost:
		code = oppoMethod
	default:
		form, bad := oppoForm(r)
		switch {
		case bad != "":
			code = bad
		case r.URL.Path == oppoAuthPath:
			code = o.admit(s, w, form)
		case r.URL.Path == oppoSendPath:
			code = o.unicast(s, w, form)
		default:
			code = o.batch(s, w, form)
		}
	}
	if code != "" {
		if sends {
			s.refused()
		}
		o.refuse(w, code)
	}
}

// oppoForm reads a form, each of whose fields is there once.
func oppoForm(r *http.Request) (url.Values, string) {
	if kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); kind != "application/x-www-form-urlencoded" || r.URL.RawQuery != "" || r.ParseForm() != nil {
		return nil, oppoInvalid
	}
	for _, values := range r.PostForm {
		if len(values) != 1 || !utf8.ValidString(values[0]) {
			return nil, oppoInvalid
		}
	}
	return r.PostForm, ""
}

// only reports whether a form has no other fields than these.
func only(form url.Values, names ...string) bool {
	have := 0
	for _, name := range names {
		if form.Has(name) {
			have++
		}
	}
	return have == len(form)
}

// admit gives an access token to whoever proves to know the secret.
func (o *oppo) admit(s *Sim, w http.ResponseWriter, form url.Values) (code string) {
	now := s.Now()
	stamp := form.Get("timestamp")
	ms, err := strconv.ParseInt(stamp, 10, 64)
	sum := sha256.Sum256([]byte(o.key + stamp + o.secret))
	switch skew := now.Sub(time.UnixMilli(ms)); {
	case !only(form, "app_key", "timestamp", "sign"):
		return oppoInvalid
	case form.Get("app_key") == "":
		return oppoNoKey
	case form.Get("app_key") != o.key:
		return oppoKey
	case stamp == "":
		return oppoNoTimestamp
	case err != nil, len(stamp) != 13, skew.Abs() > oppoMaxSkew:
		return oppoTimestamp
	case form.Get("sign") == "":
		return oppoNoSign
	case form.Get("sign") != hex.EncodeToString(sum[:]):
		return oppoSign
	}
	token := rand.Text()
	o.mu.Lock()
	for old, made := range o.tokens {
		if now.Sub(made) >= oppoTokenTTL {
			delete(o.tokens, old)
		}
	}
	o.tokens[token] = now
	o.mu.Unlock()
	o.take(w, struct {
		AuthToken  string `json:"auth_token"`
		CreateTime int64  `json:"create_time"`
	}{token, now.UnixMilli()})
	return ""
}

// admitted reports whether the access token is good.
func (o *oppo) admitted(s *Sim, token string) (code string) {
	if token == "" {
		return oppoNoAuthToken
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	made, there := o.tokens[token]
	return unless(there && s.Now().Sub(made) < oppoTokenTTL, oppoAuthToken)
}

// feedback tells of dead tokens, of each once.
func (o *oppo) feedback(s *Sim, w http.ResponseWriter, r *http.Request) (code string) {
	token := r.Header.Get("auth_token")
	if token == "" {
		token = r.URL.Query().Get("auth_token")
	}
	if code := o.admitted(s, token); code != "" {
		return code
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := s.Now()
	if o.rules.Feedback > 0 && now.Sub(o.asked) < o.rules.Feedback {
		return oppoLimited
	}
	o.asked = now
	if o.told == nil {
		o.told = map[string]time.Time{}
	}
	list := s.dead(o.told, 1000)
	o.take(w, struct {
		Tokens []string `json:"registration_ids"`
		Total  int      `json:"totalCount"`
	}{list, len(list)})
	return ""
}

// An oppoMessage is one notification for one phone. All its fields are known by
// these names and of these kinds.
type oppoMessage struct {
	TargetType   *int              `json:"target_type"`
	TargetValue  *string           `json:"target_value"`
	Verify       *bool             `json:"verify_registration_id"`
	Notification *oppoNotification `json:"notification"`
}

type oppoNotification struct {
	AppMessageID      *string `json:"app_message_id"`
	Style             *int    `json:"style"`
	Title             *string `json:"title"`
	SubTitle          *string `json:"sub_title"`
	Content           *string `json:"content"`
	ClickType         *int    `json:"click_action_type"`
	ClickActivity     *string `json:"click_action_activity"`
	ClickURL          *string `json:"click_action_url"`
	ActionParameters  *string `json:"action_parameters"`
	ShowTimeType      *int    `json:"show_time_type"`
	OffLine           *bool   `json:"off_line"`
	OffLineTTL        *int64  `json:"off_line_ttl"`
	ShowTTL           *int64  `json:"show_ttl"`
	NotifyID          *int32  `json:"notify_id"`
	ChannelID         *string `json:"channel_id"`
	Category          *string `json:"category"`
	NotifyLevel       *int    `json:"notify_level"`
	SmallPicture      *string `json:"small_picture_id"`
	BigPicture        *string `json:"big_picture_id"`
	CallBackURL       *string `json:"call_back_url"`
	CallBackParameter *string `json:"call_back_parameter"`
	TemplateID        *string `json:"private_msg_template_id"`
	TitleParameters   *string `json:"private_title_parameters"`
	ContentParameters *string `json:"private_content_parameters"`
}

// or is what p points to, else v.
func or[T any](p *T, v T) T {
	if p == nil {
		return v
	}
	return *p
}

// check is what is wrong with a message, whomever it is for.
func (m *oppoMessage) check(rules *OPPORules) (code string) {
	n := m.Notification
	switch {
	case m.TargetType == nil, or(m.TargetValue, "") == "", n == nil, or(n.Title, "") == "", or(n.Content, "") == "":
		return oppoMissing
	case *m.TargetType != 2, strings.ContainsAny(*m.TargetValue, ";, "):
		return oppoInvalid
	}
	content := 50
	switch or(n.Style, 1) {
	case 1:
	case 2:
		content = 128
	default: // 3 is a large picture's, which only broadcasts have
		return oppoInvalid
	}
	for _, text := range [...]struct {
		of    *string
		limit int
	}{
		{n.Title, 50}, {n.SubTitle, 10}, {n.Content, content}, {n.AppMessageID, 64}, {n.ActionParameters, 4000},
		{n.ClickActivity, 500}, {n.ClickURL, 2000}, {n.CallBackURL, 200}, {n.CallBackParameter, 100},
	} {
		if utf8.RuneCountInString(or(text.of, "")) > text.limit {
			return oppoInvalid
		}
	}
	for _, object := range [...]*string{n.ActionParameters, n.TitleParameters, n.ContentParameters} {
		var v map[string]any
		if object != nil && (json.Unmarshal([]byte(*object), &v) != nil || v == nil) {
			return oppoInvalid
		}
	}
	switch or(n.ClickType, 0) {
	case 0:
	case 1, 4:
		if or(n.ClickActivity, "") == "" {
			return oppoMissing
		}
	case 2, 5:
		if or(n.ClickURL, "") == "" {
			return oppoMissing
		}
	default:
		return oppoInvalid
	}
	ttl, show := or(n.OffLineTTL, 3600), or(n.ShowTTL, 1)
	switch {
	case ttl < 1, ttl > 10*86400, show < 1, show > 10*86400, or(n.NotifyID, 0) < 0, n.BigPicture != nil:
		return oppoInvalid
	case n.TemplateID == nil && (n.TitleParameters != nil || n.ContentParameters != nil):
		return oppoMissing
	case n.ChannelID != nil && rules.Channels != nil && !rules.Channels[*n.ChannelID]:
		return oppoInvalid
	}
	category := or(n.Category, "")
	switch level := or(n.NotifyLevel, 1); {
	case n.Category != nil && category == "", rules.Categories != nil && category != "" && !rules.Categories[category],
		n.NotifyLevel != nil && category == "", level != 1 && level != 2 && level != 16, level == 16 && rules.NoBanner:
		return oppoCategoryLevel
	}
	return ""
}

// oppoRegion is where a phone with the token is.
func oppoRegion(token string) string {
	parts := strings.Split(token, "_")
	if len(parts) == 1 || len(parts) == 2 && parts[0] == "CN" || len(parts) == 3 && parts[1] == "CN" {
		return "cn"
	}
	return "global"
}

// deliver gives the message to its phone.
func (o *oppo) deliver(s *Sim, m *oppoMessage, rules *OPPORules) (id, code string) {
	token, v, now := *m.TargetValue, m.Notification, s.Now()
	p, found := s.phone(token)
	if !found || p.Gone || rules.Region != "" && rules.Region != oppoRegion(token) {
		return "", oppoTarget
	}
	o.mu.Lock()
	fits := o.today.spend(now.Unix(), cmp.Or(rules.Daily, s.options.Daily, 1_000_000))
	o.mu.Unlock()
	if !fits {
		return "", oppoDaily
	}
	if v.AppMessageID != nil && !o.sent.first(token+" "+*v.AppMessageID) {
		return "", oppoDuplicate
	}
	n, ok := extrasOf(or(v.ActionParameters, ""))
	n.ID = fmt.Sprintf("%024x", o.ids.Add(1))
	n.Token, n.Request, n.Title, n.Body, n.Badge = token, or(v.AppMessageID, ""), *v.Title, *v.Content, -1
	if v.NotifyID != nil {
		n.Key = strconv.Itoa(int(*v.NotifyID))
	}
	n.Expires = now
	if or(v.OffLine, true) {
		n.Expires = now.Add(time.Duration(or(v.OffLineTTL, 3600)) * time.Second)
	}
	if !ok {
		s.odd()
	}
	s.show(n)
	return n.ID, ""
}

// read reads v as strictly as it can be read.
func (o *oppo) read(s *Sim, form url.Values, name string, v any) (rules OPPORules, code string) {
	o.mu.Lock()
	rules = o.rules
	o.mu.Unlock()
	if code := o.admitted(s, form.Get("auth_token")); code != "" {
		return rules, code
	}
	switch text := form.Get(name); {
	case text == "":
		return rules, oppoMissing
	case !only(form, "auth_token", name), json.Unmarshal([]byte(text), v, json.RejectUnknownMembers(true)) != nil:
		return rules, oppoInvalid
	}
	return rules, ""
}

func (o *oppo) unicast(s *Sim, w http.ResponseWriter, form url.Values) (code string) {
	var m oppoMessage
	rules, code := o.read(s, form, "message", &m)
	if code != "" {
		return code
	}
	if code := m.check(&rules); code != "" {
		return code
	}
	id, code := o.deliver(s, &m, &rules)
	if code != "" {
		return code
	}
	o.take(w, struct {
		MessageID string `json:"messageId"`
	}{id})
	return ""
}

type oppoItem struct {
	MessageID    string `json:"messageId,omitzero"`
	Token        string `json:"registrationId"`
	ErrorCode    int    `json:"errorCode,omitzero"`
	ErrorMessage string `json:"errorMessage,omitzero"`
}

// batch takes all messages that it could take alone. One that is wrong in itself,
// and not only for its phone, has the whole batch refused: OPPO does not say
// which way it is, and this is the harder one.
func (o *oppo) batch(s *Sim, w http.ResponseWriter, form url.Values) (code string) {
	var list []oppoMessage
	rules, code := o.read(s, form, "messages", &list)
	if code != "" {
		return code
	}
	if len(list) == 0 || len(list) > oppoMaxBatch {
		return oppoInvalid
	}
	for i := range list {
		if code := list[i].check(&rules); code != "" {
			return code
		}
	}
	items := make([]oppoItem, len(list))
	for i := range list {
		items[i].Token = *list[i].TargetValue
		id, code := o.deliver(s, &list[i], &rules)
		items[i].MessageID = id
		if code != "" {
			s.refused()
			items[i].ErrorCode, _ = strconv.Atoi(code)
			items[i].ErrorMessage = "refused"
		}
	}
	o.take(w, items)
	return ""
}
