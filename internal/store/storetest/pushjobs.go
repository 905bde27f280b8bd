package storetest

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

var pushLane = store.PushLane{App: app, Provider: chat.APNs, Environment: chat.Production, Package: "com.example"}

// pushUID is a UID of a direct message at a time.
func pushUID(ms int64, n int) chat.UID { return chat.NewUID(ms, chat.Direct, uint16(n), 7) }

// pushJob is a job of the lane that has nothing but its place.
func pushJob(due int64, uid chat.UID, user, device string) store.PushJob {
	return store.PushJob{
		Lane: pushLane, PushPlace: store.PushPlace{Due: due, UID: uid, User: user, Device: device},
		Ref: uid, MadeAt: due, Expires: due + 1000,
	}
}

func (e *env) changePush(c *store.PushChange) {
	e.Helper()
	if err := e.ChangePush(e.ctx, c); err != nil {
		e.Fatalf("change push: %v", err)
	}
}

func (e *env) jobs(lane store.PushLane, priority uint8) []store.PushJob {
	e.Helper()
	list, err := e.PushJobs(e.ctx, &lane, priority, store.PushPlace{}, math.MaxInt64, 1<<30)
	if err != nil {
		e.Fatalf("jobs: %v", err)
	}
	return list
}

func (e *env) wantJobs(got, want []store.PushJob) {
	e.Helper()
	if slices.Equal(got, want) {
		return
	}
	e.Errorf("got %d jobs, want %d", len(got), len(want))
	for i := range min(len(got), len(want)) {
		if got[i] != want[i] {
			e.Errorf("job %d is\n%+v, want\n%+v", i, got[i], want[i])
			return
		}
	}
}

// testPushJobs sees that all of a job is kept.
func testPushJobs(e *env) {
	ref := pushUID(5000, 10)
	long := strings.Repeat("x", 255)
	plain := pushJob(6000, ref, "bob", "phone")
	silent := pushJob(6001, ref.Plus(1), "bo", "tablet")
	silent.Ref, silent.Silent, silent.Attempts, silent.Without, silent.Held, silent.Collapse, silent.Code, silent.Offset = ref, true, 255, 255, 65535, math.MaxUint64, "BadDeviceToken", math.MaxUint64
	withdraw := pushJob(6002, ref.Plus(700), long, long)
	withdraw.Kind, withdraw.Ref, withdraw.MadeAt, withdraw.Expires = store.PushWithdraw, chat.UID{}, 0, 0
	foreign := pushJob(6003, ref.Plus(5), "carol", "\x00")
	foreign.Kind, foreign.Silent, foreign.Ref, foreign.MadeAt, foreign.Expires = 127, true, pushUID(4000, 0), math.MaxInt64, 1
	latest := pushJob(math.MaxInt64, pushUID(1<<42-1, chat.MaxUIDBlock-1), "\xff", "\xff")
	want := []store.PushJob{plain, silent, withdraw, foreign, latest}
	put := slices.Clone(want)
	slices.Reverse(put)
	e.changePush(&store.PushChange{Put: put})
	for range 2 {
		e.wantJobs(e.jobs(pushLane, 0), want)
		if list, err := e.PushLanes(e.ctx); err != nil || !slices.Equal(list, []store.PushLane{pushLane}) {
			e.Errorf("lanes %+v, %v", list, err)
		}
		e.reopen()
	}
}

// testPushJobPlaces sees that jobs come in the order of their places, by pages.
func testPushJobPlaces(e *env) {
	var all []store.PushJob
	for _, due := range []int64{0, 1, 255, 256, 1 << 40} {
		for _, uid := range []chat.UID{{}, pushUID(1, 1), pushUID(1, 2), pushUID(300, 0)} {
			for _, user := range []string{"a", "ab", "b", "\x00", "\xff", "ba"} {
				for _, device := range []string{"a", "ab", "b", "\x00", "\xff\xff"} {
					all = append(all, pushJob(due, uid, user, device))
				}
			}
		}
	}
	rand.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	e.changePush(&store.PushChange{Put: all})
	slices.SortFunc(all, func(a, b store.PushJob) int { return a.Compare(&b.PushPlace) })
	e.wantJobs(e.jobs(pushLane, 0), all)
	for _, limit := range []int{1, 7, len(all)} {
		var got []store.PushJob
		for behind := (store.PushPlace{}); ; {
			page, err := e.PushJobs(e.ctx, &pushLane, 0, behind, 1<<40, limit)
			if err != nil {
				e.Fatal(err)
			}
			if len(page) == 0 {
				break
			}
			if got = append(got, page...); len(page) > limit || len(got) > len(all) {
				e.Fatalf("a page of %d of %d jobs, %d so far of %d", len(page), limit, len(got), len(all))
			}
			behind = page[len(page)-1].PushPlace
		}
		e.wantJobs(got, all)
	}
	// A time before all is before them all.
	got, err := e.PushJobs(e.ctx, &pushLane, 0, store.PushPlace{Due: -1, UID: pushUID(1, 1), User: "b", Device: "b"}, math.MaxInt64, 1<<30)
	if err != nil {
		e.Fatal(err)
	}
	e.wantJobs(got, all)
	for _, until := range []int64{-1, 0, 1, 254, 255, 256, 1<<40 - 1, 1 << 40, math.MaxInt64} {
		want := slices.DeleteFunc(slices.Clone(all), func(j store.PushJob) bool { return j.Due > until })
		got, err := e.PushJobs(e.ctx, &pushLane, 0, store.PushPlace{}, until, 1<<30)
		if err != nil {
			e.Fatal(err)
		}
		e.wantJobs(got, want)
		// Also behind a place at which there is nothing.
		behind := store.PushPlace{Due: 255, UID: pushUID(1, 1), User: "aa", Device: "x"}
		want = slices.DeleteFunc(want, func(j store.PushJob) bool { return j.Compare(&behind) <= 0 })
		if got, err = e.PushJobs(e.ctx, &pushLane, 0, behind, until, 1<<30); err != nil {
			e.Fatal(err)
		}
		e.wantJobs(got, want)
	}
}

