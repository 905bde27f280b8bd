package pushtest

import (
	"cmp"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/go-json-experiment/json"

	"github.com/parleychat/parley/internal/chat"
)

// Codes of vivo's.
const (
	vivoOK           = "0"
	vivoNoAuth       = "10000"
	vivoBadParameter = "10101" // vivo has one for each; nobody tells them apart
	vivoOperational  = "10070" // all that the app may send today
	vivoWindow       = "10071"
	vivoSystem       = "10073"
	vivoOften        = "10085" // text that no finished app would send
	vivoAuthRate     = "10093"
	vivoOtherApp     = "10094"
	vivoText         = "10104"
	vivoNoKey        = "10201"
	vivoNoApp        = "10205"
	vivoSign         = "10206"
	vivoTimestamp    = "10207"
	vivoNoToken      = "10302"
)

// What is wrong with a device that vivo did not serve.
const (
	vivoUnknown = 1
	vivoOff     = 2
	vivoNoTest  = 4
)

const vivoTokenLife = 24 * time.Hour

// providerDay is where the providers' days begin.
var providerDay = time.FixedZone("UTC+8", 8*60*60)

type vivo struct {
	appID  int64
	key    string
	secret string

	mu       sync.Mutex
	tokens   map[string]time.Time // access tokens, and until when they live
	second   int64                // of the last request for one
	asked    int                  // how many there were in it
	tasks    int
	day      string
	sent     [2]int            // of the day, by classification
	heard    map[string]int    // operational ones of the day, by device
	requests map[string]string // device by requestId
}

// NewVIVO makes a simulator of vivo Push.
func NewVIVO(o Options) *Sim {
	return newSim(chat.VIVO, o, &vivo{
		appID: o.number("vivo app"), key: o.secret("vivo key"), secret: o.secret("vivo secret"),
		tokens: map[string]time.Time{}, heard: map[string]int{}, requests: map[string]string{},
	})
}

func (v *vivo) http2() bool { return false }

func (v *vivo) auth(r *http.Request) bool { return r.URL.Path == "/message/auth" }

func (v *vivo) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{
		"appId": strconv.FormatInt(v.appID, 10), "appKey": v.key, "appSecret": v.secret,
		"classification": "1", "category": "IM",
	}}
}

func (v *vivo) revoke() {
	v.mu.Lock()
	clear(v.tokens)
	v.mu.Unlock()
}

// refuse answers with a result, or with what is wrong with the device: "invalidUser 1".
func (v *vivo) refuse(w http.ResponseWriter, code string) {
	if status, ok := strings.CutPrefix(code, "invalidUser "); ok {
		answer(w, fmt.Sprintf(`{"result":0,"desc":"OK","taskId":"1","invalidUser":{"userid":"?","status":%s}}`, status))
		return
	}
	if strings.Trim(code, "0123456789") != "" {
		code = strconv.Quote(code) // none of vivo's
	}
	answer(w, fmt.Sprintf(`{"result":%s,"desc":"refused"}`, code))
}

// answer answers 200 with JSON.
func answer(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "application/json;charset=UTF-8")
	_, _ = io.WriteString(w, body)
}

