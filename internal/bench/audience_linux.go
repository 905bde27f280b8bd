package bench

import (
	"io"
	"net"
	"runtime"

	"golang.org/x/sys/unix"
)

// A socket is a attendee's, known to none but its reader: Go's own poller would
// wake for each byte, and find nobody to wake.
type socket struct{ fd int }

// adopt takes the connection over.
func (s *socket) adopt(conn net.Conn) error {
	fd, err := detach(conn)
	if err == nil {
		s.fd = fd
	}
	return err
}

// detach gives conn's socket a descriptor of our own, and closes conn.
func detach(conn net.Conn) (fd int, err error) {
	defer conn.Close()
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	e := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) })
	if e != nil {
		err = e
	}
	return fd, err
}

func (s *socket) pong() error {
	_, err := unix.Write(s.fd, maskedPing)
	return err
}

// read starts the readers.
func (a *audience) read() error {
	n := runtime.GOMAXPROCS(0)
	for r := range n {
		poll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
		if err != nil {
			return err
		}
		for i := r; i < len(a.attendees); i += n {
			// What the kernel gives back is the attendee's number.
			e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(i)}
			if err := unix.EpollCtl(poll, unix.EPOLL_CTL_ADD, a.attendees[i].fd, &e); err != nil {
				unix.Close(poll)
				return err
			}
		}
		a.readers.Go(func() {
			defer unix.Close(poll)
			a.poll(poll)
		})
	}
	return nil
}

func (a *audience) poll(poll int) {
	events := make([]unix.EpollEvent, 128)
	buf := make([]byte, 256<<10)
	for !a.leaving.Load() {
		n, err := unix.EpollWait(poll, events, 50)
		if err != nil && err != unix.EINTR {
			a.broken.add("epoll: %v", err)
			return
		}
		sum := 0
		for _, e := range events[:max(0, n)] {
			l := a.attendees[e.Fd]
			k, err := unix.Read(l.fd, buf)
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if err == nil && k == 0 {
				err = io.EOF
			}
			if err == nil {
				k, err = l.feed(buf[:k])
				sum += k
			}
			if err != nil {
				l.lost(err)
				_ = unix.EpollCtl(poll, unix.EPOLL_CTL_DEL, l.fd, nil)
			}
		}
		a.add(sum)
	}
}

func (a *audience) hangUp() {
	a.readers.Wait()
	for _, l := range a.attendees {
		if l != nil && l.fd > 0 {
			unix.Close(l.fd)
			l.fd = 0
		}
	}
}