func testPushJobChanges(e *env) {
	a, b, c := pushJob(1, pushUID(1, 1), "bob", "a"), pushJob(2, pushUID(1, 1), "bob", "b"), pushJob(3, pushUID(1, 1), "bob", "c")
	e.changePush(&store.PushChange{Put: []store.PushJob{a, b}})
	a.Attempts, a.Code, a.Silent = 3, "late", true
	e.changePush(&store.PushChange{Put: []store.PushJob{a}})
	e.wantJobs(e.jobs(pushLane, 0), []store.PushJob{a, b})
	// What a job says besides its place makes no difference to dropping it.
	drop := a
	drop.Attempts, drop.Code = 9, ""
	e.changePush(&store.PushChange{Drop: []store.PushJob{drop}, Put: []store.PushJob{c}})
	e.wantJobs(e.jobs(pushLane, 0), []store.PushJob{b, c})
	e.changePush(&store.PushChange{Drop: []store.PushJob{a, a}})
	e.wantJobs(e.jobs(pushLane, 0), []store.PushJob{b, c})
	// Dropped and put at once, it is there.
	b.Attempts = 1
	e.changePush(&store.PushChange{Drop: []store.PushJob{b}, Put: []store.PushJob{b}})
	e.changePush(&store.PushChange{})
	e.changePush(&store.PushChange{Sync: true})
	for range 2 {
		e.wantJobs(e.jobs(pushLane, 0), []store.PushJob{b, c})
		e.reopen()
	}
	e.changePush(&store.PushChange{Drop: []store.PushJob{b, c}, Sync: true})
	if list, err := e.PushLanes(e.ctx); err != nil || len(list) > 0 {
		e.Errorf("lanes without jobs: %+v, %v", list, err)
	}
}

func testPushLanesDoNotMix(e *env) {
	var lanes []store.PushLane
	for _, a := range []chat.AppID{1, 256, 1<<32 - 1} {
		for _, provider := range []chat.PushProvider{chat.APNs, chat.MEIZU} {
			for _, environment := range []chat.PushEnvironment{chat.NoEnvironment, chat.Production, chat.Sandbox} {
				for _, name := range []string{"", "a", "ab", "b", strings.Repeat("\xff", 255)} {
					lanes = append(lanes, store.PushLane{App: a, Provider: provider, Environment: environment, Package: name})
				}
			}
		}
	}
	var c store.PushChange
	want := map[store.PushLane]*[store.PushPriorities][]store.PushJob{}
	for i, lane := range lanes {
		want[lane] = new([store.PushPriorities][]store.PushJob)
		for p := range uint8(store.PushPriorities) {
			for n := range (i + int(p)) % 3 {
				j := pushJob(int64(n), pushUID(int64(i), int(p)), "bob", "phone")
				j.Lane, j.Priority = lane, p
				want[lane][p] = append(want[lane][p], j)
			}
			c.Put = append(c.Put, want[lane][p]...)
		}
	}
	rand.Shuffle(len(c.Put), func(i, j int) { c.Put[i], c.Put[j] = c.Put[j], c.Put[i] })
	e.changePush(&c)
	check := func() {
		e.Helper()
		var have []store.PushLane
		for _, lane := range lanes {
			counts, err := e.CountPushJobs(e.ctx, &lane)
			if err != nil {
				e.Fatal(err)
			}
			for p := range uint8(store.PushPriorities) {
				e.wantJobs(e.jobs(lane, p), want[lane][p])
				if counts[p] != len(want[lane][p]) {
					e.Errorf("%d jobs of %+v with priority %d, want %d", counts[p], lane, p, len(want[lane][p]))
				}
			}
			if counts != [store.PushPriorities]int{} {
				have = append(have, lane)
			}
		}
		got, err := e.PushLanes(e.ctx)
		if err != nil {
			e.Fatal(err)
		}
		order := func(a, b store.PushLane) int { return cmp.Compare(fmt.Sprint(a), fmt.Sprint(b)) }
		slices.SortFunc(got, order)
		slices.SortFunc(have, order)
		if !slices.Equal(got, have) {
			e.Errorf("%d lanes %+v, want %d", len(got), got, len(have))
		}
	}
	check()
	// Dropping those of one is without effect on all others.
	for _, p := range want[lanes[1]] {
		e.changePush(&store.PushChange{Drop: p})
	}
	*want[lanes[1]] = [store.PushPriorities][]store.PushJob{}
	check()
	e.reopen()
	check()
}

