package pebble

import (
	"fmt"
	"sync"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// pipelineDepth is how many batches may wait for the disk while the next one
	// is built. Pebble joins their syncs.
	pipelineDepth = 4
	// maxBatchBytes keeps a batch well below half a memtable, above which Pebble
	// treats it in a way of its own.
	maxBatchBytes   = memTableSize / 4
	maxBatchEntries = 16 << 10
	// floorLease is how far ahead of the newest UID the stored clock floor is
	// put. Until the clock has passed it, appends that leave no rows need no
	// sync; after a crash UIDs start behind it.
	floorLease = 250 * time.Millisecond
)

// A commit is a batch on its way to the disk.
type commit struct {
	batch *pdb.Batch // nil when there is nothing to write
	jobs  []*job
	seq   uint64   // its log record, 0 when it has none
	last  chat.UID // the newest UID it gives
	// refused: the store was broken before anything of it was written.
	refused bool
}

// A writer joins the appends that wait into batches. Its goroutine (runWriter)
// is the only one that gives UIDs, times and offsets; a second one (runFinisher)
// waits for the disk and tells everybody, while the next batch is built.
type writer struct {
	mu      sync.Mutex // tier 1
	queue   []*job
	bytes   int
	closing bool
	limit   int           // of bytes
	flying  []*commit     // taken and not finished, oldest first
	wake    chan struct{} // has a value when the queue may have work

	pipeline chan *commit

	// Below: only the writer's goroutine.
	uids    *chat.UIDSource
	floor   int64 // stored, or in the batch under way
	seq     uint64
	scratch []byte
	targets []target
	refs    []store.Ref
}

func newWriter(uids *chat.UIDSource, floor int64, seq uint64) *writer {
	return &writer{
		uids: uids, floor: floor, seq: seq,
		limit:    maxQueuedBytes,
		wake:     make(chan struct{}, 1),
		pipeline: make(chan *commit, pipelineDepth),
	}
}

// put queues a job, or refuses it.
func (w *writer) put(j *job) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return chat.Fail(chat.KindUnavailable, "the store is closing")
	}
	if len(w.queue) >= maxQueued || w.bytes+j.size > w.limit && len(w.queue) > 0 {
		err := chat.Fail(chat.KindUnavailable, "too many writes are waiting")
		err.RetryAfter = retryQueue
		return err
	}
	w.queue = append(w.queue, j)
	w.bytes += j.size
	if len(w.queue) == 1 {
		w.signal()
	}
	return nil
}

func (w *writer) signal() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// take waits for jobs and gives as many as fit in one batch, or nil when the
// writer is closing and the queue is empty. The commit they are to become is
// known to the undertaker from here on.
func (w *writer) take() *commit {
	for {
		w.mu.Lock()
		if len(w.queue) > 0 {
			break
		}
		if w.closing {
			w.mu.Unlock()
			return nil
		}
		w.mu.Unlock()
		<-w.wake
	}
	defer w.mu.Unlock()
	bytes, entries, n := 0, 0, 0
	for _, j := range w.queue {
		if n > 0 && (bytes+j.size > maxBatchBytes || entries+len(j.heads) > maxBatchEntries) {
			break
		}
		bytes += j.size
		entries += len(j.heads)
		n++
	}
	c := &commit{jobs: make([]*job, 0, n)}
	for _, j := range w.queue[:n] {
		if j.state.CompareAndSwap(jobQueued, jobTaken) {
			c.jobs = append(c.jobs, j)
		} else {
			j.release()
		}
	}
	rest := copy(w.queue, w.queue[n:])
	clear(w.queue[rest:])
	w.queue = w.queue[:rest]
	w.bytes -= bytes
	w.flying = append(w.flying, c)
	if rest > 0 {
		w.signal()
	}
	return c
}

// landed forgets a commit that is about to be settled.
func (w *writer) landed(c *commit) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, f := range w.flying {
		if f == c {
			w.flying = append(w.flying[:i], w.flying[i+1:]...)
			return
		}
	}
}

func (w *writer) depth() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.queue)
}

// close lets the writer's goroutine end once the queue is empty.
func (w *writer) close() {
	w.mu.Lock()
	w.closing = true
	w.mu.Unlock()
	w.signal()
}

func (s *Store) runWriter() {
	defer close(s.writer.pipeline)
	for {
		c := s.writer.take()
		if c == nil {
			return
		}
		if s.broken() != nil {
			c.refused = true
		} else if err := s.build(c); err != nil {
			s.fail(err)
		}
		s.writer.pipeline <- c
	}
}

