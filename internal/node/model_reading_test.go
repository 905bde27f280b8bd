package node

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// What users make of what they got: how far they have read a channel, what of it
// they deleted, cleared and took out of their list, and what is left unread.
//
// A call about this leaves receipts one by one and what the user has done last. So
// when the power is cut, or several are made at once, any of its receipts can be
// there without the rest, but never the rest without them.

// A viewKey names a channel in one user's list.
type viewKey struct {
	kind  chat.ChannelType
	other string
}

// A modelView is what a user has made of a channel.
type modelView struct {
	r    *modelRun
	user *modelUser
	viewKey
	viewState

	before viewState // when the round began
	newest chat.UID  // in the channel, at that time
	maybe  []chat.UID
}

type viewState struct {
	readUpTo, clearedUpTo, removedUpTo chat.UID
	readAt, clearedAt, removedAt       int64
}

func (u *modelUser) view(kind chat.ChannelType, other string) *modelView {
	k := viewKey{kind, other}
	v := u.views[k]
	if v == nil {
		v = &modelView{r: u.desk.r, user: u, viewKey: k}
		u.views[k] = v
	}
	return v
}

func (v *modelView) String() string { return fmt.Sprintf("%s's %v %s", v.user.name, v.kind, v.other) }

func (v *modelView) touches() []string { return []string{v.user.name, v.other} }

// remember keeps what is so when a round begins.
func (r *modelRun) remember(v *modelView) {
	v.before, v.newest, v.maybe = v.viewState, v.newestNow(), nil
}

// holds reports whether the message is in the channel as the user has it.
func (v *modelView) holds(m *modelMessage) bool {
	if m.kind != v.kind {
		return false
	}
	return m.to == v.user.name && m.from == v.other || m.copied && m.from == v.user.name && m.to == v.other
}

// The types of messages that are not like all the others.
func (m *modelMessage) counts() bool { return m.typ != "RC:InfoNtf" && m.typ != "RC:CmdMsg" }
func (m *modelMessage) shown() bool  { return m.typ != "RC:CmdMsg" }

// wants reports whether the sender is to learn that it was read.
func (m *modelMessage) wants() bool { return m.receipt && m.persist && m.kind == chat.Direct }

// lasts reports whether the message moves its channel in the list.
func (m *modelMessage) lasts() bool { return m.shown() && !m.quiet }

// kept reports whether anything of the channel knows of the message.
func (v *modelView) kept(m *modelMessage) bool {
	return v.holds(m) && (m.persist || m.lasts() || m.counts() && m.to == v.user.name && m.from != m.to)
}

func (v *modelView) newestNow() (newest chat.UID) {
	for _, m := range v.r.messages {
		if v.kept(m) && m.id.Compare(newest) > 0 {
			newest = m.id
		}
	}
	return newest
}

// counted reports whether the message counts as unread.
func (v *modelView) counted(m *modelMessage) bool {
	for _, upTo := range []chat.UID{v.readUpTo, v.clearedUpTo, v.removedUpTo} {
		if m.id.Compare(upTo) <= 0 {
			return false
		}
	}
	return v.holds(m) && m.counts() && m.to == v.user.name && m.from != m.to && m.marked == 0 && m.hidden[v.user.name] == 0 && m.recall == nil
}

func (v *modelView) unread() (n int) {
	for _, m := range v.r.messages {
		if v.counted(m) {
			n++
		}
	}
	return n
}

// unread is in all channels. Of one that no call was about there may be no view
// yet.
func (u *modelUser) unread() (n int) {
	for _, kind := range []chat.ChannelType{chat.Direct, chat.System} {
		for _, other := range u.desk.r.users {
			n += u.view(kind, other.name).unread()
		}
	}
	return n
}

// came notes a message that the timelines have.
func (r *modelRun) came(m *modelMessage, uid string, sentAt, now int64) {
	m.uid, m.sentAt, m.ahead = uid, sentAt, sentAt > now
	m.id, _ = chat.ParseUID(uid) // looked at by fold
	r.byUID[uid] = m
	r.messages = append(r.messages, m)
}

func since(at, now int64) int64 { return cmp.Or(at, now) }

func minUID(a, b chat.UID) chat.UID {
	if a.Compare(b) < 0 {
		return a
	}
	return b
}