// testPushLongChange makes changes that no engine would like to write at once.
func testPushLongChange(e *env) {
	const n = 40_000
	e.send(message("alice", "x"), "bob")
	var c store.PushChange
	for i := range n {
		j := pushJob(int64(i), pushUID(1, i%chat.MaxUIDBlock), fmt.Sprintf("a user with a long name %d", i), "a device with a long name")
		j.Code = strings.Repeat("x", 50)
		c.Put = append(c.Put, j)
	}
	look := store.PushLook{Due: 5, Ref: pushUID(1, 1), App: app, Targets: []int{1}}
	c.Look = []store.PushLook{look}
	c.Watermark = 1
	e.changePush(&c)
	e.wantJobs(e.jobs(pushLane, 0), c.Put)
	if counts, err := e.CountPushJobs(e.ctx, &pushLane); err != nil || counts != [store.PushPriorities]int{n} {
		e.Errorf("%v jobs, %v", counts, err)
	}
	if m, err := e.Watermark(e.ctx, store.PushConsumer); err != nil || m != 1 {
		e.Errorf("watermark %d, %v", m, err)
	}
	// Half of them moves, a quarter stays at its place, and a quarter goes.
	var d store.PushChange
	d.Drop, d.Looked = c.Put, c.Look
	look.Targets = []int{2}
	d.Look = []store.PushLook{look}
	want := slices.Clone(c.Put[:3*n/4])
	for i := range want {
		want[i].Attempts++
		if i < n/2 {
			want[i].Due += n
		}
	}
	d.Put, d.Sync = want, true
	e.changePush(&d)
	want = slices.Concat(want[n/2:], want[:n/2])
	for range 2 {
		e.wantJobs(e.jobs(pushLane, 0), want)
		e.wantLooks(math.MaxInt64, 10, look)
		e.reopen()
	}
}

func testPushLimits(e *env) {
	good := pushJob(1, pushUID(1, 1), "bob", "phone")
	long := strings.Repeat("x", 256)
	for _, bad := range []func(*store.PushJob){
		func(j *store.PushJob) { j.User = "" },
		func(j *store.PushJob) { j.User = long },
		func(j *store.PushJob) { j.Device = "" },
		func(j *store.PushJob) { j.Device = long },
		func(j *store.PushJob) { j.Lane.Package = long },
		func(j *store.PushJob) { j.Priority = store.PushPriorities },
		func(j *store.PushJob) { j.Due = -1 },
	} {
		j := good
		bad(&j)
		e.wantKind(e.ChangePush(e.ctx, &store.PushChange{Put: []store.PushJob{good, j}}), chat.KindInvalid)
		e.wantKind(e.ChangePush(e.ctx, &store.PushChange{Put: []store.PushJob{good}, Drop: []store.PushJob{j}}), chat.KindInvalid)
	}
	for i, bad := range []store.PushChange{
		{Look: []store.PushLook{{Due: -1}}},
		{Look: []store.PushLook{{Targets: []int{1, 1}}}},
		{Look: []store.PushLook{{Targets: []int{2, 1}}}},
		{Look: []store.PushLook{{Targets: []int{-1}}}},
		{Look: []store.PushLook{{Targets: []int{chat.MaxUIDBlock}}}},
		{Looked: []store.PushLook{{Due: -1}}},
		{Halt: []store.PushHalt{{Lane: store.PushLane{Package: long}}}},
		{Reasons: []store.PushReasonsOf{{Count: 1, Reasons: []uint8{1, 2}}}},
		{Reasons: []store.PushReasonsOf{{Count: 3, Targets: []int{0}, Reasons: []uint8{1, 2}}}},
		{Reasons: []store.PushReasonsOf{{Count: 3, Targets: []int{3}, Reasons: []uint8{1}}}},
		{Reasons: []store.PushReasonsOf{{Count: 3, Targets: []int{1, 0}, Reasons: []uint8{1, 1}}}},
		{Reasons: []store.PushReasonsOf{{Count: chat.MaxUIDBlock + 1}}},
		{Outcomes: []store.PushOutcome{{}}},
		{Outcomes: []store.PushOutcome{{Device: long}}},
		{Shown: []store.PushShownOf{{Channel: store.ChannelRef{App: app, Channel: "x"}}}},
		{Shown: []store.PushShownOf{{Channel: store.ChannelRef{App: app, Owner: long}}}},
	} {
		bad.Put = []store.PushJob{good}
		if err := e.ChangePush(e.ctx, &bad); chat.KindOf(err) != chat.KindInvalid {
			e.Errorf("change %d: %v", i, err)
		}
	}
	lane := pushLane
	lane.Package = long
	_, err := e.CountPushJobs(e.ctx, &lane)
	e.wantKind(err, chat.KindInvalid)
	for _, q := range []struct {
		lane     store.PushLane
		priority uint8
		behind   store.PushPlace
		limit    int
	}{
		{lane, 0, store.PushPlace{}, 1},
		{pushLane, store.PushPriorities, store.PushPlace{}, 1},
		{pushLane, 0, store.PushPlace{User: long}, 1},
		{pushLane, 0, store.PushPlace{Device: long}, 1},
		{pushLane, 0, store.PushPlace{}, 0},
	} {
		_, err := e.PushJobs(e.ctx, &q.lane, q.priority, q.behind, 10, q.limit)
		e.wantKind(err, chat.KindInvalid)
	}
	_, err = e.PushLooks(e.ctx, 1, 0)
	e.wantKind(err, chat.KindInvalid)
	far := store.ChannelRef{App: app, Owner: "bob", Channel: long}
	_, err = e.PushShown(e.ctx, far)
	e.wantKind(err, chat.KindTooLong)
	e.wantKind(e.ChangePush(e.ctx, &store.PushChange{Put: []store.PushJob{good}, Shown: []store.PushShownOf{{Channel: far}}}), chat.KindTooLong)
	// Of a change that is refused nothing is written.
	e.wantJobs(e.jobs(pushLane, 0), nil)
}

