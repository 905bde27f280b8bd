package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

const (
	maxAttempts = 8                // that count
	maxBackoff  = 10 * time.Minute // between two attempts
)

// result does what follows from an attempt.
func (l *lane) result(ctx context.Context, began beginning, j *store.PushJob, n *push.Notification, a push.Attempt) {
	now := l.now()
	a.Code = keptCode(a.Code, n.To.Token)
	l.d.metrics.result(l, j, &a, now)
	out := &store.PushOutcome{
		Class: a.Class.String(), Code: a.Code, ID: a.ID, Token: chat.ShortToken(n.To.Token), Cut: uint8(a.Cut),
	}
	next := *j
	next.Code = a.Code
	if a.Class != push.Accepted && a.Without != 0 && push.Option(next.Without)&a.Without == 0 && next.Attempts < maxAttempts-1 {
		// It may be good without: whatever the class says holds if it is not.
		l.reached()
		next.Without |= uint8(a.Without)
		next.Attempts++
		l.put(j, &next, now)
		return
	}
	switch a.Class {
	case push.Accepted:
		l.succeeded(ctx, now, began, n.To.Token)
		l.accepted(ctx, n, &a)
		l.finish(j, n, out)
	case push.TokenDead, push.TokenStrike:
		l.reached()
		l.suspect(ctx, now, n, &a)
		l.settle(j, out)
	case push.Retry:
		if ctx.Err() != nil {
			l.put(j, j, now) // the server stops: it is sent again, under the same names
			return
		}
		if l.failed(now, began) {
			next.Attempts++
		}
		if next.Attempts >= maxAttempts {
			l.settle(j, out)
			return
		}
		base := 10 * time.Second
		if !reachedProvider(a.Code) {
			base = time.Second
		}
		wait := min(base<<min(next.Attempts, 16), maxBackoff)
		l.put(j, &next, now.Add(max(a.After, rand.N(wait))))
	case push.RetryAfter:
		l.reached()
		if a.Device {
			next.Attempts++
			if next.Attempts >= maxAttempts {
				l.settle(j, out)
				return
			}
			l.put(j, &next, now.Add(max(a.After, time.Minute)))
			return
		}
		l.put(j, &next, l.rest(now, began, a.After))
	case push.AuthRefresh, push.ConfigHalt:
		alone := l.passed(began)
		l.stop(now, a.Code, 0)
		if !alone {
			l.put(j, &next, now)
			return
		}
		// Others got through meanwhile, and will have the lane go on: if it is this
		// one that is refused, it must not halt the lane for ever.
		if next.Attempts++; next.Attempts >= maxAttempts {
			l.settle(j, out)
			return
		}
		l.put(j, &next, now.Add(rand.N(min(10*time.Second<<next.Attempts, maxBackoff))))
	case push.QuotaDay:
		l.stop(now, a.Code, nextMidnight(now).UnixMilli())
		l.settle(j, out)
	default: // PayloadBad, UserCap
		l.reached()
		l.settle(j, out)
	}
}

// maxCode is more than any provider's codes have, in bytes.
const maxCode = 64

// keptCode is a code as it is stored and logged. What is in no table may be anything
// that somebody on the way has answered, the token itself not the least.
func keptCode(code, token string) string {
	if token != "" && strings.Contains(code, token) {
		code = strings.ReplaceAll(code, token, chat.ShortToken(token))
	}
	if len(code) > maxCode {
		code = push.Truncate(code, maxCode, push.Bytes)
	}
	return code
}

// reachedProvider reports whether the code of a failure is an answer.
func reachedProvider(code string) bool {
	switch code {
	case "transport", "timeout", "connect", "certificate", "address":
		return false
	}
	return true
}

// accepted does what follows for the device.
func (l *lane) accepted(ctx context.Context, n *push.Notification, a *push.Attempt) {
	to := &n.To
	if to.Struck {
		// What was said of the token on other days was not its fault.
		if err := l.d.Store.ClearPushStrikes(ctx, l.id.App, to.Provider, to.Token, to.RegisteredAt); err != nil && !errors.Is(err, context.Canceled) {
			l.d.warn("clearing what was said of a push token", err)
		}
	}
	if a.Environment == chat.NoEnvironment || a.Environment == to.Environment {
		return
	}
	// The token's world was not known, or wrong: it is now.
	_, err := l.d.Store.MovePushToken(ctx, l.id.App, to.Provider, to.Token, to.RegisteredAt, to.Environment, a.Environment)
	if err != nil && !errors.Is(err, context.Canceled) {
		l.d.warn("correcting a push registration", err)
	}
}
