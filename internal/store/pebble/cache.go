package pebble

import (
	"container/list"
	"hash/maphash"
	"sync"

	"github.com/parleychat/parley/internal/chat"
)

const (
	cacheShards = 16
	// messageOverhead is what a message costs in memory beside its texts.
	messageOverhead = 512
)

// A bodyCache keeps the bodies used last, up to a number of bytes. What was just
// sent is about to be delivered, so commits go in as well as reads.
type bodyCache struct {
	seed   maphash.Seed
	limit  int // bytes per shard
	shards [cacheShards]cacheShard
}

type cacheShard struct {
	mu    sync.Mutex
	m     map[chat.UID]*list.Element
	order list.List // most recently used first, of *cached
	bytes int
}

type cached struct {
	ref     chat.UID
	message *chat.Message
	size    int
}

func newBodyCache(bytes int) *bodyCache {
	c := &bodyCache{seed: maphash.MakeSeed(), limit: bytes / cacheShards}
	for i := range c.shards {
		c.shards[i].m = map[chat.UID]*list.Element{}
	}
	return c
}

func (c *bodyCache) shard(ref chat.UID) *cacheShard {
	return &c.shards[maphash.Comparable(c.seed, ref)%cacheShards]
}

func (c *bodyCache) get(ref chat.UID) *chat.Message {
	s := c.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.m[ref]
	if e == nil {
		return nil
	}
	s.order.MoveToFront(e)
	return e.Value.(*cached).message
}

func (c *bodyCache) put(ref chat.UID, m *chat.Message) {
	size := messageOverhead + len(m.Content) + len(m.Push.Content) + len(m.Push.Data) + len(m.Push.Ext)
	if m.Event != nil {
		size += eventSize(m.Event)
	}
	for k, v := range m.Metadata {
		size += len(k) + len(v) + 64
	}
	s := c.shard(ref)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.m[ref] != nil {
		return
	}
	s.m[ref] = s.order.PushFront(&cached{ref, m, size})
	s.bytes += size
	for s.bytes > c.limit {
		e := s.order.Back()
		old := s.order.Remove(e).(*cached)
		delete(s.m, old.ref)
		s.bytes -= old.size
	}
}

// forget drops what was stored before the given time, so that a body that
// expired is not served from memory.
func (c *bodyCache) forget(expired func(chat.UID) bool) {
	for i := range c.shards {
		s := &c.shards[i]
		s.mu.Lock()
		for ref, e := range s.m {
			if expired(ref) {
				s.bytes -= s.order.Remove(e).(*cached).size
				delete(s.m, ref)
			}
		}
		s.mu.Unlock()
	}
}
