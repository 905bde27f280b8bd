package gateway

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/trace"
)

// traces attaches a tracer to the house, over what its gateway works on.
func (h *house) traces() *trace.Tracer {
	t := trace.New(h.store, h.Gateway, time.Now)
	h.AttachTracer(t)
	return t
}

func (h *house) trace(tr *trace.Tracer, uid chat.UID) trace.Recipient {
	h.t.Helper()
	r, err := tr.Trace(h.t.Context(), h.app, uid, trace.Page{})
	must(h.t, err)
	if len(r.Recipients) != 1 || r.Recipients[0].UID != uid {
		h.t.Fatalf("%+v", r)
	}
	return r.Recipients[0]
}

// sessionText is a session as text: device, platform, and what is known of it.
func sessionText(s *trace.Session) string {
	text := s.Device + "/" + s.Platform
	if s.Written.Until > 0 {
		text += " written"
	}
	if s.Acked.Until > 0 {
		text += " acked"
	}
	return text
}

func saidAll(r *trace.Reached) string {
	var all []string
	for i := range r.Sessions {
		all = append(all, sessionText(&r.Sessions[i]))
	}
	return strings.Join(all, ", ")
}

// A message is traced to those of its recipient's sessions that were given it,
// from before it was sent to after they are gone.
func TestTraceOfSessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.PingInterval = 300 * time.Millisecond })
	tr := h.traces()
	before := time.Now().UnixMilli()

	// Away: nothing but a place in the timeline.
	uid := h.send(chat.Direct, "alice", "one", "bob")[0]
	if r := h.trace(tr, uid); r.Target != "bob" || r.Offset != 1 || len(r.Reached.Sessions)+len(r.Reached.Devices) != 0 {
		t.Errorf("away: %+v", r)
	}

	// Caught up on by the answer to connect, without an acknowledgement yet.
	phone, c := h.connect("bob", `{"deviceId":"phone","platform":"ios"}`)
	eventually(t, "written to the phone", func() bool {
		r := h.trace(tr, uid)
		return saidAll(&r.Reached) == "phone/ios written"
	})
	if r := h.trace(tr, uid); r.Reached.Sessions[0].ID != [16]byte(parseUUID(t, c.Connect.Client)) {
		t.Errorf("the session is %x, the client %s", r.Reached.Sessions[0].ID, c.Connect.Client)
	}
	// A pong acknowledges what was written before its ping.
	ping(t, phone)
	eventually(t, "acknowledged by pong", func() bool {
		r := h.trace(tr, uid)
		return saidAll(&r.Reached) == "phone/ios written acked"
	})
	must(t, h.cursors.flush(t.Context()))
	r := h.trace(tr, uid)
	if d := r.Reached.Devices; len(d) != 1 || d[0].ID != "phone" || !d[0].Passed {
		t.Errorf("devices: %+v", d)
	}
	w, a := r.Reached.Sessions[0].Written, r.Reached.Sessions[0].Acked
	if now := time.Now().UnixMilli(); w.From < before || w.From > w.Until || w.Until > a.Until || a.From > a.Until || a.Until > now {
		t.Errorf("times: from %d: %+v, %+v, now %d", before, w, a, now)
	}

	// Live, to two devices, one of which says so.
	pad, _ := h.connect("bob", `{"deviceId":"pad"}`) // its answer holds the first
	two := h.send(chat.Direct, "alice", "two", "bob")[0]
	phone.line()
	pad.line()
	if r := pad.call(2, "ack", `{"offset":2}`); r.Error != nil {
		t.Fatal(r.Error)
	}
	eventually(t, "written to both", func() bool {
		r := h.trace(tr, two)
		all := saidAll(&r.Reached)
		return strings.Contains(all, "phone/ios written") && strings.Contains(all, "pad/ written acked")
	})
	// The first one was given to the pad too: it had no position of its own.
	r = h.trace(tr, uid)
	if len(r.Reached.Sessions) != 2 {
		t.Errorf("the first message: %s", saidAll(&r.Reached))
	}

	// What sessions knew when they ended is known after they have.
	three := h.send(chat.Direct, "alice", "three", "bob")[0]
	phone.line()
	pad.line()
	phone.ws.Abort()
	pad.ws.Abort()
	eventually(t, "sessions are gone", func() bool { return !h.Online(h.app.ID, "bob") })
	// A turn may still be under way whose bytes were read: it says a moment later
	// that they were written.
	eventually(t, "written to both, which are gone", func() bool {
		r := h.trace(tr, three)
		return strings.Count(saidAll(&r.Reached), "written") == 2
	})
	if r := h.trace(tr, h.send(chat.Direct, "alice", "four", "bob")[0]); len(r.Reached.Sessions) != 0 || r.Offset != 4 {
		t.Errorf("away again: %+v", r)
	}
}

