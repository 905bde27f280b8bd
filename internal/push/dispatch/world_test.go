package dispatch

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is lanes over the real engine and the real directory, under a clock of
// its own, with a provider that answers as it is told.
type world struct {
	t     *testing.T
	fs    *vfs.MemFS
	store *pebble.Store
	dir   *directory.Directory
	app   *chat.App
	d     *Dispatcher
	stop  func()

	mu      sync.Mutex
	now     time.Time
	answer  func(*push.Notification) push.Attempt
	hang    chan struct{} // when not nil, answers wait for it
	sent    []sent
	flight  map[string]int
	overlap bool
	cursors map[string][]push.Cursor
	batch   int
	closed  int
	dead    func() ([]string, error) // what the provider says of dead tokens; nil when it keeps no list
}

type sent struct {
	at                            time.Time
	user, uid, title, body, token string
	request                       string
	without                       push.Option
	kind                          string // of the message
	silent, before                bool
	removes                       chat.UID
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, fs: vfs.NewCrashableMem(), now: time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC),
		flight: map[string]int{}, cursors: map[string][]push.Cursor{}, batch: 1,
		answer: func(*push.Notification) push.Attempt {
			return push.Attempt{Result: push.Result{Class: push.Accepted, Code: "200"}}
		},
	}
	w.open(t.Context())
	app, err := w.dir.CreateApp(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	w.app = app
	w.credential(chat.VIVO)
	w.credential(chat.MEIZU)
	t.Cleanup(func() {
		w.halt()
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) open(ctx context.Context) {
	w.t.Helper()
	s, err := pebble.Open(ctx, pebble.Options{
		Dir: "data", FS: w.fs, Now: w.clock, Logger: slog.New(slog.DiscardHandler), Consumers: []string{store.PushConsumer}, MinFree: 1, Ballast: 1,
	})
	if err != nil {
		w.t.Fatal(err)
	}
	w.store = s
	if w.dir, err = directory.Open(ctx, s, w.clock); err != nil {
		w.t.Fatal(err)
	}
	if w.app != nil {
		w.app = w.dir.AppByID(w.app.ID)
	}
	w.d = New(Options{
		Store: s, Directory: w.dir, Sessions: w, Now: w.clock, Logger: slog.New(slog.DiscardHandler), Queue: 1000, InFlight: 16,
		Adapter: func(c *chat.PushCredential) (push.Adapter, error) {
			if w.dead != nil {
				return &listing{&scripted{w}}, nil
			}
			return &scripted{w}, nil
		},
	})
}

// crash ends the store as a power cut would, and starts again.
func (w *world) crash() {
	w.t.Helper()
	w.halt()
	fs := w.fs.CrashClone(vfs.CrashCloneCfg{})
	_ = w.store.Close()
	w.fs = fs
	w.open(w.t.Context())
}

// run runs the lanes.
func (w *world) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	found := make(chan struct{})
	wg.Go(func() { w.d.runLanes(ctx, found) })
	<-found
	w.stop = func() {
		cancel()
		wg.Wait()
	}
}

func (w *world) halt() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// pass lets time go by.
func (w *world) pass(by time.Duration) {
	w.mu.Lock()
	w.now = w.now.Add(by)
	w.mu.Unlock()
	w.d.lanes.mu.Lock()
	defer w.d.lanes.mu.Unlock()
	for _, l := range w.d.lanes.all {
		l.nudge()
	}
}

func (w *world) Cursors(_ chat.AppID, user string) ([]push.Cursor, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.cursors[user], len(w.cursors[user]) > 0
}

func (w *world) Probe(chat.AppID, string, uint64) {}

func (w *world) answers(f func(*push.Notification) push.Attempt) {
	w.mu.Lock()
	w.answer = f
	w.mu.Unlock()
}

func (w *world) result(r push.Result) {
	w.answers(func(*push.Notification) push.Attempt { return push.Attempt{Result: r} })
}

var accepted = push.Result{Class: push.Accepted, Code: "200"}

// scripted is a provider that answers as the test wants.
type scripted struct{ w *world }

func (s *scripted) Batch() int { return s.w.batch }

func (s *scripted) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	w := s.w
	w.mu.Lock()
	hang := w.hang
	for _, n := range batch {
		if w.flight[n.To.Token]++; w.flight[n.To.Token] > 1 {
			w.overlap = true
		}
	}
	w.mu.Unlock()
	out := make([]push.Attempt, len(batch))
	if hang != nil {
		select {
		case <-hang:
		case <-ctx.Done():
			for i := range out {
				out[i].Result = push.Result{Class: push.Retry, Code: "transport"}
			}
			return out
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, n := range batch {
		w.sent = append(w.sent, sent{w.now, n.User, n.UID.String(), n.Title, n.Body, n.To.Token, n.RequestID(), n.Without, n.Type, n.Silent, n.RemovesBefore, n.Removes})
		out[i] = w.answer(n)
		w.flight[n.To.Token]--
	}
	return out
}

func (s *scripted) Check(context.Context) push.Result { return accepted }

func (s *scripted) PassAge() (time.Duration, bool) { return 90 * time.Second, true }

func (s *scripted) Close() {
	s.w.mu.Lock()
	s.w.closed++
	s.w.mu.Unlock()
}

func (w *world) credential(p chat.PushProvider) {
	w.t.Helper()
	c := &chat.PushCredential{Provider: p, Fields: map[string]string{"appId": "1", "appKey": "k", "appSecret": "secret-" + w.clock().String()[:19]}}
	c.Fields["appSecret"] = fmt.Sprint("s", w.clock().UnixNano())
	if p == chat.MEIZU {
		delete(c.Fields, "appKey")
	}
	if p == chat.WEB {
		public, private, err := chat.NewWebKeys()
		if err != nil {
			w.t.Fatal(err)
		}
		c.Fields = map[string]string{"publicKey": public, "privateKey": private, "subject": "mailto:a@example.com"}
	}
	if err := w.dir.SetPushCredential(w.t.Context(), w.app, c, true); err != nil {
		w.t.Fatal(err)
	}
}

// phone registers a device of the user, named as its user and provider are.
func (w *world) phone(user string, p chat.PushProvider) {
	w.t.Helper()
	d := &chat.PushDevice{
		ID: p.String(), Provider: p, Token: user + "@" + p.String(), Package: "com.example.app",
		RegisteredAt: w.clock().UnixMilli(), SeenAt: w.clock().UnixMilli(),
	}
	if err := w.store.PutPushDevice(w.t.Context(), w.app.ID, user, d); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) hasPhone(user string) bool {
	w.t.Helper()
	list, err := w.store.PushDevices(w.t.Context(), w.app.ID, user)
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list) > 0
}

// message stores a message for the users.
func (w *world) message(text string, users ...string) chat.UID {
	w.t.Helper()
	a := &store.Append{
		Message: &chat.Message{
			App: w.app.ID, From: "alice", ChannelType: chat.Direct, Type: "RC:TxtMsg",
			Content: fmt.Sprintf(`{"content":%q}`, text), Flags: chat.Kept | chat.Counted | chat.Missed | chat.Pushed,
		},
		Targets: users, History: true,
	}
	if err := w.store.Append(w.t.Context(), a); err != nil {
		w.t.Fatal(err)
	}
	return a.Placed.First
}

// job is a notification of the message for the user's device, due now.
func (w *world) job(ref chat.UID, index int, user string, p chat.PushProvider, change ...func(*store.PushJob)) store.PushJob {
	now := w.clock().UnixMilli()
	j := store.PushJob{
		Lane: store.PushLane{App: w.app.ID, Provider: p}, Priority: priorityUsual,
		PushPlace: store.PushPlace{Due: now, UID: ref.Plus(index), User: user, Device: p.String()},
		Ref:       ref, MadeAt: now, Expires: now + 24*time.Hour.Milliseconds(),
	}
	for _, f := range change {
		f(&j)
	}
	return j
}

func (w *world) put(jobs ...store.PushJob) {
	w.t.Helper()
	if err := w.d.write(w.t.Context(), &store.PushChange{Put: jobs, Sync: true}); err != nil {
		w.t.Fatal(err)
	}
}

// one notifies the user of a new message.
func (w *world) one(user string, p chat.PushProvider, change ...func(*store.PushJob)) chat.UID {
	w.t.Helper()
	ref := w.message("hello "+user, user)
	w.put(w.job(ref, 0, user, p, change...))
	return ref
}

// until waits for something to hold.
func (w *world) until(what string, holds func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("never: %s", what)
		}
	}
}

