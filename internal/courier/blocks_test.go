package courier

import (
	"fmt"
	"slices"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
)

func (p *post) block(t testing.TB, user string, others ...string) {
	t.Helper()
	if err := p.store.Block(t.Context(), p.app.ID, user, others); err != nil {
		t.Fatal(err)
	}
}

func (s *Sent) targets() (ids []string) {
	for _, p := range s.Placed {
		ids = append(ids, p.Target)
	}
	return ids
}

// Who has blocked the sender, and whom the sender has blocked, gets no UID when
// the message asks for it; the others get consecutive ones.
func TestVerifyBlocklist(t *testing.T) {
	t.Parallel()
	p := newPost(t, vfs.NewMem(), nil)
	p.block(t, "alice", "dave", "stranger")
	p.block(t, "bob", "alice")
	p.block(t, "carol", "bob")
	p.block(t, "alice", "erin")
	p.block(t, "erin", "alice")

	verify := func(to ...string) *Send {
		s := p.text(chat.Direct, to...)
		s.Message.VerifyBlocklist = true
		return s
	}
	sent, err := p.Send(t.Context(), p.app, verify("zoe", "bob", "carol", "dave", "erin", "adam"))
	if err != nil || !slices.Equal(sent.targets(), []string{"zoe", "carol", "adam"}) || sent.Left != 3 {
		t.Fatalf("sent %+v, %v", sent, err)
	}
	for i, pl := range sent.Placed {
		if pl.UID.IndexIn(sent.Placed[0].UID, 3) != i {
			t.Errorf("UID %d is not consecutive", i)
		}
	}
	for user, want := range map[string]uint64{"zoe": 1, "bob": 0, "carol": 1, "dave": 0, "erin": 0, "adam": 1} {
		if n := p.head(t, user); n != want {
			t.Errorf("%s has %d entries, want %d", user, n, want)
		}
	}
	// Without the switch the backend reaches everybody, and in a system channel
	// there is no such switch.
	if sent, err = p.Send(t.Context(), p.app, p.text(chat.Direct, "bob", "dave")); err != nil || len(sent.Placed) != 2 {
		t.Errorf("without the switch: %+v, %v", sent, err)
	}
	system := verify("bob")
	system.Message.ChannelType = chat.System
	if sent, err = p.Send(t.Context(), p.app, system); err != nil || len(sent.Placed) != 1 {
		t.Errorf("in a system channel: %+v, %v", sent, err)
	}
	log := p.store.LogHead()
	if sent, err = p.Send(t.Context(), p.app, verify("bob", "dave")); err != nil || len(sent.Placed) != 0 || sent.Left != 2 || sent.SentAt == 0 {
		t.Errorf("everybody left out: %+v, %v", sent, err)
	}
	if p.store.LogHead() != log {
		t.Error("a send to nobody left a record")
	}
}

// A repeat has the first answer, whatever the blocklists are by then.
func TestLeftOutStayLeftOut(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	p := newPost(t, fs, nil)
	p.block(t, "bob", "alice")
	p.block(t, "alice", "dave")
	some := []string{"carol", "bob", "erin", "dave"}
	none := []string{"dave", "bob"}
	send := func(key string, to []string) *Sent {
		t.Helper()
		s := p.text(chat.Direct, to...)
		s.Message.VerifyBlocklist, s.Message.Echo = true, true
		s.Claim = p.claim(t, key, fmt.Sprint(to))
		sent, err := p.Send(t.Context(), p.app, s)
		if err != nil {
			t.Fatal(err)
		}
		return sent
	}
	first, empty := send("some", some), send("none", none)
	if !slices.Equal(first.targets(), []string{"carol", "erin"}) || len(empty.Placed) != 0 || first.Repeated || empty.Repeated {
		t.Fatalf("first %+v, empty %+v", first, empty)
	}
	if err := p.store.Unblock(t.Context(), p.app.ID, "bob", []string{"alice"}); err != nil {
		t.Fatal(err)
	}
	p.block(t, "carol", "alice")
	for range 2 {
		if again := send("some", some); !again.Repeated || !slices.Equal(again.Placed, first.Placed) || again.SentAt != first.SentAt {
			t.Errorf("the repeat is %+v, want %+v", again, first)
		}
		if again := send("none", none); !again.Repeated || len(again.Placed) != 0 || again.SentAt != empty.SentAt {
			t.Errorf("the empty repeat is %+v, want %+v", again, empty)
		}
		if n := p.head(t, "carol"); n != 1 {
			t.Errorf("carol has %d entries, want 1", n)
		}
		if n := p.head(t, "alice"); n != 2 {
			t.Errorf("alice has %d copies, want 2", n)
		}
		p.closeOnce()
		p = newPost(t, fs, nil)
	}
}

// Clients are always checked, and only in the direction of the message.
func TestClientsAreChecked(t *testing.T) {
	t.Parallel()
	reg := &registry{}
	p := newPost(t, vfs.NewMem(), reg)
	p.block(t, "bob", "alice")
	p.block(t, "alice", "carol")
	send := func(ct chat.ChannelType, to string) error {
		s := p.text(ct, to)
		s.Message.Origin = chat.FromClient
		_, err := p.Send(t.Context(), p.app, s)
		return err
	}
	if err := send(chat.Direct, "bob"); chat.KindOf(err) != chat.KindBlocked {
		t.Errorf("to who has blocked the sender: %v", err)
	}
	if n := p.head(t, "bob"); n != 0 {
		t.Errorf("bob has %d entries", n)
	}
	if err := send(chat.Direct, "carol"); err != nil {
		t.Errorf("to whom the sender has blocked: %v", err)
	}
	if err := send(chat.Open, "bob"); err != nil {
		t.Errorf("a channel has no blocklist: %v", err)
	}
	reg.muted = chat.Fail(chat.KindMutedDirect, "no")
	if err := send(chat.Direct, "carol"); chat.KindOf(err) != chat.KindMutedDirect {
		t.Errorf("muted: %v", err)
	}
	if _, err := p.Send(t.Context(), p.app, p.text(chat.Direct, "bob")); err != nil {
		t.Errorf("the backend passes: %v", err)
	}
}

// What verifyBlocklist costs a send to 1000: nothing to speak of where there is
// no block, and not much where there are some.
func BenchmarkVerifyBlocklist(b *testing.B) {
	to := make([]string, 1000)
	for i := range to {
		to[i] = fmt.Sprint("user-", i)
	}
	for _, c := range []struct {
		name   string
		verify bool
		blocks int
	}{{"off", false, 0}, {"no blocks", true, 0}, {"10 blocks", true, 10}, {"500 blocks", true, 500}} {
		b.Run(c.name, func(b *testing.B) {
			p := newPost(b, vfs.NewMem(), nil)
			p.app.Settings.LimitDirect = chat.Rate{}
			if c.blocks > 0 {
				p.block(b, "alice", to[:c.blocks]...)
			}
			b.ReportAllocs()
			for b.Loop() {
				s := p.text(chat.Direct, to...)
				s.Message.VerifyBlocklist = c.verify
				if _, err := p.Send(b.Context(), p.app, s); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