func parseUUID(t *testing.T, text string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(text, "-", ""))
	must(t, err)
	return b
}

// ping waits for a ping and answers it.
func ping(t *testing.T, p *peer) {
	t.Helper()
	for {
		line, err := p.next(10 * time.Second)
		must(t, err)
		if line == "{}" {
			p.send("{}")
			return
		}
	}
}

// What a turn has written while its session ended is known as soon as the turn is
// over.
func TestTraceOfTurnThatOutlivesItsSession(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tr := h.traces()
	p, _ := h.connect("bob", `{"deviceId":"d"}`)
	var c *conn
	h.sessions.each(userKey{h.app.ID, "bob"}, func(one *conn) { c = one })
	p.ws.Abort()
	eventually(t, "the session is gone", func() bool { return !h.Online(h.app.ID, "bob") })
	uid := h.send(chat.Direct, "alice", "one", "bob")[0]
	c.mu.Lock()
	c.pos = 1
	c.noteWrittenLocked()
	c.mu.Unlock()
	if r := h.trace(tr, uid); saidAll(&r.Reached) != "d/ written" {
		t.Errorf("%+v", r.Reached)
	}
}

// The sender's own copy is traced like any entry.
func TestTraceOfCopies(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tr := h.traces()
	p, _ := h.connect("alice", `{"deviceId":"d"}`)
	uids := h.post(&chat.Message{ChannelType: chat.Direct, From: "alice", Type: "app:text", Content: "x", Persist: true, Echo: true}, "bob", "carl")
	p.line()
	p.line()
	eventually(t, "the copy is written", func() bool {
		r := h.trace(tr, uids[1])
		return r.Target == "carl" && r.Offset == 1 && r.Copy != nil && r.Copy.User == "alice" && r.Copy.Offset == 2 && saidAll(&r.Copy.Reached) == "d/ written"
	})
}

// The metadata of one's own message is traced too.
func TestTraceCallOfMetadata(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.traces()
	alice, _ := h.connect("alice", "")
	uid := h.post(&chat.Message{ChannelType: chat.Direct, From: "alice", Type: "app:text", Content: "x", Persist: true, HasMetadata: true}, "bob")[0].String()
	set := alice.call(2, "message.metadata.set", `{"messageUID":"`+uid+`","metadata":{"k":"v"}}`)
	if set.Error != nil {
		t.Fatal(set.Error)
	}
	r := alice.call(3, "message.trace", `{"messageUID":"`+uid+`"}`)
	if want := `,"metadata":{"version":1,` + strings.Trim(string(set.RPC.Data), "{}") + `,"told":true}}`; r.Error != nil || !strings.HasSuffix(string(r.RPC.Data), want) {
		t.Errorf("%s, want %s", r.RPC.Data, want)
	}
}

type herald struct{}

func (herald) PushRules(_ context.Context, app *chat.App) (push.Rules, error) {
	return push.RulesOf(&app.Settings), nil
}
func (herald) PushDecided(int64) bool { return false }

// Whether a message has notified is told to its sender; why not only where that
// says nothing of its recipient.
func TestTraceCallOfPush(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.traces().AttachPush(herald{})
	alice, _ := h.connect("alice", "")
	text := &chat.Message{ChannelType: chat.Direct, From: "alice", Type: "RC:TxtMsg", Content: `{"content":"x"}`, Persist: true}
	uids := h.post(text, "bob", "carl")
	own := h.send(chat.Direct, "alice", "custom", "bob")
	want := func(uid chat.UID, push string) {
		t.Helper()
		r := alice.call(3, "message.trace", `{"messageUID":"`+uid.String()+`"}`)
		if r.Error != nil || !strings.HasSuffix(string(r.RPC.Data), `,"push":`+push+`}`) {
			t.Errorf("%s, %+v, want %s", r.RPC.Data, r.Error, push)
		}
	}
	want(uids[0], `{"effect":"none","reason":"pending"}`)
	want(own[0], `{"effect":"none","reason":"no_text"}`)
	must(t, h.store.ChangePush(t.Context(), &store.PushChange{
		Reasons:  []store.PushReasonsOf{{Ref: uids[0], Count: 2, Reasons: []uint8{uint8(push.ReasonAway), uint8(push.ReasonBanned)}}},
		Outcomes: []store.PushOutcome{{UID: uids[0], Device: "secret", Provider: chat.FCM, Class: "accepted", At: 1}},
	}))
	want(uids[0], `{"effect":"alert"}`)
	want(uids[1], `{"effect":"none"}`)
	h.set("push.enabled", "false")
	want(own[0], `{"effect":"none","reason":"push_off"}`)
}

