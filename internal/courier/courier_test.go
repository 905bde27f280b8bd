package courier

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
)

// post is a courier over a real engine, with sessions that remember what they
// were told.
type post struct {
	*Courier
	store *pebble.Store
	app   *chat.App
	said  *said
	rooms *room.Rooms

	closeOnce func()
}

type said struct {
	mu        sync.Mutex
	woken     []string
	whispers  []string
	connected []Session
}

func (s *said) Wake(_ chat.AppID, user string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.woken = append(s.woken, user)
}

func (s *said) Whisper(_ chat.AppID, user string, m *chat.Message, _ chat.UID, peer string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whispers = append(s.whispers, user+"<"+m.From+">"+peer)
}

func (s *said) Connected(_ chat.AppID, part int) (list []Session, parts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, c := range s.connected {
		if i%2 == part {
			list = append(list, c)
		}
	}
	return list, 2
}

func newPost(t testing.TB, fs vfs.FS, reg *registry) *post {
	t.Helper()
	return newPostAt(t, fs, reg, time.Now)
}

func newPostAt(t testing.TB, fs vfs.FS, reg *registry, now func() time.Time) *post {
	t.Helper()
	var c *Courier
	logger := slog.New(slog.DiscardHandler)
	s, err := pebble.Open(t.Context(), pebble.Options{
		Dir: "data", FS: fs, Now: now, Logger: logger, Consumers: []string{"count"},
		OnCommit: func(cm *store.Commit) { c.OnCommit(cm) },
	})
	if err != nil {
		t.Fatal(err)
	}
	p := &post{store: s, said: &said{}, rooms: room.New(time.Now)}
	if reg == nil {
		reg = &registry{}
	}
	d, err := directory.Open(t.Context(), s, now)
	if err != nil {
		t.Fatal(err)
	}
	c = New(Options{Store: s, Archive: s, Users: reg, Open: d, Rooms: p.rooms, Sessions: p.said, Now: now, Logger: logger})
	p.Courier = c
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { c.Run(ctx) })
	passing, endPassing := context.WithCancel(context.Background())
	var passes sync.WaitGroup
	passes.Go(func() { c.RunBroadcasts(passing) })
	wg.Go(func() { p.rooms.Run(ctx) })
	apps, err := s.ListApps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if len(apps) == 0 {
		p.app = &chat.App{Key: "k", Secret: "s", TokenKey: []byte("t"), CreatedAt: time.Now(), Settings: chat.DefaultSettings()}
		if err := s.PutApp(t.Context(), p.app); err != nil {
			t.Fatal(err)
		}
	} else {
		p.app = apps[0]
	}
	reg.app.Store(p.app)
	closed := false
	p.closeOnce = func() {
		if closed {
			return
		}
		closed = true
		endPassing()
		passes.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		cancel()
		wg.Wait()
	}
	t.Cleanup(p.closeOnce)
	return p
}

type registry struct {
	known []string
	app   atomic.Pointer[chat.App]
	users map[string]*chat.User
	muted error // what every client is told
}

func (r *registry) AppByID(chat.AppID) *chat.App { return r.app.Load() }

func (r *registry) User(_ context.Context, _ *chat.App, id string) (*chat.User, error) {
	if u := r.users[id]; u != nil {
		return u, nil
	}
	return nil, chat.Fail(chat.KindNoUser, "no such user")
}

func (r *registry) CheckSender(context.Context, *chat.App, string, chat.ChannelType) error {
	return r.muted
}

func (r *registry) CheckRegistered(_ context.Context, _ *chat.App, field string, ids ...string) error {
	for _, id := range ids {
		if !slices.Contains(r.known, id) {
			return &chat.Error{Kind: chat.KindNoUser, Field: field}
		}
	}
	return nil
}

func (p *post) text(ct chat.ChannelType, to ...string) *Send {
	return &Send{
		Message: &chat.Message{App: p.app.ID, ChannelType: ct, From: "alice", Type: "RC:TxtMsg", Content: `{"content":"hi"}`, Persist: true},
		Targets: to,
	}
}

func (p *post) claim(t *testing.T, key, body string) *Claim {
	t.Helper()
	cl, err := p.Begin(t.Context(), p.app, "/send", "Idempotency-Key", key, []byte(body))
	if err != nil {
		t.Fatal(err)
	}
	return cl
}

