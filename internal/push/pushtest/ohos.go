package pushtest

import (
	"cmp"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
)

// NewOHOS simulates the Push Kit of HarmonyOS, version 3. It has no server of access
// tokens: bearers are signed by the service account.
func NewOHOS(o Options) *Sim {
	k := &ohos{
		project: strconv.FormatInt(o.number("ohos project"), 10), account: strconv.FormatInt(o.number("ohos account"), 10),
		keyID: o.secret("ohos key id"), key: ohosKey(o), bearers: map[string]bearer{},
	}
	return newSim(chat.OHOS, o, k)
}

// ohosKey is a key for the service account: the same one for all simulators of a
// process, as making one takes a while. They differ in the account that has it.
func ohosKey(o Options) *rsa.PrivateKey {
	if o.Seed == "" {
		return anyOHOSKey()
	}
	return o.rsaKey("ohos")
}

var anyOHOSKey = sync.OnceValue(func() *rsa.PrivateKey { return Options{}.rsaKey("ohos") })

type ohos struct {
	project, account, keyID string

	key      *rsa.PrivateKey
	daily    daily
	requests atomic.Int64

	mu      sync.Mutex
	bearers map[string]bearer // that were good when they first came
}

// A bearer is a token that was looked at.
type bearer struct {
	expires time.Time
	revoked bool
}

const (
	ohosAudience   = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
	ohosLongest    = 24 * time.Hour // that a token may be good for
	ohosTestTokens = 10             // of one test message
	ohosTests      = 1000           // test messages a day
	maxBearers     = 10_000
)

func (k *ohos) http2() bool             { return false }
func (k *ohos) auth(*http.Request) bool { return false }

func (k *ohos) revoke() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for token, b := range k.bearers {
		b.revoked = true
		k.bearers[token] = b
	}
}

func (k *ohos) credential(string) chat.PushCredential {
	der, err := x509.MarshalPKCS8PrivateKey(k.key)
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a key
	}
	text, err := json.Marshal(map[string]string{
		"project_id": k.project, "key_id": k.keyID, "sub_account": k.account, "token_uri": ohosAudience,
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	}, json.Deterministic(true))
	if err != nil {
		panic("pushtest: " + err.Error()) // it is a map of texts
	}
	return chat.PushCredential{Fields: map[string]string{"serviceAccount": string(text)}}
}

// refuse answers with a code, or for one of the reasons why tokens are not served.
func (k *ohos) refuse(w http.ResponseWriter, code string) {
	if strings.Trim(code, "0123456789") == "" {
		answerHuawei(w, code, "", k.id())
		return
	}
	k.illegal(w, map[string][]string{code: {"token"}}, 0)
}

// illegal says which tokens were not served, by reason.
func (k *ohos) illegal(w http.ResponseWriter, reasons map[string][]string, served int) {
	code, failed := "80100000", 0
	if served == 0 {
		code = "80300007"
	}
	for _, tokens := range reasons {
		failed += len(tokens)
	}
	text, _ := json.Marshal(struct {
		Illegal map[string][]string `json:"illegalTokens"`
		Success int                 `json:"success"`
		Failure int                 `json:"failure"`
	}{reasons, served, failed}, json.Deterministic(true))
	answerHuawei(w, code, string(text), k.id())
}

func (k *ohos) id() string { return strconv.FormatInt(k.requests.Add(1), 10) }

// An ohosMessage is all that a request can hold.
type ohosMessage struct {
	Payload *ohosPayload `json:"payload"`
	Target  *ohosTarget  `json:"target"`
	Options ohosOptions  `json:"pushOptions"`
}

type ohosPayload struct {
	Notification *ohosNotification `json:"notification"`
	ExtraData    string            `json:"extraData"`
}

