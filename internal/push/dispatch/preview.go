package dispatch

import (
	"context"
	"fmt"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// A Preview says what a message would do for one recipient if it were sent now and
// no device of theirs took it.
type Preview struct {
	User      string
	Connected bool // they have a connection, and might have taken it there
	Effect    push.Effect
	Reason    push.Reason
	Devices   []DevicePreview // all that they have registered
}

// A DevicePreview says what one device would be told, and in which words.
type DevicePreview struct {
	Device chat.PushDevice // its token is shortened
	Effect push.Effect
	Reason push.Reason

	// Of a device that would be notified.

	Lane        store.PushLane // of the credential it is notified with
	Title, Body string
	Request     *push.Request // what the provider would be sent, without the token and what proves who sends it
	Err         error         // why there is no request
}

// Preview says what a message of the app would do for the users, and with them how
// it would be told. Nothing is sent, stored or counted.
//
// It goes the way that a message goes behind its commit, from the first decision to
// the provider's words, by the same functions.
func (d *Dispatcher) Preview(ctx context.Context, app *chat.App, m *chat.Message, users []string) ([]Preview, error) {
	now := d.Now()
	q := &request{app: app, send: push.NewSend(m)}
	var err error
	if q.rules, err = d.PushRules(ctx, app); err != nil {
		return nil, err
	}
	if q.setup, err = d.setupOf(ctx, app); err != nil {
		return nil, err
	}
	out := make([]Preview, len(users))
	effect, reason := q.send.Decide(&q.rules)
	for i := range out {
		_, connected := d.Sessions.Cursors(app.ID, users[i])
		out[i] = Preview{User: users[i], Connected: connected, Reason: reason}
	}
	if effect == push.None {
		return out, nil
	}
	devices, err := d.Store.PushDevicesOf(ctx, app.ID, users)
	if err != nil {
		return nil, err
	}
	v := &previewer{d: d, q: q, adapters: map[store.PushLane]*adapterOrNot{}}
	defer v.close()
	// A UID as the message would have: nothing that is known is about one so new.
	q.ref = chat.NewUID(now.UnixMilli(), m.ChannelType, 0, 0)
	uids := make([]chat.UID, len(users))
	for i := range uids {
		uids[i] = q.ref.Plus(i)
	}
	sights, err := d.Store.PushSights(ctx, app.ID, m.ChannelType, m.From, users, uids)
	if err != nil {
		return nil, err
	}
	for i := range out {
		if err := v.recipient(ctx, &out[i], uids[i], devices[i], &sights[i]); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// A previewer makes previews of one message.
type previewer struct {
	d        *Dispatcher
	q        *request
	adapters map[store.PushLane]*adapterOrNot
}

type adapterOrNot struct {
	push.Adapter
	err error
}

func (v *previewer) close() {
	for _, a := range v.adapters {
		if a.err == nil {
			a.Close()
		}
	}
}

func (v *previewer) recipient(ctx context.Context, p *Preview, uid chat.UID, devices []chat.PushDevice, sight *store.PushSight) error {
	q, now := v.q, v.d.Now()
	switch {
	case p.User == q.send.Message.From:
		p.Reason = push.ReasonCopy
		return nil
	case len(devices) == 0:
		p.Reason = push.ReasonNoDevice
		return nil
	}
	r := push.Recipient{ID: p.User, Devices: devices}
	q.fill(&r, uid, sight, now)
	all := push.Decide(q.send, &r, &q.rules, now, now)
	if p.Effect, p.Reason = all.Effect, all.Reason; all.Effect != push.None {
		p.Reason = push.ReasonNoCredential
	}
	for i := range devices {
		// The same for this device alone, which says why it is left out.
		one := r
		one.Devices = devices[i : i+1]
		it := push.Decide(q.send, &one, &q.rules, now, now)
		to := DevicePreview{Device: devices[i], Effect: it.Effect, Reason: it.Reason}
		to.Device.Token = chat.ShortToken(devices[i].Token)
		if it.Effect != push.None {
			if c := q.setup.credential(&devices[i]); c == nil {
				to.Effect, to.Reason = push.None, push.ReasonNoCredential
			} else if err := v.device(ctx, &to, &devices[i], c, p.User, uid); err != nil {
				return err
			} else {
				p.Reason = all.Reason
			}
		}
		p.Devices = append(p.Devices, to)
	}
	if p.Reason == push.ReasonNoCredential {
		p.Effect = push.None
	}
	return nil
}

// device fills in how the device would be told.
func (v *previewer) device(ctx context.Context, p *DevicePreview, to *chat.PushDevice, c *chat.PushCredential, user string, uid chat.UID) error {
	q := v.q
	n, err := v.d.note(ctx, &telling{app: q.app, rules: &q.rules, setup: q.setup, send: q.send}, user, uid, to, p.Effect, 0)
	if err != nil {
		return err
	}
	p.Lane, p.Title, p.Body = laneOf(q.app.ID, c, to), n.Title, n.Body
	a := v.adapters[p.Lane]
	if a == nil {
		a = &adapterOrNot{}
		a.Adapter, a.err = v.d.Adapter(c)
		v.adapters[p.Lane] = a
	}
	if p.Err = a.err; p.Err != nil {
		return nil
	}
	r, ok := a.Adapter.(push.Renderer)
	if !ok {
		p.Err = fmt.Errorf("%s does not say what it would send", c.Provider)
		return nil
	}
	request, err := r.Render(&n)
	if p.Err = err; err == nil {
		masked := request.Masked(to.Token)
		p.Request = &masked
	}
	return nil
}
