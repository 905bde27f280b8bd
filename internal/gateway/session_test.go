package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/client"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
	"github.com/parleychat/parley/internal/websocket"
)

// Several devices come and go at their own pace while messages arrive; each
// must see every offset once, in order.
func TestDevicesSeeEveryEntryOnce(t *testing.T) {
	t.Parallel()
	const devices, messages = 6, 1500
	h := newHouse(t, func(o *Options) { o.PingInterval = 2 * time.Second })
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()

	var wg sync.WaitGroup
	for sender := range 3 {
		wg.Go(func() {
			for i := range messages / 3 {
				m := &chat.Message{App: h.app.ID, ChannelType: chat.Direct, From: fmt.Sprint("s", sender), Type: "app:text", Content: fmt.Sprint(i), Persist: true}
				if _, err := h.courier.Send(ctx, h.app, &courier.Send{Message: m, Targets: []string{"bob"}}); err != nil {
					t.Error(err)
					return
				}
				if i%10 == 0 {
					time.Sleep(rand.N(3 * time.Millisecond))
				}
			}
		})
	}
	tok := h.token("bob")
	for d := range devices {
		wg.Go(func() {
			c, err := client.Dial(ctx, client.Options{
				URL: h.url, Token: tok, Reconnect: true, MinBackoff: time.Millisecond, MaxBackoff: 20 * time.Millisecond, Buffer: 1 + d*20,
				Data: json.RawMessage(fmt.Sprintf(`{"deviceId":"d%d","from":"oldest"}`, d)),
			})
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			next := uint64(1)
			for next <= messages {
				select {
				case e := <-c.Events():
					switch e := e.(type) {
					case client.Publication:
						if e.Offset != next {
							t.Errorf("device %d: got offset %d, want %d", d, e.Offset, next)
							return
						}
						next++
						if d > 0 && rand.IntN(60*d) == 0 {
							c.Drop()
						}
						if d%2 == 1 && rand.IntN(20) == 0 {
							time.Sleep(rand.N(2 * time.Millisecond))
						}
					case client.Connected:
						if s := e.Subs["me"]; !s.Recovered || s.Position.Offset != next-1 {
							t.Errorf("device %d: connected at %+v, want %d recovered", d, s, next-1)
							return
						}
					case client.Disconnected:
						t.Errorf("device %d: %v", d, e)
						return
					}
				case <-ctx.Done():
					t.Errorf("device %d got as far as %d", d, next-1)
					return
				}
			}
		})
	}
	wg.Wait()
}

// A backlog that is larger than a first page: the page in the answer, the rest
// as publications, and live ones behind them.
func TestLongBacklog(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const n = 1000
	for i := range n {
		h.send(chat.Direct, "alice", fmt.Sprint(i+1), "bob")
	}
	p, r := h.connect("bob", `{"from":"oldest"}`)
	me := r.Connect.Subs["me"]
	if len(me.Publications) != firstPage || !me.Recovered || me.Offset != 0 {
		t.Fatalf("first page: %d, %v", len(me.Publications), me.Recovered)
	}
	for i, p := range me.Publications {
		if p.Offset != uint64(i+1) || p.Data.Message.Content != fmt.Sprint(i+1) {
			t.Fatalf("%d: %+v", i, p)
		}
	}
	h.send(chat.Direct, "alice", fmt.Sprint(n+1), "bob")
	for i := firstPage + 1; i <= n+1; i++ {
		if got := p.reply().Push.Pub; got.Offset != uint64(i) || got.Data.Message.Content != fmt.Sprint(i) {
			t.Fatalf("want %d, got %+v", i, got)
		}
	}
	if got := testutil.ToFloat64(h.Gateway.metrics.recovered); got < n {
		t.Errorf("recovered %v entries, want at least %d", got, n)
	}
}

