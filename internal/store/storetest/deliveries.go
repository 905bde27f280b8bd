package storetest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// delivery is something that happened to bob's entries above after, up to to,
// at a time of its own.
func (e *env) delivery(session byte, kind store.DeliveryKind, after, to uint64) store.Delivery {
	now := e.clock.Now().UnixMilli()
	return store.Delivery{
		App: app, User: "bob", Session: [16]byte{session}, Device: "phone", Platform: "ios",
		Kind: kind, After: after, To: to, From: now - 7, Until: now,
	}
}

func (e *env) deliver(list ...store.Delivery) {
	e.Helper()
	if err := e.PutDeliveries(e.ctx, list); err != nil {
		e.Fatalf("put deliveries: %v", err)
	}
}

func (e *env) wantDeliveries(offset uint64, since int64, want ...store.Delivery) {
	e.Helper()
	got, err := e.Deliveries(e.ctx, app, "bob", offset, since)
	if err != nil || !slices.Equal(got, want) {
		e.Errorf("deliveries of %d: %+v, %v\nwant %+v", offset, got, err, want)
	}
}

func testDeliveries(e *env) {
	e.wantDeliveries(1, 0)
	first := e.delivery(1, store.DeliveryWritten, 0, 1)
	run := e.delivery(1, store.DeliveryWritten, 1, 9)
	acked := e.delivery(1, store.DeliveryAcked, 0, 5)
	bare := e.delivery(2, store.DeliveryWritten, 4, 6)
	bare.Device, bare.Platform = "", ""
	other := e.delivery(3, store.DeliveryWritten, 0, 9)
	other.User = "bo"
	elsewhere := e.delivery(4, store.DeliveryWritten, 0, 9)
	elsewhere.App = app + 1
	e.deliver(first, run, acked, bare, other, elsewhere)
	e.deliver()
	for range 2 {
		e.wantDeliveries(1, 0, first, acked)
		e.wantDeliveries(2, 0, acked, run)
		e.wantDeliveries(5, 0, acked, bare, run)
		e.wantDeliveries(6, 0, bare, run)
		e.wantDeliveries(9, 0, run)
		e.wantDeliveries(10, 0)
		e.reopen()
	}
	if list, err := e.Deliveries(e.ctx, app+1, "bob", 3, 0); err != nil || !slices.Equal(list, []store.Delivery{elsewhere}) {
		e.Errorf("of another app: %+v, %v", list, err)
	}
	// A long run is found from its every entry, though it may be kept in pieces.
	e.deliver(e.delivery(5, store.DeliveryWritten, 100, 100+3*store.MaxDeliverySpan))
	for _, offset := range []uint64{101, 100 + store.MaxDeliverySpan, 101 + store.MaxDeliverySpan, 100 + 3*store.MaxDeliverySpan} {
		list, err := e.Deliveries(e.ctx, app, "bob", offset, 0)
		if err != nil || len(list) != 1 || list[0].After >= offset || list[0].To < offset || list[0].Session != [16]byte{5} {
			e.Errorf("deliveries of %d in a long run: %+v, %v", offset, list, err)
		}
	}
	e.wantDeliveries(101+3*store.MaxDeliverySpan, 0)
	// A client that comes again and again does not make an endless list.
	var many []store.Delivery
	for i := range store.MaxDeliveries + 10 {
		d := e.delivery(9, store.DeliveryWritten, 5000, 5001)
		d.Session[1], d.Session[2] = byte(i), byte(i>>8)
		many = append(many, d)
	}
	e.deliver(many...)
	if list, err := e.Deliveries(e.ctx, app, "bob", 5001, 0); err != nil || len(list) != store.MaxDeliveries {
		e.Errorf("%d deliveries of one entry, %v", len(list), err)
	}
	for _, user := range []string{"", strings.Repeat("x", 256)} {
		d := first
		d.User = user
		e.wantKind(e.PutDeliveries(e.ctx, []store.Delivery{d}), chat.KindInvalid)
		_, err := e.Deliveries(e.ctx, app, user, 1, 0)
		e.wantKind(err, chat.KindInvalid)
	}
}