// place says whether upTo can be where a call has come to that asked for up to
// asked, or for all there is where that is zero. What is not there yet is not meant.
func (v *modelView) place(text string, asked, was chat.UID) (upTo chat.UID, bad string) {
	upTo, err := chat.ParseUID(text)
	switch {
	case err != nil:
		return upTo, err.Error()
	case upTo.Compare(was) <= 0:
		return upTo, fmt.Sprintf("it is not behind %v, where it was", was)
	case upTo == asked && asked.Compare(v.newestNow()) <= 0:
		return upTo, ""
	case !asked.IsZero() && upTo.Compare(asked) > 0:
		return upTo, fmt.Sprintf("it is more than was asked for, %v", asked)
	case upTo == v.newest:
		return upTo, ""
	}
	// The newest is what was so at some moment of the round.
	if m := v.r.byUID[text]; m != nil && v.kept(m) && upTo.Compare(v.newest) > 0 {
		return upTo, ""
	}
	return upTo, fmt.Sprintf("it is neither what was asked for, %v, nor the newest message, %v", asked, v.newest)
}

// reached says what a call must at least have come to.
func (v *modelView) reached(asked chat.UID) chat.UID {
	if asked.IsZero() {
		return v.newest
	}
	return minUID(asked, v.newest)
}

// mine are messages of the same channel, m among them, mostly ones that the user
// received.
func (r *modelRun) mine(v *modelView, m *modelMessage, received bool) []*modelMessage {
	list := []*modelMessage{m}
	for i := len(r.messages) - 1; i >= 0 && len(list) < 5; i-- {
		o := r.messages[i]
		if o != m && v.holds(o) && (!received || o.to == v.user.name) && r.chance(40) {
			list = append(list, o)
		}
	}
	r.rng.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
	if r.chance(5) {
		list = append(list, r.messages[r.rng.IntN(len(r.messages))]) // of wherever
	}
	return list
}

func uidsOf(list []*modelMessage) (uids []string) {
	for _, m := range list {
		uids = append(uids, m.uid)
	}
	return uids
}

// somePlace is up to where something is to be done: as UID, and as it is said.
func (r *modelRun) somePlace(m *modelMessage) (chat.UID, any) {
	switch {
	case r.chance(60):
		return m.id, m.uid
	case r.chance(50):
		return chat.UIDsUpTo(m.sentAt), m.sentAt
	}
	at := r.clock.ms.Load() + time.Hour.Milliseconds() // all there is
	return chat.UIDsUpTo(at), at
}

// bounded reports whether a place lies within what is there: then it does no harm
// when a call is carried out late.
func bounded(upTo, newest chat.UID) bool { return !upTo.IsZero() && upTo.Compare(newest) <= 0 }

func (r *modelRun) readSome(bool) *op {
	m := r.someMessage()
	if m == nil {
		return nil
	}
	v := r.user(m.to).view(m.kind, m.from)
	if r.chance(8) {
		v = r.user(m.from).view(m.kind, m.to) // what they sent
	}
	if r.chance(60) {
		upTo, said := r.somePlace(m)
		return r.readUpToOp(v, upTo, said)
	}
	return r.readMessagesOp(v, r.mine(v, m, true))
}

// A readAnswer is that to message.read.
type readAnswer struct {
	ReadAt int64
	Unread struct{ Channel, Total int }
}

// judgeRead judges the answer where nothing else was done at the same time.
func (v *modelView) judgeRead(a answer, at int64) string {
	var out readAnswer
	if err := a.read(&out); err != nil {
		return err.Error()
	}
	if !v.r.alone {
		return ""
	}
	if out.ReadAt != at {
		return fmt.Sprintf("readAt must be %d", at)
	}
	if n, total := v.unread(), v.user.unread(); out.Unread.Channel != n || out.Unread.Total != total {
		return fmt.Sprintf("unread must be %d, %d in all", n, total)
	}
	return ""
}

