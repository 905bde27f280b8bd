package pushtest

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// NewHW simulates Huawei's HMS Push for Android, with its server of access tokens.
func NewHW(o Options) *Sim {
	k := &hw{app: strconv.FormatInt(o.number("hw app"), 10), project: strconv.FormatInt(o.number("hw project"), 10)}
	k.grants = grants{id: k.app, secret: o.secret("hw")}
	return newSim(chat.HW, o, k)
}

type hw struct {
	app, project string
	grants       grants
	daily        daily
	requests     atomic.Int64
}

const hwTokenPath = "/oauth2/v3/token"

func (k *hw) http2() bool               { return false }
func (k *hw) revoke()                   { k.grants.revoke() }
func (k *hw) auth(r *http.Request) bool { return r.URL.Path == hwTokenPath }

func (k *hw) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{"appId": k.app, "clientSecret": k.grants.secret}}
}

func (k *hw) refuse(w http.ResponseWriter, code string) {
	if _, known := huaweiWords[code]; !known && strings.Trim(code, "0123456789") != "" {
		refuseGrant(w, code)
		return
	}
	answerHuawei(w, code, "", k.id())
}

func (k *hw) id() string { return strconv.FormatInt(k.requests.Add(1), 10) }

// An hwEnvelope is all that a request can hold.
type hwEnvelope struct {
	ValidateOnly bool       `json:"validate_only"`
	Message      *hwMessage `json:"message"`
}

type hwMessage struct {
	Token        []string       `json:"token"`
	Topic        string         `json:"topic"`
	Condition    string         `json:"condition"`
	Data         string         `json:"data"`
	Notification *hwNotice      `json:"notification"`
	Android      *hwAndroid     `json:"android"`
	APNs         jsontext.Value `json:"apns"`
	WebPush      jsontext.Value `json:"webpush"`
}

type hwNotice struct {
	Title string `json:"title"`
	Body  string `json:"body"`
	Image string `json:"image"`
}

type hwAndroid struct {
	CollapseKey  *int            `json:"collapse_key"`
	Urgency      string          `json:"urgency"`
	Category     string          `json:"category"`
	TTL          string          `json:"ttl"`
	BITag        string          `json:"bi_tag"`
	ReceiptID    string          `json:"receipt_id"`
	FastApp      *int            `json:"fast_app_target"`
	Data         string          `json:"data"`
	TargetUser   *int            `json:"target_user_type"`
	Notification *hwNotification `json:"notification"`
}

type hwNotification struct {
	Title             string         `json:"title"`
	Body              string         `json:"body"`
	Image             string         `json:"image"`
	Icon              string         `json:"icon"`
	Color             string         `json:"color"`
	Sound             string         `json:"sound"`
	DefaultSound      bool           `json:"default_sound"`
	Tag               string         `json:"tag"`
	ClickAction       *hwClick       `json:"click_action"`
	BodyLocKey        string         `json:"body_loc_key"`
	BodyLocArgs       []string       `json:"body_loc_args"`
	TitleLocKey       string         `json:"title_loc_key"`
	TitleLocArgs      []string       `json:"title_loc_args"`
	MultiLangKey      jsontext.Value `json:"multi_lang_key"`
	ChannelID         string         `json:"channel_id"`
	NotifySummary     string         `json:"notify_summary"`
	Style             *int           `json:"style"`
	BigTitle          string         `json:"big_title"`
	BigBody           string         `json:"big_body"`
	InboxContent      []string       `json:"inbox_content"`
	AutoClear         *int           `json:"auto_clear"`
	NotifyID          *int           `json:"notify_id"`
	Group             string         `json:"group"`
	Badge             *hwBadge       `json:"badge"`
	Ticker            string         `json:"ticker"`
	AutoCancel        bool           `json:"auto_cancel"`
	When              string         `json:"when"`
	LocalOnly         bool           `json:"local_only"`
	Importance        string         `json:"importance"`
	UseDefaultVibrate bool           `json:"use_default_vibrate"`
	UseDefaultLight   bool           `json:"use_default_light"`
	VibrateConfig     []string       `json:"vibrate_config"`
	Visibility        string         `json:"visibility"`
	LightSettings     jsontext.Value `json:"light_settings"`
	ForegroundShow    *bool          `json:"foreground_show"`
	ProfileID         string         `json:"profile_id"`
	Buttons           jsontext.Value `json:"buttons"`
}

type hwClick struct {
	Type   int    `json:"type"`
	Intent string `json:"intent"`
	Action string `json:"action"`
	URL    string `json:"url"`
}

type hwBadge struct {
	Class  string `json:"class"`
	SetNum *int   `json:"set_num"`
	AddNum *int   `json:"add_num"`
}