// Senders are told of their own messages, and less than their app's backend.
func TestTraceCall(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.traces()
	alice, _ := h.connect("alice", "")
	bob, _ := h.connect("bob", `{"deviceId":"secret-device","platform":"secret-os"}`)
	sent := alice.call(3, "message.send", sendTo("direct", "bob"))
	var m struct{ MessageUID string }
	must(t, json.Unmarshal(sent.RPC.Data, &m))
	bob.line()
	data := `{"messageUID":"` + m.MessageUID + `"}`
	var got struct {
		MessageUID, ChannelType, ChannelID, MessageType string
		SentAt                                          int64
		Written, Acknowledged                           *struct{ From, Until int64 }
	}
	ask := func() string {
		t.Helper()
		r := alice.call(4, "message.trace", data)
		if r.Error != nil {
			t.Fatalf("%+v", r.Error)
		}
		must(t, json.Unmarshal(r.RPC.Data, &got))
		return string(r.RPC.Data)
	}
	eventually(t, "written", func() bool { ask(); return got.Written != nil })
	if got.MessageUID != m.MessageUID || got.ChannelType != "direct" || got.ChannelID != "bob" || got.MessageType != "app:text" || got.SentAt == 0 || got.Acknowledged != nil {
		t.Errorf("%+v", got)
	}
	bob.call(2, "ack", `{"offset":1}`)
	text := ask()
	if got.Acknowledged == nil || strings.Contains(text, "secret") {
		t.Errorf("acknowledged: %s", text)
	}

	if strings.Contains(text, "recall") || strings.Contains(text, "updatedAt") || strings.Contains(text, "metadata") {
		t.Errorf("nothing has happened to it: %s", text)
	}
	changed := alice.call(9, "message.update", `{"messageUID":"`+m.MessageUID+`","content":"CHANGED"}`)
	if changed.Error != nil {
		t.Fatal(changed.Error)
	}
	if text, want := ask(), strings.TrimPrefix(string(changed.RPC.Data), "{"); !strings.HasSuffix(text, ","+want) || strings.Contains(text, "CHANGED") {
		t.Errorf("changed: %s, want %s", text, want)
	}
	uid, err := chat.ParseUID(m.MessageUID)
	must(t, err)
	at, err := h.courier.Recall(t.Context(), h.app, &courier.RecallRequest{Subject: courier.Subject{UID: uid, From: "alice"}, Admin: true, Delete: true, Extra: "EXTRA"})
	must(t, err)
	if text, want := ask(), fmt.Sprintf(`,"recall":{"operatorId":"alice","isAdmin":true,"isDelete":true,"recalledAt":%d}}`, at); !strings.HasSuffix(text, want) || strings.Contains(text, "EXTRA") {
		t.Errorf("recalled: %s, want %s", text, want)
	}

	mallory, _ := h.connect("mallory", "")
	nothing := chat.NewUID(time.Now().UnixMilli(), chat.Direct, 77, 1).String()
	for who, p := range map[string]*peer{"the recipient": bob, "a stranger": mallory} {
		r := p.call(5, "message.trace", data)
		if none := p.call(6, "message.trace", `{"messageUID":"`+nothing+`"}`); r.code() != 404 || none.code() != 404 || r.Error.Message != none.Error.Message {
			t.Errorf("%s is told %+v of the message and %+v of none", who, r.Error, none.Error)
		}
	}
	for body, message := range map[string]string{
		`{}`: "messageUID: is required", `{"messageUID":"x"}`: "messageUID: is not a message UID",
	} {
		if r := alice.call(7, "message.trace", body); r.code() != codeBadRequest || r.Error.Message != message {
			t.Errorf("%s: %+v", body, r.Error)
		}
	}
	// What the backend sent in her name is hers, but whom she is blocked by is not.
	must(t, h.dir.Block(t.Context(), h.app, "eve", "", []string{"alice"}))
	uid = h.post(&chat.Message{ChannelType: chat.Direct, From: "alice", Type: "app:text", Content: "x", VerifyBlocklist: true}, "bob", "eve")[0]
	if r := alice.call(8, "message.trace", `{"messageUID":"`+uid.String()+`"}`); r.Error != nil || strings.Contains(string(r.RPC.Data), "eve") {
		t.Errorf("%+v", r)
	}
}

// refusing is a house's store that can be made to refuse trails.
type refusing struct {
	Store
	err  atomic.Pointer[error]
	mu   sync.Mutex
	puts []store.Delivery
}