// receipt takes one that reading gives, where the message is among what is read.
func (v *modelView) receipt(u *modelUser, e *modelEvent, covers func(*modelMessage) bool) (mine bool, bad string) {
	m := v.r.byUID[e.MessageUID]
	if m == nil || m.to != v.user.name || !v.holds(m) || !covers(m) {
		return false, ""
	}
	at := max(v.r.clock.ms.Load(), m.sentAt)
	switch {
	case u.name != m.from || m.from == m.to:
		return true, "it is not for them"
	case !m.wants():
		return true, "nobody wants it"
	case m.readAt != 0:
		return true, "it was told of before"
	case m.recall != nil && m.recalled != v.r.round:
		return true, "the message was recalled"
	case e.ChannelType != "direct" || e.ChannelID != m.to || e.ReadCount != 1 || e.UnreadCount != 0 || e.TotalCount != 1,
		len(e.Users) != 1 || e.Users[0].UserID != m.to || e.Users[0].ReadAt != at:
		return true, fmt.Sprintf("it is not as it must be, with readAt %d", at)
	}
	m.readAt = at
	return true, ""
}

func (v *modelView) named(e *modelEvent) bool {
	return e.ChannelID == v.other && e.ChannelType == v.kind.String()
}

func (r *modelRun) readUpToOp(v *modelView, upTo chat.UID, said any) *op {
	body := map[string]any{"channelType": v.kind.String(), "channelId": v.other, "upTo": said}
	o := &op{
		text: fmt.Sprintf("%s reads %v up to %v (%v)", v.user.name, v, said, upTo), user: v.user.name, view: v, touches: v.touches(),
		call: func(ctx context.Context) answer { return r.rpc(ctx, v.user.name, "message.read", body) },
	}
	o.lasting = !bounded(upTo, v.newestNow())
	o.again = func() *op { return r.readUpToOp(v, upTo, said) }
	o.takes = func(u *modelUser, e *modelEvent) (bool, string) {
		switch {
		case e.Event == "receipt":
			return v.receipt(u, e, func(m *modelMessage) bool {
				return m.id.Compare(upTo) <= 0 && m.id.Compare(v.before.readUpTo) > 0 && m.id.Compare(v.before.clearedUpTo) > 0
			})
		case e.Event != "read" || u != v.user || !v.named(e) || e.UpTo == "":
			return false, ""
		}
		to, bad := v.place(e.UpTo, upTo, v.readUpTo)
		if bad != "" {
			return r.alone, bad // of a round it can be another's
		}
		at := max(r.clock.ms.Load(), to.Millis())
		if e.ReadAt != at {
			return true, fmt.Sprintf("readAt must be %d", at)
		}
		for _, m := range r.messages {
			if v.holds(m) && m.to == u.name && m.id.Compare(to) <= 0 && m.id.Compare(v.readUpTo) > 0 && m.id.Compare(v.clearedUpTo) > 0 {
				m.owed = true
			}
		}
		v.readUpTo, v.readAt = to, at
		return true, ""
	}
	o.judge = func(a answer, _ bool) string {
		want := v.reached(upTo)
		switch {
		case a.code != 0:
			return "it was refused"
		case v.readUpTo.Compare(want) < 0:
			return fmt.Sprintf("it must be read up to %v, and is up to %v", want, v.readUpTo)
		}
		return v.judgeRead(a, since(v.readAt, max(r.clock.ms.Load(), want.Millis())))
	}
	return o
}

