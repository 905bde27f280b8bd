package pushtest

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"slices"
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
	fcmScope      = "https://www.googleapis.com/auth/firebase.messaging"
	fcmGrant      = "urn:ietf:params:oauth:grant-type:jwt-bearer"
	fcmTokens     = "https://oauth2.googleapis.com/token"
	fcmAccess     = time.Hour
	fcmMaxPayload = 4096 // bytes, without the token
	fcmMaxTTL     = 28 * 24 * time.Hour
	fcmMaxAccess  = 1000 // access tokens that are remembered
	fcmMaxKeys    = 4    // collapse keys of what waits for a phone
	fcmMaxWaiting = 100  // notifications that wait for a phone

	// What Strict limits.
	fcmPerMinute     = 240
	fcmCollapsible   = 20
	fcmCollapseAgain = 3 * time.Minute
)

type fcm struct {
	project, email, keyID string
	key                   *rsa.PrivateKey
	file                  string // the account as Google gives it
	path                  string

	mu     sync.Mutex
	access map[string]time.Time // access tokens, and their ends
	serial uint64
	phones map[string]*fcmPhone // with Strict
}

// A fcmPhone is what has been said to a phone lately.
type fcmPhone struct {
	minute int64
	count  int
	room   float64 // for messages with a key
	at     time.Time
}

// fcmKey is that of all simulators that have no seed: making one takes a while.
var fcmKey = sync.OnceValue(func() *rsa.PrivateKey { return Options{}.rsaKey("fcm") })

// NewFCM makes Google's service with one project and its service account.
func NewFCM(o Options) *Sim {
	f := &fcm{
		project: "parley-" + o.secret("fcm project")[:6], keyID: o.secret("fcm key") + o.secret("fcm key")[:8],
		access: map[string]time.Time{}, phones: map[string]*fcmPhone{},
	}
	if o.Seed != "" {
		f.key = o.rsaKey("fcm")
	} else {
		f.key = fcmKey()
	}
	f.email = "firebase-adminsdk@" + f.project + ".iam.gserviceaccount.com"
	f.path = "/v1/projects/" + f.project + "/messages:send"
	der, err := x509.MarshalPKCS8PrivateKey(f.key)
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a key of ours
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": f.project, "private_key_id": f.keyID,
		"private_key":  string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
		"client_email": f.email, "client_id": strconv.FormatInt(o.number("fcm client"), 10), "auth_uri": "https://accounts.google.com/o/oauth2/auth",
		"token_uri": fcmTokens, "universe_domain": "googleapis.com",
	}, json.Deterministic(true), jsontext.WithIndent("  "))
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a map of texts
	}
	f.file = string(text)
	return newSim(chat.FCM, o, f)
}

func (f *fcm) http2() bool               { return false }
func (f *fcm) auth(r *http.Request) bool { return r.URL.Path == "/token" }
func (f *fcm) credential(string) chat.PushCredential {
	return chat.PushCredential{Fields: map[string]string{"serviceAccount": f.file}}
}

// keep keeps the latest of each collapse key, and four keys of a device.
func (*fcm) keep(waiting []Shown, n Shown) []Shown {
	if n.Collapse != "" {
		keys := 0
		waiting = slices.DeleteFunc(waiting, func(o Shown) bool { return o.Collapse == n.Collapse })
		for i := len(waiting) - 1; i >= 0; i-- {
			if waiting[i].Collapse == "" {
				continue
			}
			if keys++; keys == fcmMaxKeys {
				waiting = slices.Delete(waiting, i, i+1)
				break
			}
		}
	}
	if len(waiting) >= fcmMaxWaiting {
		waiting = nil // the app is told to ask for all it has missed
	}
	return append(waiting, n)
}

func (f *fcm) revoke() {
	f.mu.Lock()
	clear(f.access)
	f.mu.Unlock()
}

// A fcmError is a refusal in the form of Google's interfaces.
type fcmError struct {
	status int
	word   string // of all of Google's interfaces
	code   string // of this one; empty where it has not come to it
	text   string
	field  string // which is at fault, if one is
}

