package chat

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

// A PushProvider takes messages to devices that have no connection. Numbers are
// stored: never reuse one.
type PushProvider uint8

// The providers, by the names that pushExt has for them.
const (
	APNs  PushProvider = 1
	FCM   PushProvider = 2
	HW    PushProvider = 3
	HONOR PushProvider = 4
	MI    PushProvider = 5
	OPPO  PushProvider = 6
	VIVO  PushProvider = 7
	OHOS  PushProvider = 8
	MEIZU PushProvider = 9
	WEB   PushProvider = 10 // browsers, by the push services of their makers
)

var pushProviderNames = [...]string{
	APNs: "APNs", FCM: "FCM", HW: "HW", HONOR: "HONOR", MI: "MI", OPPO: "OPPO", VIVO: "VIVO", OHOS: "OHOS", MEIZU: "MEIZU", WEB: "WEB",
}

// PushProviders lists every provider.
func PushProviders() []PushProvider {
	return []PushProvider{APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU, WEB}
}

// String is the provider's name.
func (p PushProvider) String() string {
	if p >= APNs && int(p) < len(pushProviderNames) {
		return pushProviderNames[p]
	}
	return "unknown"
}

// ParsePushProvider reads a provider's name, in capitals or not.
func ParsePushProvider(name string) (PushProvider, error) {
	if name == "" {
		return 0, Invalid("provider", "is required")
	}
	for _, p := range PushProviders() {
		if strings.EqualFold(name, p.String()) {
			return p, nil
		}
	}
	return 0, Invalid("provider", "one of APNs, FCM, HW, HONOR, MI, OPPO, VIVO, OHOS, MEIZU, WEB")
}

// A PushEnvironment is one of the two worlds that Apple's tokens are of, and of
// browsers the push service that they are subscribed with. Numbers are stored: never
// reuse one.
type PushEnvironment uint8

// The environments of Apple's tokens. Those of browsers are in webpush.go; other
// providers have none.
const (
	NoEnvironment PushEnvironment = 0
	Production    PushEnvironment = 1
	Sandbox       PushEnvironment = 2
)

var pushEnvironmentNames = [...]string{
	NoEnvironment: "", Production: "production", Sandbox: "sandbox",
	WebGoogle: "google", WebMozilla: "mozilla", WebMicrosoft: "microsoft", WebApple: "apple",
}

// String is the environment's name, empty for none.
func (e PushEnvironment) String() string {
	if int(e) < len(pushEnvironmentNames) {
		return pushEnvironmentNames[e]
	}
	return "unknown"
}

// ParsePushEnvironment reads the environment of a token or a credential of the
// provider. Without a name there is none.
func ParsePushEnvironment(p PushProvider, name string) (PushEnvironment, error) {
	switch {
	case name == "":
		return NoEnvironment, nil
	case p != APNs:
		return 0, Invalid("environment", "is of APNs alone")
	case name == "production":
		return Production, nil
	case name == "sandbox":
		return Sandbox, nil
	}
	return 0, Invalid("environment", "one of production, sandbox")
}

// MaxPushDevices is how many devices of a user can be registered for push. Of
// more, those longest unseen go.
const MaxPushDevices = 32

// PushStrikes is on how many days a provider must have said of a token what may
// mean that it is dead, or that something else is wrong, until it counts as dead.
const PushStrikes = 3

// A PushDevice is a device that is registered for push.
type PushDevice struct {
	ID          string
	Provider    PushProvider
	Token       string          // names the device to the provider
	Package     string          // of the app on it, which Apple calls bundle; may be empty
	Environment PushEnvironment // of APNs tokens, and whose push service a browser's is
	Language    string          // a tag such as zh-Hans-CN; empty when not known
	HideDetails bool            // what a message says is not to be seen on a locked screen
	Zone        string          // a time zone's name; empty when not known
	Quiet       *QuietHours     // of this device alone, in its zone; nil for none
	// RegisteredAt is when the device last said that the token is its (Unix ms).
	RegisteredAt int64
	// SeenAt is when the device was last heard of, by its registration or on a
	// connection (Unix ms).
	SeenAt int64
	// Struck: there are days on which the provider doubted the token. It is not
	// registered, but read.
	Struck bool
}

// ShortToken is as much of a token as may be shown: enough to tell two of them
// apart.
func ShortToken(token string) string {
	n := min(6, len(token)/2)
	return "…" + token[len(token)-n:]
}

// A PushRegistration is a registration for push as clients and backends write it.
type PushRegistration struct {
	DeviceID        string
	Provider, Token string
	TokenObject     bool   // the token was no text but an object, of which Token is the text
	Bundle, Package string // two names of the same
	Environment     string
	Language        string
	HideDetails     bool
	Zone            string
	HasQuiet        bool // From and To were given
	From, To        string
}

// Clears reports whether the registration says that there is none any more.
func (r *PushRegistration) Clears() bool { return r.Token == "" }

// The bounds of what a registration says.
const (
	maxPushToken   = 4096 // bytes
	maxPushPackage = 128  // bytes
	// Apple's tokens are of 32 bytes today, and may grow.
	minAPNsToken, maxAPNsToken = 32, 100
)

