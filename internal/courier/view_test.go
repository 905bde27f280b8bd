package courier

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// What is set on one channel by several at once is all there: nobody writes over
// what they have not read.
func TestViewsAreChangedInTurn(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	ctx := t.Context()
	var tags []chat.Tag
	for i := range 20 {
		tags = append(tags, chat.Tag{ID: fmt.Sprint("t", i), Name: "T"})
	}
	var wg sync.WaitGroup
	run := func(do func() error) {
		wg.Go(func() {
			if err := do(); err != nil {
				t.Error(err)
			}
		})
	}
	for _, tag := range tags {
		run(func() error { return p.SetTags(ctx, p.app, &TagRequest{User: "bob"}, []chat.Tag{tag}) })
	}
	for _, ct := range []chat.ChannelType{chat.Direct, chat.Group, chat.System} {
		run(func() error { return p.SetLevel(ctx, p.app, &OwnChannel{User: "bob", Type: ct}, chat.NotifyNothing) })
	}
	run(func() error { return p.SetQuietHours(ctx, p.app, "bob", "", &chat.QuietHours{To: 60, Zone: "UTC"}) })
	wg.Wait()
	alice := []chat.Channel{{Type: chat.Direct, ID: "alice"}}
	for _, tag := range tags {
		run(func() error {
			return p.TagChannels(ctx, p.app, &TagRequest{User: "bob", Tag: tag.ID, Channels: alice})
		})
	}
	of := &OwnChannel{User: "bob", Type: chat.Direct, Channel: "alice"}
	run(func() error { _, err := p.Pin(ctx, p.app, of, true); return err })
	run(func() error { return p.SetLevel(ctx, p.app, of, chat.NotifyMentions) })
	wg.Wait()

	prefs, err := p.Preferences(ctx, p.app, "bob")
	if err != nil || len(prefs.Tags) != 20 || len(prefs.Levels) != 3 || prefs.Quiet == nil {
		t.Errorf("%+v, %v", prefs, err)
	}
	v, err := p.View(ctx, p.app, of)
	if err != nil || len(v.Tags) != 20 || v.PinnedAt == 0 || v.Level != chat.NotifyMentions {
		t.Errorf("%+v, %v", v, err)
	}
	// One entry in one timeline for each of them.
	if n := p.head(t, "bob"); n != 46 {
		t.Errorf("bob's head is %d", n)
	}
	if n := p.head(t, "alice"); n != 0 {
		t.Errorf("alice's head is %d", n)
	}
}

// A failing store takes so many appends and refuses the rest.
type failing struct {
	Store
	left int
}

func (f *failing) Append(ctx context.Context, a *store.Append) error {
	if f.left--; f.left < 0 {
		err := chat.Fail(chat.KindUnavailable, "full")
		a.Done(err)
		return err
	}
	return f.Store.Append(ctx, a)
}

// A tag on many channels is taken off them piece by piece. While any is left the
// tag is there, so what was cut short can be repeated, and there is one event.
func TestTagsGoInPieces(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	ctx := t.Context()
	q := &TagRequest{User: "bob", Tag: "w"}
	if err := p.SetTags(ctx, p.app, q, []chat.Tag{{ID: "w", Name: "Work"}}); err != nil {
		t.Fatal(err)
	}
	for call := range 7 {
		q.Channels = nil
		for i := range 100 {
			q.Channels = append(q.Channels, chat.Channel{Type: chat.Direct, ID: fmt.Sprintf("c%04d", call*100+i)})
		}
		if err := p.TagChannels(ctx, p.app, q); err != nil {
			t.Fatal(err)
		}
	}
	tagged := func() int {
		t.Helper()
		list, err := p.Tagged(ctx, p.app, q)
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	head := p.head(t, "bob")
	engine := p.Courier.store
	p.Courier.store = &failing{engine, 1}
	if err := p.RemoveTags(ctx, p.app, q, []string{"w"}); chat.KindOf(err) != chat.KindUnavailable {
		t.Fatal(err)
	}
	p.Courier.store = engine
	if n := tagged(); n != 200 || p.head(t, "bob") != head {
		t.Errorf("%d channels have the tag, the head moved from %d to %d", n, head, p.head(t, "bob"))
	}
	if err := p.RemoveTags(ctx, p.app, q, []string{"w"}); err != nil {
		t.Fatal(err)
	}
	prefs, err := p.Preferences(ctx, p.app, "bob")
	views, err2 := engine.(store.Views).Views(ctx, p.app.ID, "bob")
	if err != nil || err2 != nil || len(prefs.Tags) != 0 || len(views) != 0 || p.head(t, "bob") != head+1 {
		t.Errorf("%+v and %d views are left, the head is %d after %d", prefs, len(views), p.head(t, "bob"), head)
	}
}

// A call that gives up while its commit is under way keeps its turn until that is
// settled: who comes next builds on it.
func TestAbandonedTurn(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	s := &slow{Store: p.Courier.store, begun: make(chan struct{}), on: make(chan struct{})}
	p.Courier.store = s
	of := &OwnChannel{User: "bob", Type: chat.Direct, Channel: "alice"}
	ctx, cancel := context.WithCancel(t.Context())
	gaveUp := make(chan error, 1)
	go func() { gaveUp <- p.SetLevel(ctx, p.app, of, chat.NotifyNothing) }()
	<-s.begun
	cancel()
	if err := <-gaveUp; chat.KindOf(err) != chat.KindUnknown {
		t.Fatal(err)
	}
	waits, stop := context.WithCancel(t.Context())
	stop()
	if _, err := p.Pin(waits, p.app, of, true); chat.KindOf(err) != chat.KindUnavailable {
		t.Errorf("the turn is free: %v", err)
	}
	close(s.on)
	if _, err := p.Pin(t.Context(), p.app, of, true); err != nil {
		t.Fatal(err)
	}
	if v, err := p.View(t.Context(), p.app, of); err != nil || v.Level != chat.NotifyNothing || v.PinnedAt == 0 {
		t.Errorf("%+v, %v", v, err)
	}
}

// slow holds its first append until it is told to go on, and does not wait for
// callers that have gone.
type slow struct {
	Store
	once      sync.Once
	begun, on chan struct{}
}

func (s *slow) Append(ctx context.Context, a *store.Append) error {
	first := false
	s.once.Do(func() { first = true })
	if !first {
		return s.Store.Append(ctx, a)
	}
	close(s.begun)
	go func() {
		<-s.on
		_ = s.Store.Append(context.WithoutCancel(ctx), a)
	}()
	<-ctx.Done()
	return chat.Because(chat.KindUnknown, "canceled while the commit was under way", ctx.Err())
}

func TestTagOrder(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	q := &TagRequest{User: "bob", Tag: "w"}
	if err := p.SetTags(t.Context(), p.app, q, []chat.Tag{{ID: "w", Name: "Work"}}); err != nil {
		t.Fatal(err)
	}
	var want []string
	for i := range 30 { // many of them in one millisecond
		id := fmt.Sprintf("c%02d", i*7%30)
		want = append(want, id)
		q.Channels = []chat.Channel{{Type: chat.Direct, ID: id}}
		if err := p.TagChannels(t.Context(), p.app, q); err != nil {
			t.Fatal(err)
		}
	}
	list, err := p.Tagged(t.Context(), p.app, q)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, ch := range list {
		got = append(got, ch.ID)
	}
	slices.Reverse(want)
	if !slices.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}