func (e *env) wantLooks(until int64, limit int, want ...store.PushLook) {
	e.Helper()
	got, err := e.PushLooks(e.ctx, until, limit)
	if err != nil || !reflect.DeepEqual(got, want) {
		e.Errorf("looks up to %d: %+v, %v\nwant %+v", until, got, err, want)
	}
}

func testPushLooks(e *env) {
	many := make([]int, chat.MaxUIDBlock)
	for i := range many {
		many[i] = i
	}
	a := store.PushLook{Due: 100, Ref: pushUID(2, 0), App: app, Targets: []int{0, 3, 700, chat.MaxUIDBlock - 1}}
	b := store.PushLook{Due: 100, Ref: pushUID(3, 0), App: 1<<32 - 1, Targets: []int{5}}
	c := store.PushLook{Due: 256, Ref: pushUID(1, 0), App: app, Targets: many}
	e.changePush(&store.PushChange{Look: []store.PushLook{c, b, a}})
	for range 2 {
		e.wantLooks(-1, 10)
		e.wantLooks(99, 10)
		e.wantLooks(100, 10, a, b)
		e.wantLooks(255, 1, a)
		e.wantLooks(math.MaxInt64, 10, a, b, c)
		e.reopen()
	}
	// Two looks at one time are one, also when one was asked for twice.
	more := a
	more.Targets = []int{1, 3, 700, 701}
	e.changePush(&store.PushChange{Look: []store.PushLook{more, a}})
	a.Targets = []int{0, 1, 3, 700, 701, chat.MaxUIDBlock - 1}
	for range 2 {
		e.wantLooks(100, 10, a, b)
		e.reopen()
	}
	// Done is by time and request alone.
	e.changePush(&store.PushChange{Looked: []store.PushLook{{Due: 100, Ref: a.Ref}, {Due: 99, Ref: b.Ref}}})
	e.wantLooks(100, 10, b)
	more.Targets = []int{9}
	b.Targets = []int{6}
	e.changePush(&store.PushChange{Look: []store.PushLook{more, b}, Looked: []store.PushLook{a, b}})
	for range 2 {
		e.wantLooks(100, 10, more, b)
		e.reopen()
	}
}

func testPushHalts(e *env) {
	wantHalts := func(want ...store.PushHalt) {
		e.Helper()
		for range 2 {
			got, err := e.PushHalts(e.ctx)
			slices.SortFunc(got, func(a, b store.PushHalt) int { return cmp.Compare(a.Code, b.Code) })
			if err != nil || !slices.Equal(got, want) {
				e.Errorf("halts %+v, %v, want %+v", got, err, want)
			}
			e.reopen()
		}
	}
	wantHalts()
	a := store.PushHalt{Lane: pushLane, Since: 5, Until: 0, Code: "a"}
	b := store.PushHalt{Lane: pushLane, Since: 6, Until: 1 << 40, Code: "b"}
	b.Lane.Package = "com.example.b"
	c := store.PushHalt{Lane: store.PushLane{App: 256, Provider: chat.FCM}, Since: 6, Code: "c"}
	e.changePush(&store.PushChange{Halt: []store.PushHalt{a, b, c}})
	wantHalts(a, b, c)
	a.Until = 9
	e.changePush(&store.PushChange{Halt: []store.PushHalt{a, {Lane: b.Lane}}})
	wantHalts(a, c)
	e.changePush(&store.PushChange{Halt: []store.PushHalt{{Lane: a.Lane}, {Lane: a.Lane}, {Lane: c.Lane}}})
	wantHalts()
}

