package gateway

import (
	"errors"
	"net"
	"sync"
)

// A wire moves the bytes of one connection. What is above it knows neither
// sockets nor goroutines waiting for them, so that an event loop can take its
// place.
type wire interface {
	// read waits until bytes have arrived and lends them in a buffer that the
	// caller releases.
	read() (*inbound, error)

	// try writes what can be written without waiting; errAgain says that the
	// rest cannot.
	try(b []byte) (int, error)

	// write waits until all of b is written, or the wire is closed, and calls
	// progress whenever some of it was.
	write(b []byte, progress func()) error

	// unread is how many bytes written are known not to have arrived, as far as
	// that can be told.
	unread() int

	// finish tells the peer that nothing more will come.
	finish()

	// abort closes the wire at once. Whoever reads or writes gets an error. It
	// does not wait and may be called more than once.
	abort()
}

var errAgain = errors.New("wire not ready")

// An inbound is a buffer with what was read.
type inbound struct {
	b    []byte
	n    int
	pool *sync.Pool
}

func (in *inbound) bytes() []byte { return in.b[:in.n] }

func (in *inbound) release() { in.pool.Put(in) }

// readPool's buffers are borrowed for the time that what was read takes to be
// handled; a connection that waits has none.
var readPool = newReadPool(4 << 10)

func newReadPool(size int) *sync.Pool {
	p := new(sync.Pool)
	p.New = func() any { return &inbound{b: make([]byte, size), pool: p} }
	return p
}

// A streamWire is a wire over a connection that can only be read and written
// with waiting, which is TLS. Its reader holds a small buffer while it waits,
// and every write is made by a goroutine that waits.
type streamWire struct {
	conn net.Conn
	raw  net.Conn // below conn: closing it waits for nobody
}

var streamPool = newReadPool(1 << 10)

func newStreamWire(conn net.Conn) *streamWire {
	w := &streamWire{conn: conn, raw: conn}
	if t, ok := conn.(interface{ NetConn() net.Conn }); ok {
		w.raw = t.NetConn()
	}
	return w
}

func (w *streamWire) read() (*inbound, error) {
	in := streamPool.Get().(*inbound)
	n, err := w.conn.Read(in.b)
	if n == 0 {
		in.release()
		return nil, err
	}
	in.n = n
	return in, nil
}

func (w *streamWire) try([]byte) (int, error) { return 0, errAgain }

func (w *streamWire) write(b []byte, progress func()) error {
	for len(b) > 0 {
		n, err := w.conn.Write(b[:min(len(b), 16<<10)])
		if err != nil {
			return err
		}
		b = b[n:]
		progress()
	}
	return nil
}

func (w *streamWire) unread() int { return 0 }

func (w *streamWire) finish() {}

func (w *streamWire) abort() { w.raw.Close() }
