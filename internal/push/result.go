package push

import (
	"strconv"
	"strings"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// A Class says what an answer of a provider means for the notification, the token
// and the lane.
type Class uint8

// The classes.
const (
	// PayloadBad notifications can never succeed: they failed and the token stays.
	// It is what unknown codes are taken for, so that no token goes for one.
	PayloadBad Class = iota
	// Accepted notifications are the provider's business from now on.
	Accepted
	// TokenDead tokens are to be deleted, if they are the same since the
	// notification was made and the gate is open.
	TokenDead
	// TokenStrike tokens are suspect: they go after strikes on several days.
	TokenStrike
	// Retry notifications are tried again, ever more slowly.
	Retry
	// RetryAfter has the lane wait, or the device alone, and then tries again.
	RetryAfter
	// AuthRefresh asks for a new access token and one more try. A second time in a
	// row it means ConfigHalt.
	AuthRefresh
	// ConfigHalt stops the lane until somebody mends credentials or rights.
	ConfigHalt
	// QuotaDay stops the lane until the provider's day is over.
	QuotaDay
	// UserCap drops the notification: its user has had as many as may be.
	UserCap
)

var classWords = [...]string{
	"payload_bad", "accepted", "token_dead", "token_strike", "retry", "retry_after",
	"auth_refresh", "config_halt", "quota_day", "user_cap",
}

// String is the class's word in metrics and traces.
func (c Class) String() string { return classWords[c] }

// A Result is what came of one attempt.
type Result struct {
	Class Class
	Code  string // the provider's own word for it
	ID    string // the provider's id of an accepted notification

	After  time.Duration // RetryAfter: how long to wait; 0 when the provider did not say
	Device bool          // RetryAfter: only this device is to be left alone
	// Since (Unix ms) is when the provider found the token dead: one that was
	// registered later is another. 0 when it did not say.
	Since int64
	// Without is what the notification should be tried without once more.
	Without Option
	Alert   bool // somebody should look, though the lane goes on
	// Environment is where an Apple token turned out to belong, when it was
	// registered for the other one or for none.
	Environment chat.PushEnvironment
	Unknown     bool // the code is in no table
}

// An Option is something a provider may refuse of an otherwise good notification.
type Option uint8

// The options.
const (
	OptionImage    Option = 1 << iota
	OptionCategory        // with the notification level it allows
	OptionChannel
)

// Classes are what a provider's codes mean.
type Classes map[string]Result

// Of is what a code means. One that is not known is a bad payload, and is counted.
func (t Classes) Of(code string) Result {
	r, known := t[code]
	r.Code = code
	if !known {
		r.Class, r.Unknown = PayloadBad, true
	}
	return r
}

// Or is what a code means, and where it is not known what the status does.
func (t Classes) Or(code string, status int, after time.Duration) Result {
	if _, known := t[code]; known || code != "" && status < 300 {
		r := t.Of(code)
		if after > 0 && (r.Class == Retry || r.Class == RetryAfter) {
			r.After = after
		}
		return r
	}
	r := ByStatus(status, after)
	if code != "" {
		r.Code, r.Unknown = code, true
	}
	return r
}

// ByStatus is what an HTTP status means where the body says nothing better: an
// answer of something between us and the provider.
func ByStatus(status int, after time.Duration) Result {
	r := Result{Code: "http " + strconv.Itoa(status)}
	switch {
	case status == 429, status == 503:
		r.Class, r.After = RetryAfter, after
	case status == 401, status == 403:
		r.Class = AuthRefresh
	case status == 404, status == 405, status >= 300 && status < 400:
		// Redirects are not followed: they would carry the credentials away.
		r.Class = ConfigHalt
	case status == 408, status >= 500:
		r.Class, r.After = Retry, after
	case status == 413:
		r.Class = PayloadBad
	case status < 300:
		// It may have got through. To be told twice is better than not at all.
		r.Class, r.Code = Retry, "unreadable"
	default:
		r.Class, r.Unknown = PayloadBad, true
	}
	return r
}

// MaxRetryAfter is the longest that a provider's wish is heeded.
const MaxRetryAfter = time.Hour

// ParseRetryAfter reads Retry-After of an answer's header: seconds, or a time,
// which is measured from the answer's own Date, so that clocks need not agree. 0 is
// nothing that could be read.
func ParseRetryAfter(header func(name string) string) time.Duration {
	after := strings.TrimSpace(header("Retry-After"))
	if n, err := strconv.ParseUint(after, 10, 31); err == nil {
		return min(time.Duration(n)*time.Second, MaxRetryAfter)
	}
	const httpTime = "Mon, 02 Jan 2006 15:04:05 GMT"
	until, err := time.Parse(httpTime, after)
	if err != nil {
		return 0
	}
	from, err := time.Parse(httpTime, strings.TrimSpace(header("Date")))
	if err != nil {
		return 0
	}
	return min(max(until.Sub(from), 0), MaxRetryAfter)
}

// A Code is a string or number of a provider's answer: which of them it is differs
// between providers, and with some from one answer to the next.
type Code string

// UnmarshalJSON takes strings and numbers. Anything else is no code.
func (c *Code) UnmarshalJSON(text []byte) error {
	*c = ""
	switch v := jsontext.Value(text); v.Kind() {
	case '"':
		s, err := jsontext.AppendUnquote(nil, v)
		if err != nil {
			return err
		}
		*c = Code(strings.TrimSpace(string(s)))
	case '0':
		*c = Code(text)
	}
	return nil
}

// A Loose is a value of an answer that may be of any kind.
type Loose jsontext.Value

// UnmarshalJSON takes anything.
func (l *Loose) UnmarshalJSON(text []byte) error {
	*l = append((*l)[:0], text...)
	return nil
}

// Into reads the value into v and reports whether it is of that kind.
func (l Loose) Into(v any) bool { return len(l) > 0 && ReadJSON(l, v) }

// ReadJSON reads an answer into v and reports whether it could. Answers are read
// as they come: with members we know nothing of, or twice.
func ReadJSON(text []byte, v any) bool {
	return json.Unmarshal(text, v, jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true)) == nil
}
