package pushtest

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/parleychat/parley/internal/chat"
)

// Codes of Meizu's.
const (
	meizuOK           = "200"
	meizuBadParameter = "1005"
	meizuSignature    = "1006"
	meizuNoApp        = "110000"
	meizuOff          = "110002"
	meizuNoToken      = "110003"
	meizuEmpty        = "110004"
	meizuTooFast      = "110010"
	meizuDaily        = "110051"
	meizuFolded       = "520"
)

const meizuPath = "/garcia/api/server/push/varnished/pushByPushId"

type meizu struct {
	appID  string
	secret string

	mu     sync.Mutex
	sent   int
	day    string
	today  int
	second int64
	now    int // requests of the second
	heard  map[string][]time.Time
}

// NewMEIZU makes a simulator of Meizu's Flyme Push.
func NewMEIZU(o Options) *Sim {
	return newSim(chat.MEIZU, o, &meizu{
		appID: strconv.FormatInt(o.number("meizu app"), 10), secret: o.secret("meizu secret"), heard: map[string][]time.Time{},
	})
}

func (m *meizu) http2() bool { return false }

func (m *meizu) auth(*http.Request) bool { return false }

func (m *meizu) revoke() {}

func (m *meizu) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{"appId": m.appID, "appSecret": m.secret}}
}

// refuse answers with a code; with what is wrong with the device ("value 110003");
// or with that in the form that some servers have it ("token 110003").
func (m *meizu) refuse(w http.ResponseWriter, code string) {
	value := "{}"
	if c, ok := strings.CutPrefix(code, "value "); ok {
		code, value = meizuOK, fmt.Sprintf(`{%q:["?"]}`, c)
	} else if c, ok := strings.CutPrefix(code, "token "); ok {
		code, value = meizuOK, fmt.Sprintf(`{"?":%q}`, c)
	}
	answer(w, fmt.Sprintf(`{"code":%q,"message":"refused","value":%s,"redirect":""}`, code, value))
}

func (m *meizu) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path != meizuPath:
		http.NotFound(w, r)
		return
	case r.Method != http.MethodPost:
		http.Error(w, "POST", http.StatusMethodNotAllowed)
		return
	}
	ids, msg, code := m.read(r, bodyOf(r))
	if code == meizuOK {
		code = m.count(s, len(ids))
	}
	if code != meizuOK {
		s.refused()
		m.refuse(w, code)
		return
	}
	m.mu.Lock()
	m.sent++
	msgID := "NS" + strconv.Itoa(m.sent)
	m.mu.Unlock()
	failures := map[string][]string{}
	for _, id := range ids {
		fault := meizuOK
		switch phone, found := s.phone(id); {
		case !found, phone.Gone, id == "0": // which is no phone's, though strangers are let in
			fault = meizuNoToken
		case phone.Off:
			fault = meizuOff
		case m.folds(s, id):
			fault = meizuFolded
		}
		if fault != meizuOK {
			s.refused()
			failures[fault] = append(failures[fault], id)
			continue
		}
		s.show(msg.shown(s, id, msgID))
	}
	value, _ := json.Marshal(failures, json.Deterministic(true))
	answer(w, fmt.Sprintf(`{"code":"200","message":"","value":%s,"redirect":"","msgId":%q}`, value, msgID))
}

type meizuMessage struct {
	Bar struct {
		Type          int    `json:"noticeBarType"`
		Title         string `json:"title"`
		Content       string `json:"content"`
		NoticeMsgType *int   `json:"noticeMsgType"`
	} `json:"noticeBarInfo"`
	Expand *struct {
		Type    int    `json:"noticeExpandType"`
		Content string `json:"noticeExpandContent"`
	} `json:"noticeExpandInfo"`
	Click struct {
		Type       int               `json:"clickType"`
		URL        string            `json:"url"`
		Activity   string            `json:"activity"`
		Parameters map[string]string `json:"parameters"`
	} `json:"clickTypeInfo"`
	Time struct {
		OffLine   *int   `json:"offLine"`
		ValidTime *int64 `json:"validTime"`
	} `json:"pushTimeInfo"`
	Advanced struct {
		NotifyKey      string          `json:"notifyKey"`
		Suspend        *int            `json:"suspend"`
		ClearNoticeBar *int            `json:"clearNoticeBar"`
		Type           map[string]*int `json:"notificationType"`
	} `json:"advanceInfo"`
	Extra map[string]string `json:"extra"`
}

var meizuKey = regexp.MustCompile(`^[0-9A-Za-z_-]{0,8}$`)

