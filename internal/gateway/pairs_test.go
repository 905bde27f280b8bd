package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"strings"
	"sync"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/room"
)

// kv is the next news of pairs, without its time.
func (p *peer) kv() string {
	p.t.Helper()
	line := anyTime.ReplaceAllString(p.until(`"event":"kv"`), "TIME")
	_, line, _ = strings.Cut(line, `"event":"kv",`)
	line, _, _ = strings.Cut(line, `,"at":TIME`)
	return line
}

func (p *peer) wantKV(want string) {
	p.t.Helper()
	if got := p.kv(); got != want {
		p.t.Errorf("told %s\nwant %s", got, want)
	}
}

// pairs are those of an open channel as the backend sees them.
func (h *house) pairs(channel string) map[string]string {
	h.t.Helper()
	list, err := h.courier.Pairs(h.t.Context(), h.app, &courier.PairsQuery{Channel: channel})
	must(h.t, err)
	m := map[string]string{}
	for _, p := range list {
		m[p.Key] = p.Value
	}
	return m
}

// serverSets sets a pair as the backend does.
func (h *house) serverSets(channel, owner, k, v string, autoDelete bool) {
	h.t.Helper()
	_, err := h.courier.ChangePairs(h.t.Context(), h.app, &courier.PairsRequest{
		Channel: channel, User: owner, Set: map[string]string{k: v}, AutoDelete: autoDelete,
	})
	must(h.t, err)
}

func (p *peer) leaveOpen(channel string) {
	p.t.Helper()
	p.raw(`{"unsubscribe":{"channel":"open:` + channel + `"},"id":9}`)
}

// tends runs what is done about open channels without anybody asking.
func (h *house) tends() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.courier.RunOpen(ctx) })
	stop := h.stop
	h.stop = func() { cancel(); wg.Wait(); stop() }
}