func testPushReasons(e *env) {
	const none = store.PushUndecided
	wantReasons := func(ref chat.UID, want ...uint8) {
		e.Helper()
		for range 2 {
			if got, err := e.PushReasons(e.ctx, ref); err != nil || !slices.Equal(got, want) {
				e.Errorf("%d reasons %.60v, %v, want %d, %.60v", len(got), got, err, len(want), want)
			}
			e.reopen()
		}
	}
	write := func(list ...store.PushReasonsOf) {
		e.Helper()
		e.changePush(&store.PushChange{Reasons: list})
	}
	now := e.clock.Now().UnixMilli()
	ref, second, third := pushUID(now, 0), pushUID(now, 1), pushUID(now-24*time.Hour.Milliseconds(), 0)
	wantReasons(ref)
	write(
		store.PushReasonsOf{Ref: ref, Count: 5, Reasons: []uint8{1, 1, 0, 0, 2}},
		store.PushReasonsOf{Ref: second, Count: 1, Reasons: []uint8{0}},
		store.PushReasonsOf{Ref: third, Count: 3},
	)
	wantReasons(ref, 1, 1, 0, 0, 2)
	wantReasons(second, 0)
	wantReasons(third)
	// Some of them are decided upon later, in any order, and then anew.
	write(store.PushReasonsOf{Ref: third, Count: 6, Targets: []int{4, 3}[:1], Reasons: []uint8{7}})
	wantReasons(third, none, none, none, none, 7)
	write(
		store.PushReasonsOf{Ref: third, Count: 6, Targets: []int{0, 1, 3}, Reasons: []uint8{1, 1, 1}},
		store.PushReasonsOf{Ref: third, Count: 6, Targets: []int{1}, Reasons: []uint8{2}},
	)
	wantReasons(third, 1, 2, none, 1, 7)
	write(store.PushReasonsOf{Ref: third, Count: 6, Reasons: []uint8{3, 3, 3}})
	wantReasons(third, 3, 3, 3, 1, 7)
	write(store.PushReasonsOf{Ref: third, Count: 6, Targets: []int{}, Reasons: nil})
	wantReasons(third, 3, 3, 3, 1, 7)
	// All of them at once leave nothing of what was there.
	write(store.PushReasonsOf{Ref: third, Count: 6, Reasons: []uint8{9, 9, 9, 9, 9, 9}})
	wantReasons(third, 9, 9, 9, 9, 9, 9)
	write(
		store.PushReasonsOf{Ref: ref, Count: 5, Targets: []int{0}, Reasons: []uint8{4}},
		store.PushReasonsOf{Ref: ref, Count: 5, Reasons: []uint8{5, 5, 5, 5, 5}},
		store.PushReasonsOf{Ref: ref, Count: 5, Targets: []int{4}, Reasons: []uint8{6}},
	)
	wantReasons(ref, 5, 5, 5, 5, 6)
	// Many, alike and not, at once and shard by shard.
	for seed := range uint64(3) {
		rng := rand.New(rand.NewPCG(seed, 1))
		all := make([]uint8, []int{6000, chat.MaxUIDBlock, 6000}[seed])
		for i := range all {
			if seed > 0 {
				all[i] = uint8(rng.IntN(3))
			}
		}
		ref := pushUID(now, 100+int(seed))
		if seed < 2 {
			write(store.PushReasonsOf{Ref: ref, Count: len(all), Reasons: all})
			wantReasons(ref, all...)
			continue
		}
		for _, shard := range rng.Perm((len(all) + 511) / 512) {
			r := store.PushReasonsOf{Ref: ref, Count: len(all)}
			for i := shard * 512; i < min(len(all), (shard+1)*512); i++ {
				r.Targets, r.Reasons = append(r.Targets, i), append(r.Reasons, all[i])
			}
			write(r)
		}
		wantReasons(ref, all...)
	}
}

func (e *env) wantOutcomes(uid chat.UID, want ...store.PushOutcome) {
	e.Helper()
	got, err := e.PushOutcomes(e.ctx, uid)
	slices.SortFunc(got, func(a, b store.PushOutcome) int {
		return cmp.Or(cmp.Compare(a.Device, b.Device), cmp.Compare(a.User, b.User))
	})
	if err != nil || !slices.Equal(got, want) {
		e.Errorf("outcomes %+v, %v, want %+v", got, err, want)
	}
}

