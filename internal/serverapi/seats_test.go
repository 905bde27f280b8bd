package serverapi

import (
	"encoding/json"
	"fmt"
	"sync"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// A seat is a client in an open channel that writes down what it hears. It comes
// back after a restart, where it may, as clients do by themselves; the time at
// which its user came stays the same.
type seat struct {
	key  room.Key
	user string
	at   int64

	mu    sync.Mutex
	lines []string
}

// A sitting is a seat's session, or that of somebody who waits.
type sitting struct {
	room.Place
	seat  *seat
	marks chan room.Reason // of those who wait
}

// mark is the content of what only those hear who wait for it, and marked to
// them what is no reason to be taken out.
const (
	mark               = "a mark"
	marked room.Reason = 0xff
)

func (s *sitting) User() string { return s.seat.user }

func (s *sitting) Evict(why room.Reason) {
	if s.marks != nil {
		s.marks <- why
		return
	}
	s.seat.mu.Lock()
	defer s.seat.mu.Unlock()
	s.seat.lines = append(s.seat.lines, fmt.Sprintf("evicted: %d", why))
}

func (s *sitting) Deliver(b *room.Batch, after uint64) bool {
	for _, p := range b.Since(after) {
		if s.marks == nil {
			s.seat.hear(p)
		} else if p.Message.Content == mark {
			s.marks <- marked
		}
	}
	return false
}

func (s *seat) hear(p *room.Publication) {
	m := p.Message
	// Who comes and goes is told when there is time.
	if m.Content == mark || !p.For(s.user) || m.Event != nil && m.Event.Kind == chat.EventParticipants {
		return
	}
	line := m.From + ": " + m.Type + " " + m.Content
	if m.Event != nil {
		news, _ := json.Marshal(m.Event.Room)
		line = fmt.Sprintf("event %s %s", m.Event.Kind, news)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, line)
}

// sit puts a client into an open channel that there is.
func (w *world) sit(app chat.AppID, channel, user string) *seat {
	w.t.Helper()
	s := &seat{key: room.Key{App: app, Channel: channel}, user: user, at: w.clock.ms.Load()}
	w.seats = append(w.seats, s)
	w.takeSeat(s)
	return s
}

func (w *world) takeSeat(s *seat) {
	w.t.Helper()
	ch, err := w.dir.OpenChannel(w.t.Context(), s.key.App, s.key.Channel)
	if err != nil {
		w.t.Fatal(err)
	}
	if ch == nil || ch.Banned[s.user].Holds(w.clock.now()) {
		return
	}
	w.seated.Store(s.at)
	defer w.seated.Store(0)
	w.rooms.Enter(s.key, &sitting{seat: s}, nil, "")
}

// heard is what clients in the app's open channels have heard, all that was under
// way included.
func (w *world) heard(app chat.AppID) (lines []string) {
	w.t.Helper()
	waited := map[room.Key]bool{}
	for _, s := range w.seats {
		if s.key.App != app {
			continue
		}
		if !waited[s.key] {
			w.wait(s.key)
			waited[s.key] = true
		}
		s.mu.Lock()
		for _, line := range s.lines {
			lines = append(lines, fmt.Sprintf("%s in %s heard %s", s.user, s.key.Channel, line))
		}
		s.mu.Unlock()
	}
	return lines
}

// wait returns when all that is on its way to a room has come to those in it: who
// entered last is given it last.
func (w *world) wait(key room.Key) {
	for why := room.Ended; why == room.Ended; { // the room that it was put in has ended meanwhile
		s := &sitting{seat: &seat{user: "who waits"}, marks: make(chan room.Reason, 2)}
		w.rooms.Enter(key, s, nil, "")
		m := &chat.Message{App: key.App, ChannelType: chat.Open, Content: mark}
		w.commit(&store.Commit{Appends: []*store.Append{{Message: m, Targets: []string{key.Channel}}}})
		why = <-s.marks
		w.rooms.Leave(key, s, false)
	}
}
