package gateway

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// An effect is what a call does with what there is.
type effect int

const (
	reads   effect = iota + 1 // nothing
	changes                   // something that the history command or a reading call shows
	alone                     // only to the connection it comes from
)

// An rpcProof is what the tests that try every call need to know of one: what it
// does, and one or more forms of its data that succeed.
type rpcProof struct {
	effect effect
	data   []string
}

// rpcProofs are the cases of TestEveryCallAcrossApps and
// TestEveryCallCanBeRepeated. Who adds a call to
// rpcMethods adds a line. In the data stand
//
//	$TO    another user than the one who calls
//	$ROOM  an open channel that $TO is in
//	$HERE  an open channel that the caller is in, of which a pair "a" is the caller's
//	$UID   a direct message of the caller's to $TO, sent for this line, with hasMetadata
//	       and needReadReceipt
//	       (for message.stream a stream of theirs)
//	$TEXT  a text that is different in each app
//
// each for a JSON string.
var rpcProofs = map[string]rpcProof{
	"ack": {alone, []string{`{"offset":1}`}},
	"message.send": {changes, []string{
		`{"channelType":"direct","channelId":$TO,"messageType":"app:t","content":$TEXT,"clientMsgId":"m1"}`,
		`{"channelType":"open","channelId":$ROOM,"messageType":"app:t","content":"said in a room","clientMsgId":"m2"}`,
		`{"channelType":"direct","channelId":$TO,"messageType":"RC:TypSts","content":"{}","clientMsgId":"m3"}`}},
	"message.history": {reads, []string{
		`{"channelType":"direct","channelId":$TO}`, `{"channelType":"direct","channelId":$TO,"before":$UID}`, `{"channelType":"direct","channelId":$TO,"after":$UID}`,
		`{"channelType":"open","channelId":$ROOM}`, `{"channelType":"system","channelId":"shop"}`}},
	"message.read": {changes, []string{
		`{"channelType":"direct","channelId":$TO,"upTo":9999999999999}`, `{"channelType":"system","channelId":"shop","upTo":9999999999999}`}},
	"message.readers": {reads, []string{`{"messageUID":$UID}`, `{"messageUID":$UID,"pageSize":1}`}},
	"message.delete": {changes, []string{
		`{"messageUIDs":[$UID]}`, `{"channelType":"system","channelId":"shop","upTo":9999999999999}`}},
	"channel.list": {reads, []string{`{}`, `{"pageSize":1}`, `{"order":1}`}},
	"channel.get":  {reads, []string{`{"channelType":"direct","channelId":$TO}`, `{"channelType":"system","channelId":"shop"}`}},
	"channel.remove": {changes, []string{
		`{"channelType":"direct","channelId":$TO}`, `{"channelType":"system","channelId":"shop"}`}},
	"message.recall":          {changes, []string{`{"messageUID":$UID}`}},
	"message.update":          {changes, []string{`{"messageUID":$UID,"content":"changed"}`}},
	"message.metadata.set":    {changes, []string{`{"messageUID":$UID,"metadata":{"b":"2"}}`}},
	"message.metadata.remove": {changes, []string{`{"messageUID":$UID,"keys":["a"]}`}},
	"message.trace":           {reads, []string{`{"messageUID":$UID}`}},
	"message.stream":          {reads, []string{`{"messageUID":$UID}`}},
	"open.metadata.set":       {changes, []string{`{"channelId":$HERE,"metadata":{"b":"2"},"shouldAutoDelete":true}`}},
	"open.metadata.remove":    {changes, []string{`{"channelId":$HERE,"keys":["a"]}`}},
	"open.metadata.get":       {reads, []string{`{"channelId":$HERE}`, `{"channelId":$HERE,"keys":["a"]}`}},
	"open.participants":       {reads, []string{`{"channelId":$HERE}`}},
	"channel.pin":             {changes, []string{`{"channelType":"direct","channelId":$TO,"pinned":true}`}},
	"channel.notification": {changes, []string{
		`{"channelType":"direct","channelId":$TO,"level":5}`, `{"channelType":"group","level":1}`, `{"quietHours":{"from":"22:00","to":"07:00"}}`}},
	"channel.tag.set":    {changes, []string{`{"tagId":"new","tagName":"New"}`}},
	"channel.tag.delete": {changes, []string{`{"tagId":"gone"}`}},
	"channel.tag.list":   {reads, []string{`{}`}},
	"channel.tag.add":    {changes, []string{`{"tagId":"w","channels":[{"channelType":"direct","channelId":$TO}]}`}},
	"channel.tag.remove": {changes, []string{`{"tagId":"w","channels":[{"channelType":"direct","channelId":$TO}]}`}},
	"channel.tagged":     {reads, []string{`{"tagId":"w"}`}},
	"typing":             {alone, []string{`{"channelType":"direct","channelId":$TO}`}},
	"device.push":        {alone, []string{`{"provider":"FCM","token":"phone"}`, `{"provider":null}`}},
	"device.state":       {alone, []string{`{"background":true}`}},
	"blocklist.add":      {changes, []string{`{"userIds":[$TO]}`}},
	"blocklist.remove":   {changes, []string{`{"userIds":[$TO]}`}},
	"blocklist.list":     {reads, []string{`{}`, `{"order":1,"pageToken":"1"}`}},
}

