package courier

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/turn"
)

const (
	// touchTimeout is how long a user who connects waits for broadcasts at most.
	touchTimeout = 5 * time.Second

	// giveBatch is how many users are given a broadcast in one append, and
	// recallsAtOnce how many are told of a recall side by side.
	giveBatch     = 500
	recallsAtOnce = 16

	// passTime is how long a pass over those who are connected may take. What
	// comes while one is under way is given by the next, so that both stay within
	// the three minutes that are documented.
	passTime = 80 * time.Second
	// passTries is how often a pass tries to give something; who cannot be given
	// it gets it when they connect again.
	passTries = 20
)

// A visitor is a user who is to be given broadcasts, as audiences see them.
type visitor struct {
	user    string
	since   int64 // Unix ms: when they were registered; 0 for long ago
	tags    []string
	clients []chat.Client
}

// A visit is the moment at which visitors are looked at.
type visit struct {
	app *chat.App
	now int64 // Unix ms
	// since is the first of the broadcasts that are given also when they have
	// ended meanwhile; zero when there are none.
	since chat.UID
}

// due reports whether the visitor is to have the broadcast, unless they had it.
func (v *visit) due(b *cast, u *visitor) bool {
	ended := b.Until() < v.now && (v.since.IsZero() || b.UID.Compare(v.since) < 0)
	if ended || b.recalled {
		return false
	}
	sent := b.UID.Millis()
	if u.since > sent && b.Kind != chat.BroadcastOnline && b.Kind != chat.BroadcastRecall {
		days := time.Duration(v.app.Settings.BroadcastDays) * 24 * time.Hour
		if v.now > sent+days.Milliseconds() || days == 0 {
			return false
		}
	}
	return b.Audience.Fits(u.tags, u.clients)
}

// Touch gives the user who is connecting the broadcasts that they have not had
// yet, as messages of this moment, and says how many entries it has added to
// their timeline. Of an app that has no broadcasts it asks nothing of the store.
func (c *Courier) Touch(ctx context.Context, app *chat.App, u *chat.User, client chat.Client) (given int, err error) {
	list, err := c.castsOf(ctx, app.ID)
	if err != nil || len(list) == 0 {
		return 0, err
	}
	v := visit{app: app, now: c.now().UnixMilli()}
	who := visitor{user: u.ID, tags: u.Tags, clients: []chat.Client{client}}
	if u.Registered() {
		who.since = u.CreatedAt.UnixMilli()
	}
	any := false
	for _, b := range list {
		any = any || v.due(b, &who)
	}
	if !any {
		return 0, nil
	}
	ctx, cancel := context.WithTimeout(ctx, touchTimeout)
	defer cancel()
	return c.visit(ctx, &v, []visitor{who})
}

// A hold keeps the turns of users until everything that was begun under them is
// settled: a commit that is under way must not be overtaken.
type hold struct {
	n   atomic.Int32
	end func()
}

func (h *hold) more() (done func(error)) {
	h.n.Add(1)
	return func(error) { h.drop() }
}

func (h *hold) drop() {
	if h.n.Add(-1) == 0 {
		h.end()
	}
}

// A given is whom a broadcast is to be given to.
type given struct {
	users []string
	uids  []chat.UID // of a recall: what they had been given
}