// The first page and a history page are bounded in bytes too, but hold one
// entry however large.
func TestPagesAreBoundedInBytes(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	large := strings.Repeat("x", chat.MaxContent)
	for range 10 {
		h.send(chat.Direct, "alice", large, "bob")
	}
	// Every letter of this one becomes six.
	h.send(chat.Direct, "alice", strings.Repeat("\x01", chat.MaxContent), "bob")
	p, r := h.connect("bob", `{"from":"oldest"}`)
	if n := len(r.Connect.Subs["me"].Publications); n != firstPageBytes/chat.MaxContent-1 {
		t.Errorf("%d entries of 128 KiB on the first page", n)
	}
	for i := len(r.Connect.Subs["me"].Publications) + 1; i <= 11; i++ {
		if got := p.reply().Push.Pub; got.Offset != uint64(i) || len(got.Data.Message.Content) != chat.MaxContent {
			t.Fatalf("want %d, got %d with %d bytes", i, got.Offset, len(got.Data.Message.Content))
		}
	}
	p.send(`{"history":{"channel":"me","limit":-1,"since":{"offset":10}},"id":2}`)
	if got := p.reply().History; len(got.Publications) != 1 || got.Publications[0].Offset != 11 {
		t.Errorf("history: %d entries", len(got.Publications))
	}
}

// A client that reads next to nothing keeps its place in the timeline without
// the server holding it in memory, and ends with all of it.
func TestSlowReader(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const n = 400
	tok := h.token("bob")
	nc, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(h.url, "ws://"), Path))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if err := nc.(*net.TCPConn).SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", Path)
	if _, err := nc.Write(websocket.AppendMasked(nil, websocket.Text, []byte(`{"connect":{"token":"`+tok+`"},"id":1}`))); err != nil {
		t.Fatal(err)
	}
	eventually(t, "connected", func() bool { return h.Online(h.app.ID, "bob") })
	content := strings.Repeat("y", 20<<10)
	for range n {
		h.send(chat.Direct, "alice", content, "bob")
	}
	// One byte at a time for a while, then as fast as it goes.
	var got []byte
	one := make([]byte, 1)
	for range 300 {
		if _, err := nc.Read(one); err != nil {
			t.Fatal(err)
		}
		got = append(got, one...)
		time.Sleep(time.Millisecond)
	}
	if held := h.queuedBytes(); held > 2*turnBytes {
		t.Errorf("%v bytes are held for a slow reader", held)
	}
	_, got, _ = bytes.Cut(got, []byte("\r\n\r\n"))
	rd := &offsets{t: t}
	parser := websocket.NewParser(websocket.Client, 4<<20)
	buf := make([]byte, 64<<10)
	if err := parser.Feed(got, rd); err != nil {
		t.Fatal(err)
	}
	for rd.next <= n {
		_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
		k, err := nc.Read(buf[:1+rand.IntN(len(buf))])
		if err != nil {
			t.Fatalf("at %d: %v", rd.next, err)
		}
		if err := parser.Feed(buf[:k], rd); err != nil {
			t.Fatal(err)
		}
	}
}

// offsets checks that publications of me come in order.
type offsets struct {
	t    testing.TB
	next uint64
}

func (o *offsets) Message(op websocket.Opcode, payload []byte) error {
	if op != websocket.Text {
		return fmt.Errorf("opcode %d", op)
	}
	for line := range strings.SplitSeq(string(payload), "\n") {
		r := decodeReply(o.t, line)
		if r.Connect != nil {
			o.next = r.Connect.Subs["me"].Offset + 1
		}
		if r.Push == nil {
			continue
		}
		if r.Push.Pub.Offset != o.next {
			return fmt.Errorf("got %d, want %d", r.Push.Pub.Offset, o.next)
		}
		o.next++
	}
	return nil
}