func (k *hw) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	if k.auth(r) {
		answerGrant(&k.grants, s, w, r)
		return
	}
	if r.URL.Path != "/v1/"+k.app+"/messages:send" && r.URL.Path != "/v2/"+k.project+"/messages:send" {
		s.refused()
		if !hwPath.MatchString(r.URL.Path) {
			http.NotFound(w, r)
			return
		}
		k.refuse(w, "80300002")
		return
	}
	if r.Method != http.MethodPost {
		s.refused()
		w.WriteHeader(http.StatusMethodNotAllowed)
		return
	}
	body := bodyOf(r)
	m, code := k.read(s, r, body)
	if code != "" {
		s.refused()
		k.refuse(w, code)
		return
	}
	id := k.id()
	if m.ValidateOnly {
		answerHuawei(w, "80000000", "", id)
		return
	}
	var illegal []string
	for _, token := range m.Message.Token {
		p, found := s.phone(token)
		if !found || p.Gone || p.Package != "" && p.Package != HWPackage {
			illegal = append(illegal, token)
			s.refused()
			continue
		}
		if n := m.Message.shown(s.Now(), token, id); k.daily.allowed(s, token, m.Message.Android.Category) || n.Silent {
			s.show(n)
		}
	}
	switch len(illegal) {
	case 0:
		answerHuawei(w, "80000000", "", id)
	case len(m.Message.Token):
		answerHuawei(w, "80300007", "", id)
	default:
		text, _ := json.Marshal(struct {
			Success int      `json:"success"`
			Failure int      `json:"failure"`
			Illegal []string `json:"illegal_tokens"`
		}{len(m.Message.Token) - len(illegal), len(illegal), illegal})
		answerHuawei(w, "80100000", string(text), id)
	}
}

var (
	hwPath = regexp.MustCompile(`^/v[12]/[^/]+/messages:send$`)
	hwTTL  = regexp.MustCompile(`^[1-9][0-9]*s$`)
)

// read reads a request that is to be sent; a code says why it is not.
func (k *hw) read(s *Sim, r *http.Request, body string) (*hwEnvelope, string) {
	if r.Header.Get("Authorization") == "" {
		return nil, "80200001"
	}
	if !k.grants.takes(s, r) {
		return nil, "80200003"
	}
	var v hwEnvelope
	if !isJSON(r) || readKnown(body, &v) != nil || v.Message == nil || v.Message.Android == nil {
		return nil, "80100003"
	}
	m := v.Message
	if len(m.Token) == 0 || len(m.Token) > huaweiTokens {
		return nil, "80300010" // neither topics nor conditions are served here
	}
	if !fitsHuawei(body, m.Token) {
		return nil, "80300008"
	}
	return &v, m.check()
}

// check says what is wrong with the message, by a code.
func (m *hwMessage) check() string {
	a := m.Android
	ttl := hwDuration(a.TTL)
	switch {
	case m.Topic != "" || m.Condition != "",
		!among(a.Category, huaweiCategories),
		!between(a.TargetUser, 0, 1),
		!among(a.Urgency, []string{"HIGH", "NORMAL"}):
		return "80100001"
	case a.TTL != "" && (ttl <= 0 || ttl > huaweiTTL):
		return "80100004"
	case !between(a.CollapseKey, -1, 100):
		return "80100013"
	}
	n := a.Notification
	if n == nil {
		if m.Data == "" && a.Data == "" {
			return "80100003" // it says nothing at all
		}
		return ""
	}
	title, body, image := m.texts()
	c := n.ClickAction
	switch {
	case a.Category == "PLAY_VOICE", title == "", body == "", c == nil,
		image != "" && !link(image),
		!slices.Contains([]int{1, 2, 3}, c.Type),
		c.Type == 1 && c.Intent == "" && c.Action == "",
		c.Type == 2 && !link(c.URL),
		!among(n.Importance, []string{"LOW", "NORMAL", "HIGH"}),
		!between(n.Style, 0, 3), n.Style != nil && *n.Style == 2,
		n.Style != nil && *n.Style == 1 && (n.BigTitle == "" || n.BigBody == ""),
		len(n.InboxContent) > 5:
		return "80100001"
	case n.Importance == "HIGH":
		return "80300011" // which this app has no right to
	}
	if b := n.Badge; b != nil && (b.Class == "" || b.SetNum == nil && b.AddNum == nil || !between(b.SetNum, 0, huaweiBadge) || !between(b.AddNum, 1, huaweiBadge)) {
		return "80100001"
	}
	return ""
}

// texts are what is shown: the device's own where both are there.
func (m *hwMessage) texts() (title, body, image string) {
	all := hwNotice{}
	if m.Notification != nil {
		all = *m.Notification
	}
	n := m.Android.Notification
	return cmp.Or(n.Title, all.Title), cmp.Or(n.Body, all.Body), cmp.Or(n.Image, all.Image)
}

// hwDuration reads a text such as 3600s; 0 is none.
func hwDuration(text string) time.Duration {
	if !hwTTL.MatchString(text) {
		return 0
	}
	d, _ := time.ParseDuration(text)
	return d
}

// shown is what the phone with the token gets.
func (m *hwMessage) shown(now time.Time, token, id string) Shown {
	v := Shown{Token: token, ID: id, Badge: -1, Expires: now.Add(cmp.Or(hwDuration(m.Android.TTL), 24*time.Hour))}
	v.carried(cmp.Or(m.Android.Data, m.Data))
	n := m.Android.Notification
	if n == nil {
		v.Silent = true
		return v
	}
	v.Title, v.Body, _ = m.texts()
	switch {
	case n.NotifyID != nil:
		v.Key = strconv.Itoa(*n.NotifyID)
	case n.Tag != "":
		v.Key = n.Tag
	}
	if n.Badge != nil && n.Badge.SetNum != nil {
		v.Badge = *n.Badge.SetNum
	}
	return v
}