type ohosNotification struct {
	Category       string     `json:"category"`
	Title          string     `json:"title"`
	Body           string     `json:"body"`
	Image          string     `json:"image"`
	NotifyID       *int       `json:"notifyId"`
	AppMessageID   *string    `json:"appMessageId"`
	ProfileID      string     `json:"profileId"`
	Style          *int       `json:"style"`
	InboxContent   []string   `json:"inboxContent"`
	ForegroundShow *bool      `json:"foregroundShow"`
	Sound          string     `json:"sound"`
	SoundDuration  *int       `json:"soundDuration"`
	Badge          *ohosBadge `json:"badge"`
	ClickAction    *ohosClick `json:"clickAction"`
}

type ohosBadge struct {
	AddNum *int `json:"addNum"`
	SetNum *int `json:"setNum"`
}

type ohosClick struct {
	ActionType *int           `json:"actionType"`
	Action     string         `json:"action"`
	URI        string         `json:"uri"`
	Data       jsontext.Value `json:"data"`
}

type ohosTarget struct {
	Token []string `json:"token"`
}

type ohosOptions struct {
	TTL         *int64 `json:"ttl"`
	CollapseKey *int   `json:"collapseKey"`
	BITag       string `json:"biTag"`
	ReceiptID   string `json:"receiptId"`
	TestMessage bool   `json:"testMessage"`
}

var (
	ohosPath      = regexp.MustCompile(`^/v[123]/[^/]+/messages:send$`)
	ohosMessageID = regexp.MustCompile(`^[A-Za-z0-9+/=_ -]{1,64}$`)
	ohosPushTypes = []string{"0", "6"}
)

