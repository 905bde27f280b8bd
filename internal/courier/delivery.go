package courier

import (
	"context"
	"hash/maphash"
	"runtime"
	"sync"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// delivery tells those concerned of what was committed, off the commit path.
//
// Order matters within a room, so each room has its lane; wake-ups carry
// nothing and go their own lane. A full lane makes commits wait: delivering
// only queues in memory, so a lane is full for moments at most.
type delivery struct {
	rooms    *room.Rooms
	sessions Sessions
	reach    Reach
	metrics  *metrics

	users chan *store.Append
	lanes []chan roomMessage
	ended chan struct{} // closed when nothing is delivered any more
}

type roomMessage struct {
	key room.Key
	uid chat.UID
	m   *chat.Message
	end chan struct{} // when not nil, the room is ended after m, and then this is closed
}

// laneSize is how many requests may wait in a lane.
const laneSize = 4096

var laneSeed = maphash.MakeSeed()

func newDelivery(rooms *room.Rooms, sessions Sessions, reach Reach, m *metrics) *delivery {
	d := &delivery{rooms: rooms, sessions: sessions, reach: reach, metrics: m, users: make(chan *store.Append, laneSize), ended: make(chan struct{})}
	for range runtime.GOMAXPROCS(0) {
		d.lanes = append(d.lanes, make(chan roomMessage, laneSize))
	}
	return d
}

func (d *delivery) enqueue(commit *store.Commit) {
	for _, a := range commit.Appends {
		if a.Message.ChannelType != chat.Open {
			d.users <- a
			continue
		}
		for i, channel := range a.Targets {
			key := room.Key{App: a.Message.App, Channel: channel}
			d.lane(key) <- roomMessage{key: key, uid: a.Placed.First.Plus(i), m: a.Message}
		}
	}
}

func (d *delivery) lane(key room.Key) chan<- roomMessage {
	return d.lanes[maphash.Comparable(laneSeed, key)%uint64(len(d.lanes))]
}

func (d *delivery) run(ctx context.Context) {
	var wg sync.WaitGroup
	wg.Go(func() { work(ctx, d.users, d.tell) })
	for _, lane := range d.lanes {
		wg.Go(func() { work(ctx, lane, d.publish) })
	}
	wg.Wait()
	close(d.ended)
}

// work handles what comes in until ctx ends, and then what is left.
func work[T any](ctx context.Context, in <-chan T, handle func(T)) {
	for {
		select {
		case v := <-in:
			handle(v)
		case <-ctx.Done():
			for {
				select {
				case v := <-in:
					handle(v)
				default:
					return
				}
			}
		}
	}
}

func (d *delivery) tell(a *store.Append) {
	m := a.Message
	if !m.Ephemeral() {
		for i := range a.Placed.Entries {
			d.sessions.Wake(m.App, a.Placed.Entries[i].User)
		}
		return
	}
	for i, user := range a.Targets {
		uid := a.Placed.First.Plus(i)
		d.sessions.Whisper(m.App, user, m, uid, "")
		if m.Echo && user != m.From {
			d.sessions.Whisper(m.App, m.From, m, uid, user)
		}
	}
}

func (d *delivery) publish(r roomMessage) {
	members := d.rooms.Publish(r.key, r.uid, r.m)
	if r.end != nil {
		d.rooms.End(r.key)
		close(r.end)
	}
	if r.m.Event != nil {
		return
	}
	d.metrics.openDeliveries.Add(float64(members))
	if d.reach != nil && !r.m.Ephemeral() {
		d.reach.Queued(r.uid, members)
	}
}
