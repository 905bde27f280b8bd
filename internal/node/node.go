// Package node puts one server together from its configuration: the store, the
// core, the doors, and the order in which they start and stop.
package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/admin"
	"github.com/parleychat/parley/internal/console"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/gateway"
	"github.com/parleychat/parley/internal/push/dispatch"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
	"github.com/parleychat/parley/internal/trace"
)

// listenName is the file in the data folder that says which address the node
// listens on. It is there while the node takes connections.
const listenName = "listen"

// A Node is one running server.
type Node struct {
	config Config
	logger *slog.Logger
	made   *admin.App // the app made because there was none
	now    func() time.Time

	registry *prometheus.Registry
	store    *pebble.Store
	rooms    *room.Rooms
	courier  *courier.Courier
	gateway  *gateway.Gateway
	tracer   *trace.Tracer
	pushes   *dispatch.Dispatcher
	service  *admin.Service
	demo     *console.Console // nil when it is off

	listener net.Listener
	public   *http.Server
	admin    *admin.Server

	ready    atomic.Bool
	calls    sync.WaitGroup     // requests under way on the public server
	underWay atomic.Int64       // how many
	work     sync.WaitGroup     // the goroutines that background ends
	servers  sync.WaitGroup     // the goroutines that serve
	end      context.CancelFunc // of background
	undo     []func() error     // what Stop does after the doors are closed, last first

	done chan struct{} // closed when the node cannot go on
	fail sync.Once
	err  error // why; read after done

	stop    sync.Once
	stopErr error
}

// Start starts a node. When it returns without error, the node serves. ctx ends
// the start only, not the node: Stop does.
func Start(ctx context.Context, c Config, logger *slog.Logger) (*Node, error) {
	return start(ctx, c, logger, func(*pebble.Options) {})
}

// start is Start with a hook for tests, which put failures under the store, or a
// clock of their own: the store's is the whole node's.
func start(ctx context.Context, c Config, logger *slog.Logger, adjust func(*pebble.Options)) (_ *Node, err error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	n := &Node{config: c, logger: logger, registry: newRegistry(), done: make(chan struct{})}
	n.measure()
	background, end := context.WithCancel(context.WithoutCancel(ctx))
	n.end = end
	defer func() {
		if err != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.ShutdownTimeout)
			defer cancel()
			err = errors.Join(err, n.Stop(ctx))
		}
	}()

	o := pebble.Options{
		// 0 would ask for the store's own default.
		Dir: c.Data, Now: time.Now, Logger: logger, Metrics: n.registry, MinFree: max(uint64(c.MinFree), 1),
		Consumers: consumers,
		// Nothing is appended, and so committed, before there is a courier.
		OnCommit: func(commit *store.Commit) { n.courier.OnCommit(commit) },
	}
	adjust(&o)
	n.now = o.Now
	n.rooms = room.New(n.now)
	s, err := pebble.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	n.store = s
	n.undo = append(n.undo, s.Close)

	// The port is taken before anything is made that is told only once, such as
	// the first app's secret: two servers on one port are a common mistake.
	if err := n.listen(); err != nil {
		return nil, err
	}
	d, err := directory.Open(ctx, s, n.now)
	if err != nil {
		return nil, err
	}
	d.PushWebHosts = n.config.PushWebHosts
	n.service = admin.NewService(d, n.describe())
	if err := n.ensureApp(ctx, d); err != nil {
		return nil, err
	}
	if err := n.openDoors(background, d); err != nil {
		return nil, err
	}
	n.run(background)
	n.ready.Store(true)
	if err := n.serve(); err != nil {
		return nil, err
	}
	logger.Info("serving", "address", n.Addr().String(), "tls", c.TLSCert != "", "data", c.Data, "version", Version, "epoch", s.Epoch())
	return n, nil
}

// ensureApp makes the app that the configuration names, or a first one.
func (n *Node) ensureApp(ctx context.Context, d *directory.Directory) error {
	if n.config.AppKey != "" {
		_, what, err := d.EnsureApp(ctx, n.config.AppKey, n.config.AppSecret)
		if err == nil && what != "" {
			n.logger.Info("app "+what, "app_key", n.config.AppKey)
		}
		return err
	}
	if len(d.Apps()) > 0 {
		return nil
	}
	a, err := n.service.CreateApp(ctx, "", "")
	if err != nil {
		return err
	}
	n.logger.Info("app created", "app_key", a.Key)
	n.made = &a
	return nil
}

