package console

import (
	"crypto/rand"
	"crypto/sha256"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	ticketTime  = time.Hour
	sessionTime = 2 * time.Hour

	// Of each the oldest goes when there are more. They are given out to the
	// owner only, so this many are plenty.
	maxTickets  = 32
	maxSessions = 32
)

// Bounds on what the page may ask for. Two people clicking fast are far below.
const (
	sessionCalls = 10 // a second, in one session
	sessionBurst = 60
	wrongTickets = 5 // a second, from all who try
	wrongBurst   = 50
)

// A doorman lets in who has a ticket. Keys are kept as hashes: how long finding
// one takes then says nothing about it. They are gone when the process ends.
type doorman struct {
	now   func() time.Time
	wrong *rate.Limiter

	mu       sync.Mutex
	tickets  map[hash]time.Time // until when
	sessions map[hash]*session
}

type hash = [sha256.Size]byte

// A session is one browser that was let in.
type session struct {
	until time.Time
	calls *rate.Limiter
	texts *rate.Limiter // messages sent for it
}

func newDoorman(now func() time.Time) *doorman {
	return &doorman{
		now: now, wrong: rate.NewLimiter(wrongTickets, wrongBurst),
		tickets: map[hash]time.Time{}, sessions: map[hash]*session{},
	}
}

func (d *doorman) ticket() (string, time.Time) {
	t, until := rand.Text(), d.now().Add(ticketTime)
	d.mu.Lock()
	defer d.mu.Unlock()
	makeRoom(d.tickets, maxTickets, func(until time.Time) time.Time { return until })
	d.tickets[sha256.Sum256([]byte(t))] = until
	return t, until
}

// exchange takes a ticket, which is then gone, for a session.
func (d *doorman) exchange(ticket string) (key string, s *session, err error) {
	h, now := sha256.Sum256([]byte(ticket)), d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	until, ok := d.tickets[h]
	delete(d.tickets, h)
	if !ok || !now.Before(until) {
		// Only those who come in vain are counted: a good ticket opens the page
		// whatever others try meanwhile.
		if !d.wrong.AllowN(now, 1) {
			return "", nil, errBusy
		}
		return "", nil, errLink
	}
	key = rand.Text()
	s = &session{
		until: now.Add(sessionTime),
		calls: rate.NewLimiter(sessionCalls, sessionBurst),
		texts: rate.NewLimiter(sessionTexts, textsBurst),
	}
	makeRoom(d.sessions, maxSessions, func(s *session) time.Time { return s.until })
	d.sessions[sha256.Sum256([]byte(key))] = s
	return key, s, nil
}

// enter is the session with this key, charged for one call.
func (d *doorman) enter(key string) (*session, error) {
	h, now := sha256.Sum256([]byte(key)), d.now()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := d.sessions[h]
	if s == nil || !now.Before(s.until) {
		delete(d.sessions, h)
		return nil, errSession
	}
	if !s.calls.AllowN(now, 1) {
		return nil, errBusy
	}
	return s, nil
}

// makeRoom takes out the entry that ends first when there is no place for one
// more. All live equally long, so it is the oldest, and what is over goes first.
func makeRoom[V any](m map[hash]V, most int, until func(V) time.Time) {
	if len(m) < most {
		return
	}
	var oldest hash
	var at time.Time
	for h, v := range m {
		if u := until(v); at.IsZero() || u.Before(at) {
			oldest, at = h, u
		}
	}
	delete(m, oldest)
}
