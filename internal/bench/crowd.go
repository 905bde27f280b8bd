package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/parleychat/parley/internal/websocket"
)

// A crowd is many connected clients.
type crowd struct {
	broken  *complaints
	members []*member
	wg      sync.WaitGroup
	leaving atomic.Bool
	pinged  atomic.Int64 // members that have answered a ping
}

// A member is one client of a crowd. It looks no further into what it gets than
// its task needs.
type member struct {
	crowd   *crowd
	i       int
	conn    *websocket.Conn
	push    func(m *member, line []byte)
	joined  chan error // one value: after the last answer, or in its place
	answers int        // still awaited
	pinged  bool
}

// gather connects one client per token; hello is their first frame, to which
// answers answers are awaited. push is called with each push, on the goroutine
// of the member.
func gather(ctx context.Context, srv *server, tokens []string, hello func(token string) []byte, answers int,
	broken *complaints, push func(m *member, line []byte)) (*crowd, error) {
	c := &crowd{broken: broken, members: make([]*member, len(tokens))}
	err := inParallel(ctx, srv, len(tokens), func(ctx context.Context, _ *caller, i int) error {
		m := &member{crowd: c, i: i, push: push, joined: make(chan error, 1), answers: answers}
		conn, err := websocket.Dial(ctx, srv.url(), websocket.DialOptions{LocalAddr: source(i)})
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		m.conn, c.members[i] = conn, m
		c.wg.Go(m.serve)
		if err := conn.WriteText(hello(tokens[i])); err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		select {
		case err = <-m.joined:
		case <-ctx.Done():
			err = ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("client %d: %w", i, err)
		}
		return nil
	})
	if err != nil {
		c.leave()
		return nil, err
	}
	return c, nil
}

// leave breaks all connections and waits for their readers.
func (c *crowd) leave() {
	c.leaving.Store(true)
	for _, m := range c.members {
		if m != nil {
			m.conn.Abort()
		}
	}
	c.wg.Wait()
}

func (m *member) serve() {
	err := m.conn.Serve(m)
	if m.answers > 0 {
		m.joined <- err
		m.answers = 0
	} else if !m.crowd.leaving.Load() {
		m.crowd.broken.add("client %d lost its connection: %v", m.i, err)
	}
}

var errRefused = errors.New("refused")

// Message implements websocket.Handler.
func (m *member) Message(_ websocket.Opcode, frame []byte) error {
	for line := range bytes.SplitSeq(frame, []byte("\n")) {
		switch {
		case bytes.HasPrefix(line, pushStart):
			m.push(m, line)
		case bytes.Equal(line, ping):
			if err := m.conn.WriteText(ping); err != nil {
				return err
			}
			if !m.pinged {
				m.pinged = true
				m.crowd.pinged.Add(1)
			}
		case len(line) > 0 && m.answers > 0:
			if bytes.Contains(line, errorMember) {
				return fmt.Errorf("%w: %s", errRefused, line)
			}
			if m.answers--; m.answers == 0 {
				m.joined <- nil
			}
		}
	}
	return nil
}