func (v *vivo) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	body := []byte(bodyOf(r))
	switch {
	case r.URL.Path != "/message/auth" && r.URL.Path != "/message/send":
		http.NotFound(w, r)
		return
	case r.Method != http.MethodPost:
		http.Error(w, "POST", http.StatusMethodNotAllowed)
		return
	case !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json"):
		http.Error(w, "application/json", http.StatusUnsupportedMediaType)
		return
	case v.auth(r):
		token, code := v.admit(s, body)
		if code != vivoOK {
			v.refuse(w, code)
			return
		}
		answer(w, `{"result":0,"desc":"OK","authToken":"`+token+`"}`)
		return
	}
	m, code := v.read(s, r, body)
	if code != vivoOK {
		s.refused()
		v.refuse(w, code)
		return
	}
	phone, found := s.phone(m.RegID)
	invalid := 0
	switch {
	case !found:
		s.refused()
		v.refuse(w, vivoNoToken)
		return
	case phone.Gone:
		invalid = vivoUnknown
	case phone.Off:
		invalid = vivoOff
	case m.PushMode == 1 && !phone.Test && !s.options.Strangers:
		invalid = vivoNoTest
	}
	task, code, capped := v.count(s, m, invalid == 0)
	if code != vivoOK {
		s.refused()
		v.refuse(w, code)
		return
	}
	if invalid != 0 {
		s.refused()
		answer(w, fmt.Sprintf(`{"result":0,"desc":"OK","taskId":"%s","invalidUser":{"userid":%q,"status":%d}}`, task, m.RegID, invalid))
		return
	}
	n := Shown{
		Token: m.RegID, ID: task, Request: m.RequestID, Title: *m.Title, Body: *m.Content, Badge: -1,
		Data: m.ClientCustomMap["appData"], Card: m.ClientCustomMap["rc"], Removes: m.ClientCustomMap["rc-dlt-identifier"],
		Expires: s.Now().Add(24 * time.Hour),
	}
	if m.TimeToLive != nil {
		n.Expires = s.Now().Add(time.Duration(*m.TimeToLive) * time.Second)
	}
	if m.NotifyID > 0 {
		n.Key = strconv.FormatInt(m.NotifyID, 10)
	}
	if !capped {
		s.show(n)
	}
	answer(w, `{"result":0,"desc":"OK","taskId":"`+task+`"}`)
}

// admit gives an access token to whom it was asked by.
func (v *vivo) admit(s *Sim, body []byte) (token, code string) {
	var a struct {
		AppID     int64  `json:"appId"`
		AppKey    string `json:"appKey"`
		Timestamp int64  `json:"timestamp"`
		Sign      string `json:"sign"`
	}
	now := s.Now()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.second != now.Unix() {
		v.second, v.asked = now.Unix(), 0
	}
	if v.asked++; v.asked > 10 {
		return "", vivoAuthRate
	}
	if json.Unmarshal(body, &a, json.RejectUnknownMembers(true)) != nil {
		return "", vivoBadParameter
	}
	sum := md5.Sum([]byte(strconv.FormatInt(a.AppID, 10) + a.AppKey + strconv.FormatInt(a.Timestamp, 10) + v.secret))
	switch at := time.UnixMilli(a.Timestamp); {
	case a.AppID != v.appID:
		return "", vivoNoApp
	case a.AppKey != v.key:
		return "", vivoNoKey
	case at.Before(now.Add(-10*time.Minute)) || at.After(now.Add(10*time.Minute)):
		return "", vivoTimestamp
	case a.Sign != hex.EncodeToString(sum[:]):
		return "", vivoSign
	}
	for t, until := range v.tokens {
		if !now.Before(until) {
			delete(v.tokens, t)
		}
	}
	token = Options{}.secret("") // whatever the seed, no two are the same
	v.tokens[token] = now.Add(vivoTokenLife)
	return token, vivoOK
}

type vivoMessage struct {
	AppID           *int64            `json:"appId"`
	RegID           string            `json:"regId"`
	NotifyType      int               `json:"notifyType"`
	Title           *string           `json:"title"`
	Content         *string           `json:"content"`
	TimeToLive      *int64            `json:"timeToLive"`
	SkipType        int               `json:"skipType"`
	SkipContent     string            `json:"skipContent"`
	NetworkType     *int              `json:"networkType"`
	Classification  int               `json:"classification"`
	Category        string            `json:"category"`
	NotifyID        int64             `json:"notifyId"`
	ClientCustomMap map[string]string `json:"clientCustomMap"`
	Extra           map[string]string `json:"extra"`
	RequestID       string            `json:"requestId"`
	PushMode        int               `json:"pushMode"`
	AddBadge        bool              `json:"addBadge"`
}

// vivoCategories are those of operational messages, and those of the system's.
var vivoCategories = [2][]string{
	{"NEWS", "CONTENT", "MARKETING", "SOCIAL"},
	{"IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"},
}