// build gives UIDs, time and offsets, and hands the batch to Pebble.
func (s *Store) build(c *commit) error {
	w := s.writer
	now := s.now()
	w.refs = w.refs[:0]
	size := 64
	for _, j := range c.jobs {
		size += j.size
	}
	var b *pdb.Batch
	for _, j := range c.jobs {
		a := j.a
		// An append without targets takes a UID that names nothing: its time says
		// when its Once is forgotten, its place when what it carries may be seen.
		count := max(len(a.Targets), 1)
		first := w.uids.Block(now, a.Message.ChannelType, count)
		c.last = first.Plus(count - 1)
		a.Placed = store.Placed{First: first}
		keep := keeps(a)
		if b == nil && (keep || a.Once != nil || changes(a)) {
			b = s.db.NewBatchWithSize(size)
		}
		for i := range a.States {
			if err := w.addState(b, a, &a.States[i]); err != nil {
				return err
			}
		}
		if err := w.addViews(b, a); err != nil {
			return err
		}
		if keep {
			w.addEntries(b, j)
			w.addBody(b, j)
			w.addLeft(b, a)
			w.refs = append(w.refs, store.Ref{App: a.Message.App, UID: first})
		}
		if a.Once != nil {
			a.Once.First = first
			w.addOnce(b, a)
		}
		if a.Broadcast != nil {
			a.Broadcast.UID = first
			w.addBroadcast(b, a.Broadcast)
		}
		if a.Taking != nil {
			w.addTaking(b, a)
		}
	}
	if ms := w.uids.Millis(); ms > w.floor && len(c.jobs) > 0 {
		if b == nil {
			b = s.db.NewBatch()
		}
		w.floor = ms + floorLease.Milliseconds()
		if err := b.Set(metaKey(metaFloor), appendUvarint(nil, uint64(w.floor)), nil); err != nil {
			return fmt.Errorf("clock floor: %w", err)
		}
	}
	if len(w.refs) > 0 {
		w.seq++
		c.seq = w.seq
		w.scratch = appendLogRow(w.scratch[:0], w.uids.Millis(), w.refs)
		op := b.SetDeferred(logKeyLen, len(w.scratch))
		appendLogKey(op.Key[:0], c.seq)
		copy(op.Value, w.scratch)
		if err := op.Finish(); err != nil {
			return fmt.Errorf("log record: %w", err)
		}
	}
	if b == nil {
		return nil
	}
	c.batch = b
	if s.beforeApply != nil {
		s.beforeApply(c)
	}
	return s.applyAhead(b)
}

// keeps reports whether the append's message is to be stored.
func keeps(a *store.Append) bool { return !a.Message.Ephemeral() && len(a.Targets) > 0 }

// changes reports whether the append changes what lies over messages or channels.
func changes(a *store.Append) bool {
	return len(a.States)+len(a.Views)+len(a.Marks) > 0 || a.Preferences != nil || a.Broadcast != nil || a.Taking != nil
}

// addEntries gives offsets and writes the timeline rows, interleaved so that the
// sender's own entries come in the order of their offsets.
func (w *writer) addEntries(b *pdb.Batch, j *job) {
	a := j.a
	m := a.Message
	if len(j.heads) == 0 {
		return
	}
	var sender *head
	count := len(a.Targets)
	if echoes(m) {
		sender = j.heads[count]
		count *= 2
	}
	entries := make([]store.Entry, 0, count)
	day := dayOf(a.Placed.First.Millis())
	for i, t := range a.Targets {
		h := j.heads[i]
		h.next++
		entries = append(entries, store.Entry{
			User: h.user, Offset: h.next, UID: a.Placed.First.Plus(i), Ref: a.Placed.First, Kind: store.EntryIn,
		})
		writeEntry(b, day, m.App, i, &entries[len(entries)-1])
		if sender == nil || sender == h {
			continue
		}
		sender.next++
		entries = append(entries, store.Entry{
			User: sender.user, Offset: sender.next, UID: a.Placed.First.Plus(i), Ref: a.Placed.First,
			Peer: t, Kind: store.EntryOut,
		})
		writeEntry(b, day, m.App, i, &entries[len(entries)-1])
	}
	a.Placed.Entries = entries
}

func writeEntry(b *pdb.Batch, day uint16, app chat.AppID, index int, e *store.Entry) {
	op := b.SetDeferred(timelineKeyLen(e.User), entryLen(index, e.Peer))
	appendTimelineKey(op.Key[:0], day, app, e.User, e.Offset)
	appendEntry(op.Value[:0], e.Kind, index, e.Ref, e.Peer)
	_ = op.Finish() // fails on indexed batches only
}