func TestStuckReaderIsClosed(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.DrainTimeout = 300 * time.Millisecond })
	p, _ := h.connect("bob", "")
	content := strings.Repeat("y", 100<<10)
	for range 100 { // more than the kernel holds
		h.send(chat.Direct, "alice", content, "bob")
	}
	eventually(t, "the stuck session is gone", func() bool { return !h.Online(h.app.ID, "bob") })
	if n := testutil.ToFloat64(h.Gateway.metrics.disconnects.WithLabelValues("3008")); n != 1 {
		t.Errorf("%v connections closed with 3008", n)
	}
	_ = p
}

func TestStale(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.StaleAfter = 100 * time.Millisecond })
	p := h.dial()
	if code := p.closed(); code != 3502 {
		t.Errorf("closed with %d", code)
	}
}

func TestNoPong(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.PingInterval, o.PongTimeout = 200*time.Millisecond, 100*time.Millisecond })
	p, _ := h.connect("bob", "")
	start := time.Now()
	if code := p.closed(); code != 3012 {
		t.Errorf("closed with %d", code)
	}
	if d := time.Since(start); d < 180*time.Millisecond {
		t.Errorf("closed after %v", d)
	}
}

// A pong acknowledges what was written before its ping: the device's cursor
// moves, and survives in the store.
func TestPongAcknowledges(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.PingInterval = 2 * time.Second })
	p, _ := h.connect("bob", `{"deviceId":"d1"}`)
	for i := range 3 {
		h.send(chat.Direct, "alice", fmt.Sprint(i), "bob")
	}
	for range 3 {
		p.line()
	}
	cursor := func() uint64 {
		ds, err := h.store.Devices(context.Background(), h.app.ID, "bob")
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range ds {
			if d.ID == "d1" && d.Epoch == h.store.Epoch() {
				return d.Offset
			}
		}
		return 0
	}
	eventually(t, "the cursor is stored", func() bool {
		if line, err := p.next(10 * time.Second); err != nil {
			t.Fatal(err)
		} else if line == "{}" {
			p.send("{}")
		}
		return cursor() == 3
	})
	// A second session on the device that is not as far does not move it back,
	// one that is further moves it on, and neither past what it was given.
	q, _ := h.connect("bob", `{"deviceId":"d1","from":"oldest"}`)
	q.send(`{"rpc":{"method":"ack","data":{"offset":1}},"id":2}`)
	h.send(chat.Direct, "alice", "3", "bob")
	for q.reply().Push == nil {
	}
	q.send(`{"rpc":{"method":"ack","data":{"offset":1000}},"id":3}`)
	for q.reply().ID != 3 { // the answer to the first may come behind the push
	}
	h.stop()
	if c := cursor(); c != 4 {
		t.Errorf("cursor after shutdown: %d, want 4", c)
	}
}

