package dispatch

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
)

// BenchmarkLane is what a notification costs but for its provider: reading the job,
// composing, writing what became of it.
func BenchmarkLane(b *testing.B) {
	ctx := b.Context()
	s, err := pebble.Open(ctx, pebble.Options{Dir: b.TempDir(), Now: time.Now, Logger: slog.New(slog.DiscardHandler), Consumers: []string{store.PushConsumer}, MinFree: 1, Ballast: 1})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	dir, err := directory.Open(ctx, s, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	app, err := dir.CreateApp(ctx)
	if err != nil {
		b.Fatal(err)
	}
	c := &chat.PushCredential{Provider: chat.MEIZU, Fields: map[string]string{"appId": "1", "appSecret": "s", "rate": "1000000"}}
	if err := dir.SetPushCredential(ctx, app, c, true); err != nil {
		b.Fatal(err)
	}
	var taken atomic.Int64
	d := New(Options{
		Store: s, Directory: dir, Sessions: nobody{}, Now: time.Now,
		Adapter: func(*chat.PushCredential) (push.Adapter, error) { return takesAll{&taken}, nil },
	})
	const users = 1000
	names := make([]string, users)
	for i := range names {
		names[i] = "user-" + strconv.Itoa(i)
		device := &chat.PushDevice{ID: "phone", Provider: chat.MEIZU, Token: "token-of-" + names[i], Package: "com.example.app", RegisteredAt: 1, SeenAt: 1}
		if err := s.PutPushDevice(ctx, app.ID, names[i], device); err != nil {
			b.Fatal(err)
		}
	}
	for made := 0; made < b.N; {
		n := min(users, b.N-made)
		a := &store.Append{Message: &chat.Message{
			App: app.ID, From: "alice", ChannelType: chat.Direct, Type: "RC:TxtMsg", Content: `{"content":"hello"}`,
			Flags: chat.Kept | chat.Counted | chat.Missed | chat.Pushed,
		}, Targets: names[:n], History: true}
		if err := s.Append(ctx, a); err != nil {
			b.Fatal(err)
		}
		change := &store.PushChange{Put: make([]store.PushJob, n)}
		now := time.Now().UnixMilli()
		for i := range change.Put {
			change.Put[i] = store.PushJob{
				Lane: laneOf(app.ID, c, &chat.PushDevice{}), Priority: priorityMention,
				PushPlace: store.PushPlace{Due: now, UID: a.Placed.First.Plus(i), User: names[i], Device: "phone"},
				Ref:       a.Placed.First, Offset: 1, MadeAt: now, Expires: now + time.Hour.Milliseconds(),
			}
		}
		if err := d.write(ctx, change); err != nil {
			b.Fatal(err)
		}
		made += n
	}
	run, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	b.ReportAllocs()
	b.ResetTimer()
	wg.Go(func() { d.runLanes(run, make(chan struct{})) })
	for taken.Load() < int64(b.N) {
		time.Sleep(time.Millisecond)
	}
	stop()
	wg.Wait()
	b.StopTimer()
	if left, err := s.CountPushJobs(ctx, &store.PushLane{App: app.ID, Provider: chat.MEIZU}); err != nil || left != [store.PushPriorities]int{} {
		b.Fatalf("left %v, %v", left, err)
	}
}

type nobody struct{}

func (nobody) Cursors(chat.AppID, string) ([]push.Cursor, bool) { return nil, false }
func (nobody) Probe(chat.AppID, string, uint64)                 {}

// takesAll takes every notification at once.
type takesAll struct{ n *atomic.Int64 }

func (takesAll) Batch() int { return 1 }

func (t takesAll) Send(_ context.Context, batch []*push.Notification) []push.Attempt {
	t.n.Add(int64(len(batch)))
	out := make([]push.Attempt, len(batch))
	for i := range out {
		out[i] = push.Attempt{Result: push.Result{Class: push.Accepted, Code: "200"}}
	}
	return out
}

func (takesAll) Check(context.Context) push.Result { return push.Result{Class: push.Accepted} }
func (takesAll) Close()                            {}
