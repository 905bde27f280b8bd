package gateway

import (
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// Cursors appends how far the user's devices have acknowledged their timeline, as
// far as that is in memory: of the connections there are, and of those that are gone
// and not stored yet. What is stored is not among it.
func (g *Gateway) Cursors(list []push.Cursor, app chat.AppID, user string) []push.Cursor {
	k := userKey{app, user}
	g.sessions.each(k, func(c *conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.state == stateClosed {
			return
		}
		// One that is just being let in has acknowledged nothing yet.
		list = append(list, push.Cursor{Platform: platformOf(c.trail.client), Offset: c.acked, Live: true})
	})
	return g.cursors.append(list, k)
}

// Probe asks the user's connections for a pong, each that has not acknowledged the
// entry at offset. It does not wait.
func (g *Gateway) Probe(app chat.AppID, user string, offset uint64) {
	g.sessions.each(userKey{app, user}, func(c *conn) { c.probe(offset) })
}