// A wake-up that is lost delays until the next ping.
func TestLostWakeDelaysOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.PingInterval = time.Second })
	p, _ := h.connect("bob", "")
	// Straight into the store, so that nobody wakes the session but the sweep.
	err := h.store.Append(context.Background(), &store.Append{
		Message: &chat.Message{App: h.app.ID, ChannelType: chat.System, Flags: chat.Missed, From: "news", Type: "app:text", Content: "quiet"},
		Targets: []string{"bob"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := p.reply().Push; got == nil || got.Pub.Data.Message.Content != "quiet" {
		t.Errorf("%+v", got)
	}
}

func TestTooManySessions(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("users.sessions", "2")
	a, _ := h.connect("bob", "")
	h.connect("bob", "")
	p := h.dial()
	p.send(`{"connect":{"token":"` + h.token("bob") + `"},"id":1}`)
	if code := p.closed(); code != 3504 {
		t.Errorf("third session closed with %d", code)
	}
	a.ws.Abort()
	eventually(t, "there is room again", func() bool {
		p := h.dial()
		p.send(`{"connect":{"token":"` + h.token("bob") + `"},"id":1}`)
		_, err := p.next(10 * time.Second)
		return err == nil
	})
}

func TestTokenLifetimeAndRefresh(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("tokens.lifetime", "1h")
	p, r := h.connect("bob", "")
	if !r.Connect.Expires || r.Connect.TTL < 3590 || r.Connect.TTL > 3600 {
		t.Errorf("expires %v, ttl %d", r.Connect.Expires, r.Connect.TTL)
	}
	p.send(`{"refresh":{"token":"` + h.token("bob") + `"},"id":2}`)
	if got := p.line(); !strings.Contains(got, `"refresh":{"client":"`+r.Connect.Client+`","version":"parley test","expires":true,"ttl":3`) {
		t.Errorf("refresh: %s", got)
	}
	q, _ := h.connect("bob", "")
	q.send(`{"refresh":{"token":"` + h.token("eve") + `"},"id":2}`)
	if code := q.closed(); code != 3500 {
		t.Errorf("refresh with another's token: %d", code)
	}
	p.send(`{"refresh":{},"id":3}`)
	if code := p.closed(); code != 3501 {
		t.Errorf("refresh without a token: %d", code)
	}
}

// A connection whose token ended and was not refreshed is closed, after the
// grace.
func TestUnrefreshedTokenCloses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("tokens.lifetime", "1h")
	p, _ := h.connect("bob", "")
	c := h.everyone.list()[0]
	c.mu.Lock()
	end := time.Duration(c.expireAt-h.wheel.now.Load()) * h.wheel.tick
	c.expireAt = h.wheel.after(0) // an hour passes
	c.armLocked()
	c.mu.Unlock()
	if want := time.Hour + expireGrace; end < want-time.Minute || end > want+time.Second {
		t.Errorf("would be closed in %v, want %v", end, want)
	}
	if code := p.closed(); code != 3005 {
		t.Errorf("closed with %d", code)
	}
}

func TestExpireClosesOlderSessionsOnly(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	old, _ := h.connect("bob", "")
	other, _ := h.connect("eve", "")
	time.Sleep(2 * time.Millisecond)
	cut := time.Now().UnixMilli()
	if err := h.dir.ExpireTokens(context.Background(), h.app, []string{"bob"}, cut); err != nil {
		t.Fatal(err)
	}
	fresh, _ := h.connect("bob", "")
	h.Expire(h.app.ID, []string{"bob", "nobody"}, cut)
	if code := old.closed(); code != 3005 {
		t.Errorf("closed with %d", code)
	}
	h.send(chat.Direct, "alice", "still here", "bob", "eve")
	fresh.line()
	other.line()
}

func TestRateOfSends(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.client", "3/h")
	p, _ := h.connect("alice", "")
	send := func(id int, key string) reply {
		p.send(fmt.Sprintf(`{"rpc":{"method":"message.send","data":{"channelType":"open","channelId":"c","messageType":"app:text","content":"x","clientMsgId":"%s"}},"id":%d}`, key, id))
		return p.reply()
	}
	for i := range 3 {
		if r := send(i+2, fmt.Sprint("k", i)); r.Error != nil {
			t.Fatalf("%d: %+v", i, r.Error)
		}
	}
	if r := send(5, "k3"); r.Error == nil || r.Error.Code != 20604 || !r.Error.Temporary {
		t.Errorf("fourth send: %+v", r)
	}
	if r := send(6, "k0"); r.Error != nil { // a repeat costs nothing
		t.Errorf("repeat: %+v", r.Error)
	}
	h.set("limits.client", "0")
	if r := send(7, "k3"); r.Error != nil { // the refused one did not use up its id
		t.Errorf("without a limit: %+v", r.Error)
	}
}

func TestFloodOfCommands(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p, _ := h.connect("bob", "")
	ok, refused := 0, 0
	for i := 0; ; i++ {
		lines := make([]string, 50)
		for j := range lines {
			lines[j] = fmt.Sprintf(`{"unsubscribe":{"channel":"open:x"},"id":%d}`, 2+i*50+j)
		}
		if p.ws.WriteText([]byte(strings.Join(lines, "\n"))) != nil {
			break
		}
		if i == 20 {
			break
		}
	}
	for {
		line, err := p.next(10 * time.Second)
		if ce, is := errors.AsType[*websocket.CloseError](err); is {
			if ce.Code != 3013 {
				t.Errorf("closed with %d", ce.Code)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		switch r := decodeReply(t, line); {
		case r.Error == nil:
			ok++
		case r.Error.Code == 111 && r.Error.Temporary:
			refused++
		default:
			t.Fatalf("%s", line)
		}
	}
	if ok < 199 || ok > 260 || refused < 100 {
		t.Errorf("%d done, %d refused", ok, refused)
	}
}

// Answers that are not read stop the reading of commands.
func TestUnreadAnswersHoldCommandsBack(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	for range 4 {
		h.send(chat.Direct, "alice", strings.Repeat("x", chat.MaxContent), "bob")
	}
	p, _ := h.connect("bob", "")
	var lines []string
	for i := range 40 {
		lines = append(lines, fmt.Sprintf(`{"history":{"channel":"me","limit":3},"id":%d}`, i+2))
	}
	p.send(lines...)
	time.Sleep(300 * time.Millisecond)
	if held := h.queuedBytes(); held > 2<<20 {
		t.Errorf("%v bytes of answers are held", held)
	}
	for range lines {
		if r := p.reply(); r.History == nil || len(r.History.Publications) != 3 {
			t.Fatalf("%+v", r)
		}
	}
	// Who goes away meanwhile is not waited for.
	p.send(lines...)
	time.Sleep(200 * time.Millisecond)
	p.ws.Abort()
	eventually(t, "the connection is gone", func() bool { return h.everyone.len() == 0 })
}

// A room that is busier than a session can read drops for that session only.
func TestOpenFloodDropsForTheSlow(t *testing.T) {
	t.Parallel()
	h := newHouse(t, func(o *Options) { o.QueueBytes = 32 << 10 })
	slow, _ := h.connect("slow", "")
	slow.send(`{"subscribe":{"channel":"open:c"},"id":2}`)
	slow.reply()
	quick, _ := h.connect("quick", "")
	quick.send(`{"subscribe":{"channel":"open:c"},"id":2}`)
	quick.reply()
	h.set("limits.open", "0")
	h.set("open.intake", "false")
	const n = 300
	content := strings.Repeat("z", 30<<10)
	for i := range n {
		h.send(chat.Open, "alice", content, "c")
		if got := quick.said(); got.Pub.Offset != uint64(i+1) {
			t.Fatalf("quick got %d, want %d", got.Pub.Offset, i+1)
		}
	}
	last, seen := uint64(0), 0
	for last < n {
		line, err := slow.next(time.Second)
		if err != nil {
			break
		}
		if p := decodeReply(t, line).Push; p != nil && p.Pub.Offset > 0 {
			if p.Pub.Offset <= last {
				t.Fatalf("%d after %d", p.Pub.Offset, last)
			}
			last, seen = p.Pub.Offset, seen+1
		}
	}
	if dropped := testutil.ToFloat64(h.Gateway.metrics.given[room.RankStandard]); int(dropped)+seen != n {
		t.Errorf("%v dropped, %d seen, of %d", dropped, seen, n)
	}
}

// Entering races with what is said in the room: the answer comes first, and
// nothing after the position it tells is missing.
func TestEnteringABusyRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("limits.open", "0")
	h.set("open.intake", "false")
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			m := &chat.Message{App: h.app.ID, ChannelType: chat.Open, From: "alice", Type: "app:text", Content: "x"}
			_, _ = h.courier.Send(ctx, h.app, &courier.Send{Message: m, Targets: []string{"c"}})
			time.Sleep(20 * time.Microsecond) // at full speed the room would give some up
		}
	})
	defer wg.Wait()
	defer cancel()
	p, _ := h.connect("bob", "")
	for i := range 30 {
		p.send(fmt.Sprintf(`{"subscribe":{"channel":"open:c"},"id":%d}`, 2*i+2))
		for {
			r := p.reply()
			if r.Push != nil {
				continue // late ones of the round before
			}
			if r.Subscribe == nil {
				t.Fatalf("%+v", r)
			}
			for want := r.Subscribe.Offset + 1; want < r.Subscribe.Offset+5; want++ {
				if got := p.said().Pub.Offset; got != want {
					t.Fatalf("round %d: got %d, want %d", i, got, want)
				}
			}
			break
		}
		p.send(fmt.Sprintf(`{"unsubscribe":{"channel":"open:c"},"id":%d}`, 2*i+3))
		for p.reply().Unsubscribe == nil {
		}
	}
}