// head is how many entries a user's timeline has.
func (p *post) head(t *testing.T, user string) uint64 {
	t.Helper()
	h, err := p.store.Head(t.Context(), p.app.ID, user)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func TestSendPlacesOneUIDPerTarget(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	sent, err := p.Send(t.Context(), p.app, p.text(chat.Direct, "bob", "carol", "bob", "dave"))
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for i, pl := range sent.Placed {
		ids = append(ids, pl.Target)
		if pl.UID.IndexIn(sent.Placed[0].UID, len(sent.Placed)) != i {
			t.Errorf("UID %d is not consecutive", i)
		}
		if pl.UID.Millis() != sent.SentAt {
			t.Errorf("UID's time %d is not sentAt %d", pl.UID.Millis(), sent.SentAt)
		}
	}
	if fmt.Sprint(ids) != "[bob carol dave]" {
		t.Errorf("placed for %v: duplicates must go and order must stay", ids)
	}
	if h := p.head(t, "bob"); h != 1 {
		t.Errorf("a user named twice has %d entries, want 1", h)
	}
}

func TestRefusalsChangeNothing(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	many := make([]string, 1001)
	for i := range many {
		many[i] = fmt.Sprint("u", i)
	}
	tests := []struct {
		name  string
		edit  func(*Send)
		kind  chat.Kind
		field string
	}{
		{"no recipients", func(s *Send) { s.Targets = nil }, chat.KindInvalid, "toUserIds"},
		{"too many", func(s *Send) { s.Targets = many }, chat.KindInvalid, "toUserIds"},
		{"too many for system", func(s *Send) { s.Message.ChannelType, s.Targets = chat.System, many[:101] }, chat.KindInvalid, "toUserIds"},
		{"too many channels", func(s *Send) { s.Message.ChannelType, s.Targets = chat.Open, many[:101] }, chat.KindInvalid, "toChannelIds"},
		{"a bad id", func(s *Send) { s.Targets = []string{"bob", "a b"} }, chat.KindInvalid, "toUserIds[1]"},
		{"unknown RC type", func(s *Send) { s.Message.Type = "RC:Nope" }, chat.KindInvalid, "messageType"},
		{"content not JSON", func(s *Send) { s.Message.Content = "hi" }, chat.KindInvalid, "content"},
		{"bad pushExt", func(s *Send) { s.Message.Push.Ext = "{" }, chat.KindInvalid, "pushExt"},
	}
	for _, tt := range tests {
		s := p.text(chat.Direct, "bob")
		tt.edit(s)
		_, err := p.Send(t.Context(), p.app, s)
		e, ok := errors.AsType[*chat.Error](err)
		if !ok || e.Kind != tt.kind || e.Field != tt.field {
			t.Errorf("%s: got %v, want kind %v at %s", tt.name, err, tt.kind, tt.field)
		}
	}
	if h := p.head(t, "bob"); h != 0 || p.store.LogHead() != 0 {
		t.Errorf("refused sends left %d entries and %d log records", h, p.store.LogHead())
	}
}

func TestPushExtIsNotReadWhenPushIsDisabled(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	s := p.text(chat.Direct, "bob")
	s.Message.Push.Ext, s.Message.Push.Disabled = "{", true
	if _, err := p.Send(t.Context(), p.app, s); err != nil {
		t.Fatal(err)
	}
}

func TestBudgetCountsTargetsAfterDuplicates(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	app := *p.app
	app.Settings.LimitDirect = chat.Rate{N: 3, Per: time.Hour}
	if _, err := p.Send(t.Context(), &app, p.text(chat.Direct, "a", "a", "a", "b")); err != nil {
		t.Fatalf("two targets do not fit a budget of three: %v", err)
	}
	_, err := p.Send(t.Context(), &app, p.text(chat.Direct, "c", "d"))
	e, ok := errors.AsType[*chat.Error](err)
	if !ok || e.Kind != chat.KindRate || e.RetryAfter <= 0 || e.Budget == nil || e.Budget.Remaining != 1 || e.Budget.Limit != 3 {
		t.Fatalf("over budget: %+v", err)
	}
	if _, err := p.Send(t.Context(), &app, p.text(chat.Direct, "c")); err != nil {
		t.Fatalf("a refused call cost something: %v", err)
	}
	_, err = p.Send(t.Context(), &app, p.text(chat.Direct, "a", "b", "c", "d"))
	if chat.KindOf(err) != chat.KindInvalid {
		t.Fatalf("a call that can never fit: %v, want KindInvalid", err)
	}
	s := p.text(chat.Direct, "z")
	s.Message.Origin = chat.FromClient
	if _, err := p.Send(t.Context(), &app, s); err != nil {
		t.Fatalf("a client's send spent the server's budget: %v", err)
	}
}

func TestRegisteredUsersOnly(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), &registry{known: []string{"alice", "bob"}})
	app := *p.app
	app.Settings.RegisteredUsersOnly = true
	if _, err := p.Send(t.Context(), &app, p.text(chat.Direct, "bob")); err != nil {
		t.Fatal(err)
	}
	_, err := p.Send(t.Context(), &app, p.text(chat.Direct, "bob", "carol"))
	if chat.KindOf(err) != chat.KindNoUser {
		t.Fatalf("an unregistered recipient: %v", err)
	}
	if _, err := p.Send(t.Context(), &app, p.text(chat.Open, "lobby")); err != nil {
		t.Fatalf("a channel is not a user: %v", err)
	}
}