// Device is what the registration says, checked. Errors name the field. webHosts are
// the hosts of push services besides those that browsers have.
func (r *PushRegistration) Device(webHosts ...string) (*PushDevice, error) {
	if err := CheckID("deviceId", r.DeviceID); err != nil {
		return nil, err
	}
	d := &PushDevice{ID: r.DeviceID, HideDetails: r.HideDetails}
	var err error
	if d.Provider, err = ParsePushProvider(r.Provider); err != nil {
		return nil, err
	}
	var service PushEnvironment
	switch {
	case d.Provider == WEB:
		var s *WebSubscription
		if s, service, err = ParseWebSubscription(r.Token, webHosts...); err != nil {
			return nil, err
		}
		d.Token = s.Token()
	case r.TokenObject:
		return nil, Invalid("token", "must be a string, as it is no browser's")
	default:
		if d.Token, err = checkPushToken(d.Provider, r.Token); err != nil {
			return nil, err
		}
	}
	if d.Package, err = PushPackage(r.Bundle, r.Package); err != nil {
		return nil, err
	}
	if d.Environment, err = ParsePushEnvironment(d.Provider, r.Environment); err != nil {
		return nil, err
	}
	if d.Provider == APNs && d.Environment == NoEnvironment {
		d.Environment = Production
	}
	if d.Provider == WEB {
		d.Environment = service
	}
	if r.Language != "" {
		if d.Language, err = ParseLanguage("language", r.Language); err != nil {
			return nil, err
		}
	}
	if r.Zone != "" {
		if err := checkZone(r.Zone); err != nil {
			return nil, err
		}
		d.Zone = r.Zone
	}
	if r.HasQuiet && (r.From != "" || r.To != "") {
		if d.Quiet, err = ParseQuietHours(r.From, r.To, r.Zone, NotifyUnset); err != nil {
			e := *err.(*Error)
			e.Field = "quietHours." + e.Field
			return nil, &e
		}
	}
	return d, nil
}

func checkZone(name string) error {
	if len(name) <= maxZone && name != "Local" {
		if _, err := time.LoadLocation(name); err == nil {
			return nil
		}
	}
	return Invalid("timezone", "must be the name of a time zone, such as Europe/Berlin")
}

// checkPushToken gives the token in the one form it is kept in. The rules are
// loose on purpose: what a token looks like is the provider's to change.
func checkPushToken(p PushProvider, token string) (string, error) {
	if token == "" {
		return "", Invalid("token", "is required")
	}
	if p == APNs {
		b, err := hex.DecodeString(token)
		if err != nil {
			return "", Invalid("token", "of APNs must be hexadecimal digits, two for each byte")
		}
		if n := len(b); n < minAPNsToken || n > maxAPNsToken {
			return "", Invalidf("token", "of APNs must be %d to %d bytes in hexadecimal, got %d bytes", minAPNsToken, maxAPNsToken, n)
		}
		return hex.EncodeToString(b), nil
	}
	if n := len(token); n > maxPushToken {
		return "", TooLong("token", maxPushToken, n, "bytes")
	}
	if !printable(token) {
		return "", Invalid("token", "must be printable ASCII characters without spaces")
	}
	return token, nil
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return true
}

// PushPackage reads the package of an app, which has two names. It may be empty.
func PushPackage(bundle, pack string) (string, error) {
	field := "package"
	switch {
	case pack == "":
		field, pack = "bundle", bundle
	case bundle != "" && bundle != pack:
		return "", Invalid("bundle", "is the same as package; they must not differ")
	}
	if n := len(pack); n > maxPushPackage {
		return "", TooLong(field, maxPushPackage, n, "bytes")
	}
	if !printable(pack) {
		return "", Invalid(field, "must be printable ASCII characters without spaces")
	}
	return pack, nil
}

// maxLanguage is the length a tag must at least be allowed by RFC 5646, 4.4.1.
const maxLanguage = 35

// ParseLanguage reads a language tag (BCP 47) and gives it in the form that tags
// are compared in: de, zh-Hans-CN. An underscore, as Java writes it, is a hyphen.
// Which languages there are is not looked at.
func ParseLanguage(field, tag string) (string, error) {
	if tag == "" {
		return "", Invalid(field, "is required")
	}
	if n := len(tag); n > maxLanguage {
		return "", TooLong(field, maxLanguage, n, "bytes")
	}
	parts := strings.Split(strings.ToLower(strings.ReplaceAll(tag, "_", "-")), "-")
	wrong := Invalid(field, "must be a language tag such as en or zh-Hans-CN")
	private := false
	for i, p := range parts {
		if len(p) < 1 || len(p) > 8 || strings.Trim(p, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
			return "", wrong
		}
		letters := strings.Trim(p, "0123456789") == p && !strings.ContainsAny(p, "0123456789")
		switch {
		case i == 0:
			if !letters || len(p) < 2 {
				return "", wrong
			}
		case private:
		case len(p) == 1: // what follows is an extension's, or private
			private = true
		case len(p) == 2 && letters:
			parts[i] = strings.ToUpper(p)
		case len(p) == 4 && letters:
			parts[i] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	if len(parts[len(parts)-1]) == 1 {
		return "", wrong
	}
	return strings.Join(parts, "-"), nil
}

// String keeps tokens out of logs.
func (d *PushDevice) String() string {
	return fmt.Sprintf("%s device %s, token %s", d.Provider, d.ID, ShortToken(d.Token))
}
