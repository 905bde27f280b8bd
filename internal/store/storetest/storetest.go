// Package storetest is what package store promises, written as tests. Every
// engine passes it:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Place { … })
//	}
package storetest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A Place is where one store lives. The suite opens it, closes it and opens it
// again, one at a time.
type Place struct {
	Open func(Config) (store.Store, error)

	// Expire drops what is past its time now, under the clock of the Config.
	Expire func(store.Store) error

	// Crash ends a store without closing it, as a power cut would, so that the
	// next Open finds what was durable. Without it tests of crashes are skipped.
	Crash func(store.Store)
}

// A Config is what the suite wants of a store it opens.
type Config struct {
	Now       func() time.Time
	OnCommit  store.OnCommit
	Consumers []string
}

// Run runs the suite. newPlace makes an empty place.
func Run(t *testing.T, newPlace func(*testing.T) Place) {
	tests := []struct {
		name string
		test func(*env)
	}{
		{"AppendPlaces", testAppendPlaces},
		{"AppendOrder", testAppendOrder},
		{"AppendEphemeral", testAppendEphemeral},
		{"AppendOpen", testAppendOpen},
		{"AppendOrderAcrossTypes", testAppendOrderAcrossTypes},
		{"AppendDone", testAppendDone},
		{"AppendCanceled", testAppendCanceled},
		{"AppendLimits", testAppendLimits},
		{"OnCommit", testOnCommit},
		{"Messages", testMessages},
		{"Find", testFind},
		{"Ranges", testRanges},
		{"EntriesHaveBodies", testEntriesHaveBodies},
		{"UsersDoNotMix", testUsersDoNotMix},
		{"AppsDoNotMix", testAppsDoNotMix},
		{"Retention", testRetention},
		{"SilentUser", testSilentUser},
		{"ClockBackOverMidnight", testClockBackOverMidnight},
		{"ClockBackOverRestart", testClockBackOverRestart},
		{"Log", testLog},
		{"LogWait", testLogWait},
		{"LogWatermarks", testLogWatermarks},
		{"LogKept", testLogKept},
		{"History", testHistory},
		{"HistoryRanges", testHistoryRanges},
		{"HistoryRetention", testHistoryRetention},
		{"Channels", testChannels},
		{"IndexBarrier", testIndexBarrier},
		{"IndexTwice", testIndexTwice},
		{"Events", testEvents},
		{"Overlays", testOverlays},
		{"Due", testDue},
		{"StateWithEvent", testStateWithEvent},
		{"Streams", testStreams},
		{"StreamCrash", testStreamCrash},
		{"Apps", testApps},
		{"AppsConflict", testAppsConflict},
		{"Users", testUsers},
		{"UsersConcurrently", testUsersConcurrently},
		{"UserStates", testUserStates},
		{"Bans", testBans},
		{"Blocks", testBlocks},
		{"BlocksBetween", testBlocksBetween},
		{"BlocksAreBounded", testBlocksAreBounded},
		{"Views", testViews},
		{"ViewsWithEvent", testViewsWithEvent},
		{"Preferences", testPreferences},
		{"Marks", testMarks},
		{"OpenFacts", testOpenFacts},
		{"OpenDue", testOpenDue},
		{"Unread", testUnread},
		{"UnreadMissed", testUnreadMissed},
		{"Quiet", testQuiet},
		{"Newest", testNewest},
		{"Wanting", testWanting},
		{"Devices", testDevices},
		{"PushDevices", testPushDevices},
		{"PushSights", testPushSights},
		{"PushDevicesBehind", testPushDevicesBehind},
		{"PushTokenMoves", testPushTokenMoves},
		{"PushTokensAtOnce", testPushTokensAtOnce},
		{"PushTokenNew", testPushTokenNew},
		{"PushTokensDie", testPushTokensDie},
		{"PushTokenEnvironment", testPushTokenEnvironment},
		{"PushSettings", testPushSettings},
		{"PushJobs", testPushJobs},
		{"PushJobPlaces", testPushJobPlaces},
		{"PushJobChanges", testPushJobChanges},
		{"PushLanesDoNotMix", testPushLanesDoNotMix},
		{"PushLongChange", testPushLongChange},
		{"PushLimits", testPushLimits},
		{"PushLooks", testPushLooks},
		{"PushHalts", testPushHalts},
		{"PushReasons", testPushReasons},
		{"PushOutcomes", testPushOutcomes},
		{"PushShown", testPushShown},
		{"PushPasses", testPushPasses},
		{"PushExpires", testPushExpires},
		{"PushWatermark", testPushWatermark},
		{"PushNobodyFollows", testPushNobodyFollows},
		{"PushCrash", testPushCrash},
		{"PushAtOnce", testPushAtOnce},
		{"Deliveries", testDeliveries},
		{"DeliveriesLive", testDeliveriesLive},
		{"Reach", testReach},
		{"LeftOut", testLeftOut},
		{"Broadcasts", testBroadcasts},
		{"BroadcastOnce", testBroadcastOnce},
		{"BroadcastsEnd", testBroadcastsEnd},
		{"Taken", testTaken},
		{"TakenIsDurable", testTakenIsDurable},
		{"Once", testOnce},
		{"OnceAlone", testOnceAlone},
		{"OnceLife", testOnceLife},
		{"Reopen", testReopen},
		{"Crash", testCrash},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			e := &env{
				T:     t,
				ctx:   t.Context(),
				place: newPlace(t),
				clock: &clock{now: time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)},
			}
			e.open()
			t.Cleanup(e.close)
			tt.test(e)
		})
	}
}

