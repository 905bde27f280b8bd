package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// testHistoryRanges compares every kind of range with the same part cut out of
// the whole, over several months.
func testHistoryRanges(e *env) {
	var all []chat.UID // oldest first
	for i := range 40 {
		a := e.send(message("alice", fmt.Sprint(i)), "carol", "bob")
		all = append(all, a.Placed.First.Plus(1))
		if i%7 == 6 {
			e.clock.advance(11 * 24 * time.Hour)
		}
	}
	e.index()
	ch := store.ChannelRef{App: app, Owner: "bob", Type: chat.Direct, Channel: "alice"}
	// Bounds are messages, moments between them, and nothing.
	bound := func(r *rand.Rand) chat.UID {
		u := all[r.IntN(len(all))]
		switch r.IntN(4) {
		case 0:
			return chat.UID{}
		case 1:
			return chat.NewUID(u.Millis()+int64(r.IntN(3))-1, 0, 0, 0)
		case 2:
			return chat.NewUID(u.Millis()+r.Int64N(40*24*3600*1000), 0xf, chat.MaxUIDBlock-1, chat.MaxRun)
		}
		return u
	}
	r := rand.New(rand.NewPCG(7, 7))
	for range 2 {
		for range 300 {
			q := store.HistoryRange{After: bound(r), Before: bound(r), Limit: 1 + r.IntN(45), Forward: r.IntN(2) == 0}
			var want []chat.UID
			for _, u := range all {
				if u.Compare(q.After) > 0 && (q.Before.IsZero() || u.Compare(q.Before) < 0) {
					want = append(want, u)
				}
			}
			if !q.Forward {
				slices.Reverse(want)
			}
			want = want[:min(len(want), q.Limit)]
			list, err := e.History(e.ctx, ch, q)
			var got []chat.UID
			for _, h := range list {
				got = append(got, h.UID)
			}
			if err != nil || !slices.Equal(got, want) {
				e.Fatalf("%+v gives %d messages, %v, want %d", q, len(got), err, len(want))
			}
		}
		e.reopen()
	}
	_, err := e.History(e.ctx, ch, store.HistoryRange{})
	e.wantKind(err, chat.KindInvalid)
}