func testPushOutcomes(e *env) {
	uid := pushUID(e.clock.Now().UnixMilli(), 1)
	a := store.PushOutcome{
		UID: uid, Device: "a", Provider: chat.FCM, Kind: store.PushWithdraw, Class: "accepted", Code: "200", ID: "projects/x/1",
		Token: "…abcdef", Attempts: 255, At: uid.Millis() + 5000, Cut: 255,
	}
	ab := store.PushOutcome{UID: uid, Device: "ab", At: uid.Millis()}
	long := store.PushOutcome{UID: uid, Device: strings.Repeat("b", 255), Class: "retry"}
	other := store.PushOutcome{UID: uid.Plus(1), Device: "a", Class: "token_dead", At: 7}
	e.wantOutcomes(uid)
	e.changePush(&store.PushChange{Outcomes: []store.PushOutcome{other, long, ab, a}})
	for range 2 {
		e.wantOutcomes(uid, a, ab, long)
		e.wantOutcomes(uid.Plus(1), other)
		e.wantOutcomes(uid.Plus(2))
		e.reopen()
	}
	// Of a broadcast there are several by one name.
	ann, bob := a, a
	ann.UID, ann.User, bob.UID, bob.User = uid.Plus(3), "ann", uid.Plus(3), "bob"
	bob.Class, bob.At, ann.At = "retry", bob.UID.Millis(), bob.UID.Millis()
	e.changePush(&store.PushChange{Outcomes: []store.PushOutcome{bob, ann}})
	e.wantOutcomes(uid.Plus(3), ann, bob)
	ab.Class, ab.Attempts = "retry", 2
	e.changePush(&store.PushChange{Outcomes: []store.PushOutcome{ab}})
	e.wantOutcomes(uid, a, ab, long)
}

func testPushShown(e *env) {
	now := e.clock.Now().UnixMilli()
	want := map[store.ChannelRef]chat.UID{}
	var c store.PushChange
	for _, a := range []chat.AppID{1, 256} {
		for _, owner := range []string{"a", "ab"} {
			for _, t := range []chat.ChannelType{chat.Direct, chat.Group} {
				for _, channel := range []string{"a", "ab", "b"} {
					ch := store.ChannelRef{App: a, Owner: owner, Type: t, Channel: channel}
					want[ch] = pushUID(now, len(want))
					c.Shown = append(c.Shown, store.PushShownOf{Channel: ch, UID: want[ch]})
				}
			}
		}
	}
	check := func() {
		e.Helper()
		for ch, uid := range want {
			if got, err := e.PushShown(e.ctx, ch); err != nil || got != uid {
				e.Errorf("shown of %+v is %v, %v, want %v", ch, got, err, uid)
			}
		}
	}
	ch := store.ChannelRef{App: 1, Owner: "a", Type: chat.Direct, Channel: "a"}
	if got, err := e.PushShown(e.ctx, ch); err != nil || !got.IsZero() {
		e.Errorf("shown %v, %v, of nothing", got, err)
	}
	e.changePush(&c)
	check()
	e.reopen()
	check()
	want[ch] = chat.UID{}
	e.changePush(&store.PushChange{Shown: []store.PushShownOf{{Channel: ch}, {Channel: ch}}})
	check()
	want[ch] = pushUID(now, 5000)
	e.changePush(&store.PushChange{Shown: []store.PushShownOf{{Channel: ch, UID: want[ch]}}})
	e.expire()
	e.reopen()
	check()
}

// testPushPasses sees that it is known of every broadcast how far it has come.
func testPushPasses(e *env) {
	now := e.clock.Now().UnixMilli()
	want := func(met chat.UID, list ...store.PushPass) {
		e.Helper()
		got, at, err := e.PushPasses(e.ctx)
		if err != nil || at != met || !slices.Equal(got, list) {
			e.Errorf("passes %+v, %s, %v, want %+v, %s", got, at, err, list, met)
		}
	}
	want(chat.UID{})
	a := store.PushPass{App: app, UID: pushUID(now, 1)}
	b := store.PushPass{App: 1<<32 - 1, UID: pushUID(now, 2), Behind: strings.Repeat("\xff", 255)}
	e.changePush(&store.PushChange{Passes: []store.PushPass{b, a}, Met: b.UID})
	for range 2 {
		want(b.UID, a, b)
		e.reopen()
	}
	// They go on with the jobs that they have made.
	a.Behind = "bob"
	e.changePush(&store.PushChange{Passes: []store.PushPass{a}, Put: []store.PushJob{pushJob(1, a.UID, "bob", "phone")}})
	want(b.UID, a, b)
	b.Done = true
	e.changePush(&store.PushChange{Passes: []store.PushPass{b, {UID: pushUID(now, 9), Done: true}}})
	e.expire()
	want(b.UID, a)
	e.changePush(&store.PushChange{Met: pushUID(now, 7), Sync: true})
	e.reopen()
	want(pushUID(now, 7), a)
	for _, p := range []store.PushPass{{App: app}, {App: app, UID: a.UID, Behind: strings.Repeat("x", 256)}} {
		if err := e.ChangePush(e.ctx, &store.PushChange{Passes: []store.PushPass{p}, Met: pushUID(now, 8)}); err == nil {
			e.Errorf("%+v was taken", p)
		}
	}
	want(pushUID(now, 7), a)
}

