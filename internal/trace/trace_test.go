package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/store/pebble"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A desk is a tracer over the real engine, under a clock of its own, with
// sessions that say what they are told to.
type desk struct {
	*Tracer
	t     *testing.T
	store *pebble.Store
	app   *chat.App
	start int64 // Unix ms

	mu     sync.Mutex
	now    time.Time
	asked  []string // whom sessions were asked about
	settle func() error
}

const thisApp chat.AppID = 7

func newDesk(t *testing.T) *desk {
	t.Helper()
	start := time.Date(2026, 3, 2, 12, 0, 0, 0, time.UTC)
	d := &desk{t: t, now: start, start: start.UnixMilli(), app: appOf(thisApp)}
	s, err := pebble.Open(t.Context(), pebble.Options{Dir: "data", FS: vfs.NewMem(), Now: d.clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	d.store = s
	d.Tracer = New(s, d, d.clock)
	return d
}

func appOf(id chat.AppID) *chat.App {
	return &chat.App{ID: id, Settings: chat.Settings{MissedDays: 7, History: true}}
}

func (d *desk) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

func (d *desk) advance(by time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now = d.now.Add(by)
}

// Settle implements Sessions.
func (d *desk) Settle(_ context.Context, app chat.AppID, users []string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if app != thisApp {
		d.t.Errorf("sessions of app %d are asked", app)
	}
	d.asked = append(d.asked, users...)
	if d.settle != nil {
		return d.settle()
	}
	return nil
}

// send commits a message with changes made to what is usual, and gives its
// request.
func (d *desk) send(to []string, change ...func(*store.Append)) *store.Append {
	d.t.Helper()
	a := &store.Append{
		Message: &chat.Message{App: thisApp, ChannelType: chat.Direct, Flags: chat.Missed, From: "ann", Type: "app:text", Content: "secret"},
		Targets: to, History: true,
	}
	for _, f := range change {
		f(a)
	}
	if err := d.store.Append(d.t.Context(), a); err != nil {
		d.t.Fatal(err)
	}
	return a
}

func echo(a *store.Append)    { a.Message.Echo = true }
func missed(a *store.Append)  { a.History = false }
func foreign(a *store.Append) { a.Message.App = thisApp + 1 }
func open(a *store.Append)    { a.Message.ChannelType, a.Message.Persist = chat.Open, true }

// deliver keeps that entries above after and up to to were written to (w) or
// acknowledged by (a) a session, so many ms after the start.
func (d *desk) deliver(user string, session byte, kind byte, after, to uint64, from, until int64) {
	d.t.Helper()
	k := map[byte]store.DeliveryKind{'w': store.DeliveryWritten, 'a': store.DeliveryAcked}[kind]
	if err := d.store.PutDeliveries(d.t.Context(), []store.Delivery{{
		App: thisApp, User: user, Session: [16]byte{session}, Device: fmt.Sprint("d", session), Kind: k,
		After: after, To: to, From: d.start + from, Until: d.start + until,
	}}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) device(user, id, epoch string, offset uint64) {
	d.t.Helper()
	if err := d.store.PutDevices(d.t.Context(), []store.UserDevice{{
		App: thisApp, User: user, Device: store.Device{ID: id, Epoch: epoch, Offset: offset, SeenAt: d.start},
	}}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *desk) state(a *store.Append, i int, st chat.State) {
	d.t.Helper()
	if err := d.store.Append(d.t.Context(), &store.Append{
		Message: &chat.Message{App: thisApp, ChannelType: a.Message.ChannelType, From: "ann"},
		States:  []store.StateChange{{UID: a.Placed.First.Plus(i), History: a.History, State: &st, Keys: []string{"k"}}},
	}); err != nil {
		d.t.Fatal(err)
	}
}

// text is a report in short: how many the request had, then each recipient.
func (d *desk) text(r *Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %d", r.Message.From, r.Count)
	if !r.Kept {
		b.WriteString(", not kept")
	}
	for _, rec := range r.Recipients {
		fmt.Fprintf(&b, "; %s@%d", rec.Target, rec.Offset)
		d.reached(&b, &rec.Reached)
		if rec.MembersKnown {
			fmt.Fprintf(&b, " queued for %d", rec.Members)
		}
		if rec.Copy != nil {
			fmt.Fprintf(&b, " copy %s@%d", rec.Copy.User, rec.Copy.Offset)
			d.reached(&b, &rec.Copy.Reached)
		}
		if c := rec.Changes; c != (Changes{}) {
			if c.Recall != nil {
				fmt.Fprintf(&b, " recalled by %s", c.Recall.Operator)
			}
			fmt.Fprintf(&b, " edited %d metadata %+v", c.EditedAt, c.Metadata)
		}
	}
	if len(r.LeftOut) > 0 {
		fmt.Fprintf(&b, "; without %v", r.LeftOut)
	}
	return b.String()
}

func (d *desk) reached(b *strings.Builder, r *Reached) {
	between := func(name string, t Between) {
		if t.Until != 0 {
			fmt.Fprintf(b, " %s %d-%d", name, t.From-d.start, t.Until-d.start)
		}
	}
	for _, s := range r.Sessions {
		fmt.Fprintf(b, " [%s", s.Device)
		between("written", s.Written)
		between("acked", s.Acked)
		b.WriteString("]")
	}
	for _, v := range r.Devices {
		fmt.Fprintf(b, " (%s %t)", v.ID, v.Passed)
	}
}

func TestTrace(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		// make gives the UID that is asked about.
		make func(d *desk) chat.UID
		page Page
		want string // of the report, or of the error
	}{
		{"nobody is there", func(d *desk) chat.UID {
			return d.send([]string{"bob"}).Placed.First
		}, Page{}, "ann of 1; bob@1"},

		{"direct, with the sender's copy", func(d *desk) chat.UID {
			d.send([]string{"ann"}) // ann's offset 1
			uid := d.send([]string{"bob"}, echo).Placed.First
			d.deliver("bob", 1, 'w', 0, 1, 4, 9)
			d.deliver("bob", 1, 'a', 0, 1, 20, 20)
			d.deliver("ann", 2, 'w', 1, 2, 5, 5)
			return uid
		}, Page{}, "ann of 1; bob@1 [d1 written 4-9 acked 20-20] copy ann@2 [d2 written 5-5]"},

		{"sessions in the order in which they had it", func(d *desk) chat.UID {
			uid := d.send([]string{"bob"}).Placed.First
			d.deliver("bob", 1, 'w', 0, 1, 30, 30)
			d.deliver("bob", 2, 'a', 0, 1, 20, 20) // whose being written was lost
			d.deliver("bob", 3, 'w', 0, 1, 10, 10)
			return uid
		}, Page{}, "ann of 1; bob@1 [d3 written 10-10] [d2 acked 20-20] [d1 written 30-30]"},

		{"only runs that the entry is part of", func(d *desk) chat.UID {
			for range 4 {
				d.send([]string{"bob"})
			}
			uid := d.send([]string{"bob"}).Placed.First // offset 5
			d.deliver("bob", 1, 'w', 0, 4, 1, 1)        // before it
			d.deliver("bob", 2, 'w', 5, 9, 1, 1)        // behind it
			d.deliver("bob", 3, 'w', 4, 5, 1, 1)
			d.deliver("bob", 4, 'w', 0, 8, 1, 2)
			d.deliver("bob", 4, 'a', 0, 4, 3, 3) // acknowledged up to the one before
			d.deliver("bo", 5, 'w', 0, 9, 1, 1)
			return uid
		}, Page{}, "ann of 1; bob@5 [d3 written 1-1] [d4 written 1-2]"},

		{"devices, of which one is of another life of the store", func(d *desk) chat.UID {
			d.send([]string{"bob"})
			uid := d.send([]string{"bob"}).Placed.First
			d.device("bob", "behind", d.store.Epoch(), 1)
			d.device("bob", "at it", d.store.Epoch(), 2)
			d.device("bob", "restored", "another", 9)
			return uid
		}, Page{}, "ann of 1; bob@2 (at it true) (behind false) (restored false)"},

		{"the one whom the UID names", func(d *desk) chat.UID {
			d.deliver("eve", 1, 'w', 0, 1, 1, 1)
			return d.send([]string{"bob", "dora", "eve"}, echo).Placed.First.Plus(1)
		}, Page{}, "ann of 3; dora@1 copy ann@2"},
		{"all of them", func(d *desk) chat.UID {
			d.deliver("eve", 1, 'w', 0, 1, 1, 1)
			return d.send([]string{"bob", "dora", "eve"}).Placed.First.Plus(1)
		}, Page{All: true}, "ann of 3; bob@1; dora@1; eve@1 [d1 written 1-1]"},
		{"the last of them", func(d *desk) chat.UID {
			return d.send([]string{"bob", "dora", "eve"}).Placed.First
		}, Page{All: true, Token: "2"}, "ann of 3; eve@1"},
		{"a page behind the end", func(d *desk) chat.UID {
			return d.send([]string{"bob", "dora", "eve"}).Placed.First
		}, Page{All: true, Token: "3"}, "pageToken: is not one that an answer about this message gave"},
		{"a page too large", func(d *desk) chat.UID {
			return d.send([]string{"bob"}).Placed.First
		}, Page{All: true, Size: MaxPage + 1}, "pageSize: from 1 to 200, got 201"},

		{"left out", func(d *desk) chat.UID {
			return d.send([]string{"bob"}, func(a *store.Append) { a.Left = []string{"eve", "mallory"} }).Placed.First
		}, Page{}, "ann of 1; bob@1; without [eve mallory]"},

		{"open channels", func(d *desk) chat.UID {
			a := d.send([]string{"lobby", "den", "attic"}, open)
			d.Queued(a.Placed.First, 3)
			d.Queued(a.Placed.First.Plus(1), 0)
			return a.Placed.First
		}, Page{All: true}, "ann of 3; lobby@0 queued for 3; den@0 queued for 0; attic@0"},

		{"changes, of each recipient their own", func(d *desk) chat.UID {
			a := d.send([]string{"bob", "dora", "eve"})
			d.state(a, 0, chat.State{Recall: &chat.Recall{Operator: "ann"}})
			d.state(a, 1, chat.State{Edit: &chat.Edit{Content: "x", At: 5}, Version: 2, ToldAt: 3, Told: 1,
				Metadata: map[string]chat.Pair{"k": {Value: "v", At: 4, Version: 2}}})
			return a.Placed.First
		}, Page{All: true}, "ann of 3; bob@1 recalled by ann edited 0 metadata {Version:0 At:0 Told:false}; " +
			"dora@1 edited 5 metadata {Version:2 At:4 Told:false}; eve@1"},
		{"metadata whose last change is forgotten", func(d *desk) chat.UID {
			a := d.send([]string{"bob"})
			d.state(a, 0, chat.State{Version: 3, Told: 3, ToldAt: 9, Metadata: map[string]chat.Pair{"k": {At: 4, Version: 2}}})
			return a.Placed.First
		}, Page{}, "ann of 1; bob@1 edited 0 metadata {Version:3 At:9 Told:true}"},

		{"older than missed messages are kept", func(d *desk) chat.UID {
			a := d.send([]string{"bob"}, echo)
			d.deliver("bob", 1, 'w', 0, 1, 1, 1)
			d.device("bob", "d", d.store.Epoch(), 1)
			d.state(a, 0, chat.State{Recall: &chat.Recall{Operator: "ann"}})
			d.advance(8 * 24 * time.Hour)
			return a.Placed.First
		}, Page{}, "ann of 1, not kept; bob@1 copy ann@1 recalled by ann edited 0 metadata {Version:0 At:0 Told:false}"},
		{"of an app that keeps them for a day", func(d *desk) chat.UID {
			d.app.Settings.MissedDays = 1
			uid := d.send([]string{"lobby"}, open).Placed.First
			d.Queued(uid, 3)
			d.advance(2 * 24 * time.Hour)
			return uid
		}, Page{}, "ann of 1, not kept; lobby@0"},
		{"the body has expired", func(d *desk) chat.UID {
			uid := d.send([]string{"bob"}, missed).Placed.First
			d.deliver("bob", 1, 'w', 0, 1, 1, 1)
			d.advance(9 * 24 * time.Hour)
			if err := d.store.Expire(d.t.Context()); err != nil {
				d.t.Error(err)
			}
			return uid
		}, Page{}, "messageUID: no such message, or not kept any more"},

		{"another app's", func(d *desk) chat.UID {
			return d.send([]string{"bob"}, foreign).Placed.First
		}, Page{}, "messageUID: no such message; those that are never stored have no trace"},
		{"nobody's", func(d *desk) chat.UID {
			return d.send([]string{"bob"}).Placed.First.Plus(1)
		}, Page{}, "messageUID: no such message; those that are never stored have no trace"},
		{"an event", func(d *desk) chat.UID {
			a := d.send([]string{"bob"})
			return d.send([]string{"bob"}, func(b *store.Append) {
				b.Message.Event = &chat.Event{Kind: chat.EventRecall, UID: a.Placed.First, Operator: "ann"}
			}).Placed.First
		}, Page{}, "messageUID: no such message; those that are never stored have no trace"},

		{"sessions that cannot be stored", func(d *desk) chat.UID {
			d.settle = func() error { return errors.New("the disk is full") }
			uid := d.send([]string{"bob"}).Placed.First
			d.deliver("bob", 1, 'w', 0, 1, 1, 1)
			return uid
		}, Page{}, "ann of 1; bob@1 [d1 written 1-1]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			d := newDesk(t)
			uid := tt.make(d)
			r, err := d.Trace(t.Context(), d.app, uid, tt.page)
			got := fmt.Sprint(err)
			if err == nil {
				if got = d.text(r); r.UID != uid || r.SentAt != uid.Millis() {
					t.Errorf("%+v", r)
				}
			}
			if got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// Pages follow one another without a gap, whatever their size, and only the
// sessions of those on the page are asked.
func TestPages(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	var to []string
	for i := range 205 {
		to = append(to, fmt.Sprint("u", i))
	}
	uid := d.send(to).Placed.First
	for size, want := range map[int]string{0: "100 100 5", 1: strings.TrimSpace(strings.Repeat("1 ", 205)), 41: "41 41 41 41 41", 200: "200 5"} {
		var got, sizes []string
		p := Page{All: true, Size: size}
		for {
			d.asked = nil
			r, err := d.Trace(t.Context(), d.app, uid, p)
			if err != nil {
				t.Fatal(err)
			}
			var page []string
			for i := range r.Recipients {
				if rec := &r.Recipients[i]; rec.UID != uid.Plus(len(got)+i) {
					t.Fatalf("%s has UID %s", rec.Target, rec.UID)
				}
				page = append(page, r.Recipients[i].Target)
			}
			if want := append([]string{"ann"}, page...); !slices.Equal(d.asked, want) {
				t.Errorf("sessions asked: %v, want %v", d.asked, want)
			}
			got, sizes = append(got, page...), append(sizes, fmt.Sprint(len(page)))
			if p.Token = r.Next; p.Token == "" {
				break
			}
		}
		if !slices.Equal(got, to) || strings.Join(sizes, " ") != want {
			t.Errorf("pages of %d: %d recipients, %v", size, len(got), sizes)
		}
	}
}

// What sessions know when they are asked is in the report.
func TestSettled(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	uid := d.send([]string{"bob"}).Placed.First
	d.settle = func() error { d.deliver("bob", 1, 'w', 0, 1, 3, 3); return nil }
	r, err := d.Trace(t.Context(), d.app, uid, Page{})
	if err != nil || d.text(r) != "ann of 1; bob@1 [d1 written 3-3]" {
		t.Errorf("%+v, %v", r, err)
	}
	// Past their time nobody is asked for what would not be told.
	d.advance(8 * 24 * time.Hour)
	d.asked = nil
	if _, err := d.Trace(t.Context(), d.app, uid, Page{}); err != nil || d.asked != nil {
		t.Errorf("asked %v, %v", d.asked, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := d.Trace(ctx, d.app, uid, Page{}); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestTraceOwn(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	uid := d.send([]string{"bob", "dora"}, func(a *store.Append) { a.Left = []string{"eve"} }).Placed.First.Plus(1)
	r, err := d.TraceOwn(t.Context(), d.app, "ann", uid)
	if err != nil || d.text(r) != "ann of 2; dora@1" {
		t.Errorf("%+v, %v", r, err)
	}
	// To others it is as if there were no such message.
	_, none := d.TraceOwn(t.Context(), d.app, "bob", uid.Plus(99))
	for _, user := range []string{"dora", "eve", "mallory", ""} {
		if r, err := d.TraceOwn(t.Context(), d.app, user, uid); r != nil || fmt.Sprint(err) != fmt.Sprint(none) || chat.KindOf(err) != chat.KindNotFound {
			t.Errorf("%q is told %+v, %v", user, r, err)
		}
	}
}

// refusing is a store that takes nothing for traces.
type refusing struct{ Store }

var errRefused = errors.New("refused")

func (refusing) PutReach(context.Context, []store.Reach) error { return errRefused }

// What the store does not take is forgotten, and what waits is bounded.
func TestReachIsBounded(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	a := d.send([]string{"lobby"}, open)
	tr := New(refusing{d.store}, d, d.clock)
	for range maxReach + 10 {
		tr.Queued(a.Placed.First, 1)
	}
	if n := len(tr.reach.list); n != maxReach {
		t.Errorf("%d wait", n)
	}
	// A trace is given all the same.
	if r, err := tr.Trace(t.Context(), d.app, a.Placed.First, Page{}); err != nil || d.text(r) != "ann of 1; lobby@0" {
		t.Errorf("%+v, %v", r, err)
	}
	if err := tr.Flush(t.Context()); err != nil || len(tr.reach.list) != 0 {
		t.Errorf("%d wait after a refusal, %v", len(tr.reach.list), err)
	}
	tr.Queued(a.Placed.First, 1)
	if err := tr.Flush(t.Context()); !errors.Is(err, errRefused) {
		t.Error(err)
	}
}

// What gathered is stored before Run returns.
func TestRunEndsWithAFlush(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	uid := d.send([]string{"lobby"}, open).Placed.First
	ctx, cancel := context.WithCancel(t.Context())
	d.Queued(uid, 12)
	cancel()
	d.Run(ctx)
	if n, known, err := d.store.Reach(t.Context(), uid); n != 12 || !known || err != nil {
		t.Errorf("%d, %t, %v", n, known, err)
	}
}

// Reading is in the trace: exactly where the sender was told, otherwise as far as
// the channel was read, which is nothing to the sender.
func TestTraceOfReading(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	a := d.send([]string{"bob", "eve", "zoe"})
	uids := []chat.UID{a.Placed.First, a.Placed.First.Plus(1), a.Placed.First.Plus(2)}
	d.state(a, 0, chat.State{ReadAt: 7})
	look := func(user string, v chat.View) {
		t.Helper()
		if err := d.store.Append(t.Context(), &store.Append{
			Message: &chat.Message{App: thisApp, ChannelType: chat.Direct, From: user},
			Views: []store.ViewChange{{
				Channel: store.ChannelRef{App: thisApp, Owner: user, Type: chat.Direct, Channel: "ann"}, View: &v,
			}},
		}); err != nil {
			t.Fatal(err)
		}
	}
	look("eve", chat.View{ReadUpTo: uids[1], ReadAt: 8})
	look("zoe", chat.View{ReadUpTo: uids[1], ReadAt: 9}) // not so far
	r, err := d.Trace(t.Context(), d.app, uids[0], Page{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []Changes{{ReadAt: 7}, {ReadBefore: 8}, {}} {
		if got := r.Recipients[i].Changes; got != want {
			t.Errorf("%s: %+v, want %+v", r.Recipients[i].Target, got, want)
		}
	}
	for i, want := range []Changes{{ReadAt: 7}, {}, {}} {
		own, err := d.TraceOwn(t.Context(), d.app, "ann", uids[i])
		if err != nil {
			t.Fatal(err)
		}
		if got := own.Recipients[0].Changes; got != want {
			t.Errorf("to the sender, of %s: %+v, want %+v", own.Recipients[0].Target, got, want)
		}
	}
}