// calls are the methods of rpcProofs, in an order.
func calls() []string { return slices.Sorted(maps.Keys(rpcProofs)) }

func TestEveryCallHasProof(t *testing.T) {
	t.Parallel()
	for method := range rpcMethods {
		if p := rpcProofs[method]; p.effect == 0 || len(p.data) == 0 {
			t.Errorf("%s has no line in rpcProofs (internal/gateway/isolation_test.go): add one, so that it is tried across apps", method)
		}
	}
	for method := range rpcProofs {
		if rpcMethods[method] == nil {
			t.Errorf("rpcProofs has a line for %s, which there is not", method)
		}
	}
}

// A tenant is an app with users in a ring who have connections.
type tenant struct {
	h     *house
	app   *chat.App
	name  string
	users []string
	peers []*peer
	uids  map[string]string // what $UID is, by method and user
}

var sameUsers = []string{"alice", "bob", "bo", "b", strings.Repeat("b", 64), "\U0010ffff", `"\`}

func (n *tenant) to(i int) string { return n.users[(i+1)%len(n.users)] }

func (n *tenant) fill(text, method string, i int) string {
	return strings.NewReplacer("$TO", quoted(n.to(i)), "$ROOM", quoted(n.to(i)), "$HERE", quoted(n.users[i]), "$TEXT", quoted(n.name+" to "+n.to(i)),
		"$UID", quoted(n.uids[method+n.users[i]])).Replace(text)
}

func quoted(s string) string {
	b, err := json.Marshal(s)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// patient is a gateway for tests that make thousands of calls on few connections,
// and read no pings meanwhile.
func patient(o *Options) {
	o.commands = limit{burst: 1 << 20}
	o.PingInterval = time.Hour
}

// raw carries out a command with id 9 and gives the line that answers it. All that
// there is to try is more than a connection may ask at once, so who is told that
// they are too quick waits and asks again.
func (p *peer) raw(command string) string {
	p.t.Helper()
	p.send(command)
	var others []string
	for {
		line := p.line()
		switch r := decodeReply(p.t, line); {
		case r.ID != 9:
			others = append(others, line)
		case r.Error != nil && r.Error.Code == codeTooManyRequests:
			time.Sleep(100 * time.Millisecond)
			p.send(command)
		default:
			p.lines = append(others, p.lines...)
			return line
		}
	}
}

func (n *tenant) call(i int, method, data string) string {
	n.h.t.Helper()
	for {
		line := n.peers[i].raw(`{"rpc":{"method":"` + method + `","data":` + data + `},"id":9}`)
		if !strings.Contains(line, `"code":111,`) {
			return line
		}
		time.Sleep(100 * time.Millisecond) // as clients do when calls come too fast
	}
}

func (n *tenant) must(i int, method, data string) string {
	n.h.t.Helper()
	line := n.call(i, method, data)
	if decodeReply(n.h.t, line).Error != nil {
		n.h.t.Fatalf("%s: %s %s: %s", n.name, method, data, line)
	}
	return line
}

func (n *tenant) connect() (peers []*peer) {
	n.h.app = n.app
	for _, u := range n.users {
		p := n.h.dial()
		p.send(`{"connect":{"token":"`+n.h.token(u)+`","data":{"deviceId":"phone","from":"now"}},"id":1}`, `{"subscribe":{"channel":`+quoted("open:"+u)+`},"id":2}`)
		for range 2 {
			r := p.reply()
			if r.Error != nil {
				n.h.t.Fatal(r.Error)
			}
			if r.Subscribe == nil {
				continue
			}
			// A's guest is in the same channel, of A.
			var in struct{ ParticipantCount int }
			must(n.h.t, json.Unmarshal(r.Subscribe.Data, &in))
			if n.name == "B" && in.ParticipantCount != 1 {
				n.h.t.Errorf("%s of B is not alone in a channel: %s", u, r.Subscribe.Data)
			}
		}
		peers = append(peers, p)
	}
	return peers
}

// settle makes a tenant. Those of different apart differ in whom they block, and
// where they have tags.
func settle(h *house, app *chat.App, name string, apart int) *tenant {
	h.app = app
	h.set("limits.client", "0")
	h.set("limits.participants", "0")
	n := &tenant{h: h, app: h.app, name: name, users: sameUsers, uids: map[string]string{}}
	n.peers = n.connect()
	h.app = n.app
	h.send(chat.System, "shop", name, n.users...)
	for i, u := range n.users {
		n.must(i, "open.metadata.set", n.fill(`{"channelId":$HERE,"metadata":{"a":$TEXT}}`, "", i))
		n.must(i, "blocklist.add", `{"userIds":[`+quoted(n.users[(i+apart)%len(n.users)])+`]}`)
		n.must(i, "channel.tag.set", `{"tagId":"w","tagName":"`+name+`"}`)
		n.must(i, "channel.tag.set", `{"tagId":"gone","tagName":"x"}`)
		n.must(i, "channel.tag.add", `{"tagId":"w","channels":[{"channelType":"direct","channelId":`+quoted(n.users[(i+apart)%len(n.users)])+`}]}`)
		for _, method := range calls() {
			p := rpcProofs[method]
			switch {
			case method == "message.stream":
				n.uids[method+u] = h.chunk(chat.UID{}, u, n.to(i), chat.Chunk{Seq: 1, Text: name}, true).String()
			case strings.Contains(strings.Join(p.data, ""), "$UID"):
				r := n.must(i, "message.send", n.fill(`{"channelType":"direct","channelId":$TO,"messageType":"app:t","content":$TEXT,"hasMetadata":true,"metadata":{"a":"1"},"needReadReceipt":true}`, "", i))
				n.uids[method+u] = anyUID.FindString(r)
			}
		}
	}
	return n
}

// useIDs sends everything once with the clientMsgIds that others use too.
func (n *tenant) useIDs() {
	for i, u := range n.users {
		for _, data := range rpcProofs["message.send"].data {
			n.uids[data+u] = anyUID.FindString(n.must(i, "message.send", n.fill(data, "", i)))
		}
	}
}

var (
	anyUID  = regexp.MustCompile(`[0-9A-Z]{4}(-[0-9A-Z]{4}){3}`)
	anyTime = regexp.MustCompile(`\b1[0-9]{12}\b`)
	anyLife = regexp.MustCompile(`"epoch":"[^"]*"`)
	reached = regexp.MustCompile(`,"(written|acknowledged)":\{[^}]*\}`)
)