// read reads a request and says what is wrong with it.
func (m *meizu) read(r *http.Request, body string) (ids []string, msg *meizuMessage, code string) {
	form, err := url.ParseQuery(body)
	if err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return nil, nil, meizuBadParameter
	}
	for name, values := range form {
		if !slices.Contains([]string{"appId", "pushIds", "messageJson", "sign"}, name) || len(values) != 1 {
			return nil, nil, meizuBadParameter
		}
	}
	switch {
	case form.Get("appId") != m.appID:
		return nil, nil, meizuNoApp
	case form.Get("sign") != meizuSign(map[string]string{
		"appId": form.Get("appId"), "pushIds": form.Get("pushIds"), "messageJson": form.Get("messageJson"),
	}, m.secret):
		return nil, nil, meizuSignature
	case form.Get("pushIds") == "" || form.Get("messageJson") == "":
		return nil, nil, meizuEmpty
	}
	ids = strings.Split(form.Get("pushIds"), ",")
	msg = &meizuMessage{}
	if len(ids) > 1000 || slices.Contains(ids, "") || json.Unmarshal([]byte(form.Get("messageJson")), msg, json.RejectUnknownMembers(true)) != nil {
		return nil, nil, meizuBadParameter
	}
	within := func(text string, most int) bool {
		n := utf8.RuneCountInString(text)
		return n >= 1 && n <= most
	}
	oneOf := func(n *int, of ...int) bool { return n == nil || slices.Contains(of, *n) }
	switch b := &msg.Bar; {
	case !within(b.Title, 32), !within(b.Content, 100), !oneOf(&b.Type, 0, 2), !oneOf(b.NoticeMsgType, 0, 1),
		msg.Expand != nil && (!oneOf(&msg.Expand.Type, 0, 1) || msg.Expand.Type == 1 && !within(msg.Expand.Content, 1000)),
		!oneOf(&msg.Click.Type, 0, 1, 2), // 3 is of phones of old
		msg.Click.Type == 1 && msg.Click.Activity == "", msg.Click.Type == 2 && msg.Click.URL == "",
		!oneOf(msg.Time.OffLine, 0, 1), msg.Time.ValidTime != nil && (*msg.Time.ValidTime < 1 || *msg.Time.ValidTime > 72),
		!meizuKey.MatchString(msg.Advanced.NotifyKey), !oneOf(msg.Advanced.Suspend, 0, 1), !oneOf(msg.Advanced.ClearNoticeBar, 0, 1),
		len(msg.Extra["callback"]) > 128, len(msg.Extra["callback.param"]) > 64:
		return nil, nil, meizuBadParameter
	}
	return ids, msg, meizuOK
}

// meizuSign is the signature of a form: its fields by name, then the secret.
func meizuSign(form map[string]string, secret string) string {
	var pairs []string
	for name, value := range form {
		pairs = append(pairs, name+"="+value)
	}
	slices.Sort(pairs)
	sum := md5.Sum([]byte(strings.Join(pairs, "") + secret))
	return hex.EncodeToString(sum[:])
}

// shown is the message as a phone shows it, unfolded.
func (msg *meizuMessage) shown(s *Sim, token, id string) Shown {
	x := msg.Click.Parameters
	n := Shown{
		Token: token, ID: id, Key: msg.Advanced.NotifyKey, Title: msg.Bar.Title, Body: msg.Bar.Content, Badge: -1,
		Data: x["appData"], Card: x["rc"], Removes: x["rc-dlt-identifier"], Expires: s.Now().Add(24 * time.Hour),
	}
	if msg.Expand != nil && msg.Expand.Type == 1 {
		n.Body = msg.Expand.Content
	}
	if t := &msg.Time; t.OffLine != nil && *t.OffLine == 0 {
		n.Expires = s.Now() // it is for phones that are there
	} else if t.ValidTime != nil {
		n.Expires = s.Now().Add(time.Duration(*t.ValidTime) * time.Hour)
	}
	return n
}

// count counts a request to so many phones, and says whether it is one too many.
func (m *meizu) count(s *Sim, phones int) string {
	now := s.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.second != now.Unix() {
		m.second, m.now = now.Unix(), 0
	}
	if m.now++; s.options.Strict && m.now > 200 {
		return meizuTooFast
	}
	if day := now.In(providerDay).Format(time.DateOnly); day != m.day {
		m.day, m.today = day, 0
	}
	if m.today += phones; m.today > cmp.Or(s.options.Daily, 1_000_000) {
		return meizuDaily
	}
	return meizuOK
}

// folds reports whether the phone has had as many as it may within a minute.
func (m *meizu) folds(s *Sim, token string) bool {
	if !s.options.Strict {
		return false
	}
	now := s.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	heard := slices.DeleteFunc(m.heard[token], func(at time.Time) bool { return now.Sub(at) >= time.Minute })
	if len(heard) >= 5 {
		m.heard[token] = heard
		return true
	}
	m.heard[token] = append(heard, now)
	return false
}
