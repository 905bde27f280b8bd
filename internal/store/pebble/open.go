package pebble

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/prometheus/client_golang/prometheus"
)

// Options say where the store is and how it is to work. Only Dir is required.
type Options struct {
	Dir       string
	FS        vfs.FS                // vfs.Default
	Now       func() time.Time      // time.Now
	Logger    *slog.Logger          // slog.Default
	Metrics   prometheus.Registerer // none
	OnCommit  store.OnCommit        // nobody
	Consumers []string              // of the log, besides store.IndexConsumer

	// NewLife gives the store a new epoch, as after a backup was put in its
	// place: clients and device cursors have been further than it.
	NewLife bool

	MinFree    uint64 // writes are refused below so many free bytes; 512 MiB
	Ballast    uint64 // bytes set aside for a full disk; 64 MiB
	CacheBytes int64  // for memtables and blocks read from disk; 64 MiB
	BodyBytes  int    // for message bodies in memory; 64 MiB
	Heads      int    // timeline heads in memory; 200,000
}

func (o Options) withDefaults() Options {
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.MinFree == 0 {
		o.MinFree = 512 << 20
	}
	if o.Ballast == 0 {
		o.Ballast = 64 << 20
	}
	if o.CacheBytes == 0 {
		o.CacheBytes = 64 << 20
	}
	if o.BodyBytes == 0 {
		o.BodyBytes = 64 << 20
	}
	if o.Heads == 0 {
		o.Heads = 200_000
	}
	return o
}

// A Store is the embedded engine. See the package store for what it promises.
//
// Locks are taken in the order of their tiers: appsMu, userLocks, checkpointMu,
// indexMu and expireMu (tier 0, never two of them), then tier 1, 2 and 3 as
// written beside them.
type Store struct {
	db       *pdb.DB
	lock     io.Closer
	now      func() time.Time
	logger   *slog.Logger
	onCommit store.OnCommit
	epoch    string

	failure *failure
	space   *spaceWatch
	metrics *storeMetrics
	spoilt  spoilt

	writer  *writer
	heads   *heads
	dirty   dirtyList
	bodies  *bodyCache
	log     batchLog
	durable atomic.Pointer[chat.UID] // the newest UID readers may see
	// told is the newest UID whose commit is in the timelines too. What a commit
	// changed is shown from then on, so that nobody sees a state before the entry
	// that tells of it. published counts the commits that came so far, for those
	// who wait for one.
	told      atomic.Pointer[chat.UID]
	published gate
	marks     map[string]*gate // watermarks; the map itself never changes

	appsMu sync.Mutex
	apps   map[chat.AppID]*chat.App

	userLocks    stripes
	checkpointMu sync.Mutex
	indexMu      sync.Mutex
	expireMu     sync.Mutex
	logDropped   uint64 // under expireMu
	rested       int64  // how often memtables had been written when Rest was through

	stop    context.CancelFunc
	work    sync.WaitGroup // the goroutines that ctx stops
	writing sync.WaitGroup // the writer and the finisher
	stopped chan struct{}  // closed when the writer has ended

	// Set only by the tests that show that the crash test would notice: noSync
	// takes the syncs out, beforeApply sees commits before they are written.
	noSync      bool
	beforeApply func(*commit)
}

var _ store.Store = (*Store)(nil)

// Names of rows in spaceMeta.
const (
	metaFormat = "format"
	metaEpoch  = "epoch"
	metaRun    = "run"
	metaFloor  = "floor"
)

// Open opens the store in o.Dir, making it when the folder is empty or missing.
// It fails without touching anything when the folder is not a store, is of a
// newer format, cannot be written or is in use.
func Open(ctx context.Context, o Options) (*Store, error) {
	return open(ctx, o.withDefaults(), nil)
}

// open is Open with a hook for tests, called before any goroutine runs.
func open(ctx context.Context, o Options, prepare func(*Store)) (_ *Store, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	f, err := claim(o)
	if err != nil {
		return nil, err
	}
	s := &Store{
		lock: f.lock, now: o.Now, logger: o.Logger, onCommit: o.OnCommit,
		failure:   newFailure(),
		metrics:   newMetrics(),
		space:     &spaceWatch{fs: f.fs, dir: f.dir, min: o.MinFree, ballast: o.Ballast, logger: o.Logger, have: f.ballast},
		bodies:    newBodyCache(o.BodyBytes),
		marks:     map[string]*gate{headsConsumer: {}, store.IndexConsumer: {}},
		userLocks: stripes{seed: maphash.MakeSeed()},
		stopped:   make(chan struct{}),
	}
	s.dirty.init()
	for _, name := range o.Consumers {
		s.marks[name] = &gate{}
	}
	defer func() {
		if err != nil {
			s.metrics.unregister()
			if s.db != nil && !s.isFatal() {
				_ = s.db.Close()
			}
			if !s.isFatal() {
				_ = s.lock.Close()
			}
		}
	}()
	if prepare != nil {
		prepare(s)
	}
	s.space.check()
	if err := s.openDB(f, o); err != nil {
		return nil, err
	}
	if err := s.load(o.NewLife); err != nil {
		return nil, fmt.Errorf("open store: %w", err)
	}
	if f.version < formatVersion {
		if err := f.stamp(); err != nil {
			return nil, err
		}
	}
	s.heads = newHeads(s.db, o.Heads)
	if err := s.metrics.register(o.Metrics, s); err != nil {
		return nil, err
	}
	s.start()
	return s, nil
}

