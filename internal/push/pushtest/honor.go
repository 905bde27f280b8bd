package pushtest

import (
	"cmp"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// NewHONOR simulates Honor's push, with its server of access tokens. Of Honor's own
// codes next to nothing is known: what it refuses, it refuses by the status, which
// is in the answer's code too. Its limits are taken for Huawei's.
func NewHONOR(o Options) *Sim {
	k := &honor{app: strconv.FormatInt(o.number("honor app"), 10)}
	k.grants = grants{id: strconv.FormatInt(o.number("honor client"), 10), secret: o.secret("honor")}
	return newSim(chat.HONOR, o, k)
}

type honor struct {
	app      string
	grants   grants
	daily    daily
	requests atomic.Int64
}

const (
	honorTokenPath = "/auth/token"
	honorSkew      = 5 * time.Minute
)

func (k *honor) http2() bool               { return false }
func (k *honor) revoke()                   { k.grants.revoke() }
func (k *honor) auth(r *http.Request) bool { return r.URL.Path == honorTokenPath }

func (k *honor) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{"appId": k.app, "clientId": k.grants.id, "clientSecret": k.grants.secret}}
}

// An honorAnswer is what Honor answers to a message.
type honorAnswer struct {
	Code    int        `json:"code"`
	Message string     `json:"message"`
	Data    *honorData `json:"data,omitzero"`
}

type honorData struct {
	SendResult   bool     `json:"sendResult"`
	RequestID    string   `json:"requestId"`
	FailTokens   []string `json:"failTokens"`
	ExpireTokens []string `json:"expireTokens"`
	MsgCode      int      `json:"msgCode"`
}

// refuse answers with a code, or as if a token were not served, by the member that
// says so.
func (k *honor) refuse(w http.ResponseWriter, code string) {
	data := &honorData{SendResult: true, RequestID: k.id(), FailTokens: []string{}, ExpireTokens: []string{}, MsgCode: 200}
	switch code {
	case "expireTokens":
		data.ExpireTokens = []string{"token"}
	case "failTokens":
		data.FailTokens = []string{"token"}
	case "sendResult":
		data.SendResult = false
	default:
		n, err := strconv.Atoi(code)
		if err != nil {
			refuseGrant(w, code)
			return
		}
		status := http.StatusOK
		if n >= 400 && n < 600 {
			status = n
		}
		answerJSON(w, status, honorAnswer{Code: n, Message: "Error"})
		return
	}
	answerJSON(w, http.StatusOK, honorAnswer{200, "Success", data})
}

func (k *honor) id() string { return strconv.FormatInt(k.requests.Add(1), 10) }

// An honorMessage is all that a request can hold. It is Huawei's, written otherwise,
// and without what is around it there.
type honorMessage struct {
	Token        []string      `json:"token"`
	Data         string        `json:"data"`
	Notification *honorNotice  `json:"notification"`
	Android      *honorAndroid `json:"android"`
}

type honorNotice struct {
	Title string `json:"title"`
	Body  string `json:"body"`
	Image string `json:"image"`
}

type honorAndroid struct {
	TTL            string             `json:"ttl"`
	BITag          string             `json:"biTag"`
	Data           string             `json:"data"`
	TargetUserType *int               `json:"targetUserType"`
	Notification   *honorNotification `json:"notification"`
}

type honorNotification struct {
	Title       string           `json:"title"`
	Body        string           `json:"body"`
	Image       string           `json:"image"`
	Importance  string           `json:"importance"`
	NotifyID    *int             `json:"notifyId"`
	Tag         string           `json:"tag"`
	Group       string           `json:"group"`
	Style       *int             `json:"style"`
	BigTitle    string           `json:"bigTitle"`
	BigBody     string           `json:"bigBody"`
	When        string           `json:"when"`
	Badge       *honorBadge      `json:"badge"`
	Buttons     []jsontext.Value `json:"buttons"`
	ClickAction *honorClick      `json:"clickAction"`
}

type honorBadge struct {
	Class  string `json:"badgeClass"`
	SetNum *int   `json:"setNum"`
	AddNum *int   `json:"addNum"`
}

type honorClick struct {
	Type   int    `json:"type"`
	Intent string `json:"intent"`
	URL    string `json:"url"`
	Action string `json:"action"`
}

