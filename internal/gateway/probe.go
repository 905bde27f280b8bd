package gateway

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// Cursors are how far the user's devices have acknowledged their timeline, as far as
// that is in memory: of the connections there are, and of those that are gone and
// not stored yet. What is stored is not among it. Who has neither costs no memory.
func (g *Gateway) Cursors(app chat.AppID, user string) (list []push.Cursor, connected bool) {
	k := userKey{app, user}
	s := g.sessions.shard(k)
	s.mu.Lock()
	for c := s.users[k]; c != nil; c = c.nextOfUser {
		c.mu.Lock()
		// One that is just being let in has acknowledged nothing yet.
		if c.state != stateClosed {
			list, connected = append(list, push.Cursor{Platform: platformOf(c.trail.client), Offset: c.acked, Live: true}), true
		}
		c.mu.Unlock()
	}
	s.mu.Unlock()
	return g.cursors.append(list, k), connected
}

// Probe asks the user's connections for a pong, each that has not acknowledged the
// entry at offset. It does not wait.
func (g *Gateway) Probe(app chat.AppID, user string, offset uint64) {
	g.sessions.each(userKey{app, user}, func(c *conn) { c.probe(offset) })
}