var fcmErrors = map[string]fcmError{
	"UNREGISTERED":           {404, "NOT_FOUND", "UNREGISTERED", "Requested entity was not found.", ""},
	"SENDER_ID_MISMATCH":     {403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", "SenderId mismatch", ""},
	"INVALID_ARGUMENT":       {400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "Request contains an invalid argument.", ""},
	"UNAUTHENTICATED":        {401, "UNAUTHENTICATED", "", "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid authentication credential.", ""},
	"THIRD_PARTY_AUTH_ERROR": {401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", "Auth error from APNS or Web Push Service", ""},
	"QUOTA_EXCEEDED":         {429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", "Quota exceeded.", ""},
	"UNAVAILABLE":            {503, "UNAVAILABLE", "UNAVAILABLE", "The service is currently unavailable.", ""},
	"INTERNAL":               {500, "INTERNAL", "INTERNAL", "Internal error encountered.", ""},
	"PERMISSION_DENIED":      {403, "PERMISSION_DENIED", "", "Permission 'cloudmessaging.messages.create' denied on resource (or it may not exist).", ""},
}

var errFCMToken = fcmError{400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "The registration token is not a valid FCM registration token", ""}

type fcmDetail struct {
	Type       string         `json:"@type"`
	ErrorCode  string         `json:"errorCode,omitzero"`
	Violations []fcmViolation `json:"fieldViolations,omitzero"`
}

type fcmViolation struct {
	Field       string `json:"field"`
	Description string `json:"description"`
}

func (e fcmError) write(w http.ResponseWriter) {
	type problem struct {
		Code    int         `json:"code"`
		Message string      `json:"message"`
		Status  string      `json:"status"`
		Details []fcmDetail `json:"details,omitzero"`
	}
	p := problem{Code: e.status, Message: e.text, Status: e.word}
	if e.code != "" {
		p.Details = append(p.Details, fcmDetail{Type: "type.googleapis.com/google.firebase.fcm.v1.FcmError", ErrorCode: e.code})
	}
	if e.field != "" {
		p.Details = append(p.Details, fcmDetail{
			Type: "type.googleapis.com/google.rpc.BadRequest", Violations: []fcmViolation{{e.field, e.text}},
		})
	}
	body, err := json.Marshal(map[string]problem{"error": p})
	if err != nil {
		panic("pushtest: " + err.Error()) // a type of ours
	}
	writeJSON(w, e.status, body)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = []string{"application/json; charset=UTF-8"}
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// refuse answers with a code of the service's, or with a word of those who give
// access tokens, which are in small letters.
func (f *fcm) refuse(w http.ResponseWriter, code string) {
	if code == strings.ToLower(code) {
		refuseAccess(w, code, "")
		return
	}
	e, known := fcmErrors[code]
	if !known {
		e = fcmError{status: 400, word: "INVALID_ARGUMENT", code: code}
	}
	e.write(w)
}

func (f *fcm) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	if f.auth(r) {
		f.give(s, w, r)
		return
	}
	n := Shown{Badge: -1}
	dry, e := f.check(s, r, &n)
	if e != nil {
		s.refused()
		if e.status == 0 { // nothing of this service is there
			http.Error(w, "<!DOCTYPE html><title>Error 404 (Not Found)!!1</title>", http.StatusNotFound)
			return
		}
		e.write(w)
		return
	}
	id := "fake_message_id"
	if !dry {
		id = f.id(s)
	}
	n.ID = "projects/" + f.project + "/messages/" + id
	if !dry {
		s.show(n)
	}
	writeJSON(w, http.StatusOK, []byte("{\n  \"name\": \""+n.ID+"\"\n}\n"))
}

func (f *fcm) id(s *Sim) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serial++
	return "0:" + strconv.FormatInt(s.Now().UnixMicro(), 10) + "%" + strconv.FormatUint(f.serial, 16)
}

func refuseAccess(w http.ResponseWriter, word, description string) {
	status := http.StatusBadRequest
	if word == "invalid_client" {
		status = http.StatusUnauthorized
	}
	writeJSON(w, status, []byte(`{"error":"`+word+`","error_description":"`+description+`"}`))
}

// give gives an access token for an assertion.
func (f *fcm) give(s *Sim, w http.ResponseWriter, r *http.Request) {
	form, err := url.ParseQuery(bodyOf(r))
	media, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";")
	switch {
	case r.Method != http.MethodPost, err != nil, media != "application/x-www-form-urlencoded":
		refuseAccess(w, "invalid_request", "")
		return
	case form.Get("grant_type") != fcmGrant:
		refuseAccess(w, "unsupported_grant_type", "Invalid grant_type: "+strconv.QuoteToASCII(form.Get("grant_type"))[1:])
		return
	}
	var claims struct {
		jwt.RegisteredClaims
		Scope string `json:"scope"`
	}
	now := s.Now()
	_, err = jwt.NewParser(jwt.WithValidMethods([]string{"RS256"}), jwt.WithoutClaimsValidation(), jwt.WithStrictDecoding()).
		ParseWithClaims(form.Get("assertion"), &claims, func(t *jwt.Token) (any, error) {
			if kid, there := t.Header["kid"]; there && kid != f.keyID {
				return nil, jwt.ErrTokenUnverifiable
			}
			return &f.key.PublicKey, nil
		})
	switch {
	case err != nil:
		refuseAccess(w, "invalid_grant", "Invalid JWT Signature.")
	case claims.Issuer != f.email:
		refuseAccess(w, "invalid_grant", "Invalid grant: account not found")
	case len(claims.Audience) != 1 || claims.Audience[0] != fcmTokens && claims.Audience[0] != "https://"+r.Host+"/token":
		refuseAccess(w, "invalid_grant", "Invalid JWT: Failed audience check.")
	case claims.IssuedAt == nil || claims.ExpiresAt == nil ||
		claims.ExpiresAt.Sub(claims.IssuedAt.Time) > time.Hour || claims.IssuedAt.After(now.Add(time.Minute)) || !claims.ExpiresAt.After(now):
		refuseAccess(w, "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim.")
	case claims.Scope != fcmScope:
		refuseAccess(w, "invalid_scope", "Invalid OAuth scope or ID token audience provided.")
	default:
		token := "ya29." + Options{}.secret("") + Options{}.secret("")
		f.mu.Lock()
		if len(f.access) >= fcmMaxAccess {
			clear(f.access)
		}
		f.access[token] = now.Add(fcmAccess)
		f.mu.Unlock()
		writeJSON(w, http.StatusOK, []byte(`{"access_token":"`+token+`","expires_in":`+strconv.Itoa(int(fcmAccess/time.Second)-1)+`,"token_type":"Bearer"}`))
	}
}

// The message as Google's reference has it. Its parsers take names in camelCase
// too, which the simulator does not: who mixes them has made a mistake.
type (
	fcmEnvelope struct {
		ValidateOnly bool       `json:"validate_only"`
		Message      fcmMessage `json:"message"`
	}
	fcmMessage struct {
		Token        string            `json:"token"`
		Topic        string            `json:"topic"`
		Condition    string            `json:"condition"`
		Data         map[string]string `json:"data"`
		Notification *fcmNotification  `json:"notification"`
		Android      fcmAndroid        `json:"android"`
		Webpush      *fcmWebpush       `json:"webpush"`
		APNs         *fcmAPNs          `json:"apns"`
		Options      *fcmOptions       `json:"fcm_options"`
	}
	fcmNotification struct {
		Title string `json:"title"`
		Body  string `json:"body"`
		Image string `json:"image"`
	}
	fcmAndroid struct {
		CollapseKey         string            `json:"collapse_key"`
		Priority            string            `json:"priority"`
		TTL                 string            `json:"ttl"`
		RestrictedPackage   string            `json:"restricted_package_name"`
		Data                map[string]string `json:"data"`
		Notification        *fcmBanner        `json:"notification"`
		Options             *fcmOptions       `json:"fcm_options"`
		DirectBoot          bool              `json:"direct_boot_ok"`
		LittleBandwidth     bool              `json:"bandwidth_constrained_ok"`
		RestrictedSatellite bool              `json:"restricted_satellite_ok"`
	}
	fcmBanner struct {
		Title             string         `json:"title"`
		Body              string         `json:"body"`
		Icon              string         `json:"icon"`
		Color             string         `json:"color"`
		Sound             string         `json:"sound"`
		Tag               string         `json:"tag"`
		ClickAction       string         `json:"click_action"`
		BodyLocKey        string         `json:"body_loc_key"`
		BodyLocArgs       []string       `json:"body_loc_args"`
		TitleLocKey       string         `json:"title_loc_key"`
		TitleLocArgs      []string       `json:"title_loc_args"`
		ChannelID         string         `json:"channel_id"`
		Ticker            string         `json:"ticker"`
		Sticky            bool           `json:"sticky"`
		EventTime         string         `json:"event_time"`
		LocalOnly         bool           `json:"local_only"`
		Priority          string         `json:"notification_priority"`
		DefaultSound      bool           `json:"default_sound"`
		DefaultVibrate    bool           `json:"default_vibrate_timings"`
		DefaultLight      bool           `json:"default_light_settings"`
		VibrateTimings    []string       `json:"vibrate_timings"`
		Visibility        string         `json:"visibility"`
		NotificationCount *int           `json:"notification_count"`
		LightSettings     jsontext.Value `json:"light_settings"`
		Image             string         `json:"image"`
		Proxy             string         `json:"proxy"`
	}
	fcmWebpush struct {
		Headers      map[string]string `json:"headers"`
		Data         map[string]string `json:"data"`
		Notification jsontext.Value    `json:"notification"`
		Options      jsontext.Value    `json:"fcm_options"`
	}
	fcmAPNs struct {
		Headers           map[string]string `json:"headers"`
		Payload           jsontext.Value    `json:"payload"`
		Options           jsontext.Value    `json:"fcm_options"`
		LiveActivityToken string            `json:"live_activity_token"`
	}
	fcmOptions struct {
		AnalyticsLabel string `json:"analytics_label"`
	}
)

var (
	fcmTTL   = regexp.MustCompile(`^\d+(\.\d{1,9})?s$`)
	fcmColor = regexp.MustCompile(`^#[0-9a-fA-F]{6}$`)
)

// check reads a request, and says what is wrong with it.
func (f *fcm) check(s *Sim, r *http.Request, n *Shown) (dry bool, refused *fcmError) {
	bad := func(field, text string) *fcmError {
		return &fcmError{400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", text, field}
	}
	known := func(code string) *fcmError {
		e := fcmErrors[code]
		return &e
	}
	if r.Method != http.MethodPost || !strings.HasPrefix(r.URL.Path, "/v1/projects/") || !strings.HasSuffix(r.URL.Path, "/messages:send") {
		return false, &fcmError{}
	}
	token, _ := strings.CutPrefix(header(r, "Authorization"), "Bearer ")
	f.mu.Lock()
	end, given := f.access[token]
	f.mu.Unlock()
	now := s.Now()
	if !given || !now.Before(end) {
		return false, known("UNAUTHENTICATED")
	}
	if r.URL.Path != f.path {
		return false, known("PERMISSION_DENIED")
	}
	if media, _, _ := strings.Cut(header(r, "Content-Type"), ";"); media != "application/json" {
		return false, &fcmError{400, "INVALID_ARGUMENT", "", "Invalid JSON payload received. Unknown name \"\": Root element must be a message.", ""}
	}
	body := bodyOf(r)
	var v fcmEnvelope
	if err := json.Unmarshal([]byte(body), &v, strictly); err != nil {
		return false, fcmSyntax(err)
	}
	m := &v.Message
	targets := 0
	for _, t := range [...]string{m.Token, m.Topic, m.Condition} {
		if t != "" {
			targets++
		}
	}
	if targets != 1 {
		return false, bad("message", "Recipient of the message is not set or more than one is.")
	}
	if len(body)-len(m.Token) > fcmMaxPayload {
		return false, bad("message", "Message too big")
	}
	for _, data := range [...]map[string]string{m.Data, m.Android.Data} {
		for key := range data {
			if key == "" || key == "from" || key == "message_type" || strings.HasPrefix(key, "gcm") || strings.HasPrefix(key, "google") {
				return false, bad("message.data["+key+"]", "Invalid data payload key: "+key)
			}
		}
	}
	a := &m.Android
	switch a.Priority {
	case "", "NORMAL", "HIGH":
	default:
		return false, fcmValue("message.android.priority", "type.googleapis.com/google.firebase.fcm.v1.AndroidMessagePriority", a.Priority)
	}
	n.Expires = now.Add(fcmMaxTTL)
	if a.TTL != "" {
		if !fcmTTL.MatchString(a.TTL) {
			return false, fcmValue("message.android.ttl", "type.googleapis.com/google.protobuf.Duration", a.TTL)
		}
		ttl, err := time.ParseDuration(a.TTL)
		if err != nil || ttl > fcmMaxTTL {
			return false, bad("message.android.ttl", "Invalid ttl: TTL must be between 0 and 2419200 seconds")
		}
		n.Expires = now.Add(ttl)
	}
	n.Silent = m.Notification == nil && a.Notification == nil
	if m.Notification != nil {
		n.Title, n.Body = m.Notification.Title, m.Notification.Body
		if e := fcmImage("message.notification.image", m.Notification.Image); e != nil {
			return false, e
		}
	}
	if b := a.Notification; b != nil {
		if b.Title != "" {
			n.Title = b.Title
		}
		if b.Body != "" {
			n.Body = b.Body
		}
		n.Key = b.Tag
		if b.NotificationCount != nil {
			if n.Badge = *b.NotificationCount; n.Badge < 0 {
				return false, bad("message.android.notification.notification_count", "notification_count must not be negative")
			}
		}
		if b.Color != "" && !fcmColor.MatchString(b.Color) {
			return false, bad("message.android.notification.color", "Color must be in the form #RRGGBB")
		}
		if e := fcmImage("message.android.notification.image", b.Image); e != nil {
			return false, e
		}
	}
	n.Token, n.Collapse, n.Data, n.Card, n.Removes = m.Token, a.CollapseKey, m.Data["appData"], m.Data["rc"], m.Data["rc-dlt-identifier"]
	if m.Token == "" {
		return false, bad("message.token", "The simulator knows tokens alone.")
	}

	if !isFCMToken(m.Token) {
		return false, &errFCMToken
	}
	p, found := s.phone(m.Token)
	if !found {
		return false, &errFCMToken
	}
	if p.Gone {
		return false, known("UNREGISTERED")
	}
	if a.RestrictedPackage != "" && p.Package != "" && a.RestrictedPackage != p.Package {
		return false, bad("message.android.restricted_package_name", "The message's package does not match that of the token.")
	}
	if s.options.Strict && !v.ValidateOnly && !f.room(m.Token, a.CollapseKey != "", now) {
		return false, known("QUOTA_EXCEEDED")
	}
	return v.ValidateOnly, nil
}

// room reports whether the phone can be told one more.
func (f *fcm) room(token string, collapsible bool, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.phones[token]
	if p == nil {
		p = &fcmPhone{room: fcmCollapsible, at: now}
		f.phones[token] = p
	}
	if minute := now.Unix() / 60; p.minute != minute {
		p.minute, p.count = minute, 0
	}
	p.room = min(fcmCollapsible, p.room+float64(now.Sub(p.at))/float64(fcmCollapseAgain))
	p.at = now
	if p.count >= fcmPerMinute || collapsible && p.room < 1 {
		return false
	}
	p.count++
	if collapsible {
		p.room--
	}
	return true
}

// isFCMToken reports whether it could be one: that is all that a simulator can say
// of tokens it has not given out.
func isFCMToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && c != ':' && c != '-' && c != '_' {
			return false
		}
	}
	return s != ""
}