func (r *modelRun) readMessagesOp(v *modelView, list []*modelMessage) *op {
	o := &op{
		text: fmt.Sprintf("%s reads of %v the messages %v", v.user.name, v, list), user: v.user.name, view: v, touches: v.touches(),
		call: func(ctx context.Context) answer {
			return r.rpc(ctx, v.user.name, "message.read", map[string]any{
				"channelType": v.kind.String(), "channelId": v.other, "messageUIDs": uidsOf(list),
			})
		},
	}
	refused := 0
	for _, m := range list {
		o.touches = append(o.touches, m.String())
		if m.to != v.user.name || m.from != v.other || m.kind != v.kind {
			refused = 404
		}
	}
	o.again = func() *op { return r.readMessagesOp(v, list) }
	o.takes = func(u *modelUser, e *modelEvent) (bool, string) {
		switch {
		case refused != 0:
			return false, ""
		case e.Event == "receipt":
			return v.receipt(u, e, func(m *modelMessage) bool { return slices.Contains(list, m) })
		case e.Event != "read" || u != v.user || !v.named(e) || e.UpTo != "" || !r.among(e.MessageUIDs, list):
			return false, ""
		case e.ReadAt != r.clock.ms.Load():
			return true, fmt.Sprintf("readAt must be %d", r.clock.ms.Load())
		}
		for _, uid := range e.MessageUIDs {
			m := r.byUID[uid]
			if m.marked != 0 || m.id.Compare(v.readUpTo) <= 0 {
				return true, fmt.Sprintf("%v was read before", m)
			}
			m.marked, m.owed = e.ReadAt, true
		}
		return true, ""
	}
	o.judge = func(a answer, _ bool) string {
		if a.code != refused {
			return fmt.Sprintf("the code must be %d", refused)
		}
		if refused != 0 {
			return ""
		}
		newest := v.readAt
		for _, m := range list {
			if m.marked == 0 && m.id.Compare(v.readUpTo) > 0 {
				return fmt.Sprintf("%v is not read", m)
			}
			m.owed, newest = true, max(newest, m.marked)
		}
		for _, m := range list {
			// What was new at this call was so now, also when the clock was set back.
			if m.marked != 0 && o.fresh(m) {
				newest = r.clock.ms.Load()
			}
		}
		return v.judgeRead(a, since(newest, r.clock.ms.Load()))
	}
	marks := o.takes
	o.takes = func(u *modelUser, e *modelEvent) (bool, string) {
		mine, bad := marks(u, e)
		if mine && e.Event == "read" {
			o.did = append(o.did, e.MessageUIDs...)
		}
		return mine, bad
	}
	return o
}

// fresh reports whether the request was what changed the message.
func (o *op) fresh(m *modelMessage) bool { return slices.Contains(o.did, m.uid) }

// among reports whether the UIDs are some of the messages', each once.
func (r *modelRun) among(uids []string, list []*modelMessage) bool {
	for i, uid := range uids {
		if !slices.Contains(list, r.byUID[uid]) || slices.Contains(uids[:i], uid) {
			return false
		}
	}
	return len(uids) > 0
}

// judgeReceipts says whether those who are to know of a reading do.
func (r *modelRun) judgeReceipts() {
	for _, m := range r.messages {
		if m.owed && m.wants() && m.from != m.to && m.recall == nil && m.readAt == 0 {
			r.fail([]string{m.from, m.to, m.String()}, "%s has read %v, and %s was not told", m.to, m, m.from)
		}
	}
}

func (r *modelRun) deleteSome(bool) *op {
	m := r.someMessage()
	if m == nil {
		return nil
	}
	v := r.user(m.to).view(m.kind, m.from)
	if r.chance(40) {
		v = r.user(m.from).view(m.kind, m.to)
	}
	return r.deleteOp(v.user, r.mine(v, m, false))
}

func (r *modelRun) deleteOp(by *modelUser, list []*modelMessage) *op {
	o := &op{
		text: fmt.Sprintf("%s deletes %v for themselves", by.name, list), user: by.name, touches: []string{by.name},
		call: func(ctx context.Context) answer {
			return r.rpc(ctx, by.name, "message.delete", map[string]any{"messageUIDs": uidsOf(list)})
		},
	}
	var first viewKey
	refused := 0
	for i, m := range list {
		o.touches = append(o.touches, m.String())
		if refused != 0 {
			continue
		}
		k := viewKey{m.kind, m.from}
		switch {
		case m.to == by.name:
		case m.from == by.name:
			k.other = m.to
		default:
			refused = 404
			continue
		}
		if i == 0 {
			first = k
		} else if k != first {
			refused = 107
		}
	}
	o.again = func() *op { return r.deleteOp(by, list) }
	o.takes = func(u *modelUser, e *modelEvent) (bool, string) {
		switch {
		case refused != 0 || e.Event != "delete" || u != by || !r.among(e.MessageUIDs, list):
			return false, ""
		case e.ChannelID != first.other || e.ChannelType != first.kind.String() || e.DeletedAt != r.clock.ms.Load():
			return true, fmt.Sprintf("it must be of %v, at %d", first, r.clock.ms.Load())
		}
		for _, uid := range e.MessageUIDs {
			m := r.byUID[uid]
			if m.hidden[by.name] != 0 {
				return true, fmt.Sprintf("%v was deleted before", m)
			}
			m.hidden[by.name] = e.DeletedAt
		}
		o.did = append(o.did, e.MessageUIDs...)
		return true, ""
	}
	o.judge = func(a answer, _ bool) string {
		if a.code != refused {
			return fmt.Sprintf("the code must be %d", refused)
		}
		if refused != 0 {
			return ""
		}
		at := int64(0)
		for _, m := range list {
			if m.hidden[by.name] == 0 {
				return fmt.Sprintf("%v is not deleted, or nobody was told", m)
			}
			at = max(at, m.hidden[by.name])
		}
		if len(o.did) > 0 {
			at = r.clock.ms.Load()
		}
		return r.judgeAt(a, "deletedAt", at)
	}
	return o
}