// plain is a line without what differs from run to run.
func plain(line string) string {
	line = anyUID.ReplaceAllString(line, "UID")
	return anyLife.ReplaceAllString(anyTime.ReplaceAllString(reached.ReplaceAllString(line, ""), "TIME"), `"epoch":"EPOCH"`)
}

// picture is all that the tenant's users can see.
func (n *tenant) picture() (lines []string) {
	for i, u := range n.users {
		for _, method := range calls() {
			p := rpcProofs[method]
			for _, data := range p.data {
				if p.effect == reads {
					// Which of a connection's messages were taken by its socket
					// becomes known some time later.
					line := reached.ReplaceAllString(n.must(i, method, n.fill(data, method, i)), "")
					lines = append(lines, u+" "+method+" "+data+" is "+line)
				}
			}
		}
		lines = append(lines, u+" me is "+n.peers[i].raw(`{"history":{"channel":"me","limit":-1},"id":9}`))
	}
	slices.Sort(lines)
	return lines
}

func samePictures(t *testing.T, what string, was, is []string) {
	t.Helper()
	if len(was) != len(is) {
		t.Fatalf("%s: %d and %d lines", what, len(was), len(is))
	}
	for i := range was {
		if was[i] != is[i] {
			t.Errorf("%s:\nwas %.1500s\nis  %.1500s", what, was[i], is[i])
			return
		}
	}
}