// testPushExpires sees that traces are kept for as long as is said, and that what
// waits is never dropped but by its owner.
func testPushExpires(e *env) {
	start := e.clock.Now()
	job, look := pushJob(1, pushUID(1, 1), "bob", "phone"), store.PushLook{Due: 1, Ref: pushUID(1, 1), App: app, Targets: []int{0}}
	halt := store.PushHalt{Lane: pushLane, Since: 1, Until: 2, Code: "x"}
	e.changePush(&store.PushChange{Put: []store.PushJob{job}, Look: []store.PushLook{look}, Halt: []store.PushHalt{halt}})
	var uids []chat.UID
	for day := range 3 {
		uid := pushUID(start.AddDate(0, 0, day).UnixMilli(), 0)
		uids = append(uids, uid)
		// The day is the UID's, whenever the rest was.
		e.changePush(&store.PushChange{
			Outcomes: []store.PushOutcome{{UID: uid, Device: "phone", At: start.AddDate(0, 0, 20).UnixMilli()}},
			Reasons:  []store.PushReasonsOf{{Ref: uid, Count: 1, Reasons: []uint8{1}}},
		})
	}
	for day := range 12 {
		e.clock.set(start.AddDate(0, 0, day))
		e.expire()
		if day%4 == 0 {
			e.reopen()
		}
		for i, uid := range uids {
			keep := day <= i+store.KeepPushOutcomes
			list, err := e.PushOutcomes(e.ctx, uid)
			if err != nil || (len(list) == 1) != keep {
				e.Errorf("on day %d outcomes of day %d are %+v, %v", day, i, list, err)
			}
			reasons, err := e.PushReasons(e.ctx, uid)
			if err != nil || (len(reasons) == 1) != keep {
				e.Errorf("on day %d reasons of day %d are %v, %v", day, i, reasons, err)
			}
		}
	}
	e.wantJobs(e.jobs(pushLane, 0), []store.PushJob{job})
	e.wantLooks(1, 1, look)
	if list, err := e.PushHalts(e.ctx); err != nil || !slices.Equal(list, []store.PushHalt{halt}) {
		e.Errorf("halts %+v, %v", list, err)
	}
}

func (e *env) pushMark() uint64 {
	e.Helper()
	n, err := e.Watermark(e.ctx, store.PushConsumer)
	if err != nil {
		e.Fatal(err)
	}
	return n
}

func testPushWatermark(e *env) {
	for range 5 {
		e.send(message("alice", "x"), "bob")
	}
	for _, step := range []struct{ set, want uint64 }{{3, 3}, {0, 3}, {2, 3}, {3, 3}, {5, 5}} {
		e.changePush(&store.PushChange{Watermark: step.set, Sync: step.set == 3})
		if got := e.pushMark(); got != step.want {
			e.Errorf("set to %d the watermark is %d, want %d", step.set, got, step.want)
		}
		e.reopen()
		if got := e.pushMark(); got != step.want {
			e.Errorf("set to %d the watermark is %d after opening again, want %d", step.set, got, step.want)
		}
	}
	bad := pushJob(1, pushUID(1, 1), "", "")
	e.send(message("alice", "x"), "bob")
	if err := e.ChangePush(e.ctx, &store.PushChange{Put: []store.PushJob{bad}, Watermark: 6}); err == nil || e.pushMark() != 5 {
		e.Errorf("refused with %v, the watermark is %d", err, e.pushMark())
	}
}

// testPushNobodyFollows opens the store for somebody who does not notify.
func testPushNobodyFollows(e *env) {
	e.send(message("alice", "x"), "bob")
	job := pushJob(1, pushUID(1, 1), "bob", "phone")
	e.changePush(&store.PushChange{Put: []store.PushJob{job}, Watermark: 1})
	e.close()
	s, err := e.place.Open(Config{Now: e.clock.Now})
	if err != nil {
		e.Fatal(err)
	}
	e.Store, e.closed = s, false
	e.wantKind(e.ChangePush(e.ctx, &store.PushChange{Drop: []store.PushJob{job}, Watermark: 2}), chat.KindNotFound)
	e.wantJobs(e.jobs(pushLane, 0), []store.PushJob{job})
	// What has nothing to do with the log can be changed all the same.
	e.changePush(&store.PushChange{Drop: []store.PushJob{job}})
	e.wantJobs(e.jobs(pushLane, 0), nil)
	e.send(message("alice", "y"), "bob")
	e.reopen()
	if e.pushMark() != 1 || e.LogHead() != 2 {
		e.Errorf("the watermark is %d of %d, want 1 of 2", e.pushMark(), e.LogHead())
	}
}

