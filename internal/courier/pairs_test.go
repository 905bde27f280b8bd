package courier

import (
	"context"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
)

// late does something while a change is on its way to the store.
type late struct {
	OpenChannels
	meanwhile func()
}

func (l *late) ChangeOpenChannel(ctx context.Context, app *chat.App, id string, missing bool, change func(*chat.OpenChannel) error) (*chat.OpenChannel, error) {
	return l.OpenChannels.ChangeOpenChannel(ctx, app, id, missing, func(c *chat.OpenChannel) error {
		err := change(c)
		if do := l.meanwhile; do != nil {
			l.meanwhile = nil
			do()
		}
		return err
	})
}

type passerby struct {
	room.Place
	user string
}

func (p *passerby) User() string                     { return p.user }
func (p *passerby) Deliver(*room.Batch, uint64) bool { return false }
func (p *passerby) Evict(room.Reason)                {}

// Who comes while the backend sets a pair that is to go with them takes it along.
func TestOwnersWhoComeMeanwhile(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	key := room.Key{App: p.app.ID, Channel: "c"}
	bob := &passerby{user: "bob"}
	slow := &late{OpenChannels: p.open}
	p.open = slow
	slow.meanwhile = func() { p.rooms.Enter(key, bob, nil, "") }
	set := &PairsRequest{Channel: "c", User: "bob", Set: map[string]string{"k": "v"}, AutoDelete: true}
	if _, err := p.ChangePairs(t.Context(), p.app, set); err != nil {
		t.Fatal(err)
	}
	count := func() int {
		list, err := p.Pairs(t.Context(), p.app, &PairsQuery{Channel: "c"})
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	p.rooms.Leave(key, bob, false)
	if n := count(); n != 0 {
		t.Errorf("%d pairs stay behind", n)
	}

	// Who leaves while setting one themselves takes it along, too; with the first
	// millisecond of another stay it is another one.
	bob = &passerby{user: "bob"}
	p.rooms.Enter(key, bob, nil, "")
	slow.meanwhile = func() { p.rooms.Leave(key, bob, false) }
	set.Origin = chat.FromClient
	if _, err := p.ChangePairs(t.Context(), p.app, set); err != nil {
		t.Fatal(err)
	}
	for since := p.now().UnixMilli(); p.now().UnixMilli() == since; {
		time.Sleep(100 * time.Microsecond)
	}
	bob = &passerby{user: "bob"}
	p.rooms.Enter(key, bob, nil, "")
	if n := count(); n != 0 {
		t.Errorf("%d pairs of an earlier stay are kept", n)
	}
}
