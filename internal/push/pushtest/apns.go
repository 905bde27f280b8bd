package pushtest

import (
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
)

const (
	apnsMaxPayload  = 4096 // bytes
	apnsMaxCollapse = 64   // bytes
	apnsPassAge     = time.Hour
	apnsPassLeast   = 20 * time.Minute
	apnsMaxPasses   = 1000 // that are remembered as good
)

// BadPayload is what the simulator of APNs says of payloads that Apple takes and
// no device shows, or shows wrong. It is no word of Apple's.
const BadPayload = "BadPayload"

type apns struct {
	key          *ecdsa.PrivateKey
	keyID, team  string
	registration []byte // the key as Apple gives it

	mu     sync.Mutex
	passes map[string]time.Time // provider tokens whose signature is good, and when they were made
	void   map[string]bool      // those that were revoked
	serial uint64
}

// NewAPNs makes Apple's service with one key of one team. It stands for both
// environments: requests for the sandbox have /sandbox before their path.
//
// A topic is any that the phone with the token is of.
func NewAPNs(o Options) *Sim {
	a := &apns{
		key: o.key("apns"), keyID: appleID(o.secret("apns key")), team: appleID(o.secret("apns team")),
		passes: map[string]time.Time{}, void: map[string]bool{},
	}
	der, err := x509.MarshalPKCS8PrivateKey(a.key)
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a key of ours
	}
	a.registration = pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	return newSim(chat.APNs, o, a)
}

// appleID is an id of ten characters as Apple gives keys and teams.
func appleID(secret string) string { return strings.ToUpper(secret[:10]) }

func (a *apns) http2() bool             { return true }
func (a *apns) auth(*http.Request) bool { return false }
func (a *apns) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{
		"keyId": a.keyID, "teamId": a.team, "p8": string(a.registration),
	}}
}

// keep keeps the latest: Apple stores one for each app on a device.
func (*apns) keep(_ []Shown, n Shown) []Shown { return []Shown{n} }

// revoke makes the provider tokens void that were seen.
func (a *apns) revoke() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p := range a.passes {
		a.void[p] = true
	}
}

// apnsStatus is the status that goes with each of Apple's reasons.
var apnsStatus = map[string]int{
	"BadCollapseId": 400, "BadDeviceToken": 400, "BadExpirationDate": 400, "BadMessageId": 400, "BadPriority": 400,
	"BadTopic": 400, "DeviceTokenNotForTopic": 400, "DuplicateHeaders": 400, "IdleTimeout": 400, "InvalidPushType": 400,
	"MissingDeviceToken": 400, "MissingTopic": 400, "PayloadEmpty": 400, "TopicDisallowed": 400, BadPayload: 400,
	"BadCertificate": 403, "BadCertificateEnvironment": 403, "BadEnvironmentKeyIdInToken": 403, "ExpiredProviderToken": 403,
	"Forbidden": 403, "InvalidProviderToken": 403, "MissingProviderToken": 403, "UnrelatedKeyIdInToken": 403,
	"BadPath": 404, "MethodNotAllowed": 405, "ExpiredToken": 410, "Unregistered": 410, "PayloadTooLarge": 413,
	"TooManyProviderTokenUpdates": 429, "TooManyRequests": 429,
	"InternalServerError": 500, "ServiceUnavailable": 503, "Shutdown": 503,
}

func (a *apns) refuse(w http.ResponseWriter, code string) { a.answer(w, code, time.Time{}) }

// answer is a refusal. Those of tokens that were good once say since when they are
// not.
func (a *apns) answer(w http.ResponseWriter, reason string, since time.Time) {
	status, known := apnsStatus[reason]
	if !known {
		status = http.StatusBadRequest
	}
	body := `{"reason":"` + reason + `"`
	if status == http.StatusGone && !since.IsZero() {
		body += `,"timestamp":` + strconv.FormatInt(since.UnixMilli(), 10)
	}
	body += "}"
	h := w.Header()
	h["Content-Type"] = []string{"application/json"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write([]byte(body))
}

func (a *apns) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	n := Shown{Badge: -1}
	reason, since := a.check(s, r, &n)
	w.Header()["Apns-Id"] = []string{n.ID}
	if reason != "" {
		s.refused()
		a.answer(w, reason, since)
		return
	}
	s.show(n)
	w.WriteHeader(http.StatusOK)
}