// addBody writes the body, and the targets beside it when they are many.
func (w *writer) addBody(b *pdb.Batch, j *job) {
	a := j.a
	m := a.Message
	w.targets = w.targets[:0]
	var echoAt uint64
	if len(j.heads) == 0 {
		for _, t := range a.Targets {
			w.targets = append(w.targets, target{id: t})
		}
	}
	for i := range a.Placed.Entries {
		switch e := &a.Placed.Entries[i]; {
		case e.Kind == store.EntryIn:
			w.targets = append(w.targets, target{e.User, e.Offset})
			if echoAt == 0 && echoes(m) && e.User == m.From {
				echoAt = e.Offset
			}
		case echoAt == 0:
			echoAt = e.Offset
		}
	}
	inline := w.targets
	l := lifeOf(m.ChannelType, a.History)
	if len(inline) > inlineTargets {
		inline = nil
		n := 0
		for _, t := range w.targets {
			n += targetLen(t)
		}
		op := b.SetDeferred(bodyKeyLen, n)
		appendBodyKey(op.Key[:0], spaceTargets, l, a.Placed.First)
		row := op.Value[:0]
		for _, t := range w.targets {
			row = appendTarget(row, t)
		}
		_ = op.Finish()
	}
	w.scratch = appendBody(w.scratch[:0], m, len(a.Targets), echoAt, inline)
	op := b.SetDeferred(bodyKeyLen, len(w.scratch)+contentLen(m.Content))
	appendBodyKey(op.Key[:0], spaceBody, l, a.Placed.First)
	copy(op.Value, w.scratch)
	appendContent(op.Value[:len(w.scratch)], m.Content)
	_ = op.Finish()
}

func (w *writer) addOnce(b *pdb.Batch, a *store.Append) {
	w.scratch = appendOnce(w.scratch[:0], a.Once, a.Placed.First)
	op := b.SetDeferred(onceKeyLen, len(w.scratch))
	appendOnceKey(op.Key[:0], dayOf(a.Placed.First.Millis()), a.Once.Key)
	copy(op.Value, w.scratch)
	_ = op.Finish()
}

func appendUvarint(b []byte, v uint64) []byte { return protowire.AppendVarint(b, v) }

// runFinisher waits for the disk, batch by batch in order, and then makes each
// visible and answers for it.
func (s *Store) runFinisher() {
	for c := range s.writer.pipeline {
		if c.batch != nil && s.broken() == nil {
			start := time.Now()
			if err := s.syncWait(c.batch); err != nil {
				// A batch that was built on this one may reach the disk all the
				// same, or not: nobody can say, so nobody is told it is kept.
				s.fail(fmt.Errorf("sync: %w", err))
			}
			s.metrics.fsync.Observe(time.Since(start).Seconds())
		}
		switch {
		case c.refused:
			s.settleAll(c, errBroken(s.broken()))
			continue
		case s.broken() != nil:
			s.settleAll(c, errUnknown())
			continue
		}
		if len(c.jobs) > 0 {
			s.publish(c)
			s.settleAll(c, nil)
			s.dirty.waitRoom()
		} else {
			s.writer.landed(c)
		}
		if c.batch != nil {
			_ = c.batch.Close() // gives its memory back; it is committed
		}
	}
}

// publish moves what readers may see up to the end of c.
func (s *Store) publish(c *commit) {
	appends := make([]*store.Append, len(c.jobs))
	entries := 0
	// Bodies before the entries that refer to them: a session that is reading
	// already may see an entry the moment it is there.
	for _, j := range c.jobs {
		if keeps(j.a) {
			s.bodies.put(j.a.Placed.First, j.a.Message)
		}
	}
	s.durable.Store(&c.last)
	for i, j := range c.jobs {
		appends[i] = j.a
		s.publishEntries(j)
		entries += len(j.a.Placed.Entries)
	}
	s.told.Store(&c.last)
	s.published.raise(s.published.Load() + 1)
	if c.seq > 0 {
		s.log.head.raise(c.seq)
	}
	s.metrics.appends.Add(float64(len(c.jobs)))
	s.metrics.entries.Add(float64(entries))
	s.metrics.batch.Observe(float64(len(c.jobs)))
	if s.onCommit != nil {
		s.onCommit(&store.Commit{Appends: appends})
	}
}

func (s *Store) publishEntries(j *job) {
	a := j.a
	if len(j.heads) == 0 {
		return
	}
	day := dayOf(a.Placed.First.Millis())
	index := -1
	for i := range a.Placed.Entries {
		e := &a.Placed.Entries[i]
		h := j.heads[len(j.heads)-1]
		if e.Kind == store.EntryIn {
			index++
			h = j.heads[index]
		}
		if h.commit(e, index, day) {
			s.dirty.add(h)
		}
	}
}

// settleAll answers for every job of c.
func (s *Store) settleAll(c *commit, err error) {
	s.writer.landed(c)
	for _, j := range c.jobs {
		s.settle(j, err)
	}
}

func (s *Store) settle(j *job, err error) {
	if !j.state.CompareAndSwap(jobTaken, jobSettled) {
		return
	}
	j.release()
	if j.a.Done != nil {
		j.a.Done(err)
	}
	j.settled <- err
}
