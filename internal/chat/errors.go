package chat

import (
	"errors"
	"fmt"
	"time"
)

// A Kind classes what went wrong, in the domain's terms. Each door has one
// table that turns a Kind into its own codes.
type Kind uint8

// The kinds of failure.
const (
	KindInternal        Kind = iota // a fault of ours; the text stays in the log
	KindInvalid                     // a field breaks a rule
	KindTooLong                     // a field is longer than allowed
	KindNotFound                    // the thing named does not exist
	KindNoUser                      // the user named does not exist
	KindForbidden                   // the thing named is not the caller's to change
	KindNoMetadata                  // the message was sent as one without metadata
	KindMetadataFull                // the message has as many pairs as it may have
	KindConflict                    // the same idempotency key came with another request
	KindRate                        // over a rate limit; a repeat later can succeed
	KindFeatureOff                  // the app has this feature switched off
	KindUnavailable                 // the store or the node cannot serve now; outcome known: nothing was done
	KindUnknown                     // a commit was under way and its outcome is not known; repeat with the same key
	KindAppKey                      // the app key is unknown or missing
	KindSignature                   // a signature header is missing, malformed, stale, reused or wrong
	KindToken                       // a token is malformed or wrongly signed
	KindTokenExpired                // a token is expired or was voided
	KindSystemReadOnly              // clients cannot send to system channels
	KindTooFast                     // a client sends more often than its app allows
	KindContentTooLarge             // a client's message content is over the limit
	KindBanned                      // the user is banned for a time
	KindDeleted                     // the user is soft-deleted
	KindBlocked                     // the recipient's blocklist holds the sender
	KindMutedDirect                 // the sender is muted in direct channels
	KindMutedOpen                   // the sender is muted in open channels
	KindNoOpenChannel               // the open channel named does not exist
	KindBannedOpen                  // the user is kept out of the open channel for a time
	KindPairTaken                   // the pair is somebody else's
	KindPairsFull                   // the open channel has as many pairs as it may have
	KindKeepAliveFull               // as many open channels are kept alive as the app may have
	KindNotInOpen                   // the user is not in the open channel
)

var kindNames = [...]string{
	KindInternal:        "internal",
	KindInvalid:         "invalid",
	KindTooLong:         "too_long",
	KindNotFound:        "not_found",
	KindNoUser:          "no_user",
	KindForbidden:       "forbidden",
	KindNoMetadata:      "no_metadata",
	KindMetadataFull:    "metadata_full",
	KindConflict:        "conflict",
	KindRate:            "rate",
	KindFeatureOff:      "feature_off",
	KindUnavailable:     "unavailable",
	KindUnknown:         "unknown",
	KindAppKey:          "app_key",
	KindSignature:       "signature",
	KindToken:           "token",
	KindTokenExpired:    "token_expired",
	KindSystemReadOnly:  "system_read_only",
	KindTooFast:         "too_fast",
	KindContentTooLarge: "content_too_large",
	KindBanned:          "banned",
	KindDeleted:         "deleted",
	KindBlocked:         "blocked",
	KindMutedDirect:     "muted_direct",
	KindMutedOpen:       "muted_open",
	KindNoOpenChannel:   "no_open_channel",
	KindBannedOpen:      "banned_open",
	KindPairTaken:       "pair_taken",
	KindPairsFull:       "pairs_full",
	KindKeepAliveFull:   "keep_alive_full",
	KindNotInOpen:       "not_in_open",
}

// String is the kind's name in metrics and logs.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return "unknown_kind"
}

// Kinds lists every kind, for tables that must cover them all.
func Kinds() []Kind {
	ks := make([]Kind, len(kindNames))
	for i := range ks {
		ks[i] = Kind(i)
	}
	return ks
}

// An Error is a failure that a caller can act on: what kind, which field, which
// rule. Its text never holds content or secrets.
type Error struct {
	Kind  Kind
	Field string // the field at fault, as the caller named it; may be empty
	Rule  string // the rule broken, or what happened, in words

	// RetryAfter is how long to wait before a repeat can succeed. Zero where
	// waiting does not help or the time is not known.
	RetryAfter time.Duration
	// Budget describes the limit that refused the call, for KindRate.
	Budget *Budget

	cause error
}

// A Budget is the state of a rate limit at one moment.
type Budget struct {
	Limit     int           // tokens in a full bucket
	Remaining int           // tokens left now
	Reset     time.Duration // until the bucket is full again
}

// Error is the text callers see: "field: rule".
func (e *Error) Error() string {
	if e.Field == "" {
		return e.Rule
	}
	return e.Field + ": " + e.Rule
}

// Unwrap gives the cause, for logs.
func (e *Error) Unwrap() error { return e.cause }

// Is makes errors.Is(err, &Error{Kind: k}) ask for the kind alone.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Field == "" && t.Rule == ""
}

// Fail makes an Error of the given kind.
func Fail(kind Kind, rule string) *Error { return &Error{Kind: kind, Rule: rule} }

// Failf is Fail with a formatted rule.
func Failf(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Rule: fmt.Sprintf(format, args...)}
}

// Because makes an Error that remembers its cause. The cause is for logs; it is
// not part of the text callers see.
func Because(kind Kind, rule string, cause error) *Error {
	return &Error{Kind: kind, Rule: rule, cause: cause}
}

// Invalid says that field breaks rule.
func Invalid(field, rule string) *Error {
	return &Error{Kind: KindInvalid, Field: field, Rule: rule}
}

// Invalidf is Invalid with a formatted rule.
func Invalidf(field, format string, args ...any) *Error {
	return Invalid(field, fmt.Sprintf(format, args...))
}

// TooLong says that field has more than limit of unit.
func TooLong(field string, limit, got int, unit string) *Error {
	return &Error{Kind: KindTooLong, Field: field, Rule: fmt.Sprintf("at most %d %s, got %d", limit, unit, got)}
}

// KindOf is the kind of err, or KindInternal when err is not one of ours.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return KindInternal
}