func (w *world) sentTo(user string) (list []sent) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.sent {
		if user == "" || s.user == user {
			list = append(list, s)
		}
	}
	return list
}

// outcome is what became of the user's notification.
func (w *world) outcome(uid chat.UID) *store.PushOutcome {
	w.t.Helper()
	list, err := w.store.PushOutcomes(w.t.Context(), uid)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(list) == 0 {
		return &store.PushOutcome{}
	}
	return &list[0]
}

func (w *world) ends(uid chat.UID, class string) *store.PushOutcome {
	w.t.Helper()
	var o *store.PushOutcome
	w.until("outcome "+class, func() bool {
		o = w.outcome(uid)
		return o.Class != ""
	})
	if o.Class != class {
		w.t.Fatalf("outcome %+v, want %s", o, class)
	}
	return o
}

// left is how many jobs wait.
func (w *world) left(p chat.PushProvider) (n int) {
	w.t.Helper()
	counts, err := w.store.CountPushJobs(w.t.Context(), &store.PushLane{App: w.app.ID, Provider: p})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range counts {
		n += c
	}
	return n
}

func (w *world) lane(p chat.PushProvider) *lane {
	return w.d.lanes.lane(store.PushLane{App: w.app.ID, Provider: p})
}

func (w *world) halted(p chat.PushProvider) string {
	l := w.lane(p)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.halt.Since == 0 {
		return ""
	}
	return l.halt.Code
}

// quiet reports whether the lane has done all that is due.
func (w *world) quiet(p chat.PushProvider) bool {
	l, now := w.lane(p), w.clock().UnixMilli()
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.inHand) == 0 && slices.Min(l.next[:]) > now && w.d.settler.behind() == 0
}