func (k *ohos) serve(s *Sim, w http.ResponseWriter, r *http.Request) {
	switch {
	case !ohosPath.MatchString(r.URL.Path):
		s.refused()
		http.NotFound(w, r)
		return
	case r.Method != http.MethodPost:
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
	id, served := k.id(), 0
	reasons := map[string][]string{}
	for _, token := range m.Target.Token {
		p, found := s.phone(token)
		reason := ""
		switch {
		case !found, p.Gone:
			// Of tokens whose app was removed there is no word of its own.
			reason = "tokenFormatError"
		case p.Package != "" && p.Package != HWPackage:
			reason = "noRight"
		}
		if reason != "" {
			reasons[reason] = append(reasons[reason], token)
			s.refused()
			continue
		}
		served++
		n := m.shown(s.Now(), token, id)
		category := ""
		if m.Payload.Notification != nil {
			category = m.Payload.Notification.Category
		}
		if n.Silent || m.Options.TestMessage || k.daily.allowed(s, token, category) {
			s.show(n)
		}
	}
	if len(reasons) > 0 {
		k.illegal(w, reasons, served)
		return
	}
	answerHuawei(w, "80000000", "", id)
}

// read reads a request that is to be sent; a code says why it is not.
func (k *ohos) read(s *Sim, r *http.Request, body string) (*ohosMessage, string) {
	// Whatever is wrong with the path is wrong with the project, or with the version,
	// which wants another kind of bearer.
	if r.URL.Path != "/v3/"+k.project+"/messages:send" {
		return nil, "80200001"
	}
	if code := k.lets(s.Now(), r); code != "" {
		return nil, code
	}
	kind := r.Header.Get("push-type")
	// The other kinds have payloads of their own, which nobody sends here.
	if !slices.Contains(ohosPushTypes, kind) {
		return nil, "80100001"
	}
	var m ohosMessage
	if !isJSON(r) || readKnown(body, &m) != nil || m.Payload == nil || m.Target == nil {
		return nil, "80100003"
	}
	tokens := m.Target.Token
	switch {
	case len(tokens) == 0 || len(tokens) > huaweiTokens:
		return nil, "80300010"
	case m.Options.TestMessage && len(tokens) > ohosTestTokens:
		return nil, "80300030"
	case !fitsHuawei(body, tokens):
		return nil, "80300008"
	}
	if code := m.check(kind, s.options.Images); code != "" {
		return nil, code
	}
	if m.Options.TestMessage && !k.daily.take(s.Now(), "tests", ohosTests) {
		return nil, "80300029"
	}
	return &m, ""
}

// lets says why whoever sends the request is not let in.
func (k *ohos) lets(now time.Time, r *http.Request) string {
	text, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok {
		return "80200001"
	}
	k.mu.Lock()
	b, known := k.bearers[text]
	k.mu.Unlock()
	switch {
	case known && b.revoked:
		return "80200001"
	case known && now.Before(b.expires):
		return ""
	}
	var claims jwt.RegisteredClaims
	_, err := jwt.ParseWithClaims(text, &claims, func(t *jwt.Token) (any, error) {
		if t.Header["kid"] != k.keyID || t.Header["typ"] != "JWT" {
			return nil, errors.New("another key")
		}
		return &k.key.PublicKey, nil
	}, jwt.WithValidMethods([]string{"PS256"}), jwt.WithTimeFunc(func() time.Time { return now }),
		jwt.WithAudience(ohosAudience), jwt.WithIssuer(k.account), jwt.WithIssuedAt(), jwt.WithExpirationRequired())
	switch {
	case errors.Is(err, jwt.ErrTokenExpired):
		return "80200005"
	case err != nil, claims.IssuedAt == nil:
		return "80200001"
	case claims.ExpiresAt.Sub(claims.IssuedAt.Time) > ohosLongest:
		return "80300036"
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if len(k.bearers) >= maxBearers {
		clear(k.bearers)
	}
	k.bearers[text] = bearer{expires: claims.ExpiresAt.Time}
	return ""
}

// check says what is wrong with the message, by a code.
func (m *ohosMessage) check(kind string, images func(string) bool) string {
	o, n := &m.Options, m.Payload.Notification
	switch {
	case o.TTL != nil && (*o.TTL <= 0 || *o.TTL > int64(huaweiTTL/time.Second)):
		return "80100004"
	case !between(o.CollapseKey, -1, 100), len(o.BITag) > 64:
		return "80100001"
	case kind == "6":
		if n != nil || m.Payload.ExtraData == "" {
			return "80100003"
		}
		return ""
	case n == nil:
		return "80100003"
	}
	c, b := n.ClickAction, n.Badge
	switch {
	case n.Category == "PLAY_VOICE":
		return "notSupportPlayVoice"
	case n.Category == "", !among(n.Category, huaweiCategories),
		n.Title == "", n.Body == "",
		n.Image != "" && !link(n.Image),
		n.AppMessageID != nil && !ohosMessageID.MatchString(*n.AppMessageID),
		len(n.ProfileID) > 64,
		n.Style != nil && *n.Style != 0 && *n.Style != 3,
		c == nil || c.ActionType == nil || *c.ActionType < 0 || *c.ActionType > 1,
		*c.ActionType == 1 && c.Action == "" && c.URI == "",
		len(c.Data) > 0 && c.Data.Kind() != '{',
		b != nil && (b.SetNum == nil && b.AddNum == nil || !between(b.SetNum, 0, huaweiBadge) || !between(b.AddNum, 1, huaweiBadge)):
		return "80100001"
	case n.Category == "VOIP" && o.TTL != nil && (*o.TTL < 30 || *o.TTL > 60):
		return "80100004"
	case n.Image != "" && images != nil && !images(n.Image):
		return "80100022"
	}
	return ""
}

// shown is what the phone with the token gets.
func (m *ohosMessage) shown(now time.Time, token, id string) Shown {
	ttl := 24 * time.Hour
	if m.Options.TTL != nil {
		ttl = time.Duration(*m.Options.TTL) * time.Second
	}
	v := Shown{Token: token, ID: id, Badge: -1, Expires: now.Add(ttl)}
	n := m.Payload.Notification
	if n == nil {
		v.Silent = true
		v.carried(m.Payload.ExtraData)
		return v
	}
	v.carried(string(n.ClickAction.Data))
	v.Title, v.Body = n.Title, n.Body
	if n.NotifyID != nil {
		v.Key = strconv.Itoa(*n.NotifyID)
	}
	// Whether it keeps from showing twice is not known: it does not here.
	v.Request = *cmp.Or(n.AppMessageID, new(string))
	if n.Badge != nil && n.Badge.SetNum != nil {
		v.Badge = *n.Badge.SetNum
	}
	return v
}
