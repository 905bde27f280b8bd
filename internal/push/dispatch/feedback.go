package dispatch

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

const (
	deadEvery  = time.Hour        // between two times that a provider is asked which tokens are dead
	deadJitter = 10 * time.Minute // of which some are spent waiting
	deadAfter  = 24 * time.Hour   // without a success, after which the credential may be what is dead
	deadWithin = time.Minute      // for the answer
	deadMost   = 10_000           // tokens of one answer
)

// askDead asks the provider which tokens it has found dead, if it keeps a list of
// them and it is time to ask.
func (l *lane) askDead(ctx context.Context, now time.Time) {
	l.mu.Lock()
	at := l.seat
	open := at != nil && l.halt.Since == 0 && l.failures < breakAfter && !l.lastGood.IsZero() && now.Sub(l.lastGood) < deadAfter
	l.mu.Unlock()
	if !open {
		return
	}
	f, ok := at.Adapter.(push.Feedback)
	if !ok || !l.d.lanes.timeToAsk(l, now) {
		return
	}
	l.mu.Lock()
	if l.seat != at {
		l.mu.Unlock()
		return
	}
	at.users.Add(1)
	l.mu.Unlock()
	l.flying.Go(func() {
		defer at.users.Done()
		asking, cancel := context.WithTimeout(ctx, deadWithin)
		defer cancel()
		tokens, err := f.Dead(asking)
		if err != nil {
			if ctx.Err() == nil {
				l.d.metrics.asked(l, "failed")
				l.d.Logger.Warn("push: the provider does not say which tokens are dead; it is asked again later", "lane", l.name(), "error", err)
			}
			return
		}
		l.d.metrics.asked(l, "answered")
		l.dropDead(ctx, tokens, now)
	})
}

// dropDead forgets the tokens, but for those that were registered since the
// provider was asked.
func (l *lane) dropDead(ctx context.Context, tokens []string, asked time.Time) {
	if over := len(tokens) - deadMost; over > 0 {
		tokens = tokens[:deadMost]
		l.d.Logger.Warn("push: more tokens are dead than are taken at once", "lane", l.name(), "left", over)
	}
	gone := 0
	for _, token := range tokens {
		did, err := l.d.Store.DropPushToken(ctx, l.id.App, l.id.Provider, token, asked.UnixMilli())
		if err != nil {
			if !errors.Is(err, context.Canceled) {
				l.d.warn("dropping a push token", err)
			}
			break
		}
		if did {
			gone++
			l.d.Logger.Info("push: a token is gone", "lane", l.name(), "token", chat.ShortToken(token), "code", "feedback")
		}
	}
	if gone > 0 {
		l.d.metrics.token(l, "deleted", gone)
	}
}

// timeToAsk reports whether the lane's provider is to be asked now. When it was asked
// last is remembered for longer than a lane lives that has nothing to do.
func (s *lanes) timeToAsk(l *lane, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	next, known := s.ask[l.id]
	if known && now.Before(next) {
		return false
	}
	if s.ask == nil {
		s.ask = map[store.PushLane]time.Time{}
	}
	wait := rand.N(deadJitter)
	if known {
		s.ask[l.id] = now.Add(deadEvery + wait)
		return true
	}
	s.ask[l.id] = now.Add(wait) // all lanes begin at once when the server does
	return false
}
