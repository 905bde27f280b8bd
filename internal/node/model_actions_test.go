package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// modelActions are what a step can be. Those that make requests have their part
// in requests, so that they take part in bursts and crashes too.
var modelActions = []struct {
	name   string
	weight int
	do     func(*modelRun)
}{
	{"request", 50, func(r *modelRun) { r.do(r.request(false)) }},
	{"burst", 8, (*modelRun).burst},
	{"lost answers", 3, (*modelRun).loseAnswers},
	{"block", 3, (*modelRun).block},
	{"history", 3, (*modelRun).readHistory},
	{"channels", 3, (*modelRun).readChannels},
	{"readers", 2, (*modelRun).askReaders},
	{"behind backs", 2, (*modelRun).behindBacks},
	{"connect", 12, (*modelRun).connectDevice},
	{"disconnect", 7, (*modelRun).disconnectDevice},
	{"acknowledge", 5, (*modelRun).acknowledge},
	{"catch up", 4, (*modelRun).catchUp},
	{"clock", 6, (*modelRun).moveClock},
	{"verify", 1, (*modelRun).verify},
	{"restart", 1, (*modelRun).restart},
	{"crash", 1, func(r *modelRun) { r.crash(false) }},
	{"crash in a burst", 1, func(r *modelRun) { r.crash(true) }},
}

// modelRequests are what a request can be. One gives nil when there is nothing it
// could be about. keyed asks for one that can be asked again without an answer.
var modelRequests = []struct {
	weight int
	make   func(r *modelRun, keyed bool) *op
}{
	{30, (*modelRun).sendDirect},
	{20, (*modelRun).sendAsClient},
	{5, (*modelRun).sendSystem},
	{6, (*modelRun).repeatSend},
	{12, (*modelRun).recallSome},
	{14, (*modelRun).updateSome},
	{20, (*modelRun).changeMetadata},
	{22, (*modelRun).readSome},
	{6, (*modelRun).deleteSome},
	{4, (*modelRun).clearSome},
	{3, (*modelRun).removeChannel},
	{2, (*modelRun).broadcast},
	{2, (*modelRun).recallCast},
}

func (r *modelRun) request(keyed bool) *op {
	total := 0
	for _, q := range modelRequests {
		total += q.weight
	}
	for {
		n := r.rng.IntN(total)
		for _, q := range modelRequests {
			if n -= q.weight; n < 0 {
				if o := q.make(r, keyed); o != nil {
					return o
				}
				break
			}
		}
	}
}

func (r *modelRun) chance(percent int) bool { return r.rng.IntN(100) < percent }

// fresh is a text that nothing else has.
func (r *modelRun) fresh(prefix string) string {
	r.tokensOf++
	return fmt.Sprint(prefix, r.tokensOf)
}

func (r *modelRun) someUser() *modelUser     { return r.users[r.rng.IntN(len(r.users))] }
func (r *modelRun) someDevice() *modelDevice { return r.devices[r.rng.IntN(len(r.devices))] }

// someMessage is mostly one of the newest, or the one that a burst is about.
func (r *modelRun) someMessage() *modelMessage {
	n := len(r.messages)
	switch {
	case n == 0:
		return nil
	case r.focus != nil && r.chance(80):
		return r.focus
	}
	if r.chance(80) {
		return r.messages[n-1-r.rng.IntN(min(n, 15))]
	}
	return r.messages[r.rng.IntN(n)]
}

func switchOf(on bool) int {
	if on {
		return 1
	}
	return 0
}

// A modelSend is a send that can be repeated.
type modelSend struct {
	at   int64 // the clock
	o    *op
	call func(context.Context, any) answer // with a body
	body map[string]any
	uids map[string]string // as answered, by recipient
}

// newMessage is what one recipient is to get.
func (r *modelRun) newMessage(kind chat.ChannelType, from, to, typ, content string, persist, copied, takes bool, metadata map[string]string) *modelMessage {
	r.tokensOf++
	m := &modelMessage{
		n: r.tokensOf, kind: kind, from: from, to: to, typ: typ, content: content, persist: persist, copied: copied && from != to, takes: takes,
		metadata: map[string]string{}, silent: map[string]map[string]bool{from: {}, to: {}}, backs: r.backs, hidden: map[string]int64{},
	}
	if takes {
		maps.Copy(m.metadata, metadata)
	}
	return m
}

