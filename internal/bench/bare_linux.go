package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// bareWriter finds how many writes of b to as many sockets a core makes that
// does nothing else: one thread that goes from socket to socket, and waits until
// all have read before it begins anew. It is what fanning out is held against.
func (o *Options) bareWriter(ctx context.Context, n int, b []byte) (perCore float64, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	var broken complaints
	a := &audience{broken: &broken, attendees: make([]*attendee, n), reached: make(chan struct{}, 1)}
	defer a.leave()
	fds := make([]int, 0, n)
	defer func() {
		for _, fd := range fds {
			unix.Close(fd)
		}
	}()
	for i := range n {
		d := net.Dialer{LocalAddr: source(i)}
		conn, err := d.DialContext(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return 0, err
		}
		l := a.attendee(i, "")
		l.plain = true
		a.attendees[i] = l
		if err := l.adopt(conn); err != nil {
			return 0, err
		}
		end, err := ln.Accept()
		if err != nil {
			return 0, err
		}
		fd, err := detach(end)
		if err != nil {
			return 0, err
		}
		fds = append(fds, fd)
	}
	if err := a.read(); err != nil {
		return 0, err
	}

	var wg sync.WaitGroup
	wg.Go(func() {
		// The time of this thread is what writing takes.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		var used time.Duration
		writes, warm := 0, time.Now().Add(time.Duration(warmUp*float64(o.Time)))
		for end := warm.Add(o.Time); time.Now().Before(end) && ctx.Err() == nil; {
			a.expect(a.delivered.Load() + int64(n))
			before := threadTime()
			for _, fd := range fds {
				if err = writeAll(fd, b); err != nil {
					return
				}
			}
			took := threadTime() - before
			if !a.await(ctx, o.scale.deliver) {
				err = errors.Join(ctx.Err(), fmt.Errorf("%d of %d writes arrived", a.delivered.Load(), a.target.Load()))
				return
			}
			if time.Now().After(warm) {
				used += took
				writes += n
			}
		}
		if used > 0 {
			perCore = float64(writes) / used.Seconds()
		}
	})
	wg.Wait()
	return perCore, err
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