// run starts what works in the background until it ends.
func (n *Node) run(background context.Context) {
	for _, f := range []func(context.Context){
		n.rooms.Run,
		n.courier.Run,
		n.courier.RunDue,
		n.courier.RunOpen,
		n.courier.RunBroadcasts,
		n.gateway.Run,
		n.tracer.Run,
		n.tendHeap,
		n.pushes.Run,
		courier.NewIndexer(n.store, n.logger).Run,
	} {
		n.work.Go(func() { f(background) })
	}
	n.work.Go(func() {
		select {
		case <-n.store.Failed():
			n.fatal(fmt.Errorf("the store failed: %w", n.store.Health()))
		case <-background.Done():
		}
	})
}

// fatal says that the node cannot go on.
func (n *Node) fatal(err error) {
	n.fail.Do(func() {
		n.err = err
		n.logger.Error("the node cannot go on", "error", err)
		close(n.done)
	})
}

// Done is closed when the node cannot go on and must be stopped.
func (n *Node) Done() <-chan struct{} { return n.done }

// Addr is the address that everything is served on.
func (n *Node) Addr() net.Addr { return n.listener.Addr() }

// Admin is the owner's view of the node.
func (n *Node) Admin() admin.API { return n.service }

// FirstApp is the app that was made because there was none, or nil.
func (n *Node) FirstApp() *admin.App { return n.made }

// Stop ends the node: it stops accepting, finishes what is under way, says
// goodbye to clients, and closes the store. When ctx ends first, what is still
// under way is cut off. The error is also that of a node that could not go on.
func (n *Node) Stop(ctx context.Context) error {
	n.stop.Do(func() { n.stopErr = n.shutdown(ctx) })
	return n.stopErr
}

func (n *Node) shutdown(ctx context.Context) error {
	n.ready.Store(false)
	errs := []error{n.closeDoors(ctx)}
	// What was committed is delivered to the sessions that are left, and then
	// everything in the background ends.
	n.end()
	if !waitFor(ctx, &n.work) || !waitFor(ctx, &n.calls) {
		// What hangs may be in the store: closing it now could pull it away from
		// under a call. To end the process without is as safe as a crash is.
		return errors.Join(append(errs, errors.New("stopped with calls under way, without closing the store"))...)
	}
	for i := len(n.undo) - 1; i >= 0; i-- {
		errs = append(errs, n.undo[i]())
	}
	select {
	case <-n.done:
		errs = append(errs, n.err)
	default:
	}
	return errors.Join(errs...)
}

// waitFor waits for wg, and reports whether it came to an end before ctx. When
// it did not, a goroutine stays behind; the process is about to end.
func waitFor(ctx context.Context, wg *sync.WaitGroup) bool {
	ended := make(chan struct{})
	go func() {
		wg.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return true
	case <-ctx.Done():
	}
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// writeListen notes the address where commands and scripts look for it.
func (n *Node) writeListen() error {
	name := filepath.Join(n.config.Data, listenName)
	tmp := name + ".tmp"
	// Not synced: after a crash of the machine nothing listens.
	if err := os.WriteFile(tmp, []byte(n.Addr().String()+"\n"), 0o600); err != nil {
		return err
	}
	if err := os.Rename(tmp, name); err != nil {
		return err
	}
	n.undo = append(n.undo, func() error {
		if err := os.Remove(name); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
	return nil
}

// describe is what commands are told about the node.
func (n *Node) describe() admin.Node {
	return admin.Node{
		Running: true, Version: Version, PID: os.Getpid(),
		Address: reachable(n.Addr()), TLS: n.config.TLSCert != "",
	}
}

// reachable is the address to use from this machine: an address that stands for
// all of the machine's own is not one to connect to.
func reachable(a net.Addr) string {
	host, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	// Go listens on both families for "::", so the older one is reachable.
	if ip := net.ParseIP(host); ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// OpenData opens the data folder of a node that does not run, for its owner.
func OpenData(ctx context.Context, dir string) (admin.API, func() error, error) {
	s, err := pebble.Open(ctx, pebble.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), Consumers: consumers})
	if err != nil {
		return nil, nil, err
	}
	d, err := directory.Open(ctx, s, time.Now)
	if err != nil {
		return nil, nil, errors.Join(err, s.Close())
	}
	return admin.NewService(d, admin.Node{}), s.Close, nil
}

// Restore marks the data in dir, which no node runs on, as a new life of the
// store, and says what its epoch was and is.
func Restore(ctx context.Context, dir string) (was, is string, err error) {
	for _, life := range []struct {
		new   bool
		epoch *string
	}{{false, &was}, {true, &is}} {
		s, err := pebble.Open(ctx, pebble.Options{Dir: dir, Logger: slog.New(slog.DiscardHandler), Consumers: consumers, NewLife: life.new})
		if err != nil {
			return "", "", err
		}
		*life.epoch = s.Epoch()
		if err := s.Close(); err != nil {
			return "", "", err
		}
	}
	return was, is, nil
}
