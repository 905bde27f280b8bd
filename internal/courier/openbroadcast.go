package courier

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// inAllChannels stands in budgets for broadcasts to all open channels.
const inAllChannels chat.ChannelType = 0xff

// broadcastBlock is how many open channels are told in one step, so that others
// find room between.
const broadcastBlock = 1000

// BroadcastOpen gives a message to everybody who is in an open channel of the app
// now, once in each channel. Nothing of it is kept, channels that are idle stay
// so, and none sheds it: there are few such messages.
func (c *Courier) BroadcastOpen(ctx context.Context, app *chat.App, s *Send) (*Sent, error) {
	sent, err := c.broadcastOpen(ctx, app, s)
	s.Claim.settle(err)
	c.metrics.sent(s.Message, sent, err)
	return sent, err
}

func (c *Courier) broadcastOpen(ctx context.Context, app *chat.App, s *Send) (*Sent, error) {
	m := s.Message
	m.Persist = false
	if s.Claim.Repeats() {
		return &Sent{Repeated: true}, nil
	}
	if !app.Settings.Broadcasts {
		return nil, errNoBroadcasts()
	}
	if err := check(m, &app.Settings, false); err != nil {
		return nil, err
	}
	if app.Settings.RegisteredUsersOnly {
		if err := c.users.CheckRegistered(ctx, app, "fromUserId", m.From); err != nil {
			return nil, err
		}
	}
	if err := c.budgets.Take(budgetKey{app.ID, inAllChannels}, app.Settings.LimitOpenBroadcast, 1, ""); err != nil {
		return nil, err
	}
	keys := c.rooms.Keys(app.ID)
	targets := make([]string, len(keys))
	for i, k := range keys {
		targets[i] = k.Channel
	}
	sent := &Sent{}
	for claim := s.Claim; claim != nil || len(targets) > 0; claim = nil {
		n := min(len(targets), broadcastBlock)
		a := &store.Append{Message: m, Targets: targets[:n]}
		if claim != nil {
			a.Once, a.Done, claim.appending = &claim.once, claim.finish, true
		}
		if err := c.store.Append(ctx, a); err != nil {
			return nil, err
		}
		sent.Placed = append(sent.Placed, placed(m, a.Placed.First, targets[:n], nil).Placed...)
		targets = targets[n:]
	}
	return sent, nil
}
