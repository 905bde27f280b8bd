package chat

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// MaxPushCredentials is how many credentials an app can have.
const MaxPushCredentials = 100

// A PushCredential is what a provider knows an app by. What is secret in it leaves
// the server only in calls to the provider: it is never shown, and never logged.
type PushCredential struct {
	Provider    PushProvider
	Package     string          // of the app it is for; empty for all that have none of their own
	Environment PushEnvironment // of APNs: the tokens it is for; none is for both

	Fields map[string]string // by name, those that were given
	// BaseURL is asked in place of the provider's own addresses; empty for those.
	BaseURL string
	Since   int64 // Unix ms: when it was set to what it is
}

// A PushField is one of those that the credentials of a provider have.
type PushField struct {
	Name     string
	Optional bool
	Secret   bool
	check    func(field, value string) error
}

// ratePushField is of all providers' credentials: how many notifications a second
// are sent with it, where that is not what the provider takes.
var ratePushField = PushField{Name: "rate", Optional: true, check: checkPushRate}

func pushFieldsOf(p PushProvider) []PushField {
	list := pushFields[p]
	if list == nil {
		return nil
	}
	return append(slices.Clip(list), ratePushField)
}

var pushFields = map[PushProvider][]PushField{
	APNs: {
		{Name: "keyId", check: checkAppleID}, {Name: "teamId", check: checkAppleID},
		{Name: "p8", Secret: true, check: checkP8}, {Name: "topic", Optional: true},
		{Name: "sound", Optional: true}, {Name: "category", Optional: true},
	},
	FCM: {
		{Name: "serviceAccount", Secret: true, check: checkGoogleAccount},
		{Name: "channelId", Optional: true}, {Name: "showBadge", Optional: true, check: checkSwitch},
	},
	HW: {
		{Name: "appId"}, {Name: "clientId", Optional: true}, {Name: "clientSecret", Secret: true}, {Name: "projectId", Optional: true},
		{Name: "channelId", Optional: true}, {Name: "importance", Optional: true, check: oneOf("NORMAL", "LOW", "HIGH")},
		{Name: "category", Optional: true}, {Name: "intent", Optional: true}, {Name: "badgeClass", Optional: true},
		{Name: "testMessages", Optional: true, check: checkSwitch},
	},
	HONOR: {
		{Name: "appId"}, {Name: "clientId"}, {Name: "clientSecret", Secret: true},
		{Name: "importance", Optional: true, check: oneOf("NORMAL", "LOW")},
		{Name: "intent", Optional: true}, {Name: "badgeClass", Optional: true},
		{Name: "testMessages", Optional: true, check: checkSwitch},
	},
	MI: {
		{Name: "appSecret", Secret: true}, {Name: "region", Optional: true, check: checkRegion}, {Name: "channelId", Optional: true},
		{Name: "vendorTemplateId", Optional: true}, {Name: "vendorTemplateTitle", Optional: true}, {Name: "vendorTemplateBody", Optional: true},
	},
	OPPO: {
		{Name: "appKey"}, {Name: "masterSecret", Secret: true}, {Name: "region", Optional: true, check: checkRegion},
		{Name: "channelId", Optional: true}, {Name: "category", Optional: true}, {Name: "notifyLevel", Optional: true, check: oneOf("1", "2", "16")},
		{Name: "vendorTemplateId", Optional: true}, {Name: "vendorTemplateTitle", Optional: true}, {Name: "vendorTemplateBody", Optional: true},
	},
	VIVO: {
		{Name: "appId", check: checkNumber}, {Name: "appKey"}, {Name: "appSecret", Secret: true},
		{Name: "classification", Optional: true, check: checkSwitch}, {Name: "category", Optional: true},
		{Name: "pushMode", Optional: true, check: checkSwitch},
	},
	OHOS: {
		{Name: "serviceAccount", Secret: true, check: checkHuaweiAccount},
		{Name: "category", Optional: true}, {Name: "action", Optional: true},
		{Name: "showBadge", Optional: true, check: checkSwitch},
		{Name: "testMessages", Optional: true, check: checkSwitch},
	},
	MEIZU: {{Name: "appId"}, {Name: "appSecret", Secret: true}, {Name: "noticeMsgType", Optional: true, check: oneOf("1", "2")}},
	WEB: {
		{Name: "publicKey", check: checkWebPublic}, {Name: "privateKey", Secret: true, check: checkWebPrivate},
		{Name: "subject", check: checkWebSubject},
		{Name: "icon", Optional: true, check: checkWebLink}, {Name: "badge", Optional: true, check: checkWebLink},
		{Name: "link", Optional: true, check: checkWebLink},
	},
}

// PushFields are the fields of the provider's credentials.
func PushFields(p PushProvider) []PushField { return pushFieldsOf(p) }

