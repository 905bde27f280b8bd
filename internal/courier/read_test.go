package courier

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// A cut store fails appends of the kind that fail says, before they are begun.
type cut struct {
	Store
	mu   sync.Mutex
	fail func(*store.Append) bool
}

var errCut = errors.New("cut off")

func (c *cut) Append(ctx context.Context, a *store.Append) error {
	c.mu.Lock()
	fail := c.fail(a)
	c.mu.Unlock()
	if fail {
		a.Done(errCut)
		return errCut
	}
	return c.Store.Append(ctx, a)
}

// indexed runs the index until the test ends.
func (p *post) indexed(t testing.TB) {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { NewIndexer(p.store, p.log).Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
}

// events are the messages that a user was told of by events of a kind.
func (p *post) events(t *testing.T, user string, kind chat.EventKind) (uids []chat.UID) {
	t.Helper()
	entries, err := p.store.Read(t.Context(), p.app.ID, user, store.Range{Limit: 10_000}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		m, err := p.store.Message(t.Context(), e.Ref)
		if err != nil {
			t.Fatal(err)
		}
		if m.Event != nil && m.Event.Kind == kind {
			uids = append(uids, m.Event.UID)
		}
	}
	return uids
}

// TestReadIsTakenUpAgain cuts calls off between receipts, and between them and
// what the user has read. Who repeats the call gives each receipt once.
func TestReadIsTakenUpAgain(t *testing.T) {
	t.Parallel()
	for name, q := range map[string]*ReadRequest{
		"upTo":     {UpTo: chat.UIDsUpTo(1 << 50)},
		"messages": {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPost(t, vfs.NewMem(), nil)
			p.indexed(t)
			q.OwnChannel = OwnChannel{User: "bob", Type: chat.Direct, Channel: "alice"}
			var uids []chat.UID
			for range 90 {
				s := p.text(chat.Direct, "bob")
				s.Message.NeedReadReceipt = true
				sent, err := p.Send(t.Context(), p.app, s)
				if err != nil {
					t.Fatal(err)
				}
				uids = append(uids, sent.Placed[0].UID)
			}
			if name == "messages" {
				q.UIDs = uids
			}
			seen := 0
			failing := &cut{Store: p.store}
			c := New(Options{Store: failing, Archive: p.store, Users: &registry{}, Rooms: room.New(time.Now), Sessions: p.said, Now: time.Now})
			check := func(fail func(*store.Append) bool, failed error, least, most int) {
				t.Helper()
				failing.mu.Lock()
				failing.fail = fail
				failing.mu.Unlock()
				if _, _, err := c.Read(t.Context(), p.app, q); !errors.Is(err, failed) {
					t.Fatalf("read: %v, want %v", err, failed)
				}
				got := p.events(t, "alice", chat.EventReceipt)
				slices.SortFunc(got, chat.UID.Compare)
				if n := len(slices.Compact(slices.Clone(got))); n != len(got) || n < least || n > most {
					t.Errorf("%d receipts, %d different ones, want %d to %d", len(got), n, least, most)
				}
				want := 0
				if failed == nil {
					want = 1
				}
				if n := len(p.events(t, "bob", chat.EventRead)); n != want {
					t.Errorf("%d events to the reader, want %d", n, want)
				}
			}
			third := func(*store.Append) bool { seen++; return seen%3 == 0 }
			check(third, errCut, 1, 89)
			check(func(a *store.Append) bool { return a.Message.Event.Kind == chat.EventRead }, errCut, 90, 90)
			check(func(*store.Append) bool { return false }, nil, 90, 90)
			check(func(*store.Append) bool { return true }, nil, 90, 90) // nothing is left to be done
		})
	}
}

// TestReadTogether has a user's devices read the same and different things at the
// same time: a receipt each, and the furthest counts.
func TestReadTogether(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	p.indexed(t)
	var uids []chat.UID
	for range 20 {
		s := p.text(chat.Direct, "bob")
		s.Message.NeedReadReceipt = true
		sent, err := p.Send(t.Context(), p.app, s)
		if err != nil {
			t.Fatal(err)
		}
		uids = append(uids, sent.Placed[0].UID)
	}
	var wg sync.WaitGroup
	for i := range 40 {
		wg.Go(func() {
			q := &ReadRequest{OwnChannel: OwnChannel{User: "bob", Type: chat.Direct, Channel: "alice"}}
			if i%2 == 0 {
				q.UpTo = uids[i/2]
			} else {
				q.UIDs = uids[i/2:]
			}
			if _, _, err := p.Read(t.Context(), p.app, q); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	got := p.events(t, "alice", chat.EventReceipt)
	slices.SortFunc(got, chat.UID.Compare)
	if !slices.Equal(got, uids) {
		t.Errorf("%d receipts, want 20", len(got))
	}
	v, err := p.store.View(t.Context(), store.ChannelRef{App: p.app.ID, Owner: "bob", Type: chat.Direct, Channel: "alice"})
	if err != nil || v.ReadUpTo != uids[19] {
		t.Errorf("view %+v, %v", v, err)
	}
	if n, err := p.UnreadTotal(t.Context(), p.app, "bob"); n != 0 || err != nil {
		t.Errorf("%d unread, %v", n, err)
	}
}

// TestUnreadIsBounded sees that counting ends where a badge does.
func TestUnreadIsBounded(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	p.indexed(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			for i := range 1300 {
				m := &chat.Message{
					App: p.app.ID, ChannelType: chat.Direct, Flags: chat.Kept | chat.Counted | chat.Missed, From: string(rune('a' + (w+i)%2)),
				}
				if err := p.store.Append(t.Context(), &store.Append{Message: m, Targets: []string{"bob"}, History: true}); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if n, err := p.UnreadTotal(t.Context(), p.app, "bob"); n != chat.MaxUnread || err != nil {
		t.Errorf("%d unread, %v, want %d", n, err, chat.MaxUnread)
	}
}

// BenchmarkUnreadTotal counts for users of whom nothing was ever sent to, of whom
// all is read, and of whom nothing is.
func BenchmarkUnreadTotal(b *testing.B) {
	p := newPost(b, vfs.NewMem(), nil)
	p.indexed(b)
	for _, channels := range []int{0, 1, 100} {
		for _, read := range []bool{true, false} {
			user := fmt.Sprint("user", channels, read)
			for i := range channels {
				for range 3 {
					m := &chat.Message{
						App: p.app.ID, ChannelType: chat.Direct, Flags: chat.Kept | chat.Counted | chat.Missed, From: fmt.Sprint("other", i),
					}
					if err := p.store.Append(b.Context(), &store.Append{Message: m, Targets: []string{user}, History: true}); err != nil {
						b.Fatal(err)
					}
				}
				q := &ReadRequest{OwnChannel: OwnChannel{User: user, Type: chat.Direct, Channel: fmt.Sprint("other", i)}, UpTo: chat.UIDsUpTo(1 << 50)}
				if read {
					if _, err := p.readUpTo(b.Context(), p.app, q); err != nil {
						b.Fatal(err)
					}
				}
			}
			b.Run(fmt.Sprintf("channels=%d/read=%v", channels, read), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := p.UnreadTotal(b.Context(), p.app, user); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