const testConsumer = "test"

// An env is a store under test.
type env struct {
	*testing.T
	ctx   context.Context
	place Place
	clock *clock
	store.Store
	closed bool

	mu      sync.Mutex
	commits [][]*store.Append
	on      store.OnCommit // what else a test wants to do in OnCommit
}

func (e *env) open() {
	e.Helper()
	s, err := e.place.Open(Config{Now: e.clock.Now, OnCommit: e.onCommit, Consumers: []string{testConsumer, store.PushConsumer}})
	if err != nil {
		e.Fatalf("open: %v", err)
	}
	e.Store, e.closed = s, false
}

func (e *env) onCommit(c *store.Commit) {
	e.mu.Lock()
	e.commits = append(e.commits, slices.Clone(c.Appends))
	on := e.on
	e.mu.Unlock()
	if on != nil {
		on(c)
	}
}

// committed are all appends that OnCommit was told of, in order.
func (e *env) committed() []*store.Append {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Concat(e.commits...)
}

func (e *env) close() {
	if e.closed {
		return
	}
	e.closed = true
	if err := e.Store.Close(); err != nil {
		e.Errorf("close: %v", err)
	}
}

func (e *env) reopen() {
	e.Helper()
	e.close()
	e.open()
}

func (e *env) expire() {
	e.Helper()
	if err := e.place.Expire(e.Store); err != nil {
		e.Fatalf("expire: %v", err)
	}
}

// A clock is set by tests.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) { c.set(c.Now().Add(d)) }

func (c *clock) set(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = t
}

const app chat.AppID = 1

// message is a direct message that is kept and shown in the channel list.
func message(from, content string) *chat.Message {
	return &chat.Message{
		App: app, ChannelType: chat.Direct, Flags: chat.Kept | chat.Counted | chat.Missed | chat.Pushed,
		From: from, Type: "app:text", Content: content, Persist: true,
	}
}

func status(from string) *chat.Message {
	m := message(from, "typing")
	m.Flags = 0
	return m
}

func openMessage(from, content string, persist bool) *chat.Message {
	m := message(from, content)
	m.ChannelType, m.Persist = chat.Open, persist
	return m
}

// send appends m for the targets, with history when the message wants it.
func (e *env) send(m *chat.Message, targets ...string) *store.Append {
	e.Helper()
	a := &store.Append{Message: m, Targets: targets, History: m.Persist}
	if err := e.Append(e.ctx, a); err != nil {
		e.Fatalf("append: %v", err)
	}
	return a
}

func (e *env) head(app chat.AppID, user string) uint64 {
	e.Helper()
	n, err := e.Head(e.ctx, app, user)
	if err != nil {
		e.Fatalf("head of %s: %v", user, err)
	}
	return n
}

func (e *env) oldest(user string, days int) uint64 {
	e.Helper()
	n, err := e.Oldest(e.ctx, app, user, days)
	if err != nil {
		e.Fatalf("oldest of %s: %v", user, err)
	}
	return n
}

func (e *env) read(app chat.AppID, user string, r store.Range) []store.Entry {
	e.Helper()
	entries, err := e.Read(e.ctx, app, user, r, nil)
	if err != nil {
		e.Fatalf("read of %s: %v", user, err)
	}
	return entries
}

// all is the user's whole timeline, oldest first.
func (e *env) all(app chat.AppID, user string) []store.Entry {
	e.Helper()
	return e.read(app, user, store.Range{Limit: 1 << 20})
}

// index runs the index up to the log's head.
func (e *env) index() {
	e.Helper()
	if err := e.catchUp(); err != nil {
		e.Fatalf("index: %v", err)
	}
}

func (e *env) catchUp() error {
	for {
		mark, err := e.Watermark(e.ctx, store.IndexConsumer)
		if err != nil {
			return err
		}
		records, err := e.ReadLog(e.ctx, mark, 7)
		if err != nil || len(records) == 0 {
			return err
		}
		if err := e.IndexLog(e.ctx, records); err != nil {
			return err
		}
	}
}

func (e *env) wantKind(err error, kind chat.Kind) {
	e.Helper()
	if err == nil || chat.KindOf(err) != kind {
		e.Errorf("got %v, want an error of kind %d", err, kind)
	}
}

func (e *env) wantEntries(got, want []store.Entry) {
	e.Helper()
	if slices.Equal(got, want) {
		return
	}
	e.Errorf("got %d entries, want %d", len(got), len(want))
	for i := range max(len(got), len(want)) {
		var g, w store.Entry
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			e.Errorf("entry %d is %+v, want %+v", i, g, w)
			return
		}
	}
}

// users are n user ids.
func users(n int) []string {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("user%d", i)
	}
	return ids
}
