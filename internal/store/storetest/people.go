package storetest

import (
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func (e *env) update(change func(*chat.User), ids ...string) {
	e.Helper()
	if err := e.UpdateUsers(e.ctx, app, ids, change); err != nil {
		e.Fatal(err)
	}
}

func (e *env) wantListed(state store.UserState, skip, limit, total int, want ...string) {
	e.Helper()
	list, n, err := e.ListUsers(e.ctx, app, state, skip, limit)
	var ids []string
	for _, l := range list {
		ids = append(ids, l.User)
		u, err := e.User(e.ctx, app, l.User)
		if err != nil {
			e.Fatal(err)
		}
		at := map[store.UserState]int64{
			store.StateBanned: u.BannedUntil, store.StateDeleted: u.DeletedAt,
			store.StateMuted(chat.Direct): u.MutedSince.Direct, store.StateMuted(chat.Open): u.MutedSince.Open,
		}[state]
		if l.At != at {
			e.Errorf("state %d of %s is at %d, want %d", state, l.User, l.At, at)
		}
	}
	if err != nil || n != total || !slices.Equal(ids, want) {
		e.Errorf("state %d from %d: %v of %d, %v, want %v of %d", state, skip, ids, n, err, want, total)
	}
}

func testUserStates(e *env) {
	e.wantListed(store.StateDeleted, 0, 10, 0)
	for i, id := range []string{"dora", "bob", "carl", "b", "anna"} {
		e.update(func(u *chat.User) {
			u.Name, u.DeletedAt = id, int64(100+i)
			u.MutedSince.Open = int64(200 - i)
		}, id)
	}
	e.update(func(u *chat.User) { u.MutedSince.Direct = 7 }, "bob", "eve")
	check := func() {
		e.Helper()
		e.wantListed(store.StateDeleted, 0, 10, 5, "dora", "bob", "carl", "b", "anna")
		e.wantListed(store.StateDeleted, 2, 2, 5, "carl", "b")
		e.wantListed(store.StateDeleted, 5, 2, 5)
		e.wantListed(store.StateMuted(chat.Open), 0, 2, 5, "anna", "b")
		e.wantListed(store.StateMuted(chat.Direct), 0, 10, 2, "bob", "eve")
		e.wantListed(store.StateMuted(chat.Group), 0, 10, 0)
		e.wantListed(store.StateBanned, 0, 10, 0)
	}
	check()
	e.reopen()
	check()
	if u, err := e.User(e.ctx, app, "bob"); err != nil || u.DeletedAt != 101 || u.MutedSince != (chat.Mutes{Direct: 7, Open: 199}) {
		e.Errorf("bob is %+v, %v", u, err)
	}
	// Of another app nobody is listed.
	if ids, n, err := e.ListUsers(e.ctx, app+1, store.StateDeleted, 0, 10); err != nil || n != 0 || len(ids) != 0 {
		e.Errorf("another app lists %v of %d, %v", ids, n, err)
	}
	// A change that is about something else leaves the lists alone; one of the
	// time moves the user; the end of a state takes them off.
	e.update(func(u *chat.User) { u.TokensFrom = 1 }, "dora")
	e.update(func(u *chat.User) { u.DeletedAt = 200 }, "bob")
	e.update(func(u *chat.User) { u.DeletedAt, u.MutedSince = 0, chat.Mutes{} }, "b")
	for range 2 {
		e.wantListed(store.StateDeleted, 0, 10, 4, "dora", "carl", "anna", "bob")
		e.wantListed(store.StateMuted(chat.Open), 0, 10, 4, "anna", "carl", "bob", "dora")
		e.reopen()
	}
}

func testBans(e *env) {
	now := e.clock.Now()
	until := func(d time.Duration, ids ...string) {
		e.Helper()
		e.update(func(u *chat.User) { u.BannedUntil = now.Add(d).UnixMilli() }, ids...)
	}
	until(time.Hour, "bob")
	until(30*24*time.Hour, "anna")
	until(time.Minute, "carl", "dora")
	until(2*time.Hour, "eve")
	// The longest banned come first, so that a page does not move when bans end.
	e.wantListed(store.StateBanned, 0, 10, 5, "anna", "eve", "bob", "carl", "dora")
	until(3*time.Hour, "bob")
	until(0, "eve")
	e.wantListed(store.StateBanned, 0, 10, 4, "anna", "bob", "carl", "dora")
	e.wantListed(store.StateBanned, 1, 2, 4, "bob", "carl")
	e.clock.advance(time.Minute)
	e.wantListed(store.StateBanned, 0, 10, 2, "anna", "bob")
	e.clock.advance(2 * time.Hour)
	e.expire()
	for range 2 {
		e.wantListed(store.StateBanned, 0, 10, 2, "anna", "bob")
		e.reopen()
	}
	// Who was banned before can be again.
	e.update(func(u *chat.User) { u.BannedUntil = now.Add(5 * time.Hour).UnixMilli() }, "carl")
	e.wantListed(store.StateBanned, 0, 10, 3, "anna", "carl", "bob")
}

func (e *env) block(user string, others ...string) {
	e.Helper()
	if err := e.Block(e.ctx, app, user, others); err != nil {
		e.Fatal(err)
	}
}

func (e *env) unblock(user string, others ...string) {
	e.Helper()
	if err := e.Unblock(e.ctx, app, user, others); err != nil {
		e.Fatal(err)
	}
}

func (e *env) blocklist(user string, r store.BlockRange) (ids []string, last uint64) {
	e.Helper()
	list, err := e.Blocklist(e.ctx, app, user, r)
	if err != nil {
		e.Fatal(err)
	}
	for _, b := range list {
		ids, last = append(ids, b.User), b.Place
	}
	return ids, last
}

func (e *env) wantBlocklist(user string, r store.BlockRange, want ...string) uint64 {
	e.Helper()
	ids, last := e.blocklist(user, r)
	if !slices.Equal(ids, want) {
		e.Errorf("blocklist of %s, %+v: %v, want %v", user, r, ids, want)
	}
	return last
}

func testBlocks(e *env) {
	e.wantBlocklist("bob", store.BlockRange{Limit: 10})
	e.block("bob", "zoe", "anna", "zoe")
	e.block("bob", "anna", "mia")
	e.block("bobby", "x")
	for range 2 {
		e.wantBlocklist("bob", store.BlockRange{Limit: 10}, "zoe", "anna", "mia")
		e.wantBlocklist("bob", store.BlockRange{Limit: 10, Reverse: true}, "mia", "anna", "zoe")
		e.wantBlocklist("bo", store.BlockRange{Limit: 10})
		e.reopen()
	}
	// A page goes on where the one before ended, whatever happens meanwhile.
	at := e.wantBlocklist("bob", store.BlockRange{Limit: 2}, "zoe", "anna")
	e.unblock("bob", "zoe", "anna", "nobody")
	e.block("bob", "zoe")
	e.wantBlocklist("bob", store.BlockRange{After: at, Limit: 10}, "mia", "zoe")
	back := e.wantBlocklist("bob", store.BlockRange{Limit: 1, Reverse: true}, "zoe")
	e.block("bob", "new")
	e.wantBlocklist("bob", store.BlockRange{After: back, Limit: 10, Reverse: true}, "mia")
	// A place is not given again when its user goes.
	last := e.wantBlocklist("bob", store.BlockRange{Limit: 1, Reverse: true}, "new")
	e.unblock("bob", "new")
	e.clock.advance(time.Millisecond)
	e.block("bob", "newer")
	e.wantBlocklist("bob", store.BlockRange{After: last, Limit: 10}, "newer")
	e.unblock("bob", "mia", "zoe", "newer")
	for range 2 {
		e.wantBlocklist("bob", store.BlockRange{Limit: 10})
		e.reopen()
	}
	if list, err := e.Blocklist(e.ctx, app+1, "bobby", store.BlockRange{Limit: 10}); err != nil || len(list) != 0 {
		e.Errorf("another app's list is %v, %v", list, err)
	}
}

func testBlocksBetween(e *env) {
	everybody := users(1000)
	slices.Reverse(everybody)
	check := func(what string, f func() ([]string, error), want ...string) {
		e.Helper()
		got, err := f()
		if err != nil || !slices.Equal(got, want) {
			e.Errorf("%s: %v, %v, want %v", what, got, err, want)
		}
	}
	blocked := func(user string, others ...string) func() ([]string, error) {
		return func() ([]string, error) { return e.Blocked(e.ctx, app, user, others) }
	}
	blockers := func(user string, others ...string) func() ([]string, error) {
		return func() ([]string, error) { return e.Blockers(e.ctx, app, user, others) }
	}
	check("no blocks", blocked("alice", everybody...))
	check("no blocks", blockers("alice", everybody...))
	e.block("alice", "user7", "user999", "user0", "stranger", "a", "zz")
	e.block("user7", "alice")
	e.block("user12", "alice", "user7")
	e.block("alic", "user1")
	for range 2 {
		check("alice blocks", blocked("alice", everybody...), "user0", "user7", "user999")
		check("alice blocks", blocked("alice", "user1", "zz", "user2"), "zz")
		check("alice blocks one", blocked("alice", "user7"), "user7")
		check("alice does not block one", blocked("alice", "user8"))
		check("they block alice", blockers("alice", everybody...), "user12", "user7")
		check("one blocks alice", blockers("alice", "user7"), "user7")
		check("one does not", blockers("alice", "user0"))
		check("alic is somebody else", blockers("alic", everybody...))
		e.reopen()
	}
	if got, err := e.Blocked(e.ctx, app+1, "alice", everybody); err != nil || len(got) != 0 {
		e.Errorf("in another app alice blocks %v, %v", got, err)
	}
	// A list that is longer than it is asked about.
	var long, want []string
	for i := range 700 {
		long = append(long, fmt.Sprint("user", i*5))
		if i*5 < 1000 {
			want = append(want, fmt.Sprint("user", i*5))
		}
	}
	slices.Sort(want)
	e.block("long", long...)
	check("a long list", blocked("long", everybody...), want...)
	check("a long list", blocked("long", "user3495", "user1", "user0", "zz"), "user0", "user3495")
	check("a long list", blocked("long", "user1", "zz", "a"))

	e.unblock("user7", "alice")
	check("no more", blockers("alice", everybody...), "user12")
}

func testBlocksAreBounded(e *env) {
	many := make([]string, store.MaxBlocklist)
	for i := range many {
		many[i] = fmt.Sprint("blocked", i)
	}
	e.block("bob", many[:1]...)
	e.block("bob", many...)
	e.wantKind(e.Block(e.ctx, app, "bob", []string{many[3], "onemore"}), chat.KindInvalid)
	ids, _ := e.blocklist("bob", store.BlockRange{Limit: 2 * store.MaxBlocklist})
	if !slices.Equal(ids, many) {
		e.Errorf("%d users on the list, want the %d first", len(ids), len(many))
	}
	e.block("bob", many[:10]...) // nobody new
	e.unblock("bob", many[0])
	e.block("bob", "onemore")
	e.wantKind(e.Block(e.ctx, app, "bob", []string{""}), chat.KindInvalid)
	e.wantKind(e.Unblock(e.ctx, app, "", []string{"x"}), chat.KindInvalid)
}