// visit gives the visitors what they are to have, oldest first.
func (c *Courier) visit(ctx context.Context, v *visit, visitors []visitor) (entries int, err error) {
	keys := make([]userKey, len(visitors))
	for i := range visitors {
		keys[i] = userKey{v.app.ID, visitors[i].user}
	}
	end, err := turn.TakeAll(ctx, c.visits, keys)
	if err != nil {
		return 0, err
	}
	h := &hold{end: end}
	h.n.Store(1)
	defer h.drop()

	// Not before it is their turn: what was recalled meanwhile must not be given
	// any more, since the pass of the recall may have been here.
	list := c.casts.of(v.app.ID)
	to := make([]given, len(list))
	for i := range visitors {
		if err := c.look(ctx, v, list, &visitors[i], to); err != nil {
			return 0, err
		}
	}
	for i, b := range list {
		if len(to[i].users) == 0 {
			continue
		}
		n := 0
		if b.Kind == chat.BroadcastRecall {
			n, err = c.takeBack(ctx, v, b, &to[i])
		} else if err = c.give(ctx, v, b, to[i].users, h); err == nil {
			n = len(to[i].users)
		}
		entries += n
		c.metrics.given.Add(float64(n))
		if err != nil {
			return entries, err
		}
	}
	return entries, nil
}

// userKey names a user.
type userKey struct {
	app  chat.AppID
	user string
}

// look finds out what the visitor has not had.
func (c *Courier) look(ctx context.Context, v *visit, list []*cast, u *visitor, to []given) (err error) {
	var passed chat.UID
	asked := false
	for i, b := range list {
		if !v.due(b, u) {
			continue
		}
		// What is for everybody comes to all in one order, so that one note per user
		// says how far they are. Of the rest each is noted.
		if b.Audience.Everybody() {
			if !asked {
				if passed, err = c.archive.Passed(ctx, v.app.ID, u.user); err != nil {
					return err
				}
				asked = true
			}
			if b.UID.Compare(passed) <= 0 {
				continue
			}
		} else if had, err := c.archive.Taken(ctx, v.app.ID, b.UID, u.user); err != nil {
			return err
		} else if !had.IsZero() {
			continue
		}
		if b.Kind == chat.BroadcastRecall {
			uid, err := c.archive.Taken(ctx, v.app.ID, b.Recalls, u.user)
			if err != nil {
				return err
			}
			if uid.IsZero() {
				continue // and never will have it
			}
			to[i].uids = append(to[i].uids, uid)
		}
		to[i].users = append(to[i].users, u.user)
	}
	return nil
}

// give gives a broadcast to users, as an ordinary message to them.
func (c *Courier) give(ctx context.Context, v *visit, b *cast, users []string, h *hold) error {
	whole, err := c.archive.Broadcast(ctx, v.app.ID, b.UID)
	if err != nil {
		return err
	}
	return c.store.Append(ctx, &store.Append{
		Message: whole.Message, Targets: users, History: whole.Message.Persist && v.app.Settings.History,
		Taking: &store.Taking{Of: b.UID, Pass: b.Audience.Everybody()},
		Done:   h.more(),
	})
}

// takeBack tells users of the recall of what they were given, and says how many of
// them: not those from whom it was taken back by itself, or has expired.
func (c *Courier) takeBack(ctx context.Context, v *visit, b *cast, g *given) (told int, err error) {
	var mu sync.Mutex
	var errs []error
	var wg sync.WaitGroup
	slots := make(chan struct{}, recallsAtOnce)
	for _, uid := range g.uids {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			tells := false
			err := c.change(ctx, v.app.ID, uid, func(s *subject) (*store.Append, error) {
				if s.state.Recall != nil {
					return nil, nil // by itself
				}
				tells = true
				r := b.Recall
				r.DisableUpdateLast = b.DisableUpdateLast
				a := s.recall(&r, b.RequestID)
				a.Message.DisableUpdateLast = b.DisableUpdateLast
				a.Taking = &store.Taking{Of: b.UID, Pass: true}
				return a, nil
			})
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil && tells:
				told++
			// What is not kept any more needs no recall.
			case err != nil && !errors.Is(err, &chat.Error{Kind: chat.KindNotFound}):
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return told, errors.Join(errs...)
}

// RunBroadcasts gives broadcasts to those who are connected, until ctx ends. Who
// connects meanwhile sees to it themselves (see Touch), so nothing is left to do
// after a restart, when all come back.
func (c *Courier) RunBroadcasts(ctx context.Context) {
	var passes sync.WaitGroup
	defer passes.Wait()
	busy := map[chat.AppID]bool{}
	ended := make(chan chat.AppID)
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.casts.kick:
		case app := <-ended:
			delete(busy, app)
		}
		for app, since := range c.casts.takePending(busy) {
			busy[app] = true
			passes.Go(func() {
				c.pass(ctx, app, since)
				select {
				case ended <- app:
				case <-ctx.Done():
				}
			})
		}
	}
}

