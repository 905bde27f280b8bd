package node

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// Broadcasts to all users. Those who are connected get one soon after it was
// answered, the others with their next connect: as an ordinary system message of
// their own, once.

// A modelCast is a broadcast.
type modelCast struct {
	n                  int
	from, typ, content string
	quiet              bool
	at                 int64 // the clock, when it was asked for
	uid                string
	accepted           bool
	given              map[string]*modelMessage
	present            map[string]bool // who was connected when it was asked for

	missed map[string]bool // who was not connected from then until it was recalled
	// Of the requests to recall it one was the first.
	tries    []*castRecall
	recall   *castRecall
	recalled bool // one was answered
}

type castRecall struct {
	extra        string
	admin, quiet bool
}

func (c *modelCast) String() string { return fmt.Sprintf("b%d", c.n) }

// castsKept says whether the app keeps broadcasts in history: in every other life.
func (r *modelRun) castsKept() bool { return r.seed%2 == 0 }

func (u *modelUser) connected() bool {
	for _, d := range u.desk.r.devices {
		if d.user == u && d.client() != nil {
			return true
		}
	}
	return false
}

// online says whether the node thinks so: it hears late of lines that were cut.
func (r *modelRun) online(u *modelUser) bool { return r.node.gateway.Online(r.app, u.name) }

const maxModelCasts = 40

func (r *modelRun) broadcast(keyed bool) *op {
	if len(r.casts) == maxModelCasts {
		return nil
	}
	typ, content := r.content()
	for typ == "RC:TypSts" {
		typ, content = r.content()
	}
	r.tokensOf++
	c := &modelCast{
		n: r.tokensOf, from: r.someUser().name, typ: typ, content: content, quiet: r.chance(20), at: r.clock.ms.Load(),
		given: map[string]*modelMessage{}, present: map[string]bool{}, missed: map[string]bool{},
	}
	for _, u := range r.users {
		c.present[u.name] = r.online(u)
	}
	r.casts = append(r.casts, c)
	key := ""
	if keyed || r.chance(50) {
		key = r.fresh("key-")
	}
	o := &op{text: fmt.Sprintf("broadcast %v of %s, key %q: %s %.80s", c, c.from, key, c.typ, c.content), touches: []string{c.from}}
	o.call = func(ctx context.Context) answer {
		return r.post(ctx, "/v4/system-channel/message/broadcast-all", key, map[string]any{
			"fromUserId": c.from, "messageType": c.typ, "content": c.content, "disableUpdateLastMsg": switchOf(c.quiet),
		})
	}
	o.again = func() *op { next := *o; next.a = answer{}; return &next }
	o.judge = func(a answer, _ bool) string {
		var out struct{ MessageUID string }
		switch {
		case a.code != 0:
			return "it was refused"
		case a.read(&out) != nil || out.MessageUID == "":
			return "it has no UID"
		case c.uid != "" && c.uid != out.MessageUID:
			return "it had another UID before"
		}
		c.uid, c.accepted = out.MessageUID, true
		return ""
	}
	return o
}

func (r *modelRun) recallCast(bool) *op {
	if len(r.casts) == 0 {
		return nil
	}
	c := r.casts[len(r.casts)-1-r.rng.IntN(min(len(r.casts), 5))]
	if !c.accepted {
		return nil
	}
	return r.recallCastOp(c, &castRecall{r.fresh("x"), r.chance(50), r.chance(20)})
}

func (r *modelRun) recallCastOp(c *modelCast, by *castRecall) *op {
	o := &op{text: fmt.Sprintf("the broadcast %v is recalled, %s", c, by.extra), touches: []string{c.from}}
	if !c.recalled {
		c.tries = append(c.tries, by)
	}
	o.call = func(ctx context.Context) answer {
		return r.post(ctx, "/v4/system-channel/message/broadcast/delete", "", map[string]any{
			"fromUserId": c.from, "messageUID": c.uid, "isAdmin": switchOf(by.admin), "extra": by.extra, "disableUpdateLastMsg": switchOf(by.quiet),
		})
	}
	o.again = func() *op { return r.recallCastOp(c, by) }
	o.judge = func(a answer, _ bool) string {
		if a.code != 0 {
			return "it was refused"
		}
		if !c.recalled {
			c.recalled = true
			for _, u := range r.users {
				c.missed[u.name] = !c.present[u.name] && c.given[u.name] == nil && !r.online(u)
			}
		}
		return ""
	}
	return o
}

// enterCast takes an entry that came of a broadcast.
func (r *modelRun) enterCast(u *modelUser, e *modelEvent) (mine bool, bad string) {
	switch e.Event {
	case "message":
		for _, c := range r.casts {
			if c.content == e.Message.Content && c.from == e.Message.FromUserID {
				return true, r.giveCast(u, e, c)
			}
		}
	case "recall":
		m := r.byUID[e.MessageUID]
		if m == nil || m.cast == nil {
			return false, ""
		}
		for _, by := range m.cast.tries {
			if by.extra == e.Extra {
				return true, r.takeCastBack(u, e, m, by)
			}
		}
	}
	return false, ""
}

