package dispatch

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// Store is what the dispatcher needs of a store.
type Store interface {
	store.Log
	store.Messages
	store.PushQueue
	store.PushDevices
	store.PushSights
	store.Broadcasts
	store.Views
	Devices(ctx context.Context, app chat.AppID, user string) ([]store.Device, error)
	Read(ctx context.Context, app chat.AppID, user string, r store.Range, dst []store.Entry) ([]store.Entry, error)
	Overlays(ctx context.Context, app chat.AppID, uids []chat.UID) ([]*chat.State, error)
	Epoch() string
}

// Directory knows apps, users, and what apps push with.
type Directory interface {
	AppByID(id chat.AppID) *chat.App
	Apps() []*chat.App
	User(ctx context.Context, app *chat.App, id string) (*chat.User, error)
	PushCredentials(ctx context.Context, app *chat.App) ([]chat.PushCredential, error)
	PushTemplates(ctx context.Context, app *chat.App) ([]chat.PushTemplate, error)
	// PushChanges grows whenever credentials or templates of the app change.
	PushChanges(app chat.AppID) uint64
}

// Sessions are the client connections of this node.
type Sessions interface {
	// Cursors are how far the user's devices have acknowledged their timeline, as
	// far as this node has that in memory, and whether any is connected.
	Cursors(app chat.AppID, user string) (list []push.Cursor, connected bool)
	// Probe asks the user's connections for a pong, each that has not acknowledged
	// the entry at offset. It does not wait.
	Probe(app chat.AppID, user string, offset uint64)
}

// Options are what a dispatcher works with. Times and sizes that are 0 are the
// defaults of docs/push.md.
type Options struct {
	Store     Store
	Directory Directory
	Sessions  Sessions
	// Adapter makes the adapter of a credential.
	Adapter func(*chat.PushCredential) (push.Adapter, error)
	Now     func() time.Time
	Logger  *slog.Logger
	Metrics prometheus.Registerer // nil for none

	Grace    time.Duration // how long a message may take to be acknowledged
	Patience time.Duration // and how long where there is a connection
	InFlight int           // requests under way, per lane
	Queue    int           // jobs waiting, per lane
}

// A Dispatcher notifies. Run does the work.
type Dispatcher struct {
	Options

	setups   sync.Map // chat.AppID → *setup
	deciding *decisions
	casts    *casts
	lanes    lanes
	sends    sends
	names    names
	settler  *settler
	backs    backs
	metrics  *metrics
}

// New makes a dispatcher.
func New(o Options) *Dispatcher {
	o.Grace = cmp.Or(o.Grace, 3*time.Second)
	o.Patience = cmp.Or(o.Patience, 10*time.Second)
	o.InFlight = cmp.Or(o.InFlight, 256)
	o.Queue = cmp.Or(o.Queue, 2_000_000)
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	d := &Dispatcher{Options: o, deciding: newDecisions(&o), casts: newCasts(&o)}
	d.lanes.d = d
	d.settler = newSettler(d)
	d.metrics = newMetrics(o.Metrics)
	if o.Metrics != nil {
		o.Metrics.MustRegister(newCollector(d))
	}
	return d
}

// Run works until ctx ends, and waits for what it has started.
func (d *Dispatcher) Run(ctx context.Context) {
	var wg sync.WaitGroup
	// What was waiting is counted before more is added to it.
	found := make(chan struct{})
	wg.Go(func() { d.runLanes(ctx, found) })
	wg.Go(func() {
		select {
		case <-found:
			d.follow(ctx)
		case <-ctx.Done():
		}
	})
	wg.Wait()
}

// write writes a change, and tells the lanes of its new jobs.
func (d *Dispatcher) write(ctx context.Context, c *store.PushChange) error {
	d.lanes.admit(c, d.Now())
	if err := d.Store.ChangePush(ctx, c); err != nil {
		return err
	}
	d.lanes.written(c)
	return nil
}

// A setup is what an app pushes with, at one moment. It is never changed.
type setup struct {
	changes     uint64
	credentials []chat.PushCredential
	templates   map[string]*chat.PushTemplate
}

// setupOf is the app's setup as it is now.
func (d *Dispatcher) setupOf(ctx context.Context, app *chat.App) (*setup, error) {
	// The number is read first: a setup that is newer than it says is read again,
	// and one that is older never passes for the newest.
	changes := d.Directory.PushChanges(app.ID)
	if v, ok := d.setups.Load(app.ID); ok && v.(*setup).changes == changes {
		return v.(*setup), nil
	}
	s := &setup{changes: changes, templates: map[string]*chat.PushTemplate{}}
	var err error
	if s.credentials, err = d.Directory.PushCredentials(ctx, app); err != nil {
		return nil, err
	}
	templates, err := d.Directory.PushTemplates(ctx, app)
	if err != nil {
		return nil, err
	}
	for i := range templates {
		s.templates[templates[i].ID] = &templates[i]
	}
	d.setups.Store(app.ID, s)
	return s, nil
}

// credential is the one with which the device is notified: that for its package
// and environment, else one that is for all of them. nil is none.
func (s *setup) credential(to *chat.PushDevice) *chat.PushCredential {
	var best *chat.PushCredential
	score := -1
	for i := range s.credentials {
		c := &s.credentials[i]
		n := 0
		switch {
		case c.Provider != to.Provider:
			continue
		case c.Package == "":
		case c.Package == to.Package:
			n += 2
		default:
			continue
		}
		switch {
		case c.Environment == chat.NoEnvironment:
		case c.Environment == to.Environment || to.Environment == chat.NoEnvironment && c.Environment == chat.Production:
			n++
		default:
			continue
		}
		if n > score {
			best, score = c, n
		}
	}
	return best
}

// laneOf is where notifications for the device wait for the credential. Browsers' go
// to several push services with one credential: each has a lane of its own, so that
// one that is down does not hold up the others.
func laneOf(app chat.AppID, c *chat.PushCredential, to *chat.PushDevice) store.PushLane {
	id := store.PushLane{App: app, Provider: c.Provider, Environment: c.Environment, Package: c.Package}
	if c.Provider == chat.WEB {
		id.Environment = to.Environment
	}
	return id
}

// isOf reports whether what waits in the lane waits for the credential.
func isOf(id store.PushLane, app chat.AppID, c *chat.PushCredential) bool {
	return id == laneOf(app, c, &chat.PushDevice{Environment: id.Environment})
}
