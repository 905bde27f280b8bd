package node

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/parleychat/parley/api"
	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/console"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/gateway"
	"github.com/parleychat/parley/internal/serverapi"
	"github.com/parleychat/parley/internal/trace"
)

// Bounds on what one HTTP connection may take of the server. A request has at
// most 4 MiB, which fits the time on any line worth having.
const (
	readHeaderTimeout = 10 * time.Second
	readTimeout       = 60 * time.Second
	writeTimeout      = 60 * time.Second
	idleTimeout       = 120 * time.Second
	maxHeaderBytes    = 16 << 10
)

// listen takes the address. Nothing is answered on it before serve.
func (n *Node) listen() error {
	ln, err := net.Listen("tcp", n.config.Listen)
	if err != nil {
		return err
	}
	n.undo = append(n.undo, func() error {
		if err := ln.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	n.listener = ln
	return nil
}

// openDoors puts the core between the store and the doors, and the doors behind
// the address.
func (n *Node) openDoors(background context.Context, d *directory.Directory) error {
	n.gateway = gateway.New(gateway.Options{
		Directory: d, Store: n.store, Rooms: n.rooms, Now: n.now, Logger: n.logger, Metrics: n.registry,
		Version: "parley " + Version, PingInterval: n.config.PingInterval, NoTrails: !n.config.Trace,
	})
	n.tracer = trace.New(n.store, n.gateway, n.now)
	var reach courier.Reach
	if n.config.Trace {
		reach = n.tracer
	}
	n.courier = courier.New(courier.Options{
		Store: n.store, Archive: n.store, Users: d, Open: d, Rooms: n.rooms, Sessions: n.gateway, Reach: reach,
		Now: n.now, Logger: n.logger, Metrics: n.registry,
	})
	n.gateway.Attach(n.courier)
	n.gateway.AttachTracer(n.tracer)
	if err := n.openPush(d); err != nil {
		return err
	}
	n.tracer.AttachPush(n.pushes)
	n.service.OfferPushes(n.pushes)
	calls := serverapi.New(serverapi.Options{
		Directory: d, Courier: n.courier, Presence: n.gateway, Tracer: n.tracer, Pushes: n.pushes,
		Now: n.now, Logger: n.logger, Metrics: n.registry,
	})
	n.openDemoPage(d, calls)

	n.public = &http.Server{
		Handler:           n.count(n.routes(calls, n.gateway)),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ErrorLog:          log.New(httpLog{n.logger}, "", 0),
	}
	if n.config.TLSCert != "" {
		c, err := openCertificate(n.config.TLSCert, n.config.TLSKey, time.Now, n.logger)
		if err != nil {
			return err
		}
		n.public.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
	}
	n.admin = admin.NewServer(n.service, n.logger)
	return nil
}

// An httpLog takes what net/http has to say: mostly that somebody broke off a
// handshake, which is noise; a panic is not.
type httpLog struct{ logger *slog.Logger }

func (l httpLog) Write(line []byte) (int, error) {
	level := slog.LevelDebug
	if bytes.HasPrefix(line, []byte("http: panic")) {
		level = slog.LevelError
	}
	l.logger.Log(context.Background(), level, "http", "error", string(bytes.TrimSpace(line)))
	return len(line), nil
}

// serve begins to answer.
func (n *Node) serve() error {
	socket, err := admin.Listen(n.config.Data)
	if err != nil {
		return err
	}
	n.servers.Go(func() {
		if err := n.admin.Serve(socket); err != nil {
			n.fatal(err)
		}
	})
	n.servers.Go(func() {
		var err error
		if n.public.TLSConfig != nil {
			err = n.public.ServeTLS(n.listener, "", "")
		} else {
			err = n.public.Serve(n.listener)
		}
		if !errors.Is(err, http.ErrServerClosed) {
			n.fatal(err)
		}
	})
	return n.writeListen()
}

// closeDoors stops accepting, waits for requests under way, and lets clients
// go, the last two side by side.
func (n *Node) closeDoors(ctx context.Context) error {
	if n.public == nil {
		return nil // the start did not come so far
	}
	if n.demo != nil {
		n.demo.Close()
	}
	var errs [3]error
	n.servers.Go(func() { errs[0] = n.farewell(ctx) })
	n.servers.Go(func() {
		if errs[1] = n.public.Shutdown(ctx); errs[1] != nil {
			errs[1] = errors.Join(errs[1], n.public.Close())
		}
	})
	n.servers.Go(func() { errs[2] = n.admin.Shutdown(ctx) })
	n.servers.Wait()
	return errors.Join(errs[:]...)
}

// clientGrace is how long after the last goodbye clients may take to go.
const clientGrace = 5 * time.Second

// farewell lets the clients go. Those that do not take their goodbye are cut
// off without making the stop a failure: they recover wherever they connect
// next.
func (n *Node) farewell(ctx context.Context) error {
	soon, cancel := context.WithTimeout(ctx, n.config.ShutdownSpread+clientGrace)
	defer cancel()
	err := n.gateway.Shutdown(soon, n.config.ShutdownSpread)
	if err != nil && ctx.Err() == nil {
		n.logger.Warn("some clients did not take their goodbye", "error", err)
		return nil
	}
	return err
}

// routes says what is served where. It does not clean paths as http.ServeMux
// does: callers that join a base address ending in a slash with a path send
// //v4/…, and a redirect would lose their body.
func (n *Node) routes(calls, clients http.Handler) http.Handler {
	metrics := http.NotFoundHandler()
	if n.config.Metrics {
		metrics = promhttp.HandlerFor(n.registry, promhttp.HandlerOpts{
			ErrorLog: slog.NewLogLogger(n.logger.Handler(), slog.LevelError), MaxRequestsInFlight: 4,
		})
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		path := "/" + strings.TrimLeft(r.URL.Path, "/")
		if n.demo != nil && strings.HasPrefix(path+"/", console.Path) {
			n.demo.ServeHTTP(w, r)
			return
		}
		switch path {
		case gateway.Path:
			clients.ServeHTTP(w, r)
		case "/healthz":
			text(w, http.StatusOK, "alive")
		case "/readyz":
			n.readyz(w)
		case "/metrics":
			metrics.ServeHTTP(w, r)
		case "/openapi.yaml":
			w.Header().Set("Content-Type", "application/yaml")
			_, _ = w.Write(api.Document)
		default:
			calls.ServeHTTP(w, r)
		}
	})
}

// readyz says whether calls would be served now. The reason is in words for
// people; programs look at the status.
func (n *Node) readyz(w http.ResponseWriter) {
	switch err := n.store.Health(); {
	case !n.ready.Load():
		unready(w, "stopping")
	case err != nil:
		unready(w, err.Error())
	default:
		text(w, http.StatusOK, "ready")
	}
}

func unready(w http.ResponseWriter, why string) {
	w.Header().Set("Retry-After", "5")
	text(w, http.StatusServiceUnavailable, why)
}

func text(w http.ResponseWriter, status int, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, s+"\n")
}

// count knows which requests are under way, for a stop that runs out of time.
func (n *Node) count(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n.calls.Add(1)
		n.underWay.Add(1)
		defer func() {
			n.underWay.Add(-1)
			n.calls.Done()
		}()
		next.ServeHTTP(w, r)
	})
}