var honorPath = regexp.MustCompile(`^/api/v1/[^/]+/sendMessage$`)

func (k *honor) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	if k.auth(r) {
		answerGrant(&k.grants, s, w, r)
		return
	}
	if !honorPath.MatchString(r.URL.Path) {
		s.refused()
		http.NotFound(w, r)
		return
	}
	m, status := k.read(s, r)
	if status != 0 {
		s.refused()
		k.refuse(w, strconv.Itoa(status))
		return
	}
	data := &honorData{RequestID: k.id(), FailTokens: []string{}, ExpireTokens: []string{}, MsgCode: 200}
	for _, token := range m.Token {
		p, found := s.phone(token)
		switch {
		case p.Gone:
			data.ExpireTokens = append(data.ExpireTokens, token)
			s.refused()
			continue
		case !found, p.Package != "" && p.Package != HWPackage:
			data.FailTokens = append(data.FailTokens, token)
			s.refused()
			continue
		}
		data.SendResult = true
		n := m.shown(s.Now(), token, data.RequestID)
		// The importance is the class here: LOW ones are advertisements.
		category := "IM"
		if b := m.Android.Notification; b != nil && b.Importance != "NORMAL" {
			category = "MARKETING"
		}
		if n.Silent || k.daily.allowed(s, token, category) {
			s.show(n)
		}
	}
	answerJSON(w, http.StatusOK, honorAnswer{200, "Success", data})
}

// read reads a request that is to be sent; a status says why it is not.
func (k *honor) read(s *Sim, r *http.Request) (*honorMessage, int) {
	if r.Method != http.MethodPost {
		return nil, http.StatusMethodNotAllowed
	}
	if !k.grants.takes(s, r) {
		return nil, http.StatusUnauthorized
	}
	if r.URL.Path != "/api/v1/"+k.app+"/sendMessage" {
		return nil, http.StatusForbidden // the app is another client's
	}
	ms, err := strconv.ParseInt(r.Header.Get("timestamp"), 10, 64)
	if err != nil || s.Now().Sub(time.UnixMilli(ms)).Abs() > honorSkew {
		return nil, http.StatusBadRequest
	}
	body := bodyOf(r)
	var m honorMessage
	if !isJSON(r) || readKnown(body, &m) != nil || len(m.Token) == 0 || len(m.Token) > huaweiTokens || m.Android == nil || !m.good() {
		return nil, http.StatusBadRequest
	}
	if !fitsHuawei(body, m.Token) {
		return nil, http.StatusRequestEntityTooLarge
	}
	return &m, 0
}

// good reports whether the message is one.
func (m *honorMessage) good() bool {
	a := m.Android
	ttl := hwDuration(a.TTL)
	if a.TTL != "" && (ttl <= 0 || ttl > huaweiTTL) || !between(a.TargetUserType, 0, 1) {
		return false
	}
	n := a.Notification
	if n == nil {
		return m.Data != "" || a.Data != ""
	}
	title, body, image := m.texts()
	c, b := n.ClickAction, n.Badge
	switch {
	case title == "", body == "", c == nil,
		image != "" && !link(image),
		!slices.Contains([]int{1, 2, 3}, c.Type),
		c.Type == 1 && c.Intent == "" && c.Action == "",
		c.Type == 2 && !link(c.URL),
		!among(n.Importance, []string{"NORMAL", "LOW"}),
		!between(n.Style, 0, 1),
		n.Style != nil && *n.Style == 1 && (n.BigTitle == "" || n.BigBody == ""),
		len(n.Buttons) > 3,
		b != nil && (b.Class == "" || b.SetNum == nil && b.AddNum == nil || !between(b.SetNum, 0, huaweiBadge) || !between(b.AddNum, 1, huaweiBadge)):
		return false
	}
	return true
}

// texts are what is shown: the device's own where both are there.
func (m *honorMessage) texts() (title, body, image string) {
	all := honorNotice{}
	if m.Notification != nil {
		all = *m.Notification
	}
	n := m.Android.Notification
	return cmp.Or(n.Title, all.Title), cmp.Or(n.Body, all.Body), cmp.Or(n.Image, all.Image)
}

// shown is what the phone with the token gets.
func (m *honorMessage) shown(now time.Time, token, id string) Shown {
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