func (r *refusing) PutDeliveries(_ context.Context, list []store.Delivery) error {
	if err := r.err.Load(); err != nil {
		return *err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.puts = append(r.puts, list...)
	return nil
}

func (r *refusing) taken() []store.Delivery {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.puts
	r.puts = nil
	return list
}

// Many entries are one range; what the store refuses is not kept in memory.
func TestTrailsAreRanges(t *testing.T) {
	t.Parallel()
	var s *refusing
	h := newHouse(t, func(o *Options) { s = &refusing{Store: o.Store}; o.Store = s })
	h.set("limits.direct", "0")
	p, _ := h.connect("bob", "")
	give := func(n int) {
		t.Helper()
		for i := range n {
			h.send(chat.Direct, "alice", fmt.Sprint(i), "bob")
		}
		for range n {
			p.line()
		}
		p.call(2, "ack", `{"offset":1000}`) // answered in a later turn, so the entries' turns are over
	}
	give(50)
	must(t, h.Settle(t.Context(), h.app.ID, []string{"bob", "nobody"}))
	puts := s.taken()
	if len(puts) != 2 || puts[0].Kind != store.DeliveryWritten || puts[0].After != 0 || puts[0].To != 50 || puts[1].Kind != store.DeliveryAcked || puts[1].To != 50 {
		t.Errorf("stored %+v", puts)
	}
	must(t, h.trails.flush(t.Context()))
	if puts := s.taken(); len(puts) != 0 {
		t.Errorf("stored twice: %+v", puts)
	}
	give(3)
	refused := errors.New("refused")
	s.err.Store(&refused)
	if err := h.trails.flush(t.Context()); !errors.Is(err, refused) {
		t.Error(err)
	}
	s.err.Store(nil)
	give(2)
	must(t, h.trails.flush(t.Context()))
	if puts := s.taken(); len(puts) != 2 || puts[0].After != 53 || puts[0].To != 55 {
		t.Errorf("after a refusal: %+v", puts)
	}
	h.trails.mu.Lock()
	defer h.trails.mu.Unlock()
	if len(h.trails.dirty)+len(h.trails.ended) != 0 {
		t.Errorf("%d sessions wait to be stored", len(h.trails.dirty))
	}
}

// Sessions that come and go while the store is not written leave a bounded list.
func TestTrailsOfEndedSessionsAreBounded(t *testing.T) {
	t.Parallel()
	g := New(Options{Store: noStore{}})
	for i := range maxEnded + 10 {
		c := benchConn(g, fmt.Sprint("u", i))
		c.pos = 1
		c.mu.Lock()
		c.noteWrittenLocked()
		g.trails.endLocked(c)
		c.mu.Unlock()
		g.trails.dirty = nil
	}
	if n := len(g.trails.ended); n != maxEnded {
		t.Errorf("%d are kept", n)
	}
}

// A power cut takes from traces what was not stored, and nothing else: what was
// is told as it happened, and nothing is told that did not happen.
func TestTraceOverCrash(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 0))
	fs := vfs.NewCrashableMem()
	// By UID, what is stored of the sessions it was given to.
	type what struct{ written, acked int }
	known := map[chat.UID]what{}
	var uids []chat.UID // by offset, from 1
	check := func(h *house, when string) {
		t.Helper()
		tr := h.traces()
		for i, uid := range uids {
			r := h.trace(tr, uid)
			var got what
			for _, s := range r.Reached.Sessions {
				if s.Written.Until > 0 {
					got.written++
				}
				if s.Acked.Until > 0 {
					got.acked++
				}
				if s.Device != "phone" || s.Written.From > s.Written.Until || s.Acked.From > s.Acked.Until {
					t.Errorf("%s: session %+v", when, s)
				}
			}
			if want := known[uid]; got != want || r.Offset != uint64(i)+1 || r.Target != "bob" {
				t.Errorf("%s: message %d at %d was %+v, want %+v", when, i+1, r.Offset, got, want)
			}
		}
	}
	for round := range 6 {
		h := newHouseOn(t, fs, func(o *Options) { o.PingInterval = time.Hour })
		check(h, fmt.Sprintf("after %d cuts", round))
		h.set("limits.direct", "0")
		// From here on only this test stores trails.
		h.trails.flushMu.Lock()
		// Everything comes again: to another session, each time.
		p, _ := h.connect("bob", `{"deviceId":"phone","from":"oldest"}`)
		acked := 0
		give := func() {
			for range 3 + rng.IntN(20) {
				uids = append(uids, h.send(chat.Direct, "alice", "x", "bob")[0])
				p.line()
			}
			// Answered in a turn that follows those of the entries.
			acked += rng.IntN(len(uids) - acked)
			p.call(2, "ack", fmt.Sprintf(`{"offset":%d}`, acked))
		}
		give()
		h.trails.flushMu.Unlock()
		must(t, h.Settle(t.Context(), h.app.ID, []string{"bob"}))
		h.trails.flushMu.Lock()
		for i, uid := range uids {
			k := known[uid]
			k.written++
			if i < acked {
				k.acked++
			}
			known[uid] = k
		}
		if round%2 == 0 { // otherwise nothing follows that would take it to the disk
			give()
		}
		fs = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		h.trails.flushMu.Unlock()
	}
	check(newHouseOn(t, fs), "in the end")
}