// judgeAt judges the time that is answered, where nothing else was done at the
// same time.
func (r *modelRun) judgeAt(a answer, name string, at int64) string {
	var out map[string]int64
	if err := a.read(&out); err != nil {
		return err.Error()
	}
	if r.alone && out[name] != at {
		return fmt.Sprintf("%s must be %d", name, at)
	}
	return ""
}

func (r *modelRun) clearSome(bool) *op {
	m := r.someMessage()
	if m == nil {
		return nil
	}
	v := r.user(m.to).view(m.kind, m.from)
	if r.chance(30) {
		v = r.user(m.from).view(m.kind, m.to)
	}
	if r.chance(40) {
		for range r.rng.IntN(20) { // rather of old ones, so that something is left
			if o := r.messages[r.rng.IntN(len(r.messages))]; v.holds(o) && o.id.Compare(m.id) < 0 {
				m = o
			}
		}
	}
	upTo, said := r.somePlace(m)
	asClient := r.chance(50)
	if !asClient {
		if upTo, said = chat.UIDsUpTo(m.sentAt), m.sentAt; r.chance(20) {
			upTo, said = chat.UID{}, nil
		}
	}
	return r.clearOp(v, upTo, said, asClient)
}

func (r *modelRun) clearOp(v *modelView, upTo chat.UID, said any, asClient bool) *op {
	o := &op{text: fmt.Sprintf("%v is cleared up to %v (%v), as client %t", v, said, upTo, asClient), view: v, touches: v.touches()}
	if asClient {
		o.user = v.user.name
		o.call = func(ctx context.Context) answer {
			return r.rpc(ctx, v.user.name, "message.delete", map[string]any{"channelType": v.kind.String(), "channelId": v.other, "upTo": said})
		}
	} else {
		o.call = func(ctx context.Context) answer {
			body := map[string]any{"fromUserId": v.user.name, "channelType": int(v.kind), "channelId": v.other}
			if said != nil {
				body["sentAt"] = said
			}
			return r.post(ctx, "/v4/channel/message/history/delete", "", body)
		}
	}
	o.lasting = !bounded(upTo, v.newestNow())
	o.again = func() *op { return r.clearOp(v, upTo, said, asClient) }
	o.takes = func(u *modelUser, e *modelEvent) (bool, string) {
		if e.Event != "clear" || u != v.user || !v.named(e) {
			return false, ""
		}
		to, bad := v.place(e.UpTo, upTo, v.clearedUpTo)
		if bad != "" {
			return r.alone, bad
		}
		if at := max(r.clock.ms.Load(), to.Millis()); e.ClearedAt != at {
			return true, fmt.Sprintf("clearedAt must be %d", at)
		}
		v.clearedUpTo, v.clearedAt = to, e.ClearedAt
		return true, ""
	}
	o.judge = func(a answer, _ bool) string {
		want := v.reached(upTo)
		switch {
		case a.code != 0:
			return "it was refused"
		case v.clearedUpTo.Compare(want) < 0:
			return fmt.Sprintf("it must be cleared up to %v, and is up to %v", want, v.clearedUpTo)
		case !asClient:
			return ""
		}
		return r.judgeAt(a, "deletedAt", since(v.clearedAt, max(r.clock.ms.Load(), want.Millis())))
	}
	return o
}

func (r *modelRun) removeChannel(bool) *op {
	m := r.someMessage()
	if m == nil {
		return nil
	}
	v := r.user(m.to).view(m.kind, m.from)
	if r.chance(30) {
		v = r.user(m.from).view(m.kind, m.to)
	}
	return r.removeOp(v)
}