// wantsOf are the entries that a message leaves.
func (r *modelRun) wantsOf(m *modelMessage) []*want {
	now := r.clock.ms.Load()
	sent := maps.Clone(m.metadata)
	see := func(direction, channel string) func(*modelEvent) string {
		return func(e *modelEvent) string {
			g := &e.Message
			if m.uid == "" {
				if r.byUID[g.MessageUID] != nil {
					return "its UID is that of another message"
				}
				r.came(m, g.MessageUID, g.SentAt, now)
			}
			kind := "direct"
			if m.kind == chat.System {
				kind = "system"
			}
			switch {
			case g.MessageUID != m.uid || g.SentAt != m.sentAt:
				return fmt.Sprintf("its UID and sentAt are not %s and %d, as on the other side", m.uid, m.sentAt)
			case g.ChannelType != kind || g.FromUserID != m.from || g.MessageType != m.typ:
				return "it is not as it was sent"
			case g.ShouldPersist != m.persist || g.HasMetadata != m.takes || !maps.Equal(g.Metadata, sent) ||
				g.NeedReadReceipt != m.receipt || g.DisableUpdateLastMsg != m.quiet:
				return "its switches or metadata are not as it was sent"
			case g.SentAt < now:
				return fmt.Sprintf("it was sent at %d, which is before the call", g.SentAt)
			}
			return ""
		}
	}
	list := []*want{{user: m.to, key: "message " + m.content + " in " + m.from, seen: see("in", m.from)}}
	if m.copied {
		list = append(list, &want{user: m.from, key: "message " + m.content + " out " + m.to, seen: see("out", m.to)})
	}
	return list
}

// content is now and then so large that pages end by size.
func (r *modelRun) content() (typ, content string) {
	text := r.fresh("c")
	if r.chance(3) {
		text += strings.Repeat("-", 1000+r.rng.IntN(60_000))
	}
	switch {
	case r.chance(5):
		return "RC:TypSts", `{"content":"` + text + `"}`
	case r.chance(30):
		return "app:note", text
	case r.chance(6):
		return "RC:InfoNtf", `{"message":"` + text + `"}` // does not count
	case r.chance(6):
		return "RC:CmdMsg", `{"name":"` + text + `"}` // nor is it shown
	}
	return "RC:TxtMsg", `{"content":"` + text + `"}`
}

func (r *modelRun) pairs(most int) map[string]string {
	pairs := map[string]string{}
	for range 1 + r.rng.IntN(most) {
		pairs[fmt.Sprint("k", r.rng.IntN(5))] = fmt.Sprint("v", r.rng.IntN(4))
	}
	return pairs
}

func (r *modelRun) sendDirect(keyed bool) *op {
	from := r.someUser()
	var to []string
	for _, i := range r.rng.Perm(len(r.users))[:1+r.rng.IntN(3)] {
		to = append(to, r.users[i].name)
	}
	typ, content := r.content()
	echo, persist, verify, takes := r.chance(50), r.chance(80), r.chance(30), r.chance(50)
	receipt, quiet := r.chance(50), r.chance(10)
	body := map[string]any{
		"fromUserId": from.name, "toUserIds": to, "messageType": typ, "content": content,
		"shouldPersist": switchOf(persist), "isEchoToSender": switchOf(echo), "verifyBlocklist": switchOf(verify), "hasMetadata": switchOf(takes),
		"needReadReceipt": switchOf(receipt), "disableUpdateLastMsg": switchOf(quiet),
	}
	var metadata map[string]string
	if r.chance(30) {
		metadata = r.pairs(3)
		body["metadata"] = metadata // ignored without hasMetadata
	}
	kept := to
	if verify {
		kept = nil
		for _, name := range to {
			if !from.blocks[name] && !r.user(name).blocks[from.name] {
				kept = append(kept, name)
			}
		}
	}
	var messages []*modelMessage
	for _, name := range kept {
		m := r.newMessage(chat.Direct, from.name, name, typ, content, persist, echo, takes, metadata)
		m.receipt, m.quiet = receipt, quiet
		messages = append(messages, m)
	}
	return r.send("/v4/direct-channel/message/send", keyed, from.name, typ, messages, body)
}

func (r *modelRun) sendSystem(keyed bool) *op {
	from := r.someUser()
	var to []string
	for _, i := range r.rng.Perm(len(r.users))[:1+r.rng.IntN(3)] {
		to = append(to, r.users[i].name)
	}
	typ, content := r.content()
	persist := r.chance(80)
	body := map[string]any{"fromUserId": from.name, "toUserIds": to, "messageType": typ, "content": content, "shouldPersist": switchOf(persist)}
	var messages []*modelMessage
	for _, name := range to {
		messages = append(messages, r.newMessage(chat.System, from.name, name, typ, content, persist, false, false, nil))
	}
	return r.send("/v4/system-channel/message/send", keyed, from.name, typ, messages, body)
}