// What an app's users have, those of another app can neither see nor change, nor
// find out that it is there: B's clients are answered as if A did not exist. So
// everything they do is done in two houses, in one of which A has nothing.
func TestEveryCallAcrossApps(t *testing.T) {
	t.Parallel()
	both, without := newHouse(t, patient), newHouse(t, patient)
	apps := func(h *house) (a, b *chat.App) {
		h.traces()
		b, err := h.dir.CreateApp(t.Context())
		must(t, err)
		return h.app, b
	}
	a, b := apps(both)
	_, lonely := apps(without)
	// B has messages before those of A and behind them.
	before := func(h *house, app *chat.App) {
		h.app = app
		h.send(chat.Direct, "alice", "early", "bob")
	}
	before(both, b)
	before(without, lonely)
	A := settle(both, a, "A", 2)
	A.useIDs()
	guest, _ := both.connect("guest", "")
	guest.raw(`{"subscribe":{"channel":"open:alice"},"id":9}`)
	B, lone := settle(both, b, "B", 3), settle(without, lonely, "B", 3)

	for _, method := range calls() {
		p := rpcProofs[method]
		if p.effect == reads && !slices.ContainsFunc(p.data, func(data string) bool {
			return plain(A.call(0, method, A.fill(data, method, 0))) != plain(B.call(0, method, A.fill(data, method, 0)))
		}) {
			t.Errorf("%s answers the two apps the same, so its line in rpcProofs shows nothing", method)
		}
	}

	watchers := A.connect()
	was := A.picture()
	for i := range sameUsers {
		for _, method := range calls() {
			p := rpcProofs[method]
			for _, data := range p.data {
				data = A.fill(data, method, i)
				got, want := B.call(i, method, data), lone.call(i, method, data)
				if plain(got) != plain(want) {
					t.Errorf("%s %s tells that another app is there:\ngot  %s\nwant %s", method, data, got, want)
				}
				if p.effect == changes && strings.Contains(data, "messageUID") && !strings.Contains(got, `"code":404`) {
					t.Errorf("%s %s of another app's message: %s", method, data, got)
				}
			}
		}
	}
	samePictures(t, "what A has, after all B did", was, A.picture())
	for i, p := range watchers {
		p.raw(`{"rpc":{"method":"ack","data":{}},"id":9}`)
		for _, line := range p.lines {
			// Who came into the channel is told some time later.
			if !strings.Contains(line, `"event":"participants"`) {
				t.Errorf("A's %s was told %s", sameUsers[i], line)
			}
		}
	}
	// What was sent is pushed whenever its time comes; all of it is there now.
	plainly := func(n *tenant) (lines []string) {
		for _, line := range n.picture() {
			lines = append(lines, plain(line))
		}
		return lines
	}
	samePictures(t, "what B has, without A and with it", plainly(lone), plainly(B))

	// None of this was for nothing: A can do all of it, and sees what it does.
	for _, method := range calls() {
		p := rpcProofs[method]
		if p.effect != changes {
			continue
		}
		for i, u := range A.users {
			for _, data := range p.data {
				if first := A.uids[data+u]; first != "" {
					if line := A.must(i, method, A.fill(data, method, i)); !strings.Contains(line, first) {
						t.Errorf("%s: a repeat with a clientMsgId that another app used: %s", method, line)
					}
				}
				A.must(i, method, strings.ReplaceAll(A.fill(data, method, i), `"clientMsgId":"m`, `"clientMsgId":"again`))
			}
		}
		is := A.picture()
		if slices.Equal(was, is) {
			t.Errorf("%s changes nothing that is seen, so its line in rpcProofs shows nothing", method)
		}
		was = is
	}
	watchers[1].until(`"content":"A to bob"`)
}

