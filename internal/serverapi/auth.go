package serverapi

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/hex"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley/internal/chat"
)

// maxNonce is the longest Nonce, in characters (platform-chat-api/auth).
const maxNonce = 18

// Reasons of refused authentication, for the metric.
const (
	refusedMissing   = "missing_header"
	refusedAppKey    = "app_key"
	refusedNonce     = "nonce"
	refusedTimestamp = "timestamp"
	refusedWindow    = "window"
	refusedSignature = "signature"
	refusedReplay    = "replay"
)

var refusedReasons = []string{
	refusedMissing, refusedAppKey, refusedNonce, refusedTimestamp, refusedWindow, refusedSignature, refusedReplay,
}

// A signing header in the spellings that Go stores headers under: bare, and
// with RC- for hosts that strip bare ones.
type signingHeader struct{ name, prefixed string }

var (
	headerAppKey    = signingHeader{"App-Key", "Rc-App-Key"}
	headerNonce     = signingHeader{"Nonce", "Rc-Nonce"}
	headerTimestamp = signingHeader{"Timestamp", "Rc-Timestamp"}
	headerSignature = signingHeader{"Signature", "Rc-Signature"}
)

// in gives the header's value, empty when it is missing. The bare spelling goes
// first, and of several lines the first: that is the one the official SDK signs.
func (s signingHeader) in(h http.Header) string {
	if v := h[s.name]; len(v) > 0 && v[0] != "" {
		return v[0]
	}
	if v := h[s.prefixed]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// credentials are what a call was signed with.
type credentials struct {
	appKey, nonce, timestamp, signature string
	at                                  int64 // timestamp in Unix ms
}

// authenticate says which app the call is of. The signature is lower-case hex
// SHA-1 over App Secret, Nonce and Timestamp, exactly as the headers have them
// (platform-chat-api/auth).
func (c *call) authenticate() error {
	h := c.r.Header
	cr := &c.cred
	*cr = credentials{headerAppKey.in(h), headerNonce.in(h), headerTimestamp.in(h), headerSignature.in(h), 0}
	if cr.appKey == "" || cr.nonce == "" || cr.timestamp == "" || cr.signature == "" {
		return c.refuse(refusedMissing, missingHeaders(cr))
	}
	app := c.api.directory.App(cr.appKey)
	if app == nil {
		return c.refuse(refusedAppKey, &chat.Error{Kind: chat.KindAppKey, Field: "App-Key", Rule: "no app has this key"})
	}
	if len(cr.nonce) > maxNonce {
		if n := utf8.RuneCountInString(cr.nonce); n > maxNonce {
			return c.refuse(refusedNonce, badSignature("Nonce", "at most "+strconv.Itoa(maxNonce)+" characters, got "+strconv.Itoa(n)))
		}
	}
	at, rule := parseTimestamp(cr.timestamp)
	if rule != "" {
		return c.refuse(refusedTimestamp, badSignature("Timestamp", rule))
	}
	cr.at = at
	want := sign(app.Secret, cr.nonce, cr.timestamp)
	if subtle.ConstantTimeCompare(want[:], []byte(cr.signature)) != 1 {
		return c.refuse(refusedSignature, badSignature("Signature", signatureHint(app, cr)))
	}
	if window := app.Settings.AuthWindow; window > 0 {
		now := c.api.now()
		if off := now.Sub(time.UnixMilli(at)); off > window || off < -window {
			side := "behind"
			if off < 0 {
				off, side = -off, "ahead of"
			}
			return c.refuse(refusedWindow, badSignature("Timestamp", off.Round(time.Millisecond).String()+" "+side+
				" the server's clock, which says "+strconv.FormatInt(now.UnixMilli(), 10)+"; at most "+window.String()+" is allowed"))
		}
	}
	c.app = app
	return nil
}

func (c *call) refuse(reason string, err error) error {
	c.api.metrics.refused[reason].Inc()
	return err
}

func badSignature(header, rule string) error {
	return &chat.Error{Kind: chat.KindSignature, Field: header, Rule: rule}
}

func missingHeaders(cr *credentials) error {
	var names []string
	for _, h := range []struct{ name, value string }{
		{"App-Key", cr.appKey}, {"Nonce", cr.nonce}, {"Timestamp", cr.timestamp}, {"Signature", cr.signature},
	} {
		if h.value == "" {
			names = append(names, h.name)
		}
	}
	kind := chat.KindSignature
	if cr.appKey == "" {
		kind = chat.KindAppKey
	}
	return chat.Fail(kind, "missing header: "+strings.Join(names, ", "))
}

// parseTimestamp reads Unix milliseconds, or seconds when there are ten digits.
func parseTimestamp(s string) (ms int64, rule string) {
	const want = "must be Unix time in milliseconds (13 digits) or seconds (10 digits)"
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return 0, want + ", digits only"
		}
	}
	switch {
	case len(s) == 16:
		return 0, want + ", got 16 digits, as of microseconds"
	case len(s) == 19:
		return 0, want + ", got 19 digits, as of nanoseconds"
	case len(s) > 14:
		return 0, want + ", got " + strconv.Itoa(len(s)) + " digits"
	}
	ms, _ = strconv.ParseInt(s, 10, 64)
	if len(s) == 10 {
		ms *= 1000
	}
	return ms, ""
}

