package pushtest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
)

// webServices are the push services that are played: where the addresses of their
// browsers begin, and whose they are.
var webServices = []struct{ path, origin string }{
	{"/fcm/send/", "https://fcm.googleapis.com"},
	{"/wpush/v2/", "https://updates.push.services.mozilla.com"},
}

type web struct {
	key    *ecdsa.PrivateKey // by which the app is known
	public string

	sent atomic.Int64
}

// NewWEB makes a simulator of browsers' push services, all in one. Its phones are
// browsers, by name: their subscriptions are what Subscription says.
func NewWEB(o Options) *Sim {
	w := &web{key: o.key("web app")}
	point, err := w.key.PublicKey.Bytes()
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a key of the curve
	}
	w.public = base64.RawURLEncoding.EncodeToString(point)
	return newSim(chat.WEB, o, w)
}

// browserKeys are those of the browser by this name, the same everywhere: who plays
// push service can read what it is sent, which the real ones cannot.
func browserKeys(name string) (key *ecdh.PrivateKey, auth []byte) {
	o := Options{Seed: "browsers"}
	key, err := o.key("browser " + name).ECDH()
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a key of the curve
	}
	return key, o.bytes("auth "+name, 16)
}

// Subscription is what the browser by this name gives a page that subscribes, as
// JSON. It is one of Google's browsers.
func Subscription(name string) string { return subscription(0, name) }

// MozillaSubscription is the same of one of Mozilla's.
func MozillaSubscription(name string) string { return subscription(1, name) }

func subscription(service int, name string) string {
	key, auth := browserKeys(name)
	at := &webServices[service]
	text, err := json.Marshal(map[string]any{
		"endpoint": at.origin + at.path + url.PathEscape(name), "expirationTime": nil,
		"keys": map[string]string{
			"p256dh": base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()), "auth": base64.RawURLEncoding.EncodeToString(auth),
		},
	}, json.Deterministic(true))
	if err != nil {
		panic("pushtest: " + err.Error()) // it has nothing to fail of
	}
	return string(text)
}

// Token is what a device by this name registers with: of a browser its subscription,
// of others the name itself.
func Token(p chat.PushProvider, name string) string {
	if p == chat.WEB {
		return Subscription(name)
	}
	return name
}

// Registered is as what the server keeps and sends to the token of the device by this
// name; nothing of none.
func Registered(p chat.PushProvider, name string) string {
	if p != chat.WEB || name == "" {
		return name
	}
	s, _, err := chat.ParseWebSubscription(Subscription(name))
	if err != nil {
		panic("pushtest: " + err.Error()) // subscriptions are made as they must be
	}
	return s.Token()
}

// browserOf is the name of the browser with a path, and its push service.
func browserOf(path string) (name, origin string, ok bool) {
	for _, s := range webServices {
		if rest, found := strings.CutPrefix(path, s.path); found && rest != "" {
			return rest, s.origin, true
		}
	}
	return "", "", false
}

func (w *web) http2() bool { return false }

func (w *web) auth(*http.Request) bool { return false }

// revoke does nothing: what lets an app in is not given out.
func (w *web) revoke() {}

func (w *web) credential(string) chat.PushCredential {
	private, err := w.key.Bytes()
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a key of the curve
	}
	return chat.PushCredential{Fields: map[string]string{
		"publicKey": w.public, "privateKey": base64.RawURLEncoding.EncodeToString(private), "subject": "mailto:push@example.com",
	}}
}

// refuse answers with a status, which is all that push services have agreed on.
func (w *web) refuse(rw http.ResponseWriter, code string) {
	status, err := strconv.Atoi(code)
	if err != nil || status < 200 || status > 599 {
		status = http.StatusBadRequest
	}
	http.Error(rw, "refused", status)
}

