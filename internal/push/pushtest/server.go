package pushtest

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// A Server serves simulators over TLS, as the providers are, with a certificate of
// an authority of its own.
type Server struct {
	Roots *x509.CertPool // vouches for the server
	CA    []byte         // the same in PEM

	cert tls.Certificate
	mu   sync.Mutex
	live []*http.Server
	wg   sync.WaitGroup
}

// Serve serves the simulator at the address, such as 127.0.0.1:0, until Close, and
// gives the address to reach it at, such as https://127.0.0.1:4711.
func (s *Server) Serve(sim *Sim, address string) (string, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	h := &http.Server{
		Handler:           sim,
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          log.New(io.Discard, "", 0),
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{s.cert}},
		Protocols:         new(http.Protocols),
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: cmp.Or(sim.options.Streams, 1000)},
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			sim.mu.Lock()
			sim.stats.Conns++
			sim.mu.Unlock()
			return context.WithValue(ctx, connKey{}, new(conn))
		},
		ConnState: func(_ net.Conn, state http.ConnState) {
			open := 0
			switch state {
			case http.StateNew:
				open = 1
			case http.StateClosed, http.StateHijacked:
				open = -1
			}
			sim.mu.Lock()
			sim.stats.Open += open
			sim.mu.Unlock()
		},
	}
	h.Protocols.SetHTTP2(!sim.options.HTTP1)
	h.Protocols.SetHTTP1(!sim.kind.http2())
	s.mu.Lock()
	s.live = append(s.live, h)
	s.mu.Unlock()
	s.wg.Go(func() {
		_ = h.ServeTLS(ln, "", "") // ends with Close; before that whoever calls finds out
	})
	return "https://" + ln.Addr().String(), nil
}

// A conn is what a simulator remembers of one connection.
type conn struct {
	mu   sync.Mutex
	pass string    // what it was let in with
	at   time.Time // when that was made
}

type connKey struct{}

// connOf is the request's connection, one of its own where nobody has said which.
func connOf(r *http.Request) *conn {
	if c, ok := r.Context().Value(connKey{}).(*conn); ok {
		return c
	}
	return new(conn)
}

// Close ends all servers, breaking what is under way off, and waits for them.
func (s *Server) Close() {
	s.mu.Lock()
	live := s.live
	s.live = nil
	s.mu.Unlock()
	for _, h := range live {
		_ = h.Close()
	}
	s.wg.Wait()
}

// Drain ends all servers once what is under way is done.
func (s *Server) Drain(ctx context.Context) error {
	s.mu.Lock()
	live := s.live
	s.live = nil
	s.mu.Unlock()
	var errs []error
	for _, h := range live {
		errs = append(errs, h.Shutdown(ctx))
	}
	s.wg.Wait()
	return errors.Join(errs...)
}