const signatureLen = 2 * sha1.Size

// sign is the signature over the given texts.
func sign(texts ...string) (hexSum [signatureLen]byte) {
	var space [256]byte // secret, nonce and timestamp fit, so nothing is allocated
	b := space[:0]
	for _, t := range texts {
		b = append(b, t...)
	}
	sum := sha1.Sum(b)
	hex.Encode(hexSum[:], sum[:])
	return hexSum
}

// signatureHint says what is wrong with a signature that does not match, as far
// as can be told. The mistakes are those people make: it tries them. None of
// the answers tells anything to somebody who does not hold the secret.
func signatureHint(app *chat.App, cr *credentials) string {
	const formula = "must be lower-case hex of SHA-1 over App Secret, Nonce and Timestamp joined in this order"
	if len(cr.signature) != signatureLen {
		hint := ""
		switch len(cr.signature) {
		case 28:
			hint = ", as of Base64"
		case 32:
			hint = ", as of MD5"
		case 64:
			hint = ", as of SHA-256"
		}
		return formula + ": want " + strconv.Itoa(signatureLen) + " characters, got " + strconv.Itoa(len(cr.signature)) + hint
	}
	got := strings.ToLower(cr.signature)
	is := func(texts ...string) bool {
		want := sign(texts...)
		return subtle.ConstantTimeCompare(want[:], []byte(got)) == 1
	}
	secret, nonce, ts := app.Secret, cr.nonce, cr.timestamp
	switch {
	case is(secret, nonce, ts):
		return "is right but in upper case; send it in lower case"
	case is(app.Key, nonce, ts):
		return "was made with the App Key in place of the App Secret"
	case is(nonce, ts):
		return "was made without the App Secret"
	case is(app.Key, secret, nonce, ts):
		return "was made with the App Key in front of the App Secret; leave it out"
	case is(secret, ts, nonce), is(nonce, secret, ts), is(nonce, ts, secret), is(ts, nonce, secret), is(ts, secret, nonce):
		return "was made in the wrong order; join App Secret, Nonce and Timestamp in this order"
	case is(secret, nonce, ts, "\n"):
		return "was made with a line feed at the end; in a shell use printf %s in place of echo"
	case len(ts) == 13 && is(secret, nonce, ts[:10]):
		return "was made over the time in seconds while the header Timestamp has milliseconds; they must be the same text"
	case len(ts) == 10 && is(secret, nonce, ts, "000"):
		return "was made over the time in milliseconds while the header Timestamp has seconds; they must be the same text"
	case hmacIs(got, secret, nonce+ts):
		return "was made with HMAC; use plain SHA-1"
	}
	return formula + "; it does not match: check that the App Secret is the one of this App Key, " +
		"and that Nonce and Timestamp are sent exactly as they were hashed"
}

func hmacIs(got, secret, text string) bool {
	m := hmac.New(sha1.New, []byte(secret))
	m.Write([]byte(text))
	return subtle.ConstantTimeCompare([]byte(hex.EncodeToString(m.Sum(nil))), []byte(got)) == 1
}