func TestSameKeySendsOnce(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	p := newPost(t, fs, nil)
	s := p.text(chat.Direct, "bob", "carol")
	s.Claim = p.claim(t, "k1", "body")
	first, err := p.Send(t.Context(), p.app, s)
	if err != nil {
		t.Fatal(err)
	}
	again := func(p *post) {
		t.Helper()
		s := p.text(chat.Direct, "bob", "carol")
		if s.Claim = p.claim(t, "k1", "body"); !s.Claim.Repeats() {
			t.Fatal("the repeat is not known as one")
		}
		got, err := p.Send(t.Context(), p.app, s)
		if err != nil || !got.Repeated || !slices.Equal(got.Placed, first.Placed) || got.SentAt != first.SentAt {
			t.Fatalf("repeat: %+v, %v; want %+v", got, err, first)
		}
		if h := p.head(t, "bob"); h != 1 {
			t.Fatalf("%d entries after a repeat, want 1", h)
		}
		_, err = p.Begin(t.Context(), p.app, "/send", "Idempotency-Key", "k1", []byte("other"))
		if chat.KindOf(err) != chat.KindConflict {
			t.Fatalf("the key with another body: %v", err)
		}
	}
	again(p)
	other := p.claim(t, "k2", "body")
	if other.Repeats() {
		t.Fatal("another key is taken for a repeat")
	}
	other.Release()
	p.closeOnce()
	again(newPost(t, fs, nil))
}

func TestAFailedSendFreesItsKey(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	s := p.text(chat.Direct)
	s.Claim = p.claim(t, "k", "body")
	if _, err := p.Send(t.Context(), p.app, s); err == nil {
		t.Fatal("a send to nobody was accepted")
	}
	s = p.text(chat.Direct, "bob")
	if s.Claim = p.claim(t, "k", "body"); s.Claim.Repeats() {
		t.Fatal("a failure was remembered")
	}
	if sent, err := p.Send(t.Context(), p.app, s); err != nil || sent.Repeated {
		t.Fatalf("after a failure: %+v, %v", sent, err)
	}
}

func TestTwinsInFlightSendOnce(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	const twins = 32
	uids := make([]chat.UID, twins)
	var wg sync.WaitGroup
	for i := range twins {
		wg.Go(func() {
			s := p.text(chat.Direct, "bob")
			s.Claim = p.claim(t, "k", "body")
			sent, err := p.Send(t.Context(), p.app, s)
			if err != nil {
				t.Error(err)
				return
			}
			uids[i] = sent.Placed[0].UID
		})
	}
	wg.Wait()
	if len(slices.Compact(uids)) != 1 {
		t.Errorf("twins got different UIDs: %v", uids)
	}
	if h := p.head(t, "bob"); h != 1 {
		t.Errorf("%d entries from one key, want 1", h)
	}
}

func TestWaitingTwinGivesUpWithItsContext(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	open := p.claim(t, "k", "body")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := p.Begin(ctx, p.app, "/send", "Idempotency-Key", "k", []byte("body"))
	if chat.KindOf(err) != chat.KindUnknown {
		t.Fatalf("got %v, want KindUnknown", err)
	}
	open.Release()
	open.Release()
	p.claim(t, "k", "body").Release()
}