// send is a send of the server API. Now and then it is made twice at once.
func (r *modelRun) send(path string, keyed bool, from, typ string, messages []*modelMessage, body map[string]any) *op {
	key := ""
	if keyed || r.chance(60) {
		key = r.fresh("key-")
	}
	twice := key != "" && r.chance(15)
	post := func(ctx context.Context, body any) answer { return r.post(ctx, path, key, body) }
	o := &op{text: fmt.Sprintf("POST %s key %q twice %t %.200s → %v", path, key, twice, textOf(body), messages)}
	o.call = func(ctx context.Context) answer {
		if !twice {
			return post(ctx, body)
		}
		twin := make(chan answer, 1)
		go func() { twin <- post(ctx, body) }()
		a := post(ctx, body)
		b := <-twin
		if a.unknown || b.unknown {
			return answer{unknown: true}
		}
		if string(a.body) != string(b.body) || !a.replayed && !b.replayed {
			a.code, a.body = -1, fmt.Appendf(nil, "two equal calls at once were answered %v and %v", a, b)
		}
		return a
	}
	s := &modelSend{at: r.clock.ms.Load(), o: o, call: post, body: body}
	r.finishSend(s, key != "", from, typ, messages, func(a answer) (map[string]string, error) { return uidsIn(a, len(messages)) })
	return o
}

// uidsIn reads the answer to a send of the server.
func uidsIn(a answer, n int) (map[string]string, error) {
	var out struct {
		MessageUIDs []struct{ UserID, MessageUID string }
	}
	if err := a.read(&out); err != nil {
		return nil, err
	}
	uids := map[string]string{}
	for _, p := range out.MessageUIDs {
		uids[p.UserID] = p.MessageUID
	}
	if len(uids) != n {
		return nil, fmt.Errorf("%d recipients are answered, want %d", len(uids), n)
	}
	return uids, nil
}

// finishSend says what a send must come to.
func (r *modelRun) finishSend(s *modelSend, keyed bool, from, typ string, messages []*modelMessage, read func(answer) (map[string]string, error)) {
	o := s.o
	o.touches = []string{from}
	ephemeral := typ == "RC:TypSts"
	for _, m := range messages {
		o.touches = append(o.touches, m.to, m.String())
		if !ephemeral {
			o.wants = append(o.wants, r.wantsOf(m)...)
		}
	}
	o.judge = func(a answer, seen bool) string {
		if a.code != 0 {
			return "a good send was refused"
		}
		uids, err := read(a)
		if err != nil {
			return err.Error()
		}
		if !ephemeral && !seen && len(messages) > 0 {
			return "it was accepted and is not there"
		}
		for _, m := range messages {
			if uids[m.to] == "" || !ephemeral && uids[m.to] != m.uid {
				return fmt.Sprintf("the answer says %q for %s, the timeline %q", uids[m.to], m.to, m.uid)
			}
		}
		if keyed {
			s.uids = uids
			r.sends = append(r.sends, s)
		}
		return ""
	}
	o.again = func() *op {
		// The same op: what it wanted and is there is not wanted again.
		next := *o
		next.a = answer{}
		return &next
	}
}

