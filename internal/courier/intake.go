package courier

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/room"
)

// admit parts the open channels into those that take the message and those that
// have no room for it. It is decided now and for good: what is shed leaves no row,
// and what is taken is not put out again by what comes later.
func (c *Courier) admit(ctx context.Context, app *chat.App, m *chat.Message, targets []string) (to, shed []string, err error) {
	all, err := c.open.OpenChannel(ctx, app.ID, "")
	if err != nil {
		return nil, nil, err
	}
	// The queues on the way out go by the message, so a class that it has in one
	// of several channels only is of the intake alone.
	class := classOf(m, all)
	m.Priority = class
	budgets := budgetsOf(&app.Settings)
	to = targets
	for i, id := range targets {
		own := class
		if ch, err := c.open.OpenChannel(ctx, app.ID, id); err != nil {
			return nil, nil, err
		} else if ch != nil {
			if _, ok := ch.Priority[m.From]; ok {
				own = chat.PriorityAllowlisted
			}
		}
		if len(targets) == 1 {
			m.Priority = own
		}
		key := room.Key{App: app.ID, Channel: id}
		if c.intake.Admit(key, own, budgets) {
			if shed != nil {
				to = append(to, id)
			}
			continue
		}
		if shed == nil {
			to = append(make([]string, 0, len(targets)-1), targets[:i]...)
		}
		shed = append(shed, id)
		if own == chat.PriorityStandard {
			own = chat.PriorityHigh // they have one budget, and are counted as one
		}
		c.rooms.Shed(key, own)
		c.metrics.shed(own, ShedIntake)
	}
	return to, shed, nil
}

// classOf is the class of a message: what it was sent as, unless its type says
// otherwise.
func classOf(m *chat.Message, all *chat.OpenChannel) chat.Priority {
	if _, ok := all.PriorityTypes[m.Type]; ok || m.Priority == chat.PriorityAllowlisted {
		return chat.PriorityAllowlisted
	}
	if _, ok := all.LowTypes[m.Type]; ok && m.Priority == chat.PriorityStandard {
		return chat.PriorityLow
	}
	return m.Priority // a standard one is as good as a high one
}

func budgetsOf(s *chat.Settings) room.Budgets {
	if !s.Intake {
		return room.Budgets{}
	}
	return room.Budgets{Window: s.IntakeWindow, Shared: s.IntakeShared, High: s.IntakeHigh, Allowlisted: s.IntakeAllowlisted}
}