// removeOp takes the channel out of the list. What it was then that was the newest
// message nobody is told: of those there were in its round it is found out.
func (r *modelRun) removeOp(v *modelView) *op {
	o := &op{
		text: fmt.Sprintf("%s removes %v", v.user.name, v), user: v.user.name, view: v, touches: v.touches(), lasting: true,
		call: func(ctx context.Context) answer {
			return r.rpc(ctx, v.user.name, "channel.remove", map[string]any{"channelType": v.kind.String(), "channelId": v.other})
		},
	}
	o.again = func() *op { return r.removeOp(v) }
	o.takes = func(u *modelUser, e *modelEvent) (bool, string) {
		if e.Event != "channel" || u != v.user || !v.named(e) || !e.Removed.channel {
			return false, ""
		}
		places := []chat.UID{v.newest}
		for _, m := range r.messages {
			if v.kept(m) && m.id.Compare(v.newest) > 0 {
				places = append(places, m.id)
			}
		}
		places = slices.DeleteFunc(places, func(at chat.UID) bool { return at.Compare(v.before.removedUpTo) <= 0 })
		if len(places) == 0 || len(places) == 1 && places[0].Compare(v.removedUpTo) <= 0 {
			return true, "it was removed before"
		}
		slices.SortFunc(places, chat.UID.Compare)
		v.maybe, v.removedUpTo = places, places[len(places)-1]
		v.removedAt = max(r.clock.ms.Load(), v.removedUpTo.Millis())
		return true, ""
	}
	o.judge = func(a answer, _ bool) string {
		switch {
		case a.code != 0:
			return "it was refused"
		case v.removedUpTo.Compare(v.newest) < 0:
			return "it is not removed, or nobody was told"
		}
		return r.judgeAt(a, "removedAt", since(v.removedAt, max(r.clock.ms.Load(), v.newest.Millis())))
	}
	return o
}

// judgeRemovals finds out up to where channels were removed in a round that had
// more to say there.
func (r *modelRun) judgeRemovals() {
	for _, u := range r.users {
		for _, k := range slices.SortedFunc(maps.Keys(u.views), func(a, b viewKey) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.other, b.other)) }) {
			v := u.views[k]
			if len(v.maybe) < 2 {
				v.maybe = nil
				continue
			}
			places := v.maybe
			v.maybe = nil
			r.desk(u.name)
			r.look(nil, []*modelUser{u})
			got := r.channelOf(v)
			listed := slices.ContainsFunc(r.listChannels(u, 100, 0).Channels, func(l listedChannel) bool {
				return l.ChannelType == v.kind.String() && l.ChannelID == v.other
			})
			fits := func(at chat.UID) bool {
				v.removedUpTo = at
				return v.unread() == got.Unread && (v.row() != nil && v.row().id.Compare(at) > 0) == listed
			}
			slices.Reverse(places)
			if !slices.ContainsFunc(places, fits) {
				r.fail(v.touches(), "%v was removed up to one of %v; it has %d unread, and is listed: %t", v, places, got.Unread, listed)
			}
		}
	}
}

// askReaders asks who has read a message.
func (r *modelRun) askReaders() {
	m, by := r.someMessage(), r.someUser()
	if m == nil {
		return
	}
	if r.chance(60) {
		by = r.user(m.from)
	}
	r.desk(by.name)
	r.say([]string{by.name, m.String()}, "%s asks who has read %v", by.name, m)
	a := r.rpc(r.t.Context(), by.name, "message.readers", map[string]any{"messageUID": m.uid})
	refused := refusalOf(m, by.name)
	if refused == 0 && (!m.wants() || m.recall != nil) {
		refused = 107
	}
	want := ""
	if refused == 0 {
		want = fmt.Sprintf(`{"readCount":0,"unreadCount":1,"totalCount":1,"read":[],"unread":["%s"]}`, m.to)
		if m.readAt != 0 {
			want = fmt.Sprintf(`{"readCount":1,"unreadCount":0,"totalCount":1,"read":[{"userId":"%s","readAt":%d}],"unread":[]}`, m.to, m.readAt)
		}
	}
	if a.unknown || a.code != refused || refused == 0 && string(a.body) != want {
		r.fail([]string{by.name, m.String()}, "the readers of %v are answered %v, want %d %s", m, a, refused, want)
	}
}

