//go:build linux

package gateway

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A tcpWire is a wire over a plain socket. The goroutine that waits to read
// holds no buffer, and writes are tried at once by whoever has something.
type tcpWire struct {
	conn  *net.TCPConn
	raw   syscall.RawConn
	ready func(fd uintptr) bool // readable, bound once

	// What readable has read, for the goroutine that called it.
	in  *inbound
	err error
}

func newWire(conn net.Conn) wire {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			w := &tcpWire{conn: tcp, raw: raw}
			w.ready = w.readable
			return w
		}
	}
	return newStreamWire(conn)
}

func (w *tcpWire) read() (*inbound, error) {
	if err := w.raw.Read(w.ready); err != nil {
		return nil, err
	}
	in, err := w.in, w.err
	w.in, w.err = nil, nil
	return in, err
}

func (w *tcpWire) readable(fd uintptr) bool {
	in := readPool.Get().(*inbound)
	n, err := unix.Read(int(fd), in.b)
	for err == unix.EINTR {
		n, err = unix.Read(int(fd), in.b)
	}
	if n > 0 {
		in.n = n
		w.in = in
		return true
	}
	in.release()
	switch err {
	case unix.EAGAIN:
		return false
	case nil:
		w.err = io.EOF
	default:
		w.err = err
	}
	return true
}

func newAttempt() *attempt {
	a := new(attempt)
	a.do = func(fd uintptr) bool {
		for a.n < len(a.b) {
			n, err := unix.Write(int(fd), a.b[a.n:])
			switch err {
			case nil:
				a.n += n
			case unix.EINTR:
			case unix.EAGAIN:
				a.err = errAgain
				return true
			default:
				a.err = err
				return true
			}
		}
		return true
	}
	return a
}

func (w *tcpWire) try(a *attempt, b []byte) (int, error) {
	a.b, a.n, a.err = b, 0, nil
	err := w.raw.Write(a.do)
	if err == nil {
		err = a.err
	}
	a.b = nil
	return a.n, err
}

func (w *tcpWire) write(b []byte, progress func()) error {
	var failed error
	err := w.raw.Write(func(fd uintptr) bool {
		for len(b) > 0 {
			n, err := unix.Write(int(fd), b)
			switch err {
			case nil:
				b = b[n:]
				progress()
			case unix.EINTR:
			case unix.EAGAIN:
				return false
			default:
				failed = err
				return true
			}
		}
		return true
	})
	if err != nil {
		return err
	}
	return failed
}

func (w *tcpWire) unread() int {
	n := 0
	_ = w.raw.Control(func(fd uintptr) {
		n, _ = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ)
	})
	return n
}

func (w *tcpWire) finish() { _ = w.conn.CloseWrite() }

func (w *tcpWire) abort() { _ = w.conn.Close() }