func TestDeliveryReachesThoseConcerned(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	in := &member{user: "carol", got: make(chan *room.Publication, 1)}
	p.rooms.Enter(room.Key{App: p.app.ID, Channel: "lobby"}, in, nil, "")

	if _, err := p.Send(t.Context(), p.app, p.text(chat.Direct, "bob")); err != nil {
		t.Fatal(err)
	}
	status := p.text(chat.Direct, "dave")
	status.Message.Type, status.Message.Content, status.Message.Echo = "RC:TypSts", `{"typingContentType":"RC:TxtMsg"}`, true
	if _, err := p.Send(t.Context(), p.app, status); err != nil {
		t.Fatal(err)
	}
	sent, err := p.Send(t.Context(), p.app, p.text(chat.Open, "lobby", "empty"))
	if err != nil {
		t.Fatal(err)
	}
	if pub := <-in.got; pub.UID != sent.Placed[0].UID || pub.Channel != "lobby" {
		t.Errorf("published %v in %q", pub.UID, pub.Channel)
	}
	p.closeOnce() // delivers what is queued
	if got := fmt.Sprint(p.said.woken); got != "[bob]" {
		t.Errorf("woken %s, want bob alone", got)
	}
	if got := fmt.Sprint(p.said.whispers); got != "[dave<alice> alice<alice>dave]" {
		t.Errorf("whispered %s", got)
	}
}

type member struct {
	room.Place
	user string
	got  chan *room.Publication
}

func (m *member) User() string { return m.user }
func (m *member) Deliver(b *room.Batch, after uint64) bool {
	for _, p := range b.Since(after) {
		m.got <- p
	}
	return false
}

func TestCounterMissesNothing(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	p := newPost(t, fs, nil)
	for range 20 {
		if _, err := p.Send(t.Context(), p.app, p.text(chat.Direct, "bob")); err != nil {
			t.Fatal(err)
		}
	}
	p.closeOnce()
	p = newPost(t, fs, nil)
	count := NewCounter(p.store, "count", slog.New(slog.DiscardHandler))
	index := NewIndexer(p.store, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { count.Run(ctx) })
	wg.Go(func() { index.Run(ctx) })
	for range 20 {
		if _, err := p.Send(t.Context(), p.app, p.text(chat.Direct, "bob")); err != nil {
			t.Fatal(err)
		}
	}
	list, err := p.store.Channels(t.Context(), p.app.ID, "bob", 10)
	if err != nil || len(list) != 1 || list[0].Channel != "alice" {
		t.Errorf("channel list %+v, %v", list, err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		if _, requests := count.Counted(); requests == 40 {
			break
		} else if time.Now().After(deadline) {
			t.Errorf("counted %d requests, want 40", requests)
			break
		}
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
	if at, err := p.store.Watermark(t.Context(), "count"); err != nil || at != p.store.LogHead() {
		t.Errorf("watermark %d, %v; log head %d", at, err, p.store.LogHead())
	}
}

// instant is a store that is durable at once, to measure the courier alone.
type instant struct {
	Store
	uids *chat.UIDSource
}

func (s *instant) Append(_ context.Context, a *store.Append) error {
	a.Placed.First = s.uids.Block(time.Now(), a.Message.ChannelType, len(a.Targets))
	return nil
}

func (s *instant) Once(context.Context, [16]byte) (*store.Once, error) { return nil, nil }

// What a send costs above the store: about a microsecond for one recipient.
func BenchmarkSend(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprintf("recipients=%d", n), func(b *testing.B) {
			c := New(Options{Store: &instant{uids: chat.NewUIDSource(1, 0)}, Rooms: room.New(time.Now), Now: time.Now})
			app := &chat.App{Settings: chat.DefaultSettings()}
			app.Settings.LimitDirect = chat.Rate{}
			to := make([]string, n)
			for i := range to {
				to[i] = fmt.Sprint("user-", i)
			}
			b.ReportAllocs()
			for b.Loop() {
				m := &chat.Message{ChannelType: chat.Direct, From: "alice", Type: "RC:TxtMsg", Content: `{"content":"hi"}`}
				if _, err := c.Send(b.Context(), app, &Send{Message: m, Targets: to}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func (*member) Evict(room.Reason) {}