// A listedChannel is a channel as it stands in a user's list.
type listedChannel struct {
	ChannelType, ChannelID string
	Last                   *shownMessage
	Unread                 int
	ReadUpTo               string
}

type channelPage struct {
	Channels  []listedChannel
	PageToken string
	Unread    *struct{ Total int }
}

// A shownMessage is a message as clients are shown it.
type shownMessage struct {
	MessageUID, ChannelID, Direction, FromUserID, MessageType, Content string
	SentAt, UpdatedAt                                                  int64
	Metadata                                                           map[string]string
	Receipt                                                            json.RawMessage
}

func (m *shownMessage) seen() seenMessage {
	if m == nil {
		return seenMessage{}
	}
	if m.Metadata == nil {
		m.Metadata = map[string]string{}
	}
	return seenMessage{
		m.MessageUID, m.FromUserID, m.MessageType, contentOf(m.MessageType, m.Content), textOf(m.Metadata), m.SentAt, m.UpdatedAt, string(m.Receipt),
	}
}

// seenBy is the message as one of its sides sees it now, if it is to be seen.
func (m *modelMessage) seenBy(u *modelUser, asClient bool) (s seenMessage, shown bool) {
	s = seenMessage{UID: m.uid, From: m.from, Type: m.typ, Content: m.content, SentAt: m.sentAt, Metadata: "{}"}
	if e := m.recall; e != nil {
		s.Type = "RC:RcNtf"
		s.Content = normal(textOf(map[string]any{
			"operatorId": e.OperatorID, "recallTime": e.RecalledAt, "originalObjectName": m.typ, "admin": e.IsAdmin, "delete": false, "extra": e.Extra,
		}))
		return s, !e.IsDelete
	}
	if len(m.metadata) > 0 {
		s.Metadata = textOf(m.metadata)
	}
	if asClient {
		s.UpdatedAt = m.editedAt
		if m.wants() && m.from == u.name && m.to != u.name {
			read := switchOf(m.readAt != 0)
			s.Receipt = fmt.Sprintf(`{"readCount":%d,"unreadCount":%d,"totalCount":1}`, read, 1-read)
		}
	}
	return s, true
}

// row is the message that gives the channel its place in the list.
func (v *modelView) row() (row *modelMessage) {
	for _, m := range v.r.messages {
		if v.holds(m) && m.lasts() && (row == nil || m.id.Compare(row.id) > 0) {
			row = m
		}
	}
	return row
}

// last is the channel's last message as the user sees it now.
func (v *modelView) last() (s seenMessage) {
	row, last := v.row(), (*modelMessage)(nil)
	if row == nil || row.id.Compare(v.clearedUpTo) <= 0 {
		return s
	}
	for _, m := range v.r.messages {
		// Of those that are not in history only the newest is known.
		known := v.holds(m) && (m == row || m.persist && m.id.Compare(row.id) < 0)
		if !known || !m.lasts() || m.id.Compare(v.clearedUpTo) <= 0 || m.hidden[v.user.name] != 0 || m.recall != nil && m.hushed {
			continue
		}
		if seen, shown := m.seenBy(v.user, true); shown && (last == nil || m.id.Compare(last.id) > 0) {
			last, s = m, seen
		}
	}
	return s
}

func (v *modelView) compare(got *listedChannel) {
	readUpTo := ""
	if !v.readUpTo.IsZero() {
		readUpTo = v.readUpTo.String()
	}
	if want, n := v.last(), v.unread(); got.ChannelType != v.kind.String() || got.ChannelID != v.other || got.Last.seen() != want || got.Unread != n || got.ReadUpTo != readUpTo {
		about := v.touches()
		for _, uid := range []string{got.Last.seen().UID, want.UID} {
			if m := v.r.byUID[uid]; m != nil && got.Last.seen() != want {
				about = append(about, m.String())
			}
		}
		v.r.fail(about, "%v is in the list\n\t%+v\n\tlast %+v\nwant unread %d, read up to %q, and\n\tlast %+v", v, *got, got.Last.seen(), n, readUpTo, want)
	}
}