func textOf(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

func (r *modelRun) sendAsClient(keyed bool) *op {
	from, to := r.someUser(), r.someUser()
	typ, content := r.content()
	persist, takes, receipt, quiet := r.chance(80), r.chance(50), r.chance(50), r.chance(10)
	body := map[string]any{
		"channelType": "direct", "channelId": to.name, "messageType": typ, "content": content, "shouldPersist": persist, "hasMetadata": takes,
		"needReadReceipt": receipt, "disableUpdateLastMsg": quiet,
	}
	var metadata map[string]string
	if r.chance(30) {
		metadata = r.pairs(3)
		body["metadata"] = metadata
	}
	id := ""
	if keyed || r.chance(70) {
		id = r.fresh("id-")
		body["clientMsgId"] = id
	}
	call := func(ctx context.Context, body any) answer { return r.rpc(ctx, from.name, "message.send", body) }
	o := &op{user: from.name, call: func(ctx context.Context) answer { return call(ctx, body) }}
	if to.blocks[from.name] {
		o.text = fmt.Sprintf("%s sends %.200s, whom %s blocks", from.name, textOf(body), to.name)
		o.touches = []string{from.name, to.name}
		o.judge = func(a answer, _ bool) string {
			if a.code != 405 {
				return "it must be refused with 405"
			}
			return ""
		}
		o.again = func() *op { next := *o; return &next }
		return o
	}
	m := r.newMessage(chat.Direct, from.name, to.name, typ, content, persist, true, takes, metadata)
	m.receipt, m.quiet = receipt, quiet
	o.text = fmt.Sprintf("%s sends %.200s → %v", from.name, textOf(body), m)
	s := &modelSend{at: r.clock.ms.Load(), o: o, call: call, body: body}
	r.finishSend(s, id != "", from.name, typ, []*modelMessage{m}, func(a answer) (map[string]string, error) {
		var out struct{ MessageUID string }
		err := a.read(&out)
		return map[string]string{to.name: out.MessageUID}, err
	})
	return o
}

// repeatSend repeats what was done with its key, or misuses the key.
func (r *modelRun) repeatSend(bool) *op {
	if len(r.sends) == 0 {
		return nil
	}
	s := r.sends[len(r.sends)-1-r.rng.IntN(min(len(r.sends), 30))]
	if age := r.clock.ms.Load() - s.at; age > (23 * time.Hour).Milliseconds() {
		return nil
	}
	o := &op{user: s.o.user, touches: s.o.touches}
	o.again = func() *op { next := *o; return &next }
	if r.chance(25) {
		other := maps.Clone(s.body)
		other["content"] = `{"content":"` + r.fresh("other") + `"}`
		o.text = "with other content: " + s.o.text
		o.call = func(ctx context.Context) answer { return s.call(ctx, other) }
		o.judge = func(a answer, _ bool) string {
			if a.status != 409 && a.code != 409 {
				return "a key that was used for something else was taken"
			}
			return ""
		}
		return o
	}
	o.text = "once more: " + s.o.text
	o.call = func(ctx context.Context) answer { return s.call(ctx, s.body) }
	o.judge = func(a answer, _ bool) string {
		if a.code != 0 {
			return "a repeat was refused"
		}
		if s.o.user == "" && !a.replayed {
			return "a repeat was not answered as one"
		}
		for user, uid := range s.uids {
			if !strings.Contains(string(a.body), uid) {
				return fmt.Sprintf("a repeat was answered without the UID of %s, %s", user, uid)
			}
		}
		return ""
	}
	return o
}

// eventWants are the entries that an event about a message leaves: in the
// recipient's timeline, and in the sender's where it has a copy.
func eventWants(m *modelMessage, key string, apply func(*modelEvent) string) []*want {
	var first *modelEvent
	both := func(e *modelEvent) string {
		if e.MessageUID != m.uid {
			return "it is about another message, not " + m.uid
		}
		if first != nil && (e.RecalledAt != first.RecalledAt || e.UpdatedAt != first.UpdatedAt) {
			return "it differs from what the other side has"
		}
		if first == nil {
			first = e
			return apply(e)
		}
		return ""
	}
	list := []*want{{user: m.to, key: key, seen: both}}
	if m.copied {
		list = append(list, &want{user: m.from, key: key, seen: both})
	}
	return list
}

func (r *modelRun) recallSome(bool) *op {
	m := r.someMessage()
	if m == nil {
		return nil
	}
	extra, del, admin, quiet := r.fresh("x"), r.chance(40), r.chance(50), r.chance(20)
	return r.recallOp(m, extra, del, admin, quiet, r.chance(50), r.someUser())
}

// recallOp recalls as a client, who may not be the sender, or as the server.
func (r *modelRun) recallOp(m *modelMessage, extra string, del, admin, quiet, asClient bool, by *modelUser) *op {
	o := &op{touches: []string{m.from, m.to, m.String()}}
	o.again = func() *op { return r.recallOp(m, extra, del, admin, quiet, asClient, by) }
	refused := 0
	if asClient {
		if by.name != m.from && r.chance(70) {
			by = r.user(m.from)
		}
		refused = refusalOf(m, by.name)
		o.user, o.text = by.name, fmt.Sprintf("%s recalls %v, delete %t, %s", by.name, m, del, extra)
		o.call = func(ctx context.Context) answer {
			return r.rpc(ctx, by.name, "message.recall", map[string]any{"messageUID": m.uid, "isDelete": del, "extra": extra, "disableUpdateLastMsg": quiet})
		}
		admin = false
	} else {
		o.text = fmt.Sprintf("the server recalls %v, delete %t, %s", m, del, extra)
		o.call = func(ctx context.Context) answer {
			return r.post(ctx, "/v4/message/delete", "", map[string]any{
				"fromUserId": m.from, "channelType": int(m.kind), "channelId": m.to, "messageUID": m.uid,
				"isAdmin": switchOf(admin), "isDelete": switchOf(del), "extra": extra,
				"disableUpdateLastMsg": switchOf(quiet),
			})
		}
	}
	before := m.recall != nil
	if refused == 0 && !before {
		o.wants = eventWants(m, "recall "+extra, func(e *modelEvent) string {
			if m.recall != nil {
				return "it was recalled before"
			}
			if e.IsDelete != del || e.IsAdmin != admin || e.OperatorID != m.from {
				return "it is not as it was asked"
			}
			m.recall, m.recalled, m.hushed = e, r.round, quiet
			return ""
		})
	}
	o.judge = func(a answer, seen bool) string {
		switch {
		case a.code != refused:
			return fmt.Sprintf("the code must be %d", refused)
		case refused == 0 && m.recall == nil:
			return "it is done and nobody was told"
		}
		return ""
	}
	return o
}

// refusalOf is the error that a client gets who wants to change a message.
func refusalOf(m *modelMessage, by string) int {
	switch by {
	case m.from:
		return 0
	case m.to:
		return 403
	}
	return 404
}

const invalid = 1002 // a rule is broken, at the server's door

func (r *modelRun) updateSome(bool) *op {
	m := r.someMessage()
	if m == nil {
		return nil
	}
	content := `{"content":"` + r.fresh("e") + `"}`
	if m.editedAt != 0 && r.chance(10) {
		content = m.content // changes nothing
	}
	return r.updateOp(m, content, r.chance(50), r.someUser())
}

func (r *modelRun) updateOp(m *modelMessage, content string, asClient bool, by *modelUser) *op {
	o := &op{touches: []string{m.from, m.to, m.String()}, lasting: true}
	o.again = func() *op { return r.updateOp(m, content, asClient, by) }
	refused, badState := 0, invalid
	if asClient {
		if by.name != m.from && r.chance(70) {
			by = r.user(m.from)
		}
		refused, badState = refusalOf(m, by.name), 107
		o.user, o.text = by.name, fmt.Sprintf("%s changes %v to %s", by.name, m, content)
		o.call = func(ctx context.Context) answer {
			return r.rpc(ctx, by.name, "message.update", map[string]any{"messageUID": m.uid, "content": content})
		}
	} else {
		o.text = fmt.Sprintf("the server changes %v to %s", m, content)
		o.call = func(ctx context.Context) answer {
			return r.post(ctx, "/v4/direct-channel/message/update", "", map[string]any{
				"fromUserId": m.from, "targetId": m.to, "messageUID": m.uid, "content": content,
			})
		}
	}
	old := r.clock.ms.Load()-m.sentAt > (24 * time.Hour).Milliseconds()
	if refused == 0 && (old || m.kind != chat.Direct || m.recall != nil) {
		refused = badState
	}
	// A repeat of what is so already tells nobody, unless another change at the same
	// time came before it.
	same, edits := m.editedAt != 0 && m.content == content, m.edits
	if refused == 0 {
		o.wants = eventWants(m, "update "+content, func(e *modelEvent) string {
			m.content, m.editedAt = e.Content, e.UpdatedAt
			m.edits++
			return ""
		})
	}
	o.judge = func(a answer, seen bool) string {
		switch {
		case seen && a.code != 0:
			return "it is refused and was told of"
		case seen && same && m.edits == edits+1:
			return "it changes nothing and was told of"
		case seen || refused == 0 && same && a.code == 0:
			return ""
		case refused == 0 && a.code == badState && m.recall != nil:
			return "" // a recall of the same step was quicker
		case refused == 0:
			return "it is not told of"
		case a.code != refused:
			return fmt.Sprintf("the code must be %d", refused)
		}
		return ""
	}
	return o
}

// A metadataChange is what a request does to a message's metadata.
type metadataChange struct {
	m      *modelMessage
	set    map[string]string
	remove []string
	by     string
	echo   bool
}

func (r *modelRun) changeMetadata(bool) *op {
	m := r.someMessage()
	for range 5 {
		if m != nil && (!m.takes || m.recall != nil) {
			m = r.someMessage()
		}
	}
	if m == nil {
		return nil
	}
	c := &metadataChange{m: m, by: r.someUser().name, echo: r.chance(70)}
	if r.chance(65) {
		c.set = r.pairs(3)
	} else {
		c.remove = slices.Sorted(maps.Keys(r.pairs(2)))
	}
	return r.metadataOp(c, r.chance(50))
}

func (r *modelRun) metadataOp(c *metadataChange, asClient bool) *op {
	m := c.m
	o := &op{touches: []string{m.from, m.to, m.String()}, lasting: true, metadata: c}
	o.again = func() *op { return r.metadataOp(c, asClient) }
	badMessage, badState, refused := invalid, invalid, 0
	what := fmt.Sprintf("metadata of %v: set %v, remove %v, echo %t", m, c.set, c.remove, c.echo)
	if asClient {
		badMessage, badState, c.echo = 34008, 107, true
		if c.by != m.from && c.by != m.to {
			refused = 404
		}
		o.user, o.text = c.by, fmt.Sprintf("%s changes %s", c.by, what)
		o.call = func(ctx context.Context) answer {
			if c.set != nil {
				return r.rpc(ctx, c.by, "message.metadata.set", map[string]any{"messageUID": m.uid, "metadata": c.set})
			}
			return r.rpc(ctx, c.by, "message.metadata.remove", map[string]any{"messageUID": m.uid, "keys": c.remove})
		}
	} else {
		o.text = fmt.Sprintf("the server changes for %s %s", c.by, what)
		o.call = func(ctx context.Context) answer {
			body := map[string]any{
				"userId": c.by, "channelType": int(chat.Direct), "channelId": m.to, "messageUID": m.uid, "isEchoToSender": switchOf(c.echo),
			}
			if c.set != nil {
				body["metadata"] = c.set
				return r.post(ctx, "/v4/channel-type/message/metadata/set", "", body)
			}
			body["keys"] = c.remove
			return r.post(ctx, "/v4/channel-type/message/metadata/delete", "", body)
		}
	}
	switch {
	case refused != 0:
	case asClient && m.kind != chat.Direct, !m.takes && m.kind == chat.Direct:
		refused = badMessage
	case m.kind != chat.Direct:
		refused = invalid // the channel's type is wrong
	case m.recall != nil:
		refused = badState
	}
	o.judge = func(a answer, _ bool) string {
		if a.code != refused && !(refused == 0 && a.code == badState && m.recall != nil) {
			return fmt.Sprintf("the code must be %d", refused)
		}
		if a.code != 0 {
			o.metadata = nil
		}
		return ""
	}
	return o
}

// judgeMetadata moves the model by the step's changes of metadata. Of several to
// one message the order is not known: what the message then has is looked up, and
// must be explained by them.
func (r *modelRun) judgeMetadata(ops []*op) {
	of := map[*modelMessage][]*metadataChange{}
	for _, o := range ops {
		if o.metadata != nil && !o.a.unknown && o.a.code == 0 {
			of[o.metadata.m] = append(of[o.metadata.m], o.metadata)
		}
	}
	for m, changes := range of {
		if m.recall != nil {
			continue
		}
		if len(changes) == 1 {
			changes[0].apply()
			continue
		}
		now := r.metadataOf(m)
		for _, k := range slices.Concat(slices.Sorted(maps.Keys(now)), slices.Sorted(maps.Keys(m.metadata))) {
			v, there := now[k]
			var touched, explained bool
			for _, c := range changes {
				if value, sets := c.set[k]; sets {
					touched, explained = true, explained || there && value == v
				}
				if slices.Contains(c.remove, k) {
					touched, explained = true, explained || !there
				}
			}
			was, had := m.metadata[k]
			if !touched && (was != v || had != there) || touched && !explained {
				r.fail([]string{m.from, m.to, m.String()}, "after changes of metadata at once %v has for %s %q, %t; it had %q, %t", m, k, v, there, was, had)
			}
		}
		m.metadata = now
		for _, c := range changes {
			if !c.echo {
				c.hush()
			}
		}
	}
}

// apply makes the change in the model.
func (c *metadataChange) apply() {
	tell := func(k string) {
		for side, silent := range c.m.silent {
			if silent[k] = side == c.by && !c.echo; !silent[k] {
				delete(silent, k)
			}
		}
	}
	for k, v := range c.set {
		if was, there := c.m.metadata[k]; !there || was != v {
			c.m.metadata[k] = v
			tell(k)
		}
	}
	for _, k := range c.remove {
		if _, there := c.m.metadata[k]; there {
			delete(c.m.metadata, k)
			tell(k)
		}
	}
}

// hush marks all keys as those that the operator need not have been told of.
func (c *metadataChange) hush() {
	if silent := c.m.silent[c.by]; silent != nil {
		for k := range c.set {
			silent[k] = true
		}
		for _, k := range c.remove {
			silent[k] = true
		}
	}
}

// metadataOf asks the server for a message's metadata.
func (r *modelRun) metadataOf(m *modelMessage) map[string]string {
	a := r.post(r.t.Context(), "/v4/channel-type/message/metadata/list", "", map[string]any{"messageUID": m.uid})
	var out struct{ Metadata []struct{ Key, Value string } }
	if a.unknown || a.code != 0 || a.read(&out) != nil {
		r.fail([]string{m.from, m.to, m.String()}, "the metadata of %v: %v", m, a)
	}
	now := map[string]string{}
	for _, p := range out.Metadata {
		now[p.Key] = p.Value
	}
	return now
}

// requests are some to be made at once, half of the time mostly about one message.
func (r *modelRun) requests(keyed bool) (ops []*op) {
	if r.chance(50) {
		r.focus = r.someMessage()
		defer func() { r.focus = nil }()
	}
	for range 2 + r.rng.IntN(6) {
		ops = append(ops, r.request(keyed))
	}
	return ops
}

func (r *modelRun) burst() { r.do(r.requests(false)...) }

// loseAnswers cuts the lines under requests. Whoever made them asks again until
// there is an answer. What must not be done late, or twice, keeps its line:
// nobody can tell when the server has come to the end of a call that was cut off.
func (r *modelRun) loseAnswers() {
	ops := r.requests(true)
	ctx, cancel := context.WithCancel(r.t.Context())
	defer cancel()
	stays := map[string]bool{}
	for _, o := range ops {
		if o.lasting {
			stays[o.user] = true
			continue
		}
		call, first := o.call, true
		o.call = func(again context.Context) answer {
			if first {
				first = false
				return call(ctx)
			}
			return call(again)
		}
	}
	wait := r.begin(ops, true)
	time.Sleep(time.Duration(r.rng.IntN(1500)) * time.Microsecond)
	cancel()
	for _, u := range r.users {
		if !stays[u.name] && r.chance(50) {
			u.desk.drop()
		}
	}
	wait()
	r.askAgain(ops)
	r.judge(ops)
}

// crash cuts the power, in the middle of requests or with none under way. What
// got no answer is asked again afterwards, one after the other.
func (r *modelRun) crash(busy bool) {
	var ops []*op
	wait := func() {}
	if busy {
		ops = r.requests(true)
		if r.chance(60) {
			for _, o := range ops {
				if o.user != "" {
					r.desk(o.user) // which may be given broadcasts first
				}
			}
			r.greet()
			r.disk.hold()
			r.say(nil, "the disk holds syncs back")
		}
		wait = r.begin(ops, true)
		time.Sleep(time.Duration(r.rng.IntN(3000)) * time.Microsecond)
	}
	r.say(nil, "the power is cut")
	r.cutPower()
	wait()
	r.boot()
	r.judge(ops)
	r.look(nil, r.users)
	for _, o := range ops {
		if o.a.unknown {
			r.do(o.again())
		}
	}
}

func (r *modelRun) restart() {
	r.say(nil, "the node is restarted")
	r.halt()
	r.boot()
}

func (r *modelRun) block() {
	u, other := r.someUser(), r.someUser()
	if u == other {
		return
	}
	on, asClient := !u.blocks[other.name] && r.chance(60), r.chance(50)
	o := &op{touches: []string{u.name, other.name}, text: fmt.Sprintf("%s blocks %s: %t", u.name, other.name, on)}
	switch {
	case asClient && on:
		o.user = u.name
		o.call = func(ctx context.Context) answer {
			return r.rpc(ctx, u.name, "blocklist.add", map[string]any{"userIds": []string{other.name}})
		}
	case asClient:
		o.user = u.name
		o.call = func(ctx context.Context) answer {
			return r.rpc(ctx, u.name, "blocklist.remove", map[string]any{"userIds": []string{other.name}})
		}
	case on:
		o.call = func(ctx context.Context) answer {
			return r.post(ctx, "/v4/user/blocklist/add", "", map[string]any{"userId": u.name, "targetUserIds": []string{other.name}})
		}
	default:
		o.call = func(ctx context.Context) answer {
			return r.post(ctx, "/v4/user/blocklist/remove", "", map[string]any{"userId": u.name, "blockedUserIds": []string{other.name}})
		}
	}
	o.judge = func(a answer, _ bool) string {
		if a.code != 0 {
			return "it was refused"
		}
		u.blocks[other.name] = on
		return ""
	}
	r.do(o)
}

func (r *modelRun) connectDevice() {
	d := r.someDevice()
	if d == d.user.desk || d.client() != nil {
		return
	}
	from := ""
	if r.chance(40) {
		from = []string{"now", "device", "oldest"}[r.rng.IntN(3)]
	} else if r.chance(20) {
		d.knows = false
	}
	cut := 0
	if r.chance(30) {
		cut = 1 + r.rng.IntN(200) // in the middle of a page
	}
	r.say([]string{d.user.name}, "%s connects, from %q, knows %t %d, cut after %d", d, from, d.knows, d.pos, cut)
	d.connect(from, cut)
	if cut > 0 && d.gone() {
		d.check()
		d.leave()
	}
}

func (r *modelRun) disconnectDevice() {
	d := r.someDevice()
	if d.client() == nil {
		return
	}
	clean := r.chance(40)
	r.say([]string{d.user.name}, "%s disconnects, cleanly: %t", d, clean)
	if clean {
		d.leave()
	} else {
		d.drop()
	}
	d.check()
}

func (r *modelRun) acknowledge() {
	d := r.someDevice()
	if d.client() == nil {
		return
	}
	d.check()
	lost := r.chance(20)
	offset := d.pos + 4 - min(d.pos+4, uint64(r.rng.IntN(8)))
	r.say([]string{d.user.name}, "%s acknowledges %d, lost: %t", d, offset, lost)
	d.ack(offset, lost)
	if lost {
		d.check()
	}
}

// maxModelDrift keeps the clock within the life of missed messages, and what is
// asked of history within what one request may ask for.
const maxModelDrift = 6 * 24 * time.Hour

func (r *modelRun) moveClock() {
	var d time.Duration
	switch {
	case r.chance(70):
		d = time.Duration(r.rng.IntN(5000)) * time.Millisecond
	case r.chance(40):
		d = -time.Duration(r.rng.IntN(5000)) * time.Millisecond
	case r.chance(80):
		d = time.Duration(r.rng.IntN(3600)) * time.Second
	default:
		d = time.Duration(r.rng.IntN(26)) * time.Hour
	}
	if r.clock.ms.Load()-r.began+d.Milliseconds() > maxModelDrift.Milliseconds() {
		d = time.Second
	}
	r.look(nil, r.users) // what was told was told by the clock that was
	r.advance(d)
}

func (r *modelRun) readHistory() {
	u, other := r.someUser(), r.someUser()
	kind := chat.Direct
	if r.chance(20) {
		kind = chat.System
	}
	r.compareHistory(u, other, kind, 1+r.rng.IntN(100), r.rng.IntN(3))
}

// A seenMessage is a message as history shows it, at either door.
type seenMessage struct {
	UID, From, Type, Content, Metadata string
	SentAt, UpdatedAt                  int64
	Receipt                            string // the numbers of it
}

// compareHistory reads all of a channel, in pages, and compares it with what the
// model says: by the server's call (way 0), or the client's backwards (1) or
// forwards (2).
func (r *modelRun) compareHistory(u, other *modelUser, kind chat.ChannelType, page, way int) {
	if kind == chat.System && way == 0 {
		way = 1 // the server has no call for it
	}
	v := u.view(kind, other.name)
	var want []seenMessage
	for _, m := range r.messages {
		if !v.holds(m) || !m.persist || m.id.Compare(v.clearedUpTo) <= 0 || m.hidden[u.name] != 0 {
			continue
		}
		if s, shown := m.seenBy(u, way != 0); shown {
			want = append(want, s)
		}
	}
	slices.SortFunc(want, func(a, b seenMessage) int { return strings.Compare(b.UID, a.UID) })
	var got []seenMessage
	if way == 0 {
		got = r.listHistory(u, other, page)
	} else {
		got = r.clientHistory(u, other, kind, page, way == 2)
	}
	for i := range max(len(got), len(want)) {
		var g, w seenMessage
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			about := []string{u.name, other.name}
			for _, uid := range []string{g.UID, w.UID} {
				if m := r.byUID[uid]; m != nil {
					about = append(about, m.String())
				}
			}
			r.fail(about, "the history of %s with %s (%v, way %d, pages of %d) has at place %d of %d\n\t%+v\nwant, of %d\n\t%+v",
				u.name, other.name, kind, way, page, i, len(got), g, len(want), w)
		}
	}
}