// A call that changes something does the same however often it is made, and
// answers the same: a client that has no answer makes it again. Sends do so by
// their clientMsgId.
func TestEveryCallCanBeRepeated(t *testing.T) {
	t.Parallel()
	h := newHouse(t, patient)
	h.traces()
	h.set("streams.idle", "24h") // one that ends by itself is a change that nobody has made
	n := settle(h, h.app, "A", 2)
	for _, method := range calls() {
		if rpcProofs[method].effect != changes {
			continue
		}
		for _, data := range rpcProofs[method].data {
			data = n.fill(data, method, 0)
			first := n.must(0, method, data)
			// Of changes of metadata that come close together all is told a while later.
			eventually(t, "nothing more is to be told soon", func() bool {
				due, err := h.store.Due(t.Context(), time.Now().Add(3*time.Second).UnixMilli(), 1)
				must(t, err)
				return len(due) == 0
			})
			was := n.picture()
			for ms := time.Now().UnixMilli(); time.Now().UnixMilli() == ms; { // at another time
				time.Sleep(100 * time.Microsecond)
			}
			if again := n.must(0, method, data); again != first {
				t.Errorf("%s %s: %s, and again %s", method, data, first, again)
			}
			samePictures(t, "after "+method+" was repeated", was, n.picture())
		}
	}
}

// Tokens of one app are worth nothing in another, whoever signs them.
func TestTokensAcrossApps(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	b, err := h.dir.CreateApp(t.Context())
	must(t, err)
	a := h.app
	ofA := h.token("bob")
	h.app = b
	ofB := h.token("bob")
	sign := func(token string, key []byte) string {
		text := token[:strings.LastIndexByte(token, '.')]
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(text))
		return text + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
	}
	if sign(ofA, a.TokenKey) != ofA {
		t.Fatal("tokens are signed in another way than this test does")
	}
	for what, token := range map[string]string{
		"of A, signed by B":                sign(ofA, b.TokenKey),
		"of A, signed with B's App Secret": sign(ofA, []byte(b.Secret)),
		"of A, signed with A's App Secret": sign(ofA, []byte(a.Secret)),
		"of B, signed by A":                sign(ofB, a.TokenKey),
	} {
		if r, code := h.tryConnect(token); code != closeInvalidToken.Code {
			t.Errorf("a token %s: closed with %d, %+v", what, code, r.Connect)
		}
	}
	// Nor can a connection to one app be refreshed with a token of the other.
	h.app = a
	p, _ := h.connect("bob", "")
	p.send(`{"refresh":{"token":"` + ofB + `"},"id":2}`)
	if code := p.closed(); code != closeInvalidToken.Code {
		t.Errorf("refreshed with another app's token: closed with %d", code)
	}
	// What is said of a user of B does not touch A's of the same id.
	p, _ = h.connect("bob", "")
	must(t, h.dir.Ban(t.Context(), b, []string{"bob"}, 5))
	h.Shut(b.ID, []string{"bob"}, chat.KindBanned)
	now := time.Now().UnixMilli()
	must(t, h.dir.ExpireTokens(t.Context(), b, []string{"bob"}, now))
	h.Expire(b.ID, []string{"bob"}, now)
	if _, code := h.tryConnect(ofB); code != closeBanned.Code {
		t.Errorf("B's own: closed with %d", code)
	}
	p.done("blocklist.list", `{}`)
	if _, code := h.tryConnect(ofA); code != 0 {
		t.Errorf("A's token: closed with %d", code)
	}
}

