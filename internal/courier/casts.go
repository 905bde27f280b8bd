package courier

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// casts are the broadcasts that users may still have to be given, in memory: a
// user of an app that has none costs a look at a map. They are read from the
// store once, and then kept up with every commit.
type casts struct {
	loaded  atomic.Bool
	loading chan struct{} // has room for the one who loads

	mu   sync.Mutex // tier 1
	apps map[chat.AppID][]*cast
	// pending names for each app the oldest broadcast that those who are
	// connected were not given yet.
	pending map[chat.AppID]chat.UID
	kick    chan struct{} // has a value when something is pending
}

// A cast is a broadcast without its message. Casts and lists of them in hand
// never change.
type cast struct {
	*chat.Broadcast
	recalled bool
}

// castLinger is for how long a broadcast that has ended is remembered for the
// pass that may still be giving it to those who were connected.
const castLinger = time.Hour

func (s *casts) init() {
	s.loading = make(chan struct{}, 1)
	s.apps = map[chat.AppID][]*cast{}
	s.pending = map[chat.AppID]chat.UID{}
	s.kick = make(chan struct{}, 1)
}

// note takes in what was committed.
func (s *casts) note(commit *store.Commit, now int64) {
	for _, a := range commit.Appends {
		if a.Broadcast != nil {
			s.noteOne(a.Broadcast, now)
		}
	}
}

func (s *casts) noteOne(b *chat.Broadcast, now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.addLocked(b, now)
	if _, waits := s.pending[b.App]; !waits {
		s.pending[b.App] = b.UID
	}
	select {
	case s.kick <- struct{}{}:
	default:
	}
}

// addLocked puts a broadcast in its place, and forgets what has ended.
func (s *casts) addLocked(b *chat.Broadcast, now int64) {
	without := *b
	without.Message = nil
	added := &cast{Broadcast: &without}
	list := make([]*cast, 0, len(s.apps[b.App])+1)
	for _, c := range s.apps[b.App] {
		switch {
		case c.UID == b.UID:
			return
		case c.Until()+castLinger.Milliseconds() < now:
			continue
		case c.UID == b.Recalls:
			c = &cast{c.Broadcast, true}
		case c.Recalls == b.UID:
			added.recalled = true
		}
		list = append(list, c)
	}
	list = append(list, added)
	slices.SortFunc(list, func(a, b *cast) int { return a.UID.Compare(b.UID) })
	s.apps[b.App] = list
}

// takePending gives what is pending for the apps that nobody is busy with.
func (s *casts) takePending(busy map[chat.AppID]bool) map[chat.AppID]chat.UID {
	s.mu.Lock()
	defer s.mu.Unlock()
	taken := map[chat.AppID]chat.UID{}
	for app, since := range s.pending {
		if !busy[app] {
			taken[app] = since
			delete(s.pending, app)
		}
	}
	return taken
}

// of are the app's broadcasts, oldest first; some may have ended.
func (s *casts) of(app chat.AppID) []*cast {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.apps[app]
}

// castsOf is of, when they have been read from the store.
func (c *Courier) castsOf(ctx context.Context, app chat.AppID) ([]*cast, error) {
	if !c.casts.loaded.Load() {
		if err := c.loadCasts(ctx); err != nil {
			return nil, err
		}
	}
	return c.casts.of(app), nil
}

func (c *Courier) loadCasts(ctx context.Context) error {
	s := &c.casts
	select {
	case s.loading <- struct{}{}:
		defer func() { <-s.loading }()
	case <-ctx.Done():
		return chat.Because(chat.KindUnavailable, "canceled before it was begun", ctx.Err())
	}
	if s.loaded.Load() {
		return nil
	}
	now := c.now().UnixMilli()
	list, err := c.archive.Broadcasts(ctx, now)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range list {
		s.addLocked(b, now)
	}
	s.loaded.Store(true)
	return nil
}
