package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// A bare writer finds how many writes of the same bytes to many sockets a core
// makes that does nothing else: one thread for each core that goes from socket
// to socket. It is what fanning out is held against, in turn, since what else
// the machine does, and what has slept or left the caches, must cost both alike.
type bare struct {
	a      *audience
	fds    []int
	b      []byte
	used   time.Duration
	writes int
}

// newBare makes n pairs of sockets. The caller closes it.
func newBare(ctx context.Context, n int, b []byte) (_ *bare, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer ln.Close()
	w := &bare{b: b, a: &audience{broken: new(complaints), reached: make(chan struct{}, 1)}}
	defer func() {
		if err != nil {
			w.close()
		}
	}()
	for i := range n {
		d := net.Dialer{LocalAddr: source(i)}
		conn, err := d.DialContext(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return nil, err
		}
		l := w.a.attendee(i, "")
		l.plain = true
		w.a.attendees = append(w.a.attendees, l)
		if err := l.adopt(conn); err != nil {
			return nil, err
		}
		end, err := ln.Accept()
		if err != nil {
			return nil, err
		}
		fd, err := detach(end)
		if err != nil {
			return nil, err
		}
		w.fds = append(w.fds, fd)
	}
	return w, w.a.read()
}

func (w *bare) close() {
	w.a.leave()
	for _, fd := range w.fds {
		unix.Close(fd)
	}
}

// round writes to all once, and waits until all have read.
func (w *bare) round(ctx context.Context, limit time.Duration, counts bool) error {
	n := len(w.fds)
	w.a.expect(w.a.delivered.Load() + int64(n))
	took, err := writeToAll(w.fds, w.b)
	if err != nil {
		return err
	}
	if !w.a.await(ctx, limit) {
		return errors.Join(ctx.Err(), fmt.Errorf("%d of %d writes arrived", w.a.delivered.Load(), w.a.target.Load()))
	}
	if counts {
		w.used += took
		w.writes += n
	}
	return nil
}

func (w *bare) sockets() int { return len(w.fds) }

// perCore is writes per second of processor time, 0 when that is not known.
func (w *bare) perCore() float64 {
	if w.used == 0 {
		return 0
	}
	return float64(w.writes) / w.used.Seconds()
}

// writeToAll writes b to all sockets, with as many threads as there are cores,
// and gives the processor time of these threads.
func writeToAll(fds []int, b []byte) (took time.Duration, err error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		size = (len(fds) + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0)
	)
	for share := range slices.Chunk(fds, size) {
		wg.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			before := threadTime()
			for _, fd := range share {
				if e := writeAll(fd, b); e != nil {
					mu.Lock()
					err = e
					mu.Unlock()
				}
			}
			mu.Lock()
			took += threadTime() - before
			mu.Unlock()
		})
	}
	wg.Wait()
	return took, err
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, err := unix.Write(fd, b)
		switch err {
		case nil:
			b = b[n:]
		case unix.EINTR:
		case unix.EAGAIN:
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 1000)
		default:
			return err
		}
	}
	return nil
}

func threadTime() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
