//go:build !linux

package bench

import "net"

// Only Linux has the cheap readers; elsewhere every attendee has its own.
type socket struct{ conn net.Conn }

func (s *socket) adopt(conn net.Conn) error {
	s.conn = conn
	return nil
}

func (s *socket) pong() error {
	_, err := s.conn.Write(maskedPing)
	return err
}

func (a *audience) read() error {
	for _, l := range a.attendees {
		a.readers.Go(func() {
			buf := make([]byte, 16<<10)
			for {
				n, err := l.conn.Read(buf)
				if err == nil {
					n, err = l.feed(buf[:n])
					a.add(n)
				}
				if err != nil {
					l.lost(err)
					return
				}
			}
		})
	}
	return nil
}

func (a *audience) hangUp() {
	for _, l := range a.attendees {
		if l != nil && l.conn != nil {
			l.conn.Close()
		}
	}
}