// check reads a request, and says what is wrong with it.
func (a *apns) check(s *Sim, r *http.Request, n *Shown) (reason string, since time.Time) {
	if n.ID = header(r, "Apns-Id"); n.ID == "" {
		n.ID = a.newID()
	} else if !isUUID(n.ID) {
		n.ID = a.newID()
		return "BadMessageId", since
	}
	n.Request = n.ID
	for _, values := range r.Header {
		if len(values) > 1 {
			return "DuplicateHeaders", since
		}
	}
	if r.Method != http.MethodPost {
		return "MethodNotAllowed", since
	}
	path, env := r.URL.Path, chat.Production
	if p, ok := strings.CutPrefix(path, "/sandbox/"); ok {
		path, env = "/"+p, chat.Sandbox
	}
	token, ok := strings.CutPrefix(path, "/3/device/")
	if !ok || strings.Contains(token, "/") {
		return "BadPath", since
	}
	if token == "" {
		return "MissingDeviceToken", since
	}
	n.Token = token
	now := s.Now()
	if reason := a.letIn(r, now); reason != "" {
		return reason, since
	}
	if reason := a.checkHeader(r, n); reason != "" {
		return reason, since
	}
	topic, kind := header(r, "Apns-Topic"), header(r, "Apns-Push-Type")
	if kind == "voip" {
		topic = strings.TrimSuffix(topic, ".voip")
	}

	if !isDeviceToken(token) {
		return "BadDeviceToken", since
	}
	p, found := s.phone(token)
	if !found || p.Environment != chat.NoEnvironment && p.Environment != env {
		return "BadDeviceToken", since
	}
	if p.Package != "" && p.Package != topic {
		return "DeviceTokenNotForTopic", since
	}
	if p.Gone {
		return "Unregistered", p.GoneAt
	}
	return a.checkPayload(bodyOf(r), kind, n), since
}

// header is the field's value. Its name is in the form that the server has it.
func header(r *http.Request, name string) string {
	if v := r.Header[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// newID is an id for who has named none.
func (a *apns) newID() string {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.serial++
	text := strconv.FormatUint(a.serial, 16)
	return "00000000-0000-4000-8000-" + strings.Repeat("0", 12-len(text)) + text
}

// isUUID reports whether it is one in the form that Apple wants.
func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		c := s[i]
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
				return false
			}
		}
	}
	return true
}

