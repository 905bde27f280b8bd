package dispatch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

const (
	gateWindow = 5 * time.Minute
	gateSlots  = 10
	gateFew    = 20  // said to be dead with no success since: something else is wrong
	gateMany   = 50  // tokens, of which a third is too many
	gateMost   = 100 // that wait for a success
)

// A gate keeps tokens from being deleted because of what is not their fault: when
// a provider says of all of them that they are dead, it is not the tokens. What is
// said of one counts only once another was taken after it, and not at all when it
// is said of too many.
type gate struct {
	slots [gateSlots]struct {
		at         int64 // number of the slot
		good, dead int
	}
	suspects []suspect
	streak   int // said to be dead since the last success
}

// A suspect is a token of which the provider says that it is dead, or may be.
type suspect struct {
	at     time.Time
	to     chat.PushDevice
	strike bool
	code   string
}

func (g *gate) slot(now time.Time) (good, dead *int) {
	n := now.UnixNano() / int64(gateWindow/gateSlots)
	s := &g.slots[uint64(n)%gateSlots]
	if s.at != n {
		s.at, s.good, s.dead = n, 0, 0
	}
	return &s.good, &s.dead
}

// good notes a success and gives the tokens that may go now.
func (g *gate) good(now time.Time) (guilty, spared []suspect) {
	good, _ := g.slot(now)
	*good++
	g.streak = 0
	if len(g.suspects) == 0 {
		return nil, nil
	}
	list := g.suspects
	g.suspects = nil
	if g.tooMany(now) {
		return nil, list
	}
	for i := range list {
		if now.Sub(list[i].at) > gateWindow {
			spared = append(spared, list[i])
		} else {
			guilty = append(guilty, list[i])
		}
	}
	return guilty, spared
}

// lives takes back what was said of a token that the provider has just taken a
// notification for.
func (g *gate) lives(token string) {
	g.suspects = slices.DeleteFunc(g.suspects, func(s suspect) bool { return s.to.Token == token })
}

// dead notes what the provider says of a token, and reports whether something else
// must be wrong.
func (g *gate) dead(s suspect) (wrong bool) {
	for i := range g.suspects {
		if g.suspects[i].to.Token == s.to.Token {
			g.suspects[i] = s // one token, however often it is asked for
			return false
		}
	}
	_, dead := g.slot(s.at)
	*dead++
	g.streak++
	if len(g.suspects) < gateMost {
		g.suspects = append(g.suspects, s)
	}
	return g.streak >= gateFew
}

func (g *gate) tooMany(now time.Time) bool {
	n := now.UnixNano() / int64(gateWindow/gateSlots)
	good, dead := 0, 0
	for _, s := range g.slots {
		if s.at > n-gateSlots && s.at <= n {
			good, dead = good+s.good, dead+s.dead
		}
	}
	return good+dead > gateMany && dead*3 > good+dead
}

// suspect takes note of a token of which the provider says that it is dead, or may
// be.
func (l *lane) suspect(ctx context.Context, now time.Time, n *push.Notification, a *push.Attempt) {
	if a.Since > 0 && n.To.RegisteredAt > a.Since {
		l.d.metrics.token(l, "spared", 1) // it was registered again since
		return
	}
	l.mu.Lock()
	wrong := l.gate.dead(suspect{at: now, to: n.To, strike: a.Class == push.TokenStrike, code: a.Code})
	if wrong {
		l.d.metrics.token(l, "spared", len(l.gate.suspects))
		l.gate.suspects = nil
	}
	l.mu.Unlock()
	if wrong {
		l.stop(now, doubted+a.Code, 0)
	}
}

// judge deletes tokens that are dead, and notes strikes.
func (l *lane) judge(ctx context.Context, guilty, spared []suspect) {
	if len(spared) > 0 {
		l.d.metrics.token(l, "spared", len(spared))
		l.d.Logger.Warn("push: too many tokens are said to be dead; they stay", "lane", l.name(), "tokens", len(spared), "code", spared[0].code)
	}
	for i := range guilty {
		s := &guilty[i]
		var gone bool
		var err error
		if s.strike {
			day := s.at.UnixMilli() / (24 * time.Hour).Milliseconds()
			gone, err = l.d.Store.StrikePushToken(ctx, l.id.App, s.to.Provider, s.to.Token, s.to.RegisteredAt, day)
		} else {
			gone, err = l.d.Store.DropPushToken(ctx, l.id.App, s.to.Provider, s.to.Token, s.to.RegisteredAt)
		}
		switch {
		case err != nil && !errors.Is(err, context.Canceled):
			l.d.warn("dropping a push token", err)
		case gone:
			l.d.metrics.token(l, "deleted", 1)
			l.d.Logger.Info("push: a token is gone", "lane", l.name(), "token", chat.ShortToken(s.to.Token), "code", s.code)
		}
	}
}
