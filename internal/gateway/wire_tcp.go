//go:build linux

package gateway

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A tcpWire is a wire over a plain socket. The goroutine that waits to read
// holds no buffer, and writes are tried at once by whoever has something.
type tcpWire struct {
	conn  *net.TCPConn
	raw   syscall.RawConn
	ready func(fd uintptr) bool // readable, bound once
	fd    int32                 // of the socket, good while users is positive
	users atomic.Int32          // of fd; less than 0 when nobody else may use it

	// What readable has read, for the goroutine that called it.
	in  *inbound
	err error
}

func newWire(conn net.Conn) wire {
	if tcp, ok := conn.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			w := &tcpWire{conn: tcp, raw: raw}
			w.ready = w.readable
			if raw.Control(func(fd uintptr) { w.fd = int32(fd) }) == nil {
				return w
			}
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

// closing is added to users when the socket is to be closed.
const closing = -1 << 30

// try does not go through the runtime, whose descriptor of the socket is three
// more places in memory to look at: with ten thousand connections none of them
// is in a cache, and together they cost a tenth of what the write does. So the
// wire counts who uses the descriptor, and the last one closes it.
func (w *tcpWire) try(b []byte) (n int, err error) {
	if w.users.Add(1) < 0 {
		err = net.ErrClosed
	}
	for err == nil && n < len(b) {
		var k int
		switch k, err = writeNow(int(w.fd), b[n:]); err {
		case nil:
			n += k
		case unix.EINTR:
			err = nil
		case unix.EAGAIN:
			err = errAgain
		}
	}
	if w.users.Add(-1) == closing {
		_ = w.conn.Close()
	}
	return n, err
}

// briefBytes is how much is copied to a socket in so short a time that the
// scheduler need not know of it.
const briefBytes = 64 << 10

// writeNow writes to a socket that does not block.
func writeNow(fd int, b []byte) (int, error) {
	if len(b) > briefBytes {
		return unix.Write(fd, b)
	}
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
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

func (w *tcpWire) abort() {
	for {
		n := w.users.Load()
		if n < 0 {
			return
		}
		if w.users.CompareAndSwap(n, n+closing) {
			if n == 0 {
				_ = w.conn.Close()
			}
			return
		}
	}
}