// isDeviceToken reports whether it could be one. Apple's are of 32 bytes and may
// become longer.
func isDeviceToken(s string) bool {
	if len(s) < 64 || len(s) > 200 || len(s)%2 != 0 || strings.Trim(s, "0") == "" {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// letIn looks at the provider token.
func (a *apns) letIn(r *http.Request, now time.Time) string {
	text, ok := strings.CutPrefix(header(r, "Authorization"), "bearer ")
	if !ok || text == "" {
		return "MissingProviderToken"
	}
	a.mu.Lock()
	made, good := a.passes[text]
	void := a.void[text]
	a.mu.Unlock()
	if !good {
		if made, good = a.verify(text); !good {
			return "InvalidProviderToken"
		}
		a.mu.Lock()
		if len(a.passes) >= apnsMaxPasses {
			clear(a.passes)
		}
		a.passes[text] = made
		a.mu.Unlock()
	}
	switch {
	case made.After(now.Add(time.Second)): // it is made in whole seconds
		return "InvalidProviderToken"
	case void, now.Sub(made) > apnsPassAge:
		return "ExpiredProviderToken"
	}
	c := connOf(r)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pass != text {
		// Two of the same second are the same to Apple.
		if c.pass != "" && !made.Equal(c.at) && made.Sub(c.at).Abs() < apnsPassLeast {
			return "TooManyProviderTokenUpdates"
		}
		if c.pass == "" || made.After(c.at) {
			c.pass, c.at = text, made
		}
	}
	return ""
}

// verify looks at a provider token that is new, and says when it was made.
func (a *apns) verify(text string) (made time.Time, good bool) {
	var claims struct {
		jwt.RegisteredClaims
	}
	// Whether it is of the right time is asked of the simulator's clock, each time.
	t, err := jwt.NewParser(jwt.WithValidMethods([]string{"ES256"}), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding()).
		ParseWithClaims(text, &claims, func(t *jwt.Token) (any, error) {
			if t.Header["kid"] != a.keyID {
				return nil, jwt.ErrTokenUnverifiable
			}
			return &a.key.PublicKey, nil
		})
	if err != nil || !t.Valid || claims.Issuer != a.team || claims.IssuedAt == nil {
		return made, false
	}
	return claims.IssuedAt.Time, true
}

// checkHeader looks at what a notification's header says of it.
func (a *apns) checkHeader(r *http.Request, n *Shown) string {
	topic := header(r, "Apns-Topic")
	if topic == "" {
		return "MissingTopic"
	}
	if strings.Trim(topic, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") != "" {
		return "BadTopic"
	}
	kind, priority := header(r, "Apns-Push-Type"), header(r, "Apns-Priority")
	switch kind {
	case "alert", "background", "complication", "controls", "fileprovider", "liveactivity", "location", "mdm", "pushtotalk", "widgets":
	case "voip":
		if !strings.HasSuffix(topic, ".voip") {
			return "TopicDisallowed"
		}
	default:
		return "InvalidPushType"
	}
	switch priority {
	case "10", "": // which is 10
		if kind == "background" {
			return "BadPriority"
		}
	case "5", "1":
	default:
		return "BadPriority"
	}
	if v := header(r, "Apns-Expiration"); v != "" {
		at, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return "BadExpirationDate"
		}
		n.Expires = time.Unix(int64(at), 0) // 1970 is now or never
	}
	if n.Key = header(r, "Apns-Collapse-Id"); len(n.Key) > apnsMaxCollapse {
		return "BadCollapseId"
	}
	return ""
}

type apnsPayload struct {
	Aps          jsontext.Value `json:"aps"`
	AppData      string         `json:"appData"`
	Card         jsontext.Value `json:"rc"`
	Removes      string         `json:"rc-dlt-identifier"`
	RichMediaURI string         `json:"richMediaUri"`
}

type apnsAps struct {
	Alert             jsontext.Value `json:"alert"`
	Badge             *int           `json:"badge"`
	Sound             jsontext.Value `json:"sound"`
	ThreadID          string         `json:"thread-id"`
	Category          string         `json:"category"`
	ContentAvailable  int            `json:"content-available"`
	MutableContent    int            `json:"mutable-content"`
	TargetContentID   string         `json:"target-content-id"`
	InterruptionLevel string         `json:"interruption-level"`
	RelevanceScore    float64        `json:"relevance-score"`
	FilterCriteria    string         `json:"filter-criteria"`
}

type apnsAlert struct {
	Title           string   `json:"title"`
	Subtitle        string   `json:"subtitle"`
	Body            string   `json:"body"`
	LaunchImage     string   `json:"launch-image"`
	TitleLocKey     string   `json:"title-loc-key"`
	TitleLocArgs    []string `json:"title-loc-args"`
	SubtitleLocKey  string   `json:"subtitle-loc-key"`
	SubtitleLocArgs []string `json:"subtitle-loc-args"`
	LocKey          string   `json:"loc-key"`
	LocArgs         []string `json:"loc-args"`
}

type apnsSound struct {
	Critical int     `json:"critical"`
	Name     string  `json:"name"`
	Volume   float64 `json:"volume"`
}

// strictly has members that are not known refused.
var strictly = json.RejectUnknownMembers(true)

// checkPayload looks at what is to be shown.
func (a *apns) checkPayload(body, kind string, n *Shown) string {
	if body == "" || body == "{}" {
		return "PayloadEmpty"
	}
	if len(body) > apnsMaxPayload {
		return "PayloadTooLarge"
	}
	var v apnsPayload
	var aps apnsAps
	// Beside aps there may be anything. What is in aps is Apple's.
	if json.Unmarshal([]byte(body), &v) != nil || v.Aps.Kind() != '{' || json.Unmarshal(v.Aps, &aps, strictly) != nil {
		return BadPayload
	}
	n.Data, n.Card, n.Removes = v.AppData, string(v.Card), v.Removes
	if aps.Badge != nil {
		if n.Badge = *aps.Badge; n.Badge < 0 {
			return BadPayload
		}
	}
	switch {
	case aps.ContentAvailable&^1 != 0, aps.MutableContent&^1 != 0, aps.RelevanceScore < 0, aps.RelevanceScore > 1:
		return BadPayload
	}
	switch aps.Alert.Kind() {
	case 0:
	case '"':
		if json.Unmarshal(aps.Alert, &n.Body) != nil {
			return BadPayload
		}
	case '{':
		var alert apnsAlert
		if json.Unmarshal(aps.Alert, &alert, strictly) != nil {
			return BadPayload
		}
		n.Title, n.Body = alert.Title, alert.Body
	default:
		return BadPayload
	}
	critical := false
	switch aps.Sound.Kind() {
	case 0, '"':
	case '{':
		var sound apnsSound
		if json.Unmarshal(aps.Sound, &sound, strictly) != nil || sound.Critical&^1 != 0 || sound.Volume < 0 || sound.Volume > 1 {
			return BadPayload
		}
		critical = sound.Critical == 1
	default:
		return BadPayload
	}
	switch aps.InterruptionLevel {
	case "", "passive", "active", "time-sensitive":
	case "critical":
		if !critical {
			return BadPayload
		}
	default:
		return BadPayload
	}
	shows := aps.Alert.Kind() != 0 || aps.Badge != nil || aps.Sound.Kind() != 0
	n.Silent = !shows
	switch {
	case kind == "background" && (shows || aps.ContentAvailable != 1), kind == "alert" && !shows:
		return "InvalidPushType"
	case kind == "alert" && v.RichMediaURI != "" && aps.MutableContent != 1:
		return BadPayload // nothing on the device would fetch it
	}
	return ""
}