// normal is JSON with its members in order.
func normal(text string) string {
	var v map[string]any
	if json.Unmarshal([]byte(text), &v) != nil {
		return text
	}
	return textOf(v)
}

func (r *modelRun) listHistory(u, other *modelUser, page int) (got []seenMessage) {
	before := ""
	for {
		body := map[string]any{
			"userId": u.name, "channelId": other.name, "pageSize": page, "includeStart": 1,
			"startAt": r.began + (13 * 24 * time.Hour).Milliseconds(), "endAt": r.began - time.Hour.Milliseconds(), "before": before,
		}
		if before == "" {
			delete(body, "before")
		}
		a := r.post(r.t.Context(), "/v4/direct-channel/history-message/list", "", body)
		var out struct {
			Messages []struct {
				MessageUID, FromUserID, MessageType, Content string
				SentAt                                       int64
				Metadata                                     []struct{ Key, Value string }
			}
		}
		if a.unknown || a.code != 0 || a.read(&out) != nil {
			r.fail([]string{u.name, other.name}, "the history of %s with %s: %v", u.name, other.name, a)
		}
		for _, m := range out.Messages {
			pairs := map[string]string{}
			for _, p := range m.Metadata {
				pairs[p.Key] = p.Value
			}
			got = append(got, seenMessage{m.MessageUID, m.FromUserID, m.MessageType, contentOf(m.MessageType, m.Content), textOf(pairs), m.SentAt, 0, ""})
			before = m.MessageUID
		}
		if len(out.Messages) < page {
			return got
		}
	}
}

func contentOf(typ, content string) string {
	if typ == "RC:RcNtf" {
		return normal(content)
	}
	return content
}

func (r *modelRun) clientHistory(u, other *modelUser, kind chat.ChannelType, page int, forward bool) (got []seenMessage) {
	data := map[string]any{"channelType": kind.String(), "channelId": other.name, "limit": page}
	if forward {
		data["after"] = r.began - time.Hour.Milliseconds()
	}
	for {
		r.desk(u.name)
		a := r.rpc(r.t.Context(), u.name, "message.history", data)
		var out struct {
			Messages []shownMessage
			More     bool
			Next     string
		}
		if a.unknown || a.code != 0 || a.read(&out) != nil {
			r.fail([]string{u.name, other.name}, "%s reads the history with %s: %v", u.name, other.name, a)
		}
		var list []seenMessage
		for i := range out.Messages {
			list = append(list, out.Messages[i].seen())
		}
		if forward {
			got = slices.Concat(list, got)
		} else {
			got = append(got, list...)
		}
		if !out.More {
			return got
		}
		data["before"] = out.Next
		if forward {
			delete(data, "before")
			data["after"] = out.Next
		}
	}
}