func TestClientsPairs(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	bob, _ := h.connect("bob", "")
	eve, _ := h.connect("eve", "")
	const set, remove, get = "open.metadata.set", "open.metadata.remove", "open.metadata.get"
	outside := "channelId: you are not in this open channel"
	for _, call := range []struct{ method, data string }{
		{set, `{"channelId":"c","metadata":{"k":"v"}}`}, {remove, `{"channelId":"c","keys":["k"]}`}, {get, `{"channelId":"c"}`},
	} {
		bob.refused(call.method, call.data, 23406, outside)
	}
	bob.enter("c", "")
	eve.enter("c", "")
	first := bob.done(set, `{"channelId":"c","metadata":{"k":"v","K":"2"},"extra":"hi"}`)
	eve.wantKV(`"set":{"K":"2","k":"v"},"userId":"bob","extra":"hi"`)
	bob.wantKV(`"set":{"K":"2","k":"v"},"userId":"bob","extra":"hi"`)

	// What is so already keeps its time, and nobody is told again.
	if again := bob.done(set, `{"channelId":"c","metadata":{"k":"v"}}`); again != first {
		t.Errorf("again: %s, want %s", again, first)
	}
	bob.done(set, `{"channelId":"c","metadata":{"k":"v","a":"\""}}`)
	eve.wantKV(`"set":{"a":"\""},"userId":"bob"`)

	// What is somebody else's is changed only on purpose, all of a call or nothing.
	eve.refused(set, `{"channelId":"c","metadata":{"a":"mine","new":"x"}}`, 23424, "a: was set by another user; overwrite is needed")
	eve.refused(remove, `{"channelId":"c","keys":["new","a"]}`, 23424, "a: was set by another user; overwrite is needed")
	eve.done(set, `{"channelId":"c","metadata":{"a":"mine","new":"x"},"overwrite":true}`)
	bob.wantKV(`"set":{"a":"\""},"userId":"bob"`)
	bob.wantKV(`"set":{"a":"mine","new":"x"},"userId":"eve"`)
	bob.refused(set, `{"channelId":"c","metadata":{"a":"mine"}}`, 23424, "a: was set by another user; overwrite is needed")
	eve.done(remove, `{"channelId":"c","keys":["a","nothing","k"],"overwrite":1}`)
	bob.wantKV(`"removed":["a","k"],"userId":"eve"`)
	eve.done(remove, `{"channelId":"c","keys":["a"]}`)

	got := anyTime.ReplaceAllString(bob.done(get, `{"channelId":"c"}`), "TIME")
	if want := `{"metadata":[{"key":"K","value":"2","userId":"bob","updatedAt":TIME},{"key":"new","value":"x","userId":"eve","updatedAt":TIME}]}`; got != want {
		t.Errorf("got %s\nwant %s", got, want)
	}
	if got := bob.done(get, `{"channelId":"c","keys":["x","y"]}`); got != `{"metadata":[]}` {
		t.Errorf("got %s", got)
	}
	carol, _ := h.connect("carol", "")
	if a, _ := carol.enter("c", ""); !maps.Equal(a.Metadata, map[string]string{"K": "2", "new": "x"}) {
		t.Errorf("who enters is told %v", a.Metadata)
	}
	for data, text := range map[string]string{
		`{"channelId":"c"}`:                                                   "metadata: is required",
		`{"channelId":"c","metadata":{"a.b":"x"}}`:                            `metadata key: "a.b" may hold only letters, digits and + = - _`,
		`{"metadata":{"a":"x"}}`:                                              "channelId: is required",
		`{"channelId":"c","metadata":` + manyPairs(0, 21) + `}`:               "metadata: at most 20 pairs, got 21",
		`{"channelId":"c","metadata":{"a":"` + sized(4097) + `"}}`:            "metadata.a: at most 4096 characters, got 4097",
		`{"channelId":"c","metadata":{"a":"b"},"extra":"` + sized(129) + `"}`: "extra: at most 128 characters, got 129",
	} {
		bob.refused(set, data, 107, text)
	}
	bob.refused(remove, `{"channelId":"c","keys":[]}`, 107, "keys: is required")
	bob.refused(get, `{"channelId":"c","keys":["ä"]}`, 107, `keys[0]: "ä" may hold only letters, digits and + = - _`)
	// Who is muted may: nothing is said.
	h.changeOpen("c", func(c *chat.OpenChannel) { c.Frozen = true })
	bob.done(set, `{"channelId":"c","metadata":{"frozen":"too"}}`)

	h.set("limits.client", "1/h")
	dave, _ := h.connect("dave", "")
	dave.enter("c", "")
	dave.done(set, `{"channelId":"c","metadata":{"d":"1"}}`)
	dave.refused(remove, `{"channelId":"c","keys":["d"]}`, 20604, "at most 1/h messages on one connection")
	dave.done(get, `{"channelId":"c"}`)
}

func sized(n int) string { return strings.Repeat("x", n) }

// manyPairs is an object of n pairs with keys from the given number on.
func manyPairs(from, n int) string {
	var list []string
	for i := range n {
		list = append(list, fmt.Sprintf(`"k%d":"v"`, from+i))
	}
	return "{" + strings.Join(list, ",") + "}"
}

func TestPairsAreBounded(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	bob, _ := h.connect("bob", "")
	bob.enter("c", "")
	for i := range 5 {
		bob.done("open.metadata.set", `{"channelId":"c","metadata":`+manyPairs(i*20, 20)+`}`)
	}
	bob.refused("open.metadata.set", `{"channelId":"c","metadata":{"k0":"new","k100":"x"}}`, 23423, "an open channel has at most 100 pairs, these would make it 101")
	if got := h.pairs("c"); len(got) != 100 || got["k0"] != "v" {
		t.Errorf("%d pairs, k0 is %q", len(got), got["k0"])
	}
	bob.done("open.metadata.set", `{"channelId":"c","metadata":{"k0":"new"}}`)
	bob.done("open.metadata.remove", `{"channelId":"c","keys":["k1"]}`)
	bob.done("open.metadata.set", `{"channelId":"c","metadata":{"k100":"x"}}`)
	eve, _ := h.connect("eve", "")
	a, _ := eve.enter("c", "")
	if !maps.Equal(a.Metadata, h.pairs("c")) {
		t.Errorf("who enters is told %v", a.Metadata)
	}
}