// pass gives everybody who is connected what they have not had, at the app's
// pace.
func (c *Courier) pass(ctx context.Context, id chat.AppID, since chat.UID) {
	start, total := time.Now(), 0
	for part, parts := 0, 1; part < parts; part++ {
		var list []Session
		list, parts = c.sessions.Connected(id, part)
		count := len(list)
		for len(list) > 0 && ctx.Err() == nil {
			n := batchOf(list)
			total += c.passBatch(ctx, id, since, list[:n])
			list = list[n:]
			app := c.users.AppByID(id)
			if app == nil {
				return
			}
			share := (float64(part) + float64(count-len(list))/float64(count)) / float64(parts)
			if wait := passDue(total, app.Settings.BroadcastPace, share) - time.Since(start); wait > 0 {
				sleep(ctx, wait)
			}
		}
	}
}

// passDue is when a pass that has given so much, to this share of all, may go on:
// at its pace, or earlier where that would take more than passTime for all.
func passDue(given, pace int, share float64) time.Duration {
	return min(time.Duration(given)*time.Second/time.Duration(pace), time.Duration(share*float64(passTime)))
}

// batchOf is how many of the sessions make one batch: whole users.
func batchOf(list []Session) (n int) {
	for users := 0; n < len(list); n++ {
		if n == 0 || list[n].User != list[n-1].User {
			if users++; users > giveBatch {
				break
			}
		}
	}
	return n
}

// passBatch gives one batch of sessions what it is to have, and says how many
// entries that made.
func (c *Courier) passBatch(ctx context.Context, id chat.AppID, since chat.UID, list []Session) (entries int) {
	pause := 50 * time.Millisecond
	for try := 1; ; try++ {
		n, err := c.passOnce(ctx, id, since, list)
		entries += n
		if err == nil || ctx.Err() != nil {
			return entries
		}
		if try == passTries {
			c.log.Error("users who are connected could not be given broadcasts; they get them when they connect again", "app", id, "sessions", len(list), "error", err)
			return entries
		}
		sleep(ctx, pause)
		pause = min(2*pause, 5*time.Second)
	}
}

func (c *Courier) passOnce(ctx context.Context, id chat.AppID, since chat.UID, list []Session) (int, error) {
	app := c.users.AppByID(id)
	if app == nil {
		return 0, nil
	}
	casts, err := c.castsOf(ctx, id)
	if err != nil {
		return 0, err
	}
	v := visit{app: app, now: c.now().UnixMilli(), since: since}
	// Users are read only where what is known of them matters.
	read := app.Settings.BroadcastDays < chat.MaxBroadcastDays
	for _, b := range casts {
		read = read || b.Audience.ByTags()
	}
	var visitors []visitor
	for i, s := range list {
		if i == 0 || s.User != list[i-1].User {
			u := visitor{user: s.User}
			if read {
				known, err := c.users.User(ctx, app, s.User)
				if errors.Is(err, &chat.Error{Kind: chat.KindNoUser}) {
					known, err = &chat.User{}, nil
				}
				if err != nil {
					return 0, err
				}
				u.tags = known.Tags
				if known.Registered() {
					u.since = known.CreatedAt.UnixMilli()
				}
			}
			visitors = append(visitors, u)
		}
		last := &visitors[len(visitors)-1]
		last.clients = append(last.clients, s.Client)
	}
	return c.visit(ctx, &v, visitors)
}