func fcmImage(field, image string) *fcmError {
	if image == "" {
		return nil
	}
	if u, err := url.Parse(image); err != nil || u.Scheme != "https" || u.Host == "" {
		return &fcmError{400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", "Image URL must be a valid HTTPS URL", field}
	}
	return nil
}

// fcmValue is a value that is none of its type, as Google's parser says it: the
// service has not come to see it.
func fcmValue(field, kind, value string) *fcmError {
	return &fcmError{400, "INVALID_ARGUMENT", "", "Invalid value at '" + field + "' (" + kind + "), " + strconv.Quote(value), field}
}

// fcmSyntax is what Google's parser says of a message that is none.
func fcmSyntax(err error) *fcmError {
	e := &fcmError{400, "INVALID_ARGUMENT", "", "Invalid JSON payload received.", ""}
	at, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return e
	}
	var path []string
	for name := range at.JSONPointer.Tokens() {
		path = append(path, name)
	}
	if errors.Is(err, json.ErrUnknownName) && len(path) > 0 {
		name := path[len(path)-1]
		e.field = strings.Join(path[:len(path)-1], ".")
		where := ""
		if e.field != "" {
			where = " at '" + e.field + "'"
		}
		e.text += " Unknown name " + strconv.Quote(name) + where + ": Cannot find field."
		return e
	}
	e.field = strings.Join(path, ".")
	e.text = "Invalid value at '" + e.field + "'"
	return e
}