func (r *modelRun) ask(u *modelUser, method string, data, out any) {
	a := r.rpc(r.t.Context(), u.name, method, data)
	if a.unknown || a.code != 0 || a.read(out) != nil {
		r.fail([]string{u.name}, "%s of %s, %s: %v", method, u.name, textOf(data), a)
	}
}

func (r *modelRun) channelOf(v *modelView) (l listedChannel) {
	r.ask(v.user, "channel.get", map[string]any{"channelType": v.kind.String(), "channelId": v.other}, &l)
	return l
}

// listChannels reads the whole list, in pages.
func (r *modelRun) listChannels(u *modelUser, page, order int) (all channelPage) {
	data := map[string]any{"pageSize": page, "order": order}
	for {
		var p channelPage
		r.ask(u, "channel.list", data, &p)
		if len(p.Channels) > page || p.PageToken != "" && len(p.Channels) < page || (p.Unread != nil) != (data["pageToken"] == nil) {
			r.fail([]string{u.name}, "a page of the channels of %s asked for with %s is %+v", u.name, textOf(data), p)
		}
		if p.Unread != nil {
			all.Unread = p.Unread
		}
		all.Channels = append(all.Channels, p.Channels...)
		if p.PageToken == "" {
			return all
		}
		data["pageToken"] = p.PageToken
	}
}

// compareChannels compares a user's list with what the model says.
func (r *modelRun) compareChannels(u *modelUser, page, order int) {
	r.desk(u.name)
	r.look(nil, []*modelUser{u})
	var want []*modelView
	total := u.unread() // looks at all views
	for _, v := range u.views {
		if row := v.row(); row != nil && row.id.Compare(v.removedUpTo) > 0 {
			want = append(want, v)
		}
	}
	slices.SortFunc(want, func(a, b *modelView) int { return b.row().id.Compare(a.row().id) })
	if order == 1 {
		slices.Reverse(want)
	}
	got := r.listChannels(u, page, order)
	if got.Unread.Total != total || len(got.Channels) != len(want) {
		r.fail([]string{u.name}, "the channels of %s are %v, want %v; %d are unread, want %d", u.name, textOf(got.Channels), want, got.Unread.Total, total)
	}
	for i := range want {
		want[i].compare(&got.Channels[i])
	}
}

func (r *modelRun) readChannels() {
	u := r.someUser()
	r.say([]string{u.name}, "%s looks at their channels", u.name)
	r.compareChannels(u, 1+r.rng.IntN(10), r.rng.IntN(2))
	kind := chat.Direct
	if r.chance(40) {
		kind = chat.System
	}
	v := u.view(kind, r.someUser().name)
	l := r.channelOf(v)
	v.compare(&l)
}

// A welcome is the answer to a connect, with what it must be compared with once it
// is known what else there is.
type welcome struct {
	device *modelDevice
	data   json.RawMessage
	now    bool         // it starts at what comes now
	at     uint64       // behind this
	due    []*modelCast // it must have been given these by then
	news   []*modelCast // and these come behind the answer, if it starts now
}

// greet judges what connections were told when they began.
func (r *modelRun) greet() {
	for _, u := range r.users {
		for len(u.welcomes) > 0 {
			list := u.welcomes
			u.welcomes = nil
			// Looking may have the user's desk connect, which is greeted too, before
			// anything else happens.
			r.look(nil, []*modelUser{u})
			for _, w := range list {
				var data struct {
					Unread *struct{ Total int }
				}
				if err := json.Unmarshal(w.data, &data); err != nil {
					r.fail([]string{u.name}, "%s: %v in %s", w.device, err, w.data)
				}
				// It is left out where it takes long.
				if n := u.unread(); data.Unread != nil && data.Unread.Total != n {
					r.fail([]string{u.name}, "%s is told when it connects that %d are unread, want %d", w.device, data.Unread.Total, n)
				}
				for _, c := range w.due {
					m := c.given[u.name]
					if m == nil {
						r.fail([]string{u.name}, "%s connected and was not given the broadcast %v", w.device, c)
					}
					if w.now && m.offset <= w.at && slices.Contains(w.news, c) {
						r.fail([]string{u.name}, "%s starts behind %d and does not get the broadcast %v, which came with it at %d", w.device, w.at, c, m.offset)
					}
				}
			}
		}
	}
}
