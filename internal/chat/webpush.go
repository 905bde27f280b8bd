package chat

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/netip"
	"net/url"
	"strings"
)

// What browsers are notified by: their subscriptions with a push service (RFC 8030),
// and the key pair that an app is known by there (RFC 8292).

// The push services that browsers subscribe with, as environments of WEB: one that
// is down must not hold up what goes to the others. What is with a host that the
// server's owner has named is of NoEnvironment.
const (
	WebGoogle    PushEnvironment = 3
	WebMozilla   PushEnvironment = 4
	WebMicrosoft PushEnvironment = 5
	WebApple     PushEnvironment = 6
)

// webHosts are the hosts of the push services. A name that begins with a dot is that
// of all below it.
var webHosts = []struct {
	name    string
	service PushEnvironment
}{
	{"fcm.googleapis.com", WebGoogle},
	{"updates.push.services.mozilla.com", WebMozilla}, {".push.services.mozilla.com", WebMozilla},
	{".notify.windows.com", WebMicrosoft},
	{"web.push.apple.com", WebApple}, {".push.apple.com", WebApple},
}

// WebService is the push service at the host. A browser says itself where it wants
// to be called, so nothing but push services is: those of the browsers, and those
// that the server's owner names in more, where *. stands for all below a name.
func WebService(host string, more ...string) (PushEnvironment, bool) {
	for i := range webHosts {
		if hostIs(host, webHosts[i].name) {
			return webHosts[i].service, true
		}
	}
	for _, name := range more {
		if hostIs(host, strings.TrimPrefix(strings.ToLower(name), "*")) {
			return NoEnvironment, true
		}
	}
	return NoEnvironment, false
}

func hostIs(host, name string) bool {
	if strings.HasPrefix(name, ".") {
		return len(host) > len(name) && strings.HasSuffix(host, name)
	}
	return host == name
}

// CheckWebHost says whether a name can be among those that the server's owner adds.
func CheckWebHost(name string) error {
	host := strings.TrimPrefix(name, "*.")
	if _, err := netip.ParseAddr(host); err == nil || !webHost(strings.ToLower(host)) || !strings.Contains(host, ".") {
		return Invalid("push-web-hosts", "must be names of hosts such as push.example.com or *.push.example.com")
	}
	return nil
}

// webHost reports whether a name could be a host's in the small letters in which
// names are compared.
func webHost(host string) bool {
	if host == "" || len(host) > 253 || strings.Trim(host, "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
	}
	return true
}

// A WebSubscription is where a browser is notified, and by which keys alone it can
// read that. The endpoint is as good as a password: whoever knows it can have the
// push service called.
type WebSubscription struct {
	Origin string // of the endpoint, such as https://fcm.googleapis.com
	Path   string // and what follows that
	P256dh string // the browser's public key, in base64url
	Auth   string // a secret that it shares with who notifies it, in base64url
}

// The sizes of what a browser gives, in bytes.
const (
	webKey  = 65 // a point of the curve P-256, not compressed
	webAuth = 16
)

// maxEndpoint leaves room for the keys in what is kept as a token.
const maxEndpoint = maxPushToken - 128

// ParseWebSubscription reads what PushSubscription.toJSON gives in a browser. Its
// endpoint must be that of a push service; more are the hosts that are besides those
// that browsers have.
func ParseWebSubscription(text string, more ...string) (*WebSubscription, PushEnvironment, error) {
	var v struct {
		Endpoint string `json:"endpoint"`
		Keys     struct {
			P256dh string `json:"p256dh"`
			Auth   string `json:"auth"`
		} `json:"keys"`
	}
	// The decoder's own words may quote what is secret.
	if len(text) > 2*maxPushToken || json.Unmarshal([]byte(text), &v) != nil {
		return nil, 0, Invalid("token", "of WEB must be what PushSubscription.toJSON() gives in the browser: {endpoint, keys: {p256dh, auth}}")
	}
	if n := len(v.Endpoint); n > maxEndpoint {
		return nil, 0, TooLong("token.endpoint", maxEndpoint, n, "bytes")
	}
	s := &WebSubscription{}
	var err error
	if s.Origin, s.Path, err = splitEndpoint(v.Endpoint); err != nil {
		return nil, 0, err
	}
	service, known := WebService(s.Host(), more...)
	if !known {
		return nil, 0, Invalid("token.endpoint", "is not of a push service that is known here: those of Google, Mozilla, Microsoft and Apple are, and what the setting push-web-hosts names")
	}
	key, ok := webBytes(v.Keys.P256dh, webKey)
	if ok {
		_, err := ecdh.P256().NewPublicKey(key)
		ok = err == nil
	}
	if !ok {
		return nil, 0, Invalidf("token.keys.p256dh", "must be a public key of the curve P-256: %d bytes in base64url", webKey)
	}
	auth, ok := webBytes(v.Keys.Auth, webAuth)
	if !ok {
		return nil, 0, Invalidf("token.keys.auth", "must be %d bytes in base64url", webAuth)
	}
	s.P256dh, s.Auth = base64.RawURLEncoding.EncodeToString(key), base64.RawURLEncoding.EncodeToString(auth)
	return s, service, nil
}

