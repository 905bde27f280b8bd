package dispatch

import (
	"context"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// A seat is an adapter and who is sitting on it.
type seat struct {
	push.Adapter
	credential chat.PushCredential
	users      sync.WaitGroup
}

// refresh takes the adapter of the credential as it is now.
func (l *lane) refresh(ctx context.Context) error {
	app := l.d.Directory.AppByID(l.id.App)
	if app == nil {
		l.sit(nil)
		l.mu.Lock()
		l.haveSeat = false
		l.mu.Unlock()
		return nil
	}
	s, err := l.d.setupOf(ctx, app)
	if err != nil {
		return err
	}
	l.mu.Lock()
	same := l.haveSeat && l.changes == s.changes
	l.mu.Unlock()
	if same {
		return nil
	}
	var c *chat.PushCredential
	for i := range s.credentials {
		if isOf(l.id, app.ID, &s.credentials[i]) {
			c = &s.credentials[i]
		}
	}
	l.mu.Lock()
	old := l.seat
	l.changes, l.haveSeat = s.changes, true
	l.mu.Unlock()
	if old != nil && c != nil && old.credential.Same(c) {
		return nil
	}
	var next *seat
	if c != nil {
		a, err := l.d.Adapter(c)
		if err != nil {
			l.d.Logger.Error("a push credential is of no use", "app", app.Key, "provider", c.Provider.String(), "package", c.Package, "error", err)
		} else {
			next = &seat{Adapter: a, credential: *c}
		}
	}
	l.sit(next)
	l.mu.Lock()
	halted := l.halt
	l.limiter = limiterOf(l.id.Provider, c)
	l.pause, l.pauses = time.Time{}, 0
	if l.homeless = c == nil; l.homeless {
		l.releaseLocked()
	}
	l.mu.Unlock()
	// Another credential may be what was missing.
	if next != nil && halted.Since != 0 && c.Since > halted.Since {
		l.resume()
	}
	return nil
}

// sit puts an adapter in place of the one there is, which is closed once nothing
// is under way with it.
func (l *lane) sit(next *seat) {
	l.mu.Lock()
	old := l.seat
	l.seat = next
	l.mu.Unlock()
	if old != nil && old != next {
		l.flying.Go(func() {
			old.users.Wait()
			old.Close()
		})
	}
}

// rates are how many notifications a second providers take, where they say so.
var rates = map[chat.PushProvider]rate.Limit{
	chat.HW: 6000, chat.OHOS: 6000, chat.HONOR: 3000, chat.MI: 500, chat.OPPO: 5000, chat.VIVO: 3000, chat.MEIZU: 200,
	chat.FCM: 10_000,
}

// limiterOf is the rate of a credential; nil is none.
func limiterOf(p chat.PushProvider, c *chat.PushCredential) *rate.Limiter {
	limit := rates[p]
	if c != nil {
		if n, err := strconv.Atoi(c.Fields["rate"]); err == nil && n > 0 {
			limit = rate.Limit(n)
		}
	}
	if limit == 0 {
		return nil
	}
	return rate.NewLimiter(limit, max(1, int(limit)/10))
}