// A pair that is to goes when its owner leaves, for whatever reason, and with the
// last of their connections.
func TestPairsGoWithTheirOwners(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	h.set("open.single", "false")
	h.tends()
	stay, _ := h.connect("stay", "")
	stay.enter("c", "")
	const set = "open.metadata.set"
	mine := func(p *peer, k string) {
		p.t.Helper()
		p.done(set, `{"channelId":"c","metadata":{"`+k+`":"v"},"shouldAutoDelete":true}`)
		stay.until(`"` + k + `"`)
	}
	stay.done(set, `{"channelId":"c","metadata":{"stays":"v"},"shouldAutoDelete":1}`)
	stay.kv()

	leaver, _ := h.connect("leaver", "")
	tab, _ := h.connect("leaver", "")
	leaver.enter("c", "")
	tab.enter("c", "")
	mine(leaver, "a")
	leaver.done(set, `{"channelId":"c","metadata":{"kept":"v"}}`)
	stay.kv()
	leaver.leaveOpen("c")
	stay.done(set, `{"channelId":"c","metadata":{"still":"there"}}`)
	stay.wantKV(`"set":{"still":"there"},"userId":"stay"`)
	if h.pairs("c")["a"] != "v" {
		t.Error("the pair is gone with one of two connections")
	}
	tab.leaveOpen("c")
	stay.wantKV(`"removed":["a"],"userId":"leaver"`)

	// Put out, and gone after 31 messages away.
	banned, _ := h.connect("banned", "")
	banned.enter("c", "")
	mine(banned, "b")
	h.rooms.Evict(room.Key{App: h.app.ID, Channel: "c"}, room.Barred, "banned")
	stay.wantKV(`"removed":["b"],"userId":"banned"`)

	lost, _ := h.connect("lost", "")
	lost.enter("c", "")
	mine(lost, "l")
	lost.ws.Abort()
	h.set("limits.open", "0")
	eventually(t, "the pair goes", func() bool {
		h.send(chat.Open, "x", "y", "c")
		return h.pairs("c")["l"] == ""
	})
	stay.wantKV(`"removed":["l"],"userId":"lost"`)

	// The backend's for who is not there: once they have been.
	h.serverSets("c", "guest", "g", "v", true)
	stay.kv()
	guest, _ := h.connect("guest", "")
	if a, _ := guest.enter("c", ""); a.Metadata["g"] != "v" {
		t.Errorf("the guest is told %v", a.Metadata)
	}
	guest.leaveOpen("c")
	stay.wantKV(`"removed":["g"],"userId":"guest"`)

	// Whose it has become meanwhile is whose leaving counts.
	guest.enter("c", "")
	mine(guest, "x")
	stay.done(set, `{"channelId":"c","metadata":{"x":"taken"},"shouldAutoDelete":true,"overwrite":true}`)
	stay.kv()
	guest.leaveOpen("c")
	stay.done(set, `{"channelId":"c","metadata":{"end":"1"}}`)
	stay.wantKV(`"set":{"end":"1"},"userId":"stay"`)
	if got := h.pairs("c"); !maps.Equal(got, map[string]string{"stays": "v", "kept": "v", "still": "there", "x": "taken", "end": "1"}) {
		t.Errorf("left are %v", got)
	}
}

// A view is what a client knows of a channel's pairs from what it was told.
type view struct {
	*peer
	pairs map[string]string
}

func (v *view) enter(channel string) {
	v.t.Helper()
	a, refused := v.peer.enter(channel, "")
	if refused != nil {
		v.t.Fatalf("%+v", refused)
	}
	if v.pairs = a.Metadata; v.pairs == nil {
		v.pairs = map[string]string{}
	}
}

// until takes in what is told until a pair is so.
func (v *view) until(k, value string) {
	v.t.Helper()
	for v.pairs[k] != value {
		var e struct {
			Push struct {
				Pub struct {
					Data struct {
						Set     map[string]string
						Removed []string
					}
				}
			}
		}
		must(v.t, json.Unmarshal([]byte(v.line()), &e))
		for _, k := range e.Push.Pub.Data.Removed {
			delete(v.pairs, k)
		}
		maps.Copy(v.pairs, e.Push.Pub.Data.Set)
	}
}