// splitEndpoint takes an endpoint apart, and refuses what no push service has.
func splitEndpoint(endpoint string) (origin, path string, err error) {
	if endpoint == "" {
		return "", "", Invalid("token.endpoint", "is required")
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "https" || u.User != nil || u.Fragment != "" || u.Port() != "" && u.Port() != "443" ||
		!webHost(strings.ToLower(u.Hostname())) || !printable(endpoint) || climbs(u.Path) {
		return "", "", Invalid("token.endpoint", "must be an https URL, without user, fragment, a port of its own and dots that climb")
	}
	if path = u.RequestURI(); path == "/" {
		return "", "", Invalid("token.endpoint", "must be the URL of one subscription")
	}
	return "https://" + strings.ToLower(u.Hostname()), path, nil
}

// climbs reports whether a path leads out of where it stands, as behind the address of
// a relay.
func climbs(path string) bool {
	for part := range strings.SplitSeq(path, "/") {
		if part == "." || part == ".." {
			return true
		}
	}
	return false
}

// Host is that of the push service.
func (s *WebSubscription) Host() string { return strings.TrimPrefix(s.Origin, "https://") }

// Token is the subscription in the one form it is kept in. The endpoint comes last,
// so that ShortToken shows the end of that, and nothing of the keys.
func (s *WebSubscription) Token() string { return s.P256dh + "," + s.Auth + "," + s.Origin + s.Path }

// OfWebToken is the subscription that a token was made of, if it was.
func OfWebToken(token string) (s WebSubscription, ok bool) {
	var endpoint string
	if s.P256dh, endpoint, ok = strings.Cut(token, ","); !ok {
		return s, false
	}
	if s.Auth, endpoint, ok = strings.Cut(endpoint, ","); !ok {
		return s, false
	}
	const scheme = "https://"
	host, found := strings.CutPrefix(endpoint, scheme)
	n := strings.IndexByte(host, '/')
	if !found || n <= 0 {
		return s, false
	}
	s.Origin, s.Path = endpoint[:len(scheme)+n], host[n:]
	return s, true
}

// webBytes reads base64, which browsers and tools write with either alphabet, padded
// or not.
func webBytes(text string, size int) ([]byte, bool) {
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	b, err := base64.RawURLEncoding.DecodeString(text)
	return b, err == nil && len(b) == size
}

// webPrivate is how long a private key of the curve P-256 is, in bytes.
const webPrivate = 32

// WebKey reads the private key of a WEB credential.
func WebKey(text string) (*ecdh.PrivateKey, bool) {
	b, ok := webBytes(text, webPrivate)
	if !ok {
		return nil, false
	}
	key, err := ecdh.P256().NewPrivateKey(b)
	return key, err == nil
}

// NewWebKeys makes a key pair for WEB credentials, in the form that they have it.
func NewWebKeys() (public, private string, err error) {
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		return "", "", err
	}
	return base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes()), base64.RawURLEncoding.EncodeToString(key.Bytes()), nil
}

func checkWebPublic(field, v string) error {
	b, ok := webBytes(v, webKey)
	if ok {
		_, err := ecdh.P256().NewPublicKey(b)
		ok = err == nil
	}
	if !ok {
		return Invalidf(field, "must be a public key of the curve P-256: %d bytes in base64url, as parley push credential vapid makes it", webKey)
	}
	return nil
}

func checkWebPrivate(field, v string) error {
	if _, ok := WebKey(v); !ok {
		return Invalidf(field, "must be a private key of the curve P-256: %d bytes in base64url, as parley push credential vapid makes it", webPrivate)
	}
	return nil
}

// checkWebPair refuses keys that do not fit each other.
func checkWebPair(public, private string) error {
	key, ok := WebKey(private)
	b, same := webBytes(public, webKey)
	if !ok || !same || string(key.PublicKey().Bytes()) != string(b) {
		return Invalid("publicKey", "is not that of privateKey")
	}
	return nil
}

func checkWebSubject(field, v string) error {
	u, err := url.Parse(v)
	ok := err == nil && len(v) <= maxPushField && printable(v)
	switch {
	case ok && u.Scheme == "mailto":
		ok = strings.Contains(u.Opaque, "@")
	case ok && u.Scheme == "https":
		ok = u.Host != ""
	default:
		ok = false
	}
	if !ok {
		return Invalid(field, "must say whom push services can turn to: mailto:somebody@example.com, or an https URL")
	}
	return nil
}

func checkWebLink(field, v string) error {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "https" || u.Host == "" || !printable(v) {
		return Invalid(field, "must be an https URL")
	}
	if n := len(v); n > maxPushBaseURL {
		return TooLong(field, maxPushBaseURL, n, "bytes")
	}
	return nil
}