// However many sessions are given something, a flush stores a bounded number of
// ranges. The others wait their turn and are not forgotten.
func TestTrailsOfOneFlushAreBounded(t *testing.T) {
	t.Parallel()
	s := &refusing{Store: noStore{}}
	g := New(Options{Store: s})
	const more = 100
	give := func(c *conn) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pos++
		c.noteWrittenLocked()
	}
	var conns []*conn
	for i := range trailSessions + more {
		c := benchConn(g, fmt.Sprint("u", i))
		conns = append(conns, c)
		give(c)
	}
	must(t, g.trails.flush(t.Context()))
	if n := len(s.taken()); n != trailSessions {
		t.Errorf("%d ranges were stored at first", n)
	}
	for _, c := range conns {
		give(c)
	}
	// One of those that wait goes, and leaves no place behind.
	gone := conns[trailSessions]
	gone.mu.Lock()
	g.trails.endLocked(gone)
	gone.mu.Unlock()
	must(t, g.trails.flush(t.Context()))
	puts := s.taken()
	long := map[string]bool{}
	for _, d := range puts {
		if d.After == 0 {
			long[d.User] = d.To == 2
		}
	}
	if len(puts) != trailSessions+1 || len(long) != more {
		t.Errorf("%d ranges were stored then, %d from the start", len(puts), len(long))
	}
	for _, c := range conns[trailSessions:] {
		if !long[c.user] {
			t.Errorf("%s waited and its range did not grow", c.user)
		}
	}
	must(t, g.trails.flush(t.Context()))
	if n := len(s.taken()); n != more-1 || len(g.trails.dirty) != 0 {
		t.Errorf("%d ranges were stored in the end, %d sessions wait", n, len(g.trails.dirty))
	}
}

func TestNoTrails(t *testing.T) {
	t.Parallel()
	var s *refusing
	h := newHouse(t, func(o *Options) { s = &refusing{Store: o.Store}; o.Store, o.NoTrails = s, true })
	p, _ := h.connect("bob", "")
	h.send(chat.Direct, "alice", "x", "bob")
	p.line()
	p.call(2, "ack", `{"offset":1}`)
	if r := p.call(3, "message.trace", `{"messageUID":"2222-2222-2222-2222"}`); r.code() != codeNotAvailable {
		t.Errorf("without a tracer: %+v", r.Error)
	}
	must(t, h.Settle(t.Context(), h.app.ID, []string{"bob"}))
	must(t, h.trails.flush(t.Context()))
	if puts := s.taken(); len(puts) != 0 {
		t.Errorf("stored %+v", puts)
	}
}

// What a delivery costs more because it can be traced, storing included: where
// each session gets so many entries between two flushes. One is the dearest there
// is.
func BenchmarkTrail(b *testing.B) {
	for _, each := range []int{1, 25} {
		for _, off := range []bool{false, true} {
			b.Run(fmt.Sprintf("each=%d/%s", each, map[bool]string{false: "on", true: "off"}[off]), func(b *testing.B) {
				benchTrail(b, each, off)
			})
		}
	}
}

func benchTrail(b *testing.B, each int, off bool) {
	h := newHouse(b, func(o *Options) { o.NoTrails = off })
	const users = 1000
	var to []string
	for i := range users {
		to = append(to, fmt.Sprint("u", i))
	}
	h.set("limits.direct", "0")
	h.send(chat.Direct, "alice", strings.Repeat("x", 200), to...)
	r := newRunner(h.Gateway)
	conns := make([]*conn, users)
	for i := range conns {
		conns[i] = benchConn(h.Gateway, to[i])
		conns[i].app = h.app.ID
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		c := conns[i%users]
		c.pos, c.trail.wrote = 0, 0
		c.behind.Store(true)
		r.turn(c)
		if i%(users*each) == users*each-1 {
			if err := h.trails.flush(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
	}
}
