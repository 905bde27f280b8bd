package trace

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// Pushes is what notifies those who are away.
type Pushes interface {
	// PushRules are what the app has set about push, not enabled where it has
	// nothing to push with.
	PushRules(ctx context.Context, app *chat.App) (push.Rules, error)
	// PushDecided reports whether all that was sent at the time (Unix ms) is decided
	// upon by now.
	PushDecided(sentAt int64) bool
}

// AttachPush tells the tracer of what notifies. Without, traces say nothing of it.
func (t *Tracer) AttachPush(p Pushes) { t.pushes = p }

// Pending stands for a reason while there is none.
const Pending = "pending"

// A Push is what a message did to notify a recipient.
type Push struct {
	Effect push.Effect
	Reason string // one of push.Reason, or Pending
	// OfMessage says that the reason follows from the message, and is no news of its
	// recipient.
	OfMessage bool
	Devices   []PushedDevice // of those that are settled
}

// A PushedDevice is what became of the notification of one device.
type PushedDevice struct {
	Device    string
	Provider  string
	Token     string // as much of it as may be shown
	Withdrawn bool   // it was to be taken back
	Class     string
	Code      string
	ID        string // the provider's
	Attempts  int
	At        int64    // Unix ms
	Cut       []string // what was left out to make it fit
}

func pushedDevices(list []store.PushOutcome) []PushedDevice {
	devices := make([]PushedDevice, len(list))
	for i, o := range list {
		devices[i] = PushedDevice{
			Device: o.Device, Provider: o.Provider.String(), Token: o.Token, Withdrawn: o.Kind == store.PushWithdraw,
			Class: o.Class, Code: o.Code, ID: o.ID, Attempts: int(o.Attempts), At: o.At, Cut: push.Cut(o.Cut).Words(),
		}
	}
	return devices
}

func newPush(e push.Effect, r push.Reason) *Push {
	return &Push{Effect: e, Reason: r.String(), OfMessage: r.OfMessage()}
}

// pushed fills in what is known of notifications.
func (t *Tracer) pushed(ctx context.Context, app *chat.App, r *Report, a *store.Append) error {
	if t.pushes == nil {
		return nil
	}
	rules, err := t.pushes.PushRules(ctx, app)
	if err != nil {
		return err
	}
	// The app may have pushed when the message was sent, whatever it does now.
	off := !rules.Enabled
	rules.Enabled = true
	effect, alone := push.NewSend(a.Message).Decide(&rules)
	if off {
		alone = push.ReasonOff
	}
	var reasons []uint8
	if effect != push.None {
		if reasons, err = t.store.PushReasons(ctx, a.Placed.First); err != nil {
			return err
		}
	}
	for i := range r.Recipients {
		rec := &r.Recipients[i]
		at := rec.UID.IndexIn(a.Placed.First, len(a.Targets))
		switch {
		case at < len(reasons) && reasons[at] != store.PushUndecided:
			reason := push.Reason(reasons[at])
			if reason != push.ReasonAway {
				rec.Push = newPush(push.None, reason)
				continue
			}
			rec.Push = newPush(effect, reason)
			outcomes, err := t.store.PushOutcomes(ctx, rec.UID)
			if err != nil {
				return err
			}
			rec.Push.Devices = pushedDevices(outcomes)
		case effect == push.None || off:
			rec.Push = newPush(push.None, alone)
		case at < len(reasons) || !t.pushes.PushDecided(r.SentAt):
			rec.Push = &Push{Reason: Pending, OfMessage: true}
		}
		// Otherwise it is not known any more, or was never decided: the app had
		// nothing to push with then.
	}
	return nil
}