func (w *web) serve(s *Sim, rw http.ResponseWriter, r *http.Request) {
	refuse := func(status int, why string) {
		s.refused()
		http.Error(rw, why, status)
	}
	name, origin, ok := browserOf(r.URL.Path)
	if !ok {
		refuse(http.StatusNotFound, "no such subscription")
		return
	}
	if r.Method != http.MethodPost {
		refuse(http.StatusMethodNotAllowed, "POST")
		return
	}
	if status, why := w.admit(s, r, origin); why != "" {
		refuse(status, why)
		return
	}
	body := bodyOf(r)
	ttl, status, why := webHeaders(r, len(body))
	if why != "" {
		refuse(status, why)
		return
	}
	phone, found := s.phone(name)
	switch {
	case !found:
		refuse(http.StatusNotFound, "no such subscription")
		return
	case phone.Gone, phone.Off: // a page that may not notify is not subscribed
		refuse(http.StatusGone, "the subscription has ended")
		return
	}
	id := strconv.FormatInt(w.sent.Add(1), 10)
	n, err := webShown(name, body)
	if err != nil {
		if phone.RegisteredAt.IsZero() {
			// Nobody has registered it, and its key is not that of any browser here.
			refuse(http.StatusNotFound, "no such subscription")
			return
		}
		// Push services cannot read what they are given. The browser drops it.
		s.odd()
	} else {
		n.ID, n.Collapse, n.Expires = id, r.Header.Get("Topic"), s.Now().Add(ttl)
		s.show(n)
	}
	rw.Header().Set("Location", origin+"/message/"+id)
	rw.Header().Set("TTL", strconv.FormatInt(int64(ttl/time.Second), 10))
	rw.WriteHeader(http.StatusCreated)
}

// maxWebPass is how long what proves who sends is taken for (RFC 8292, 2).
const maxWebPass = 24 * time.Hour

// admit says why whoever sends is not let in.
func (w *web) admit(s *Sim, r *http.Request, origin string) (status int, why string) {
	scheme, rest, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "vapid") {
		return http.StatusUnauthorized, "vapid is missing"
	}
	var token, key string
	for part := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			token = value
		case "k":
			key = value
		}
	}
	point, err := base64.RawURLEncoding.DecodeString(key)
	if err != nil || token == "" {
		return http.StatusUnauthorized, "t or k is missing"
	}
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return http.StatusUnauthorized, "k is no key"
	}
	var claims jwt.RegisteredClaims
	_, err = jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithTimeFunc(s.Now), jwt.WithExpirationRequired()).
		ParseWithClaims(token, &claims, func(*jwt.Token) (any, error) { return public, nil })
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return http.StatusForbidden, "it has expired"
	case err != nil:
		return http.StatusUnauthorized, "t is not signed with k"
	case len(claims.Audience) != 1 || claims.Audience[0] != origin:
		return http.StatusForbidden, "it is for another push service"
	case claims.ExpiresAt.Sub(s.Now()) > maxWebPass:
		return http.StatusForbidden, "it is good for too long"
	case !strings.HasPrefix(claims.Subject, "mailto:") && !strings.HasPrefix(claims.Subject, "https://"):
		return http.StatusForbidden, "it says nobody to turn to"
	case key != w.public:
		return http.StatusForbidden, "the subscription was made with another key"
	}
	return 0, ""
}

// maxWebBody is what push services must take (RFC 8030, 7.2), in bytes. None takes
// more.
const maxWebBody = 4096

// webHeaders says for how long a message is kept, and what is wrong with it.
func webHeaders(r *http.Request, size int) (ttl time.Duration, status int, why string) {
	seconds, err := strconv.ParseUint(r.Header.Get("TTL"), 10, 31)
	topic, given := r.Header["Topic"]
	switch urgency := r.Header.Get("Urgency"); {
	case err != nil:
		return 0, http.StatusBadRequest, "TTL must be a number of seconds"
	case given && (len(topic) != 1 || len(topic[0]) > 32 || !isBase64URL(topic[0])):
		return 0, http.StatusBadRequest, "Topic must be at most 32 characters of base64url"
	case urgency != "" && !slices.Contains([]string{"very-low", "low", "normal", "high"}, urgency):
		return 0, http.StatusBadRequest, "Urgency is none"
	case r.Header.Get("Content-Encoding") != "aes128gcm":
		return 0, http.StatusBadRequest, "Content-Encoding must be aes128gcm"
	case size == 0:
		return 0, http.StatusBadRequest, "nothing to show"
	case size > maxWebBody:
		return 0, http.StatusRequestEntityTooLarge, "it is too large"
	}
	return min(time.Duration(seconds)*time.Second, 28*24*time.Hour), 0, ""
}