// testPushCrash cuts the power between changes: each is there as a whole or not, and
// none without those before it.
func testPushCrash(e *env) {
	if e.place.Crash == nil {
		e.Skip("this place cannot crash")
	}
	const steps = 50
	for range steps {
		e.send(message("alice", "x"), "bob")
	}
	next, synced := 0, 0
	for life := range 4 {
		for range steps / 5 {
			next++
			c := &store.PushChange{Watermark: uint64(next), Sync: next%4 == 0 && life%2 == 0}
			uid := pushUID(int64(next), 0)
			for i := range 40 {
				c.Put = append(c.Put, pushJob(int64(next), uid.Plus(i), "bob", fmt.Sprint(i)))
				if next > 1 {
					c.Drop = append(c.Drop, pushJob(int64(next-1), pushUID(int64(next-1), i), "bob", fmt.Sprint(i)))
				}
			}
			c.Look = []store.PushLook{{Due: int64(next), Ref: uid, App: app, Targets: []int{next}}}
			c.Looked = []store.PushLook{{Due: int64(next - 1), Ref: pushUID(int64(next-1), 0)}}
			c.Halt = []store.PushHalt{{Lane: pushLane, Since: int64(next)}}
			e.changePush(c)
			if c.Sync {
				synced = next
			}
		}
		if life == 1 {
			// A send that is answered takes all with it that was written before.
			e.send(message("alice", "x"), "bob")
			synced = next
		}
		e.place.Crash(e.Store)
		e.open()
		at := int(e.pushMark())
		if at < synced || at > next {
			e.Fatalf("life %d: the watermark is %d, want %d to %d", life, at, synced, next)
		}
		list := e.jobs(pushLane, 0)
		looks, err := e.PushLooks(e.ctx, math.MaxInt64, 100)
		halts, err2 := e.PushHalts(e.ctx)
		if err != nil || err2 != nil {
			e.Fatal(err, err2)
		}
		if at == 0 {
			if len(list)+len(looks)+len(halts) > 0 {
				e.Fatalf("life %d: something is there without the watermark", life)
			}
		} else if len(list) != 40 || list[0].Due != int64(at) || list[39].Due != int64(at) ||
			len(looks) != 1 || looks[0].Targets[0] != at || len(halts) != 1 || halts[0].Since != int64(at) {
			e.Fatalf("life %d: with the watermark at %d there are %d jobs, looks %+v, halts %+v", life, at, len(list), looks, halts)
		}
		next, synced = at, at
	}
}

// testPushAtOnce has several lanes, a follower and readers at work at once.
func testPushAtOnce(e *env) {
	const lanes, rounds, each = 4, 20, 25
	for range rounds {
		e.send(message("alice", "x"), "bob")
	}
	lane := func(i int) store.PushLane {
		l := pushLane
		l.Package = fmt.Sprint(i)
		return l
	}
	ref := pushUID(1000, 0)
	var wg sync.WaitGroup
	wg.Go(func() {
		for round := range rounds {
			c := &store.PushChange{Watermark: uint64(round + 1), Sync: round%7 == 0}
			for i := range lanes {
				for n := range each {
					j := pushJob(int64(round), ref.Plus(round*each+n), "bob", "phone")
					j.Lane = lane(i)
					c.Put = append(c.Put, j)
				}
			}
			if err := e.ChangePush(e.ctx, c); err != nil {
				e.Error(err)
			}
		}
	})
	for i := range lanes {
		wg.Go(func() {
			l := lane(i)
			var behind store.PushPlace
			for done := 0; done < rounds*each && !e.Failed(); {
				list, err := e.PushJobs(e.ctx, &l, 0, behind, math.MaxInt64, 10)
				if err != nil {
					e.Error(err)
					return
				}
				if len(list) == 0 {
					if _, err := e.CountPushJobs(e.ctx, &l); err != nil {
						e.Error(err)
					}
					continue
				}
				behind = list[len(list)-1].PushPlace
				c := &store.PushChange{Drop: list, Sync: done%50 == 0}
				for _, j := range list {
					at := j.UID.IndexIn(ref, chat.MaxUIDBlock)
					c.Outcomes = append(c.Outcomes, store.PushOutcome{UID: j.UID, Device: l.Package})
					c.Reasons = append(c.Reasons, store.PushReasonsOf{Ref: ref, Count: lanes * rounds * each, Targets: []int{at*lanes + i}, Reasons: []uint8{uint8(i)}})
				}
				if err := e.ChangePush(e.ctx, c); err != nil {
					e.Error(err)
					return
				}
				done += len(list)
			}
		})
	}
	wg.Wait()
	if list, err := e.PushLanes(e.ctx); err != nil || len(list) > 0 {
		e.Errorf("lanes %+v, %v, are left", list, err)
	}
	if e.pushMark() != rounds {
		e.Errorf("the watermark is %d, want %d", e.pushMark(), rounds)
	}
	reasons, err := e.PushReasons(e.ctx, ref)
	if err != nil || len(reasons) != lanes*rounds*each {
		e.Fatalf("%d reasons, %v", len(reasons), err)
	}
	for i, r := range reasons {
		if int(r) != i%lanes {
			e.Fatalf("reason %d is %d", i, r)
		}
	}
	for i := range rounds * each {
		if list, err := e.PushOutcomes(e.ctx, ref.Plus(i)); err != nil || len(list) != lanes {
			e.Fatalf("%d outcomes, %v", len(list), err)
		}
	}
}