// read reads a message and says what is wrong with it.
func (v *vivo) read(s *Sim, r *http.Request, body []byte) (*vivoMessage, string) {
	v.mu.Lock()
	until, known := v.tokens[r.Header.Get("authToken")]
	v.mu.Unlock()
	if !known || !s.Now().Before(until) {
		return nil, vivoNoAuth
	}
	m := &vivoMessage{}
	if json.Unmarshal(body, m, json.RejectUnknownMembers(true)) != nil {
		return nil, vivoBadParameter
	}
	if m.AppID == nil || *m.AppID != v.appID {
		return nil, vivoOtherApp
	}
	extras := 0
	for k, value := range m.ClientCustomMap {
		extras += utf8.RuneCountInString(k) + utf8.RuneCountInString(value)
	}
	switch {
	case m.RegID == "" || len(m.RegID) > 4096,
		m.NotifyType < 1 || m.NotifyType > 4,
		m.Title == nil || *m.Title == "" || vivoWidth(*m.Title) > 40,
		m.Content == nil || *m.Content == "" || vivoWidth(*m.Content) > 100,
		m.TimeToLive != nil && (*m.TimeToLive < 60 || *m.TimeToLive > 7*24*60*60),
		m.SkipType != 1 && m.SkipType != 2 && m.SkipType != 4, // 3 is of apps of old
		m.SkipType != 1 && m.SkipContent == "" || utf8.RuneCountInString(m.SkipContent) > 1024,
		m.NetworkType != nil && *m.NetworkType != -1 && *m.NetworkType != 1,
		m.Classification != 0 && m.Classification != 1,
		m.NotifyID < 0 || m.NotifyID > 1<<31-1,
		len(m.ClientCustomMap) > 10 || extras > 1024,
		len(m.Extra["callback"]) > 128 || len(m.Extra["callback.param"]) > 64,
		m.RequestID == "" || len(m.RequestID) > 64,
		m.PushMode != 0 && m.PushMode != 1:
		return nil, vivoBadParameter
	case m.Category != "" && !slices.Contains(vivoCategories[m.Classification], m.Category):
		return nil, vivoBadParameter
	}
	if s.options.Strict && m.PushMode == 0 {
		for _, text := range [...]string{*m.Title, *m.Content} {
			switch {
			case strings.EqualFold(text, "test") || text == "测试":
				return nil, vivoOften
			case strings.IndexFunc(text, unicode.IsLetter) < 0:
				return nil, vivoText
			}
		}
	}
	return m, vivoOK
}

// vivoWidth is how wide a text is: what is not Latin is as wide as two letters.
func vivoWidth(text string) int {
	n := 0
	for _, r := range text {
		if n++; r > 0xff {
			n++
		}
	}
	return n
}

// count gives the message its number, if it may be sent now. capped says that the
// phone has had as many as it may today, which vivo does not tell. Only served ones
// count against what may be.
func (v *vivo) count(s *Sim, m *vivoMessage, served bool) (task, code string, capped bool) {
	now := s.Now().In(providerDay)
	v.mu.Lock()
	defer v.mu.Unlock()
	if day := now.Format(time.DateOnly); day != v.day {
		v.day, v.sent = day, [2]int{}
		clear(v.heard)
		clear(v.requests)
	}
	if of, known := v.requests[m.RequestID]; known && of != m.RegID {
		return "", vivoBadParameter, false // one name for two requests
	}
	operational := m.Classification == 0
	strict := operational && s.options.Strict && m.PushMode == 0
	if strict && (now.Hour() < 7 || now.Hour() >= 23) {
		return "", vivoWindow, false
	}
	if served {
		switch spent := v.sent[m.Classification] >= cmp.Or(s.options.Daily, 1_000_000); {
		case spent && operational:
			return "", vivoOperational, false
		case spent:
			return "", vivoSystem, false
		}
		v.sent[m.Classification]++
		if strict {
			most := 2
			if m.Category == "NEWS" {
				most = 5
			}
			v.heard[m.RegID]++
			capped = v.heard[m.RegID] > most
		}
	}
	if len(v.requests) < 100_000 {
		v.requests[m.RequestID] = m.RegID
	}
	v.tasks++
	return strconv.Itoa(v.tasks), vivoOK, capped
}
