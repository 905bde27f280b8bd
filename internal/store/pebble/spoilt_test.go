package pebble

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// A row of push that cannot be read costs itself alone, and is told of once, without
// what it holds. What is there again takes its place.
func TestSpoiltRowsOfPush(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	var log bytes.Buffer
	reg := prometheus.NewPedanticRegistry()
	s := mustOpen(t, Options{
		Dir: "data", FS: vfs.NewMem(), Consumers: []string{store.PushConsumer}, Metrics: reg, Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	set := func(key []byte, value string) {
		t.Helper()
		if err := s.db.Set(key, []byte(value), pdb.NoSync); err != nil {
			t.Fatal(err)
		}
	}
	const app, bad = chat.AppID(1), "\xffsecret"
	device := func(id, token string) *chat.PushDevice {
		return &chat.PushDevice{ID: id, Provider: chat.VIVO, Token: token, RegisteredAt: 1, SeenAt: 1}
	}
	put := func(user, id, token string) {
		t.Helper()
		if err := s.PutPushDevice(ctx, app, user, device(id, token)); err != nil {
			t.Fatal(err)
		}
	}
	for _, user := range []string{"ann", "bob", "cy"} {
		put(user, "phone", "of-"+user)
		put(user, "pad", "pad-of-"+user)
	}
	now := chat.NewUID(time.Now().UnixMilli(), chat.Direct, 0, 0)
	jobs := pushJobs(3)
	lane := jobs[0].Lane
	change := &store.PushChange{
		Put:  jobs,
		Look: []store.PushLook{{Due: 1, Ref: jobs[0].Ref, App: app, Targets: []int{1}}, {Due: 2, Ref: jobs[0].Ref, App: app, Targets: []int{2}}},
		Halt: []store.PushHalt{
			{Lane: store.PushLane{App: 1, Provider: chat.VIVO, Package: "a"}, Since: 1}, {Lane: store.PushLane{App: 1, Provider: chat.VIVO, Package: "b"}, Since: 1},
		},
		Passes:   []store.PushPass{{App: app, UID: now, Behind: "b"}, {App: app, UID: now.Plus(1), Behind: "b"}},
		Reasons:  []store.PushReasonsOf{{Ref: now, Count: 1, Reasons: []uint8{1}}},
		Outcomes: []store.PushOutcome{{UID: now, Device: "a", Class: "accepted"}, {UID: now, Device: "b", Class: "accepted"}},
		Shown:    []store.PushShownOf{{Channel: store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "ann"}, UID: now}},
	}
	if err := s.ChangePush(ctx, change); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{"a", "b"} {
		if err := s.PutPushCredential(ctx, app, &chat.PushCredential{Provider: chat.VIVO, Package: p, Fields: map[string]string{"k": "v"}}); err != nil {
			t.Fatal(err)
		}
		if err := s.PutPushTemplate(ctx, app, &chat.PushTemplate{ID: p, Default: "en"}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.UpdateUsers(ctx, app, []string{"ann", "bob"}, func(*chat.User) {}); err != nil {
		t.Fatal(err)
	}

	set(pushDeviceKey(app, pushOwner{"bob", "phone"}), bad)
	set(append(appendDevicePrefix(nil, app, "bob"), 'd'), bad)
	set(appendUserKey(nil, spaceUser, app, "bob"), bad)
	set(appendPreferencesKey(nil, app, "bob"), bad)
	ref := &store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "ann"}
	set(appendViewKey(nil, ref), bad)
	set(append(append(appendMarkPrefix(nil, monthOf(now.Millis()), ref), now[:]...), 1, 1), bad)
	set(appendJobKey(nil, &jobs[0]), bad)
	set(append(appendLanePrefix(nil, &lane), jobs[0].Priority, 1), bad)
	set([]byte{spacePushJob, 0}, bad)
	set(appendLookKey(nil, 1, jobs[0].Ref), bad)
	set([]byte{spacePushLook, 0}, bad)
	set(appendHaltKey(nil, &change.Halt[0].Lane), bad)
	set([]byte{spacePushHalt, 0}, bad)
	set(appendPassKey(nil, now), bad)
	set([]byte{spacePushPass, 0}, bad)
	set(appendPushDay(nil, spacePushReasons, now), bad)
	set(append(appendPushDay(nil, spacePushOutcome, now), 'a'), bad)
	set(appendShownKey(nil, ref), bad)
	set(credentialKey(app, &chat.PushCredential{Provider: chat.VIVO, Package: "a"}), bad)
	set(templateKey(app, "a"), bad)

	for range 2 { // the second time nothing is told
		lists, err := s.PushDevicesOf(ctx, app, []string{"ann", "bob", "cy"})
		if err != nil || len(lists[0]) != 2 || len(lists[1]) != 1 || len(lists[2]) != 2 {
			t.Errorf("devices %v, %v", lists, err)
		}
		if list, err := s.PushDevices(ctx, app, "bob"); err != nil || len(list) != 1 {
			t.Errorf("bob's devices %v, %v", list, err)
		}
		if d, err := s.PushDevice(ctx, app, "bob", "phone"); err != nil || d != nil {
			t.Errorf("bob's phone %v, %v", d, err)
		}
		if list, err := s.PushDevicesBehind(ctx, app, "", 10); err != nil || len(list) != 3 || len(list[0].Devices)+len(list[1].Devices)+len(list[2].Devices) != 5 {
			t.Errorf("all devices %v, %v", list, err)
		}
		if list, err := s.PushSights(ctx, app, chat.Direct, "ann", []string{"ann", "bob"}, []chat.UID{now, now}); err != nil || list[0].User == nil || list[1].User != nil || len(list[1].Cursors)+len(list[1].Marks) > 0 || list[1].View != nil {
			t.Errorf("sights %+v, %v", list, err)
		}
		if list, err := s.PushLanes(ctx); err != nil || len(list) != 1 {
			t.Errorf("lanes %v, %v", list, err)
		}
		list, err := s.PushJobs(ctx, &lane, jobs[0].Priority, store.PushPlace{}, 1<<60, 10)
		if err != nil || len(list) != 3 || list[0].Expires != 0 || list[0].Code != "row" || list[0].PushPlace != jobs[0].PushPlace || list[1] != jobs[1] || list[2] != jobs[2] {
			t.Errorf("jobs %+v, %v", list, err)
		}
		if _, err := s.CountPushJobs(ctx, &lane); err != nil {
			t.Error(err)
		}
		if list, err := s.PushLooks(ctx, 5, 10); err != nil || len(list) != 2 || list[0].Targets != nil || !slices.Equal(list[1].Targets, []int{2}) {
			t.Errorf("looks %+v, %v", list, err)
		}
		if list, err := s.PushHalts(ctx); err != nil || len(list) != 1 || list[0].Lane.Package != "b" {
			t.Errorf("halts %v, %v", list, err)
		}
		if list, _, err := s.PushPasses(ctx); err != nil || len(list) != 2 || list[0].Behind != "" || list[1].Behind != "b" {
			t.Errorf("passes %v, %v", list, err)
		}
		if list, err := s.PushReasons(ctx, now); err != nil || list != nil {
			t.Errorf("reasons %v, %v", list, err)
		}
		if list, err := s.PushOutcomes(ctx, now); err != nil || len(list) != 1 || list[0].Device != "b" {
			t.Errorf("outcomes %v, %v", list, err)
		}
		if uid, err := s.PushShown(ctx, *ref); err != nil || !uid.IsZero() && uid != now {
			t.Errorf("shown %v, %v", uid, err)
		}
		if list, err := s.PushCredentials(ctx, app); err != nil || len(list) != 1 || list[0].Package != "b" {
			t.Errorf("credentials %v, %v", list, err)
		}
		if list, err := s.PushTemplates(ctx, app); err != nil || len(list) != 1 || list[0].ID != "b" {
			t.Errorf("templates %v, %v", list, err)
		}
	}
	// What was dropped as one that has expired is gone.
	if err := s.ChangePush(ctx, &store.PushChange{Drop: []store.PushJob{{Lane: lane, Priority: jobs[0].Priority, PushPlace: jobs[0].PushPlace}}}); err != nil {
		t.Fatal(err)
	}
	if list, err := s.PushJobs(ctx, &lane, jobs[0].Priority, store.PushPlace{}, 1<<60, 10); err != nil || len(list) != 2 {
		t.Errorf("jobs %+v, %v", list, err)
	}
	const each = 1
	for _, of := range []string{"device", "user", "preferences", "view", "mark", "push device", "push reasons", "push outcome", "push credential", "push template"} {
		if n := testutil.ToFloat64(s.metrics.spoilt.WithLabelValues(of)); n != each {
			t.Errorf("%v of %s are counted", n, of)
		}
	}
	if n := strings.Count(log.String(), "cannot be read"); n != testutil.CollectAndCount(s.metrics.spoilt)+5 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
	if strings.Contains(log.String(), "secret") {
		t.Errorf("it tells what was there:\n%s", &log)
	}

	// The phone is registered again, with another token; whoever has the one that it
	// had is not mistaken for it.
	put("bob", "phone", "new")
	put("dora", "phone", "of-bob")
	if gone, err := s.DropPushToken(ctx, app, chat.VIVO, "of-bob", 5); err != nil || !gone {
		t.Errorf("dora's: %t, %v", gone, err)
	}
	if d, err := s.PushDevice(ctx, app, "bob", "phone"); err != nil || d == nil || d.Token != "new" {
		t.Errorf("bob's phone %v, %v", d, err)
	}
}