func TestLeavingWithTheConnection(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	h.set("open.single", "false")
	p, _ := h.connect("bob", "")
	var lines []string
	for i := range maxSeats + 1 {
		lines = append(lines, fmt.Sprintf(`{"subscribe":{"channel":"open:c%d"},"id":%d}`, i, i+2))
	}
	p.send(lines...)
	for i := range maxSeats + 1 {
		if r := p.reply(); (r.Error == nil) != (i < maxSeats) || r.Error != nil && r.Error.Code != 106 {
			t.Fatalf("channel %d: %+v", i, r)
		}
	}
	key := room.Key{App: h.app.ID, Channel: "c7"}
	if n := h.rooms.Count(key); n != 1 {
		t.Errorf("%d participants", n)
	}
	p.ws.Abort()
	// Who is gone without leaving is there until the 31st message after.
	say := func() int { return h.rooms.Publish(key, chat.UID{}, &chat.Message{From: "alice"}) }
	eventually(t, "the room is left", func() bool { return say() == 0 })
	for i := range 30 {
		if n := h.rooms.Count(key); n != 1 {
			t.Fatalf("%d participants after %d messages", n, i+1)
		}
		say()
	}
	if n := h.rooms.Count(key); n != 0 {
		t.Errorf("%d participants in the end", n)
	}
}