func (r *modelRun) giveCast(u *modelUser, e *modelEvent, c *modelCast) string {
	g := &e.Message
	switch {
	case c.given[u.name] != nil:
		return "it was given to them before"
	case r.byUID[g.MessageUID] != nil || g.MessageUID == c.uid:
		return "its UID is that of another message"
	case g.ChannelType != "system" || g.ChannelID != c.from || g.Direction != "in" || g.MessageType != c.typ || g.ShouldPersist != r.castsKept():
		return "it is not as it was broadcast"
	case g.HasMetadata || g.Metadata != nil || g.NeedReadReceipt || g.DisableUpdateLastMsg != c.quiet:
		return "its switches are not as it was broadcast"
	}
	m := r.newMessage(chat.System, c.from, u.name, c.typ, c.content, r.castsKept(), false, false, nil)
	m.quiet, m.cast, m.offset = c.quiet, c, uint64(len(u.timeline))
	r.came(m, g.MessageUID, g.SentAt, r.clock.ms.Load())
	c.given[u.name] = m
	if c.missed[u.name] {
		return "it had been recalled before"
	}
	return ""
}

func (r *modelRun) takeCastBack(u *modelUser, e *modelEvent, m *modelMessage, by *castRecall) string {
	c := m.cast
	switch {
	case m.to != u.name:
		return "it is not theirs"
	case c.recall != nil && c.recall != by:
		return "the broadcast was recalled before, with " + c.recall.extra
	case m.recall != nil:
		return "it was recalled before"
	case e.OperatorID != c.from || e.IsAdmin != by.admin || e.IsDelete:
		return "it is not as it was asked"
	}
	c.recall = by
	m.recall, m.recalled, m.hushed = e, r.round, by.quiet
	return ""
}

// behindBacks broadcasts while somebody has no connection, and may recall it before
// they come back.
func (r *modelRun) behindBacks() {
	away := r.someUser()
	for _, d := range r.devices {
		if d.user == away {
			d.drop()
			d.check()
		}
	}
	for end := time.Now().Add(modelPatience); r.online(away); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.fail([]string{away.name}, "%s has cut all lines and is still taken for connected", away.name)
		}
	}
	o := r.broadcast(true)
	if o == nil {
		return
	}
	r.say([]string{away.name}, "%s is away", away.name)
	r.do(o)
	c := r.casts[len(r.casts)-1]
	if r.chance(50) {
		r.do(r.recallCastOp(c, &castRecall{r.fresh("x"), r.chance(50), r.chance(20)}))
	}
	if d := r.devices[slices.Index(r.devices, away.desk)+r.rng.IntN(1+modelDevices)]; d.client() == nil && r.chance(70) {
		from := []string{"", "now"}[r.rng.IntN(2)]
		r.say([]string{away.name}, "%s comes back, from %q", d, from)
		d.connect(from, 0)
		r.greet()
	}
}

// A user whose second device connects right behind the first is given a broadcast
// once: it is news to the first, and lies behind what the second starts with.
func TestModelOfTwoConnects(t *testing.T) {
	t.Parallel()
	for _, from := range []string{"", "now"} {
		r := newModelRun(t, 1)
		o := r.broadcast(true)
		r.do(o)
		i := slices.IndexFunc(r.users, func(u *modelUser) bool { return !slices.Contains(o.touches, u.name) })
		away := r.users[i]
		for _, d := range r.devices[i*(1+modelDevices):][:2] {
			d.connect(from, 0)
		}
		first, second := away.welcomes[0], away.welcomes[1]
		if len(first.due) != 1 || len(first.news) != 1 || first.at != 0 || len(second.due) != 1 || len(second.news) != 0 || second.at != 1 {
			t.Errorf("the first starts at %d, due %v, news %v; the second at %d, due %v, news %v", first.at, first.due, first.news, second.at, second.due, second.news)
		}
		r.greet()
	}
}

// dueCasts are the broadcasts that the user must be given with the next connect.
func (r *modelRun) dueCasts(u *modelUser) (due []*modelCast) {
	for _, c := range r.casts {
		if c.accepted && !c.recalled && c.given[u.name] == nil {
			due = append(due, c)
		}
	}
	return due
}

// unsettledCast is a broadcast of which the user does not know all yet.
func (r *modelRun) unsettledCast(u *modelUser) *modelCast {
	for _, c := range r.casts {
		m := c.given[u.name]
		if c.accepted && m == nil && !c.recalled || c.recalled && m != nil && m.recall == nil {
			return c
		}
	}
	return nil
}

// settleCasts waits until those who are connected have been told of all
// broadcasts, so that nothing comes by itself afterwards.
func (r *modelRun) settleCasts() {
	for _, u := range r.users {
		if !u.connected() {
			// Who was cut off may have been given it just before, or by a node that had
			// not heard of that yet.
			for _, c := range r.casts {
				if c.present[u.name] && c.given[u.name] == nil {
					u.brought[c] = true
				}
			}
			continue
		}
		for end := time.Now().Add(modelPatience); ; time.Sleep(2 * time.Millisecond) {
			c := r.unsettledCast(u)
			if c == nil {
				break
			}
			if time.Now().After(end) {
				r.fail([]string{u.name}, "%s, who is connected, is not told all of the broadcast %v: given %v, recalled %t", u.name, c, c.given[u.name], c.recalled)
			}
			r.look(nil, []*modelUser{u})
		}
	}
}
