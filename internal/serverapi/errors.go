package serverapi

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// An ErrorRow says how one kind of failure is answered.
type ErrorRow struct {
	Kind    string // its name in metrics and logs
	Status  int    // HTTP status
	Code    int    // business code, in the body
	Meaning string
	Repeat  string // whether a repeat of the same call can help
}

const (
	never    = "No"
	later    = "Yes, after Retry-After"
	sameKey  = "Yes, with the same Idempotency-Key: it may have been done"
	newSign  = "Yes, signed anew and right"
	maybe    = "Perhaps; tell us with the request id"
	elseDoor = "Does not occur at this door."
)

// kindRows is the one table from a kind of failure to its answer.
var kindRows = map[chat.Kind]ErrorRow{
	chat.KindInternal:        {Status: 500, Code: 1000, Meaning: "A fault of the server. The log has it under the request id.", Repeat: maybe},
	chat.KindInvalid:         {Status: 400, Code: 1002, Meaning: "A field breaks a rule; the message names both.", Repeat: never},
	chat.KindTooLong:         {Status: 400, Code: 1005, Meaning: "A field is too long.", Repeat: never},
	chat.KindNotFound:        {Status: 404, Code: 1002, Meaning: "What the call names does not exist.", Repeat: never},
	chat.KindNoUser:          {Status: 400, Code: 400, Meaning: "The user does not exist.", Repeat: never},
	chat.KindForbidden:       {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindNoMetadata:      {Status: 400, Code: 1002, Meaning: "The message was sent without hasMetadata.", Repeat: never},
	chat.KindMetadataFull:    {Status: 400, Code: 1002, Meaning: "The message has 300 pairs of metadata.", Repeat: never},
	chat.KindConflict:        {Status: 409, Code: 1002, Meaning: "The Idempotency-Key was used before with another body.", Repeat: never},
	chat.KindRate:            {Status: 429, Code: 1008, Meaning: "Over a rate limit. Nothing was done, and it cost nothing.", Repeat: later},
	chat.KindFeatureOff:      {Status: 430, Code: 1009, Meaning: "The app has this feature switched off.", Repeat: never},
	chat.KindUnavailable:     {Status: 503, Code: 1050, Meaning: "The server cannot do it now. Nothing was done.", Repeat: later},
	chat.KindUnknown:         {Status: 503, Code: 1050, Meaning: "The outcome is not known.", Repeat: sameKey},
	chat.KindAppKey:          {Status: 401, Code: 1001, Meaning: "The App Key is missing or unknown.", Repeat: newSign},
	chat.KindSignature:       {Status: 401, Code: 1004, Meaning: "A signing header is missing, malformed, out of the window, used before, or the signature is wrong.", Repeat: newSign},
	chat.KindToken:           {Status: 400, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindTokenExpired:    {Status: 400, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindSystemReadOnly:  {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindTooFast:         {Status: 429, Code: 1008, Meaning: elseDoor, Repeat: later},
	chat.KindContentTooLarge: {Status: 400, Code: 1005, Meaning: elseDoor, Repeat: never},
	// The backend passes bans, mutes and, unless it asks, blocks.
	chat.KindBanned:      {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindDeleted:     {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindBlocked:     {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindMutedDirect: {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindMutedOpen:   {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindBannedOpen:  {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindPairTaken:   {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},
	chat.KindNotInOpen:   {Status: 403, Code: 1002, Meaning: elseDoor, Repeat: never},

	chat.KindNoOpenChannel: {Status: 400, Code: 1003, Meaning: "The open channel does not exist.", Repeat: never},
	chat.KindPairsFull:     {Status: 400, Code: 1002, Meaning: "The open channel has 100 pairs of metadata.", Repeat: never},
	chat.KindKeepAliveFull: {Status: 400, Code: 1016, Meaning: "As many open channels are kept alive as the app setting open.keep-alive allows.", Repeat: never},
}

// What is wrong with a call before it comes to a verb has rows of its own.
var (
	noSuchPath  = ErrorRow{"no_such_path", 404, 404, "There is no operation at this path.", never}
	wrongMethod = ErrorRow{"wrong_method", 405, 404, "Every operation is a POST.", never}
	mediaType   = ErrorRow{"media_type", 415, 1002, "The body must be application/json, not compressed.", never}
	bodyTooLong = ErrorRow{"body_too_large", 413, 1005, "The body is larger than 4 MiB.", never}
)

// ErrorTable lists every error this door answers, by HTTP status.
func ErrorTable() []ErrorRow {
	rows := []ErrorRow{noSuchPath, wrongMethod, mediaType, bodyTooLong}
	for _, k := range chat.Kinds() {
		if row := rowOf(k); row.Meaning != elseDoor {
			rows = append(rows, row)
		}
	}
	slices.SortStableFunc(rows, func(a, b ErrorRow) int { return (a.Status-b.Status)*10000 + a.Code - b.Code })
	return rows
}

func rowOf(k chat.Kind) ErrorRow {
	row, ok := kindRows[k]
	if !ok {
		row = kindRows[chat.KindInternal]
	}
	row.Kind = k.String()
	return row
}

// A refusal is a failure with a row of its own.
type refusal struct {
	row  *ErrorRow
	text string
}

func (r *refusal) Error() string { return r.text }

// fail answers err.
func (c *call) fail(err error) {
	row, text, e := describe(err)
	h := c.w.Header()
	if e != nil && e.Budget != nil {
		h["Ratelimit-Limit"] = []string{strconv.Itoa(e.Budget.Limit)}
		h["Ratelimit-Remaining"] = []string{strconv.Itoa(e.Budget.Remaining)}
		h["Ratelimit-Reset"] = []string{seconds(e.Budget.Reset)}
	}
	if row.Status == http.StatusTooManyRequests || row.Status == http.StatusServiceUnavailable {
		wait := time.Second
		if e != nil && e.RetryAfter > wait {
			wait = e.RetryAfter
		}
		h["Retry-After"] = []string{seconds(wait)}
	}
	b := append(c.out[:0], `{"code":`...)
	b = strconv.AppendInt(b, int64(row.Code), 10)
	b = append(b, `,"errorMessage":`...)
	b = appendQuoted(b, text)
	c.out = append(b, '}')
	c.sendStatus(row.Status)
	c.logFailure(&row, text, err)
}

func describe(err error) (row ErrorRow, text string, e *chat.Error) {
	if r, ok := errors.AsType[*refusal](err); ok {
		return *r.row, r.text, nil
	}
	e, ok := errors.AsType[*chat.Error](err)
	if !ok {
		// The context of a call ends when its caller goes away.
		if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
			return rowOf(chat.KindUnknown), "the call ended before its outcome was known", nil
		}
		return rowOf(chat.KindInternal), internalText, nil
	}
	row = rowOf(e.Kind)
	switch e.Kind {
	case chat.KindInternal:
		return row, internalText, e
	case chat.KindUnknown:
		return row, e.Error() + unknownAdvice, e
	}
	return row, e.Error(), e
}

const (
	internalText  = "internal error; the server's log has more under this X-Request-ID"
	unknownAdvice = " (it may have been done or not; only a repeat with the same Idempotency-Key is safe)"
)

// logFailure writes the line about a refused call. Texts of errors hold neither
// content nor secrets; the cause of an internal error is for this line alone.
func (c *call) logFailure(row *ErrorRow, text string, err error) {
	ctx := c.r.Context()
	level := slog.LevelDebug
	if row.Status >= 500 && ctx.Err() == nil { // a caller who has gone away is no fault of ours
		level = slog.LevelError
	}
	if !c.api.log.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{
		slog.String("request_id", c.id),
		slog.String("operation", c.operation()),
		slog.Int("status", row.Status),
		slog.Int("code", row.Code),
		slog.String("reason", row.Kind),
		slog.String("error", text),
	}
	// Of a call that was not let in, only a key that exists is logged: anything
	// may stand in that header, a secret in the wrong place not the least.
	if app := c.app; app != nil {
		attrs = append(attrs, slog.String("app_key", app.Key))
	} else if app = c.api.directory.App(c.cred.appKey); app != nil {
		attrs = append(attrs, slog.String("app_key", app.Key))
	}
	if row.Status >= 500 {
		cause := err
		if e, ok := errors.AsType[*chat.Error](err); ok && e.Unwrap() != nil {
			cause = e.Unwrap()
		}
		attrs = append(attrs, slog.Any("cause", cause))
	}
	c.api.log.LogAttrs(ctx, level, "call refused", attrs...)
}

// seconds is d in whole seconds, rounded up.
func seconds(d time.Duration) string {
	return strconv.FormatInt(int64((d+time.Second-1)/time.Second), 10)
}

// appendQuoted appends s as a JSON string. What is not UTF-8 is replaced.
func appendQuoted(b []byte, s string) []byte {
	b, _ = jsontext.AppendQuote(b, s)
	return b
}