func (s *Store) isFatal() bool {
	select {
	case <-s.failure.fatal:
		return true
	default:
		return false
	}
}

// openDB opens Pebble. It does so beside this goroutine because Pebble may give
// up in the middle, which parks it.
func (s *Store) openDB(f *folder, o Options) error {
	type result struct {
		db  *pdb.DB
		err error
	}
	opened := make(chan result, 1)
	fs := vfs.OnDiskFull(f.fs, s.space.diskFull)
	opts := tuned(fs, o.CacheBytes, pebbleLog{s.logger, s.failure})
	go func() {
		db, err := pdb.Open(fs.PathJoin(f.dir, dbName), opts)
		opened <- result{db, err}
	}()
	select {
	case r := <-opened:
		if r.err != nil {
			return fmt.Errorf("open store: %w", r.err)
		}
		s.db = r.db
		return nil
	case <-s.failure.fatal:
		return fmt.Errorf("open store: %w", s.failure.err)
	}
}

// load reads what a run starts from, makes a new store's first rows, and brings
// the head rows up to the log.
func (s *Store) load(newLife bool) error {
	format, err := readUint(s.db, metaKey(metaFormat))
	if err != nil {
		return err
	}
	if format > formatVersion {
		return errNewer(format)
	}
	run, err := readUint(s.db, metaKey(metaRun))
	if err != nil {
		return err
	}
	floor, err := readUint(s.db, metaKey(metaFloor))
	if err != nil {
		return err
	}
	b := s.db.NewBatch()
	epoch, closer, err := s.db.Get(metaKey(metaEpoch))
	if err == nil {
		s.epoch = string(epoch)
		err = closer.Close()
	}
	if errors.Is(err, pdb.ErrNotFound) || err == nil && newLife {
		s.epoch = newEpoch()
		err = b.Set(metaKey(metaEpoch), []byte(s.epoch), nil)
	}
	if err != nil {
		return fmt.Errorf("epoch: %w", err)
	}
	if err := migrate(s.db, b, format, formatVersion, migrations); err != nil {
		return err
	}
	run++
	if err := b.Set(metaKey(metaRun), appendUvarint(nil, run), nil); err != nil {
		return fmt.Errorf("run number: %w", err)
	}
	if err := s.apply(b, pdb.Sync); err != nil {
		return err
	}
	if err := s.loadApps(); err != nil {
		return err
	}
	seq, err := s.loadLog()
	if err != nil {
		return err
	}
	// Nothing at or below the floor is given again, so all of it is durable or
	// never was.
	top := chat.NewUID(int64(floor), 0xf, chat.MaxUIDBlock-1, chat.MaxRun)
	s.durable.Store(&top)
	s.told.Store(&top)
	s.writer = newWriter(chat.NewUIDSource(uint32(run&chat.MaxRun), int64(floor)), int64(floor), seq)
	return s.replayHeads(seq)
}

// loadLog finds the end of the log and the watermarks.
func (s *Store) loadLog() (seq uint64, err error) {
	for name, m := range s.marks {
		n, err := readUint(s.db, markKey(name))
		if err != nil {
			return 0, err
		}
		m.raise(n)
		// The log may have been dropped up to here.
		seq = max(seq, n)
	}
	it, err := s.db.NewIter(&pdb.IterOptions{LowerBound: []byte{spaceLog}, UpperBound: []byte{spaceLog + 1}})
	if err != nil {
		return 0, fmt.Errorf("log: %w", err)
	}
	defer it.Close()
	if it.Last() {
		seq = max(seq, beUint64(it.Key()[1:]))
	}
	s.log.head.raise(seq)
	return seq, closeIter(it)
}

func newEpoch() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// start runs the store's goroutines. Close waits for all of them.
func (s *Store) start() {
	ctx, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.writing.Go(s.runWriter)
	s.writing.Go(s.runFinisher)
	s.work.Go(s.runUndertaker)
	s.work.Go(func() { s.runCheckpoints(ctx) })
	s.work.Go(func() { s.runSpace(ctx) })
	s.work.Go(func() { s.runExpiry(ctx) })
}

// Epoch implements store.Store.
func (s *Store) Epoch() string { return s.epoch }

// Close implements store.Store. When Pebble gave up its goroutines and files
// cannot be let go of: the process has to end for that.
func (s *Store) Close() error {
	s.writer.close()
	written := make(chan struct{})
	go func() {
		s.writing.Wait()
		close(written)
	}()
	select {
	case <-written:
	case <-s.failure.fatal:
	}
	close(s.stopped)
	s.stop()
	if s.isFatal() {
		s.metrics.unregister()
		return fmt.Errorf("close store: %w", s.failure.err)
	}
	s.work.Wait()
	s.metrics.unregister()
	err := s.broken()
	if err == nil {
		err = s.finish()
	}
	err = errors.Join(err, s.db.Close(), s.lock.Close())
	if err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// finish writes what makes the next start quick and its clock exact.
func (s *Store) finish() error {
	if err := s.checkpointHeads(); err != nil {
		return err
	}
	b := s.db.NewBatch()
	if err := b.Set(metaKey(metaFloor), appendUvarint(nil, uint64(s.writer.uids.Millis())), nil); err != nil {
		return err
	}
	return s.apply(b, pdb.Sync)
}