func testDeliveriesLive(e *env) {
	start := e.clock.Now()
	old := e.delivery(1, store.DeliveryWritten, 0, 2)
	e.deliver(old)
	reach := e.send(openMessage("alice", "hi", true), "lobby").Placed.First
	if err := e.PutReach(e.ctx, []store.Reach{{UID: reach, Members: 3}}); err != nil {
		e.Fatal(err)
	}
	e.clock.advance(3 * 24 * time.Hour)
	young := e.delivery(2, store.DeliveryAcked, 0, 2)
	e.deliver(young)
	e.wantDeliveries(1, start.UnixMilli(), old, young)
	e.wantDeliveries(1, e.clock.Now().UnixMilli(), young)
	for _, step := range []struct {
		days int
		want []store.Delivery
		keep bool
	}{
		{7, []store.Delivery{old, young}, true},
		{8, []store.Delivery{young}, false},
		{10, []store.Delivery{young}, false},
		{11, nil, false},
	} {
		e.clock.set(start.AddDate(0, 0, step.days))
		e.expire()
		for range 2 {
			e.wantDeliveries(1, 0, step.want...)
			if n, known, err := e.Reach(e.ctx, reach); known != step.keep || err != nil {
				e.Errorf("reach after %d days: %d, %t, %v", step.days, n, known, err)
			}
			e.reopen()
		}
	}
}

func testReach(e *env) {
	a := e.send(openMessage("alice", "hi", true), "lobby", "den")
	if err := e.PutReach(e.ctx, []store.Reach{{UID: a.Placed.First, Members: 0}, {UID: a.Placed.First.Plus(1), Members: 70000}}); err != nil {
		e.Fatal(err)
	}
	if err := e.PutReach(e.ctx, nil); err != nil {
		e.Error(err)
	}
	for range 2 {
		for i, want := range []string{"0 true <nil>", "70000 true <nil>", "0 false <nil>"} {
			n, known, err := e.Reach(e.ctx, a.Placed.First.Plus(i))
			if got := fmt.Sprint(n, known, err); got != want {
				e.Errorf("reach %d is %s, want %s", i, got, want)
			}
		}
		e.reopen()
	}
}

func testLeftOut(e *env) {
	want := []string{"eve", "mallory", "a"}
	for _, history := range []bool{true, false} {
		a := &store.Append{Message: message("alice", "hi"), Targets: []string{"bob"}, Left: want, History: history}
		if err := e.Append(e.ctx, a); err != nil {
			e.Fatal(err)
		}
		nobody := e.send(message("alice", "hi"), "bob")
		for range 2 {
			if got, err := e.LeftOut(e.ctx, a.Placed.First); err != nil || !slices.Equal(got, want) {
				e.Errorf("left out %v, %v, want %v", got, err, want)
			}
			if got, err := e.LeftOut(e.ctx, nobody.Placed.First); err != nil || len(got) != 0 {
				e.Errorf("left out %v, %v, want nobody", got, err)
			}
			e.reopen()
		}
		// As long as the body, and no longer.
		e.clock.advance(9 * 24 * time.Hour)
		e.expire()
		_, gone := e.Message(e.ctx, a.Placed.First)
		if got, err := e.LeftOut(e.ctx, a.Placed.First); err != nil || (len(got) == 0) != (gone != nil) || history == (gone != nil) {
			e.Errorf("history %t: left out %v, %v, the body %v", history, got, err, gone)
		}
	}
	// Of what is not kept nothing is, and it makes no difference to the order.
	s := status("alice")
	if err := e.Append(e.ctx, &store.Append{Message: s, Targets: []string{"bob"}, Left: want}); err != nil {
		e.Error(err)
	}
}
