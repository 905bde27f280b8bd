package directory

import (
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

func names(list []store.Listed) (ids []string) {
	for _, l := range list {
		ids = append(ids, l.User)
	}
	return ids
}

// A ban ends by itself, at its time, also after a restart; and a second one
// counts from its own beginning.
func TestBansEnd(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	tok := h.token(a, "bob")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(h.Ban(t.Context(), a, []string{"bob", "nobody"}, MaxBanMinutes))
	h.pass(MaxBanMinutes*time.Minute - time.Millisecond)
	h.reopen()
	_, err := h.Verify(t.Context(), tok)
	wantKind(t, "shortly before the end", err, chat.KindBanned)
	wantKind(t, "sending", h.CheckSender(t.Context(), a, "bob", chat.Open), chat.KindBanned)
	must(h.Ban(t.Context(), a, []string{"bob"}, 1))
	h.pass(time.Minute - time.Millisecond)
	if list, err := h.Banned(t.Context(), a, 0, 10); err != nil || !slices.Equal(names(list), []string{"bob"}) {
		t.Errorf("banned are %v, %v", list, err)
	}
	h.pass(time.Millisecond)
	if _, err := h.Verify(t.Context(), tok); err != nil {
		t.Errorf("after the end: %v", err)
	}
	must(h.CheckSender(t.Context(), a, "bob", chat.Open))
	if list, err := h.Banned(t.Context(), a, 0, 10); err != nil || len(list) != 0 {
		t.Errorf("banned are %v, %v", list, err)
	}
}

// What one app says of a user is nothing to another app.
func TestStandingIsOfAnApp(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, b := h.app(), h.app()
	for _, app := range []*chat.App{a, b} {
		h.token(app, "bob")
	}
	for _, err := range []error{
		h.Ban(t.Context(), a, []string{"bob"}, 10),
		h.Mute(t.Context(), a, []string{"bob"}, []chat.ChannelType{chat.Direct, chat.Open}, true),
		h.Delete(t.Context(), a, []string{"bob"}),
		h.Block(t.Context(), a, "bob", "f", []string{"eve"}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, ct := range []chat.ChannelType{chat.Direct, chat.Open} {
		if err := h.CheckSender(t.Context(), b, "bob", ct); err != nil {
			t.Error(err)
		}
	}
	banned, err1 := h.Banned(t.Context(), b, 0, 10)
	deleted, err2 := h.Deleted(t.Context(), b, 0, 10)
	muted, total, err3 := h.Muted(t.Context(), b, chat.Direct, 0, 10)
	blocked, next, err4 := h.Blocklist(t.Context(), b, "bob", BlocklistPage{Size: 10})
	if n := len(banned) + len(deleted) + len(muted) + total + len(blocked) + len(next); n != 0 {
		t.Errorf("the other app lists %v, %v, %v, %v", banned, deleted, muted, blocked)
	}
	for _, err := range []error{err1, err2, err3, err4} {
		if err != nil {
			t.Error(err)
		}
	}
}