// However many change pairs at once, what everybody was told adds up to what is.
func TestPairsAreTheSameForAll(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "0")
	h.set("open.single", "false")
	h.tends()
	const writers, servers, rounds = 3, 8, 500
	connect := func(user string) *view {
		p, _ := h.connect(user, "")
		return &view{peer: p}
	}
	var readers, clients []*view
	for i := range 2 {
		readers = append(readers, connect(fmt.Sprint("reader", i)))
		readers[i].enter("c")
	}
	for i := range writers {
		clients = append(clients, connect(fmt.Sprint("writer", i)))
		clients[i].enter("c")
	}
	for round := range rounds {
		var wg sync.WaitGroup
		for w, p := range clients {
			if round%10 != 0 {
				break // a connection may not send more commands
			}
			wg.Go(func() {
				k := string("ab"[w%2])
				switch (round/10 + w) % 4 {
				case 0:
					p.ask("open.metadata.remove", `{"channelId":"c","keys":["`+k+`"],"overwrite":true}`)
				case 1: // takes what is theirs with them
					p.leaveOpen("c")
					p.enter("c")
				}
				p.ask("open.metadata.set", fmt.Sprintf(`{"channelId":"c","metadata":{%q:"%d of %d"},"overwrite":true,"shouldAutoDelete":true}`, k, round, w))
			})
		}
		for w := range servers {
			wg.Go(func() { h.serverSets("c", "server", "a", fmt.Sprint(round, " of server ", w), false) })
		}
		if round%100 == 0 { // in the midst of it
			late := connect(fmt.Sprint("late", round))
			late.enter("c")
			readers = append(readers, late)
		}
		wg.Wait()
		end := fmt.Sprint(round)
		h.serverSets("c", "server", "end", end, false)
		want := h.pairs("c")
		for i, v := range readers {
			if v.until("end", end); !maps.Equal(v.pairs, want) {
				t.Fatalf("round %d: reader %d sees %v, it is %v", round, i, v.pairs, want)
			}
		}
	}
}

// Pairs outlive the server. Their owners have some time to come back to it.
func TestPairsOverRestart(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	var want map[string]string
	t.Run("before", func(t *testing.T) {
		h := newHouseOn(t, fs)
		bob, _ := h.connect("bob", "")
		bob.enter("c", "")
		bob.done("open.metadata.set", `{"channelId":"c","metadata":{"kept":"1"}}`)
		bob.done("open.metadata.set", `{"channelId":"c","metadata":{"with":"bob"},"shouldAutoDelete":true}`)
		h.serverSets("c", "eve", "with-eve", "2", true)
		want = h.pairs("c")
	})
	h := newHouseOn(t, fs)
	h.tends()
	stay, _ := h.connect("stay", "")
	if a, _ := stay.enter("c", ""); len(want) != 3 || !maps.Equal(a.Metadata, want) {
		t.Errorf("after a restart it is %v, want %v", a.Metadata, want)
	}
	bob, _ := h.connect("bob", "")
	bob.enter("c", "")
	bob.leaveOpen("c")
	stay.wantKV(`"removed":["with"],"userId":"bob"`)
	eve, _ := h.connect("eve", "")
	eve.enter("c", "")
	eve.leaveOpen("c")
	stay.wantKV(`"removed":["with-eve"],"userId":"eve"`)
}

func TestParticipantsCall(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	bob, _ := h.connect("bob", "")
	bob.refused("open.participants", `{"channelId":"c"}`, 23406, "channelId: you are not in this open channel")
	for i := range 25 {
		p, _ := h.connect(fmt.Sprint("u", i), "")
		p.enter("c", "")
	}
	bob.enter("c", "")
	var answer struct {
		Participants []struct {
			UserID    string
			EnteredAt int64
		}
		Total int
	}
	must(t, json.Unmarshal([]byte(bob.done("open.participants", `{"channelId":"c"}`)), &answer))
	if answer.Total != 26 || len(answer.Participants) != 20 || answer.Participants[0].EnteredAt == 0 {
		t.Errorf("%+v", answer)
	}
	bob.refused("open.participants", `{"channelId":"c","limit":1}`, 20604, "at most once a second, and 20/m")
	bob.refused("open.participants", `{"channelId":"c","limit":21}`, 107, "limit: from 1 to 20, got 21")
	h.set("limits.participants", "0")
	must(t, json.Unmarshal([]byte(bob.done("open.participants", `{"channelId":"c","limit":3}`)), &answer))
	if len(answer.Participants) != 3 || answer.Total != 26 {
		t.Errorf("%+v", answer)
	}
}