func TestShutdownSpreadsCloses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	const n = 20
	var mu sync.Mutex
	var at []time.Duration
	var wg sync.WaitGroup
	var peers []*peer
	for i := range n {
		p, _ := h.connect(fmt.Sprint("u", i), "")
		peers = append(peers, p)
	}
	start := time.Now()
	for _, p := range peers {
		wg.Go(func() {
			if code := p.closed(); code != 3001 {
				t.Errorf("closed with %d", code)
			}
			mu.Lock()
			defer mu.Unlock()
			at = append(at, time.Since(start))
		})
	}
	if err := h.Shutdown(context.Background(), 500*time.Millisecond); err != nil {
		t.Error(err)
	}
	wg.Wait()
	// No upper bounds: what else the machine does may hold up any of them.
	if at[n-1] < 400*time.Millisecond || at[n-1]-at[0] < 200*time.Millisecond {
		t.Errorf("closed after %v", at)
	}
	if _, err := websocket.Dial(context.Background(), h.url, websocket.DialOptions{}); err == nil {
		t.Error("somebody was let in after shutdown")
	}
	if h.Online(h.app.ID, "u1") {
		t.Error("somebody is still online")
	}
}

// The goodbye of a client is answered.
func TestClientCloses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	p, _ := h.connect("bob", "")
	start := time.Now()
	if err := p.ws.Close(1000, "bye"); err != nil {
		t.Error(err)
	}
	if d := time.Since(start); d > 500*time.Millisecond {
		t.Errorf("closing took %v", d)
	}
	eventually(t, "offline", func() bool { return !h.Online(h.app.ID, "bob") })
	if n := testutil.ToFloat64(h.Gateway.metrics.disconnects.WithLabelValues("client")); n != 1 {
		t.Errorf("%v closed by the client", n)
	}
}

