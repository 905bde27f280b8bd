package trace

import (
	"context"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// A herald says what it is told to of notifications.
type herald struct {
	rules   push.Rules
	decided bool
}

func (h *herald) PushRules(context.Context, *chat.App) (push.Rules, error) { return h.rules, nil }
func (h *herald) PushDecided(int64) bool                                   { return h.decided }

func pushed(a *store.Append) { a.Message.Flags |= chat.Pushed }

func TestTraceOfPush(t *testing.T) {
	t.Parallel()
	d := newDesk(t)
	on := push.Rules{Enabled: true}
	h := &herald{rules: on}
	reason := func(a *store.Append) (words []string) {
		t.Helper()
		r, err := d.Trace(t.Context(), d.app, a.Placed.First, Page{All: true})
		if err != nil {
			t.Fatal(err)
		}
		for _, rec := range r.Recipients {
			if rec.Push == nil {
				words = append(words, "-")
			} else {
				words = append(words, rec.Push.Effect.String()+" "+rec.Push.Reason)
			}
		}
		return words
	}
	want := func(a *store.Append, words ...string) {
		t.Helper()
		got := reason(a)
		for i := range words {
			if len(got) != len(words) || got[i] != words[i] {
				t.Fatalf("got %q, want %q", got, words)
			}
		}
	}
	a := d.send([]string{"bob", "carl", "dora"}, pushed)
	want(a, "-", "-", "-") // nobody notifies here
	d.AttachPush(h)
	want(a, "none pending", "none pending", "none pending")
	h.decided = true
	want(a, "-", "-", "-")
	h.decided, h.rules = false, push.Rules{}
	want(a, "none push_off", "none push_off", "none push_off")
	h.rules = on

	custom := d.send([]string{"bob"})
	want(custom, "none no_text")
	want(d.send([]string{"bob"}, func(a *store.Append) { a.Message.Push.Disabled = true }), "none disabled")
	want(d.send([]string{"hall"}, open), "none channel_type")

	// Some are decided upon, and others looked at again.
	err := d.store.ChangePush(t.Context(), &store.PushChange{
		Reasons: []store.PushReasonsOf{{Ref: a.Placed.First, Count: 3, Targets: []int{0, 2}, Reasons: []uint8{uint8(push.ReasonAway), uint8(push.ReasonLevel)}}},
		Outcomes: []store.PushOutcome{{
			UID: a.Placed.First, Device: "phone", Provider: chat.FCM, Class: "accepted", Code: "200", ID: "m/1", Token: "…abc", Attempts: 2, At: 7, Cut: uint8(push.CutBody | push.CutImage),
		}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want(a, "alert away", "none pending", "none level")
	// What was decided is told whatever the app does now.
	h.rules = push.Rules{}
	want(a, "alert away", "none push_off", "none level")
	h.rules = on
	r, err := d.Trace(t.Context(), d.app, a.Placed.First, Page{})
	if err != nil {
		t.Fatal(err)
	}
	device := PushedDevice{Device: "phone", Provider: "FCM", Class: "accepted", Code: "200", ID: "m/1", Token: "…abc", Attempts: 2, At: 7}
	if p := r.Recipients[0].Push; len(p.Devices) != 1 {
		t.Errorf("%+v", p)
	} else if got := p.Devices[0]; len(got.Cut) != 2 || got.Cut[0] != "image" || got.Cut[1] != "body" {
		t.Errorf("cut: %q", got.Cut)
	} else if got.Cut = nil; got.Device != device.Device || got.ID != device.ID || got.At != 7 || got.Attempts != 2 || got.Withdrawn {
		t.Errorf("%+v", got)
	}

	// A sender's own client learns that it notified, and only what the message alone
	// says of why not.
	own := func(uid chat.UID) Push {
		t.Helper()
		r, err := d.TraceOwn(t.Context(), d.app, "ann", uid)
		if err != nil {
			t.Fatal(err)
		}
		p := *r.Recipients[0].Push
		if p.Devices != nil {
			t.Errorf("the sender learns of devices: %+v", p.Devices)
		}
		return p
	}
	for uid, want := range map[chat.UID]Push{
		a.Placed.First:         {Effect: push.Alert},
		a.Placed.First.Plus(1): {Reason: "pending"},
		a.Placed.First.Plus(2): {},
		custom.Placed.First:    {Reason: "no_text"},
	} {
		if p := own(uid); p.Effect != want.Effect || p.Reason != want.Reason {
			t.Errorf("%+v, want %+v", p, want)
		}
	}
}