func isBase64URL(text string) bool {
	return text != "" && strings.Trim(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") == ""
}

// webShown is what the browser by this name shows of a message.
func webShown(name, body string) (Shown, error) {
	key, auth := browserKeys(name)
	text, err := openWeb(key, auth, []byte(body))
	if err != nil {
		return Shown{}, err
	}
	var v struct {
		Title     string `json:"title"`
		Body      string `json:"body"`
		Icon      string `json:"icon"`
		Badge     string `json:"badge"`
		Image     string `json:"image"`
		Tag       string `json:"tag"`
		Timestamp int64  `json:"timestamp"`
		Stays     bool   `json:"requireInteraction"`
		Count     *int   `json:"count"`
		Data      struct {
			AppData string         `json:"appData"`
			Card    jsontext.Value `json:"rc"`
			Removes string         `json:"rc-dlt-identifier"`
			Link    string         `json:"link"`
		} `json:"data"`
	}
	if err := json.Unmarshal(text, &v, json.RejectUnknownMembers(true), jsontext.AllowInvalidUTF8(true)); err != nil {
		return Shown{}, err
	}
	if v.Title == "" && v.Body == "" || v.Tag == "" || v.Timestamp <= 0 {
		return Shown{}, errors.New("nothing to show")
	}
	n := Shown{
		Token: name, Key: v.Tag, Title: v.Title, Body: v.Body, Badge: -1, Data: v.Data.AppData, Card: string(v.Data.Card),
		Removes: v.Data.Removes, Payload: string(text),
	}
	if v.Count != nil {
		n.Badge = *v.Count
	}
	return n, nil
}

// openWeb reads what was encrypted for a browser. It is written from RFC 8188 and RFC
// 8291 by itself, as what is to be read was not.
func openWeb(key *ecdh.PrivateKey, auth, body []byte) ([]byte, error) {
	mac := func(key []byte, parts ...[]byte) []byte {
		h := hmac.New(sha256.New, key)
		for _, p := range parts {
			_, _ = h.Write(p)
		}
		return h.Sum(nil)
	}
	if len(body) < 21 || len(body) < 21+int(body[20]) {
		return nil, io.ErrUnexpectedEOF
	}
	salt, size, sender := body[:16], binary.BigEndian.Uint32(body[16:20]), body[21:21+int(body[20])]
	record := body[21+len(sender):]
	if size < 18 || len(record) > int(size) {
		return nil, fmt.Errorf("more than one record of %d bytes", size)
	}
	theirs, err := ecdh.P256().NewPublicKey(sender)
	if err != nil {
		return nil, err
	}
	shared, err := key.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	one := []byte{1}
	secret := mac(mac(auth, shared), []byte("WebPush: info\x00"), key.PublicKey().Bytes(), sender, one)
	mixed := mac(salt, secret)
	block, err := aes.NewCipher(mac(mixed, []byte("Content-Encoding: aes128gcm\x00"), one)[:16])
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	text, err := gcm.Open(nil, mac(mixed, []byte("Content-Encoding: nonce\x00"), one)[:12], record, nil)
	if err != nil {
		return nil, err
	}
	for i := len(text) - 1; i >= 0; i-- {
		switch text[i] {
		case 0: // padding
		case 2:
			return text[:i], nil
		default:
			return nil, errors.New("it does not end as it must")
		}
	}
	return nil, io.ErrUnexpectedEOF
}

// named is the name of a browser, by which it is known here, whether that is given or
// its subscription, in either form.
func (*web) named(token string) string {
	endpoint := token
	if s, ok := chat.OfWebToken(token); ok {
		endpoint = s.Origin + s.Path
	} else if strings.HasPrefix(token, "{") {
		var v struct {
			Endpoint string `json:"endpoint"`
		}
		if json.Unmarshal([]byte(token), &v) == nil {
			endpoint = v.Endpoint
		}
	}
	for _, s := range webServices {
		if rest, found := strings.CutPrefix(endpoint, s.origin+s.path); found {
			if name, err := url.PathUnescape(rest); err == nil {
				return name
			}
		}
	}
	return token
}

// keep has a message take the place of one with its topic, which only the newest of
// is given to a browser that was away.
func (*web) keep(waiting []Shown, n Shown) []Shown {
	if n.Collapse != "" {
		waiting = slices.DeleteFunc(waiting, func(o Shown) bool { return o.Collapse == n.Collapse })
	}
	if len(waiting) < maxLog {
		waiting = append(waiting, n)
	}
	return waiting
}