// PushFieldNames are the names of all fields that credentials of any provider have.
func PushFieldNames() []string {
	names := map[string]bool{ratePushField.Name: true}
	for _, list := range pushFields {
		for _, f := range list {
			names[f.Name] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

const (
	maxPushField   = 256      // bytes
	maxPushSecret  = 16 << 10 // bytes, of keys and accounts
	maxPushBaseURL = 2000     // bytes
)

// Check says whether the credential could be one. Whether the provider takes it,
// only the provider can say. Errors name the field and hold nothing of its value.
func (c *PushCredential) Check() error {
	list := pushFieldsOf(c.Provider)
	if list == nil {
		return Invalid("provider", "is required")
	}
	names := make([]string, 0, len(list))
	for _, f := range list {
		names = append(names, f.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Fields)) {
		if !slices.Contains(names, name) {
			return Invalid(name, "is not of "+c.Provider.String()+" credentials, which have "+strings.Join(names, ", "))
		}
	}
	for _, f := range list {
		v := c.Fields[f.Name]
		switch {
		case v == "" && f.Optional:
		case v == "":
			return Invalid(f.Name, "is required for "+c.Provider.String())
		case f.check != nil:
			if n := len(v); n > maxPushSecret {
				return TooLong(f.Name, maxPushSecret, n, "bytes")
			}
			if err := f.check(f.Name, v); err != nil {
				return err
			}
		default:
			if n := len(v); n > maxPushField {
				return TooLong(f.Name, maxPushField, n, "bytes")
			}
			if !printable(v) {
				return Invalid(f.Name, "must be printable ASCII characters without spaces")
			}
		}
	}
	for _, name := range [...]string{"vendorTemplateTitle", "vendorTemplateBody"} {
		if c.Fields[name] != "" && c.Fields["vendorTemplateId"] == "" {
			return Invalid("vendorTemplateId", "is required with "+name)
		}
	}
	if c.Provider == WEB {
		if err := checkWebPair(c.Fields["publicKey"], c.Fields["privateKey"]); err != nil {
			return err
		}
	}
	return checkBaseURL(c.BaseURL)
}

// CheckReach refuses credentials that would have the server call where the
// provider is not: only the server's owner may say so, not each app.
func (c *PushCredential) CheckReach() error {
	if c.BaseURL != "" {
		return Invalid("baseUrl", "only the server's owner sets it, with the command parley push credential set")
	}
	if c.Provider != FCM {
		return nil
	}
	var a account
	if json.Unmarshal([]byte(c.Fields["serviceAccount"]), &a) != nil || a.TokenURI == "" {
		return nil // Check has its say
	}
	u, err := url.Parse(a.TokenURI)
	if err != nil || u.Scheme != "https" || u.Port() != "" || u.Hostname() != "oauth2.googleapis.com" && u.Hostname() != "accounts.google.com" {
		return Invalid("serviceAccount", "token_uri must be Google's, such as https://oauth2.googleapis.com/token")
	}
	return nil
}

// Same reports whether the two are for the same and hold the same.
func (c *PushCredential) Same(o *PushCredential) bool {
	return c.SameKey(o) && c.BaseURL == o.BaseURL && maps.Equal(c.Fields, o.Fields)
}

// SameKey reports whether one would take the place of the other.
func (c *PushCredential) SameKey(o *PushCredential) bool {
	return c.Provider == o.Provider && c.Package == o.Package && c.Environment == o.Environment
}

// PushCredentialsAbout picks credentials by what they are for: each of the names
// that is given must be theirs.
func PushCredentialsAbout(provider, bundle, pack, environment string) (about func(*PushCredential) bool, err error) {
	var p PushProvider
	if provider != "" {
		if p, err = ParsePushProvider(provider); err != nil {
			return nil, err
		}
	}
	if pack, err = PushPackage(bundle, pack); err != nil {
		return nil, err
	}
	of := p
	if of == 0 {
		of = APNs // the only one that has any
	}
	e, err := ParsePushEnvironment(of, environment)
	if err != nil {
		return nil, err
	}
	return func(c *PushCredential) bool {
		return (p == 0 || c.Provider == p) && (pack == "" || c.Package == pack) && (e == NoEnvironment || c.Environment == e)
	}, nil
}

// KeyID is what the provider calls the credential by, which is not secret. Of WEB it
// is the public key, which pages subscribe with.
func (c *PushCredential) KeyID() string {
	for _, name := range [...]string{"keyId", "clientId", "appId", "appKey", "publicKey"} {
		if v := c.Fields[name]; v != "" {
			return v
		}
	}
	var a account
	if json.Unmarshal([]byte(c.Fields["serviceAccount"]), &a) == nil {
		return a.keyID()
	}
	return ""
}

// Fingerprint tells two secrets apart without saying what they are.
func (c *PushCredential) Fingerprint() string {
	h := sha256.New()
	for _, f := range pushFields[c.Provider] {
		if f.Secret {
			fmt.Fprintf(h, "%s\x00%s\x00", f.Name, c.Fields[f.Name])
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// String, GoString and LogValue keep what is secret out of logs.
func (c PushCredential) String() string {
	return fmt.Sprintf("%s credential of %q, fingerprint %s", c.Provider, c.Package, c.Fingerprint())
}

// GoString implements fmt.GoStringer.
func (c PushCredential) GoString() string { return c.String() }

// LogValue implements slog.LogValuer.
func (c PushCredential) LogValue() slog.Value { return slog.StringValue(c.String()) }

// MarshalJSON keeps it from being shown by mistake: it cannot be encoded whole.
func (c PushCredential) MarshalJSON() ([]byte, error) { return json.Marshal(c.String()) }

func checkAppleID(field, v string) error {
	if len(v) != 10 || strings.Trim(v, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") != "" {
		return Invalid(field, "must be 10 capital letters and digits")
	}
	return nil
}

func checkRegion(field, v string) error {
	if v != "cn" && v != "global" {
		return Invalid(field, "one of cn, global")
	}
	return nil
}

func oneOf(words ...string) func(field, v string) error {
	return func(field, v string) error {
		if !slices.Contains(words, v) {
			return Invalid(field, "one of "+strings.Join(words, ", "))
		}
		return nil
	}
}

// MaxPushRate is the most that a credential's rate can be, in notifications a
// second.
const MaxPushRate = 1_000_000

func checkPushRate(field, v string) error {
	if n, err := strconv.Atoi(v); err != nil || n < 1 || n > MaxPushRate {
		return Invalidf(field, "a number from 1 to %d", MaxPushRate)
	}
	return nil
}

func checkSwitch(field, v string) error {
	if v != "0" && v != "1" {
		return Invalid(field, "one of 0, 1")
	}
	return nil
}

func checkNumber(field, v string) error {
	if n, err := strconv.ParseInt(v, 10, 64); err != nil || n <= 0 {
		return Invalid(field, "must be a number")
	}
	return nil
}

// parseKey reads a private key in a PEM block, as the providers give them.
func parseKey(text string) any {
	block, _ := pem.Decode([]byte(text))
	if block == nil {
		return nil
	}
	if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(block.Bytes); err == nil {
		return key
	}
	return nil
}

func checkP8(field, v string) error {
	key, ok := parseKey(v).(*ecdsa.PrivateKey)
	if !ok || key.Curve != elliptic.P256() {
		return Invalid(field, "must be the text of the .p8 file from Apple: a private key of the curve P-256 in PEM")
	}
	return nil
}

// An account is as much of a service account's file as is checked.
type account struct {
	ProjectID    string `json:"project_id"`
	PrivateKey   string `json:"private_key"`
	PrivateKeyID string `json:"private_key_id"` // Google's
	KeyID        string `json:"key_id"`         // Huawei's
	ClientEmail  string `json:"client_email"`   // Google's
	SubAccount   string `json:"sub_account"`    // Huawei's
	TokenURI     string `json:"token_uri"`
}

func (a *account) keyID() string {
	for _, v := range [...]string{a.PrivateKeyID, a.KeyID, a.ClientEmail, a.SubAccount} {
		if v != "" {
			return v
		}
	}
	return ""
}

func checkGoogleAccount(field, v string) error {
	return checkAccount(field, v, func(a *account) (string, string) { return "client_email", a.ClientEmail })
}

func checkHuaweiAccount(field, v string) error {
	if err := checkAccount(field, v, func(a *account) (string, string) { return "sub_account", a.SubAccount }); err != nil {
		return err
	}
	var a account
	if _ = json.Unmarshal([]byte(v), &a); a.KeyID == "" {
		return Invalid(field, "key_id is missing from it")
	}
	return nil
}

func checkAccount(field, v string, who func(*account) (name, value string)) error {
	var a account
	// The decoder's own words may quote what is secret.
	if json.Unmarshal([]byte(v), &a) != nil {
		return Invalid(field, "must be the text of the service account's file, which is a JSON object")
	}
	name, value := who(&a)
	for _, f := range [...]struct{ name, value string }{{"project_id", a.ProjectID}, {name, value}, {"private_key", a.PrivateKey}} {
		if f.value == "" {
			return Invalid(field, f.name+" is missing from it")
		}
	}
	if _, ok := parseKey(a.PrivateKey).(*rsa.PrivateKey); !ok {
		return Invalid(field, "private_key must be an RSA key in PEM")
	}
	if a.TokenURI != "" {
		if err := checkBaseURL(a.TokenURI); err != nil {
			return Invalid(field, "token_uri "+err.(*Error).Rule)
		}
	}
	return nil
}

// checkBaseURL refuses what secrets must not be sent to in the clear.
func checkBaseURL(text string) error {
	if text == "" {
		return nil
	}
	const field = "baseUrl"
	if n := len(text); n > maxPushBaseURL {
		return TooLong(field, maxPushBaseURL, n, "bytes")
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return Invalid(field, "must be a URL such as https://push.example.com, without user, query and fragment")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || u.Hostname() != "localhost" && !ip.IsLoopback()) {
		return Invalid(field, "must begin with https://; http:// is for loopback addresses alone")
	}
	return nil
}