func TestBinaryFrame(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	nc, err := websocket.Dial(context.Background(), h.url, websocket.DialOptions{Subprotocols: []string{"centrifuge-protobuf"}})
	if err == nil {
		defer nc.Abort()
	}
	raw := rawDial(t, h)
	raw.write(websocket.AppendMasked(nil, websocket.Binary, []byte{0}))
	if code := raw.closed(); code != 3506 {
		t.Errorf("binary frame: closed with %d", code)
	}
}

func TestWebSocketPing(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	raw := rawDial(t, h)
	raw.write(websocket.AppendMasked(nil, websocket.Ping, []byte("beep")))
	op, b := raw.frame()
	if op != websocket.Pong || string(b) != "beep" {
		t.Errorf("got opcode %d, %q", op, b)
	}
	raw.write([]byte{0xff, 0xff, 0xff})
	if code := raw.closed(); code != 1002 {
		t.Errorf("broken framing: closed with %d", code)
	}
}

// A rawPeer writes bytes as they are.
type rawPeer struct {
	t      testing.TB
	nc     net.Conn
	parser websocket.Parser
	frames []rawFrame
}

type rawFrame struct {
	op websocket.Opcode
	b  []byte
}

func (r *rawPeer) Message(op websocket.Opcode, b []byte) error {
	r.frames = append(r.frames, rawFrame{op, append([]byte(nil), b...)})
	return nil
}

func rawDial(t testing.TB, h *house) *rawPeer {
	t.Helper()
	nc, err := net.Dial("tcp", strings.TrimSuffix(strings.TrimPrefix(h.url, "ws://"), Path))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	fmt.Fprintf(nc, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n", Path)
	var head []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(head), "\r\n\r\n") {
		if _, err := nc.Read(one); err != nil {
			t.Fatal(err)
		}
		head = append(head, one...)
	}
	return &rawPeer{t: t, nc: nc, parser: websocket.NewParser(websocket.Client, 4<<20)}
}

func masked(s string) []byte { return websocket.AppendMasked(nil, websocket.Text, []byte(s)) }

func (r *rawPeer) write(b []byte) {
	r.t.Helper()
	if _, err := r.nc.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rawPeer) frame() (websocket.Opcode, []byte) {
	r.t.Helper()
	buf := make([]byte, 4096)
	for len(r.frames) == 0 {
		_ = r.nc.SetReadDeadline(time.Now().Add(time.Minute))
		n, err := r.nc.Read(buf)
		if err != nil {
			r.t.Fatal(err)
		}
		if err := r.parser.Feed(buf[:n], r); err != nil {
			r.t.Fatal(err)
		}
	}
	f := r.frames[0]
	r.frames = r.frames[1:]
	return f.op, f.b
}

func (r *rawPeer) closed() uint16 {
	r.t.Helper()
	for {
		if op, b := r.frame(); op == websocket.Close {
			code, _ := websocket.ParseClose(b)
			return code
		}
	}
}

// The same frames, cut after every byte, have the same effect.
func TestFramesCutAtEveryByte(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	tok := h.token("bob")
	stream := websocket.AppendMasked(nil, websocket.Text, []byte(`{"connect":{"token":"`+tok+`"},"id":1}`))
	stream = append(stream, websocket.AppendMasked(nil, websocket.Text, []byte(`{"subscribe":{"channel":"open:c"},"id":2}`+"\n"+`{"unsubscribe":{"channel":"open:c"},"id":3}`))...)
	raw := rawDial(t, h)
	for _, b := range stream {
		raw.write([]byte{b})
	}
	var lines []string
	for len(lines) < 3 {
		_, b := raw.frame()
		lines = append(lines, strings.Split(string(b), "\n")...)
	}
	for i, line := range lines {
		if r := decodeReply(t, line); r.ID != uint32(i+1) || r.Error != nil {
			t.Errorf("answer %d: %s", i+1, line)
		}
	}
}