// What is on a blocklist and in a channel while a client reads it in pages is
// found once, whatever comes and goes meanwhile.
func TestClientPagesHold(t *testing.T) {
	t.Parallel()
	for _, order := range []int{0, 1} {
		t.Run(fmt.Sprint("blocklist in order ", order), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			block := func(id string) { must(t, h.dir.Block(t.Context(), h.app, "me", "userIds", []string{id})) }
			unblock := func(ids ...string) { must(t, h.dir.Unblock(t.Context(), h.app, "me", "userIds", ids)) }
			for i := range 8 {
				block(fmt.Sprint("stays", i))
				block(fmt.Sprint("goes", i))
			}
			me, _ := h.connect("me", "")
			found := map[string]int{}
			for token, round := "", 0; ; round++ {
				var page struct {
					UserIDs   []string
					PageToken string
				}
				must(t, json.Unmarshal([]byte(me.done("blocklist.list", fmt.Sprintf(`{"pageSize":3,"order":%d,"pageToken":%q}`, order, token))), &page))
				for _, id := range page.UserIDs {
					found[id]++
				}
				if token = page.PageToken; token == "" {
					break
				}
				unblock(fmt.Sprint("goes", round), fmt.Sprint("goes", 7-round))
				if round < 3 {
					block(fmt.Sprint("comes", round))
				}
			}
			wantOnce(t, found, 8)
		})
	}
	for _, forward := range []bool{false, true} {
		t.Run(fmt.Sprint("history, forward ", forward), func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			uids := map[string]chat.UID{}
			say := func(s string) { uids[s] = h.send(chat.Direct, "you", s, "me")[0] }
			for i := range 8 {
				say(fmt.Sprint("stays", i))
				say(fmt.Sprint("goes", i))
			}
			me, _ := h.connect("me", "")
			you, _ := h.connect("you", "")
			found := map[string]int{}
			at := ""
			if forward {
				at = `,"after":0`
			}
			for round := 0; ; round++ {
				page := me.page(`{"channelType":"direct","channelId":"you","limit":3` + at + `}`)
				for _, m := range page.Messages {
					found[m.Content]++
				}
				if !page.More {
					break
				}
				side := "before"
				if forward {
					side = "after"
				}
				at = fmt.Sprintf(`,%q:%q`, side, page.Next)
				for _, i := range []int{round, 7 - round} {
					if i >= 0 && i < 8 {
						you.done("message.recall", fmt.Sprintf(`{"messageUID":%q,"isDelete":true}`, uids[fmt.Sprint("goes", i)]))
					}
				}
				if round < 3 {
					say(fmt.Sprint("comes", round))
				}
			}
			wantOnce(t, found, 8)
		})
	}
}

func wantOnce(t *testing.T, found map[string]int, stay int) {
	t.Helper()
	for i := range stay {
		if n := found[fmt.Sprint("stays", i)]; n != 1 {
			t.Errorf("stays%d was found %d times", i, n)
		}
	}
	for name, n := range found {
		if n > 1 {
			t.Errorf("%s was found %d times", name, n)
		}
	}
}
