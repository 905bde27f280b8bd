package bench

import (
	"context"
	"crypto/sha1"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/websocket"
)

// TestMain also lets the test binary stand in for the server's, since what
// starts a process needs one to start.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "serve" {
		os.Exit(fakeMain())
	}
	if len(os.Args) > 2 && os.Args[1] == "app" && os.Args[2] == "set" {
		if !slices.Contains(os.Args, "limits.direct=0") || os.Getenv("PARLEY_APP_KEY") != "" {
			fmt.Println("app set was called with", os.Args)
			os.Exit(2)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func fakeMain() int {
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	f := &fake{key: os.Getenv("PARLEY_APP_KEY"), secret: os.Getenv("PARLEY_APP_SECRET"), rooms: map[string][]*fakeConn{}, opened: map[string]int{}}
	s := httptest.NewServer(f)
	fmt.Println("serving for", f.key)
	var data string
	for _, a := range os.Args {
		if d, ok := strings.CutPrefix(a, "--data="); ok {
			data = d
		}
		if a == "--nonsense=1" {
			fmt.Println("unknown flag --nonsense")
			return 2
		}
	}
	if err := os.WriteFile(filepath.Join(data, "listen"), []byte(s.Listener.Addr().String()+"\n"), 0o600); err != nil {
		fmt.Println(err)
		return 1
	}
	<-ctx.Done()
	f.hangUp()
	s.Close()
	return 0
}

// A fake is just enough of a server, with faults to choose from.
type fake struct {
	key, secret string
	faults      []string
	pingEvery   time.Duration
	started     [][]string // settings of each start

	mu     sync.Mutex
	uids   *chat.UIDSource
	nonces map[string]bool
	lines  map[string][]string // publications by user
	lost   map[string]bool
	rooms  map[string][]*fakeConn
	held   string // a frame that one member gets after the next one
	conns  []*fakeConn
	opened map[string]int // messages by channel
	data   string
	gone   bool // nobody is let in any more
	wg     sync.WaitGroup
}

func (f *fake) has(fault string) bool { return slices.Contains(f.faults, fault) }

// start is for Options.start.
func (f *fake) start(_ context.Context, data string, settings []string) (*server, error) {
	f.started = append(f.started, settings)
	f.key, f.secret = "k", "s"
	f.rooms, f.opened, f.conns, f.gone = map[string][]*fakeConn{}, map[string]int{}, nil, false
	clear(f.nonces)
	if f.data != data { // otherwise a restart, which keeps what was stored
		f.data = data
		clear(f.lines)
		clear(f.lost)
	}
	for _, v := range settings {
		if d, ok := strings.CutPrefix(v, "ping-interval="); ok {
			f.pingEvery, _ = time.ParseDuration(d)
		}
	}
	if err := os.WriteFile(filepath.Join(data, "file"), make([]byte, 4096), 0o600); err != nil {
		return nil, err
	}
	s := httptest.NewServer(f)
	return &server{addr: s.Listener.Addr().String(), key: "k", secret: "s", pid: os.Getpid(), data: data, stop: func() error {
		f.hangUp()
		s.Close()
		return nil
	}}, nil
}

func (f *fake) hangUp() {
	f.mu.Lock()
	f.gone = true
	for _, c := range f.conns {
		c.conn.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/readyz":
	case "/connection/websocket":
		f.upgrade(w, r)
	default:
		f.mu.Lock()
		defer f.mu.Unlock()
		answer, err := f.api(r)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			answer = err.Error()
		}
		w.Header().Set("Content-Length", fmt.Sprint(len(answer)))
		_, _ = io.WriteString(w, answer)
	}
}

func (f *fake) api(r *http.Request) (string, error) {
	nonce, timestamp := r.Header.Get("Nonce"), r.Header.Get("Timestamp")
	sum := sha1.Sum([]byte(f.secret + nonce + timestamp))
	if r.Header.Get("App-Key") != f.key || r.Header.Get("Signature") != hex.EncodeToString(sum[:]) {
		return "", errors.New("signature")
	}
	if f.nonces == nil {
		f.nonces, f.lines, f.lost = map[string]bool{}, map[string][]string{}, map[string]bool{}
		f.uids = chat.NewUIDSource(1, 0)
	}
	if f.nonces[nonce] || len(nonce) > 18 {
		return "", errors.New("nonce")
	}
	f.nonces[nonce] = true
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return "", err
	}
	var q struct {
		UserID, FromUserID, MessageType, Content string
		ToUserIDs, ToChannelIDs                  []string
	}
	if err := json.Unmarshal(body, &q); err != nil {
		return "", err
	}
	if r.URL.Path == "/v4/auth/access-token/issue" {
		return fmt.Sprintf(`{"code":0,"result":{"userId":%q,"accessToken":%q}}`, q.UserID, "token of "+q.UserID), nil
	}
	if f.has("refuse") {
		return "", errors.New("refused on purpose")
	}
	if !json.Valid([]byte(q.Content)) || q.MessageType != "RC:TxtMsg" || q.FromUserID == "" {
		return "", fmt.Errorf("body %s", body)
	}
	targets := append(q.ToUserIDs, q.ToChannelIDs...)
	first := f.uids.Block(time.Now(), chat.Direct, len(targets))
	var answer []string
	for i, to := range targets {
		uid := first.Plus(i)
		answer = append(answer, fmt.Sprintf(`{"userId":%q,"messageUID":"%s"}`, to, uid))
		if r.URL.Path == directPath {
			f.keep(to, uid, q.Content)
		} else {
			f.publish(to, q.Content)
		}
	}
	if f.has("short answer") {
		answer = answer[1:]
	}
	return `{"code":0,"result":{"messageUIDs":[` + strings.Join(answer, ",") + `]}}`, nil
}

// keep appends to a timeline; a fault shows at the second entry.
func (f *fake) keep(user string, uid chat.UID, content string) {
	line := f.lines[user]
	defer func(had int) {
		for _, pub := range f.lines[user][had:] {
			f.tell(user, pub)
		}
	}(len(line))
	second := len(line) == 1
	if second && f.has("wrong message") {
		uid = uid.Plus(1)
	}
	offset := len(line) + 1
	if second && f.has("gap") {
		offset++
	}
	c, _ := json.Marshal(content)
	pub := fmt.Sprintf(`{"data":{"event":"message","message":{"messageUID":"%s","content":%s}},"offset":%d}`, uid, c, offset)
	if second && f.has("lost") && !f.lost[user] {
		f.lost[user] = true
		return
	}
	if line = append(line, pub); second && f.has("double") {
		line = append(line, strings.Replace(pub, `"offset":2`, `"offset":3`, 1))
	}
	f.lines[user] = line
}

// tell gives an entry to those of the user who are connected.
func (f *fake) tell(user, pub string) {
	for _, c := range f.conns {
		if c.user == user {
			c.write(`{"push":{"channel":"me","pub":` + pub + `}}`)
		}
	}
}

// publish gives a message to a room; a fault shows at the third one, to one
// member: to one that looks at everything, or to one that does not.
func (f *fake) publish(channel, content string) {
	f.opened[channel]++
	n := f.opened[channel]
	c, _ := json.Marshal(content)
	frame := fmt.Sprintf(`{"push":{"channel":"open:%s","pub":{"data":{"event":"message","message":{"content":%s}},"offset":%d}}}`, channel, c, n)
	for _, m := range f.rooms[channel] {
		times := 1
		closer, late := m.user == "open-1", m.user == "open-5"
		if n == 3 {
			switch {
			case closer && f.has("open lost"), late && f.has("open lost late"):
				times = 0
			case closer && f.has("open double"), late && f.has("open double late"):
				times = 2
			case late && f.has("open swapped"):
				f.held, times = frame, 0
			case closer && f.has("hang up"):
				m.conn.Close()
			}
		}
		for range times {
			m.write(frame)
		}
		if late && n == 4 && f.held != "" {
			m.write(f.held)
			f.held = ""
		}
	}
}

type fakeConn struct {
	f       *fake
	conn    net.Conn
	user    string
	writeMu sync.Mutex
	over    chan struct{}
}

func (c *fakeConn) write(text string) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	_, _ = c.conn.Write(websocket.AppendText(nil, []byte(text)))
}

func (f *fake) upgrade(w http.ResponseWriter, r *http.Request) {
	conn, leftover, err := websocket.Upgrade(w, r, websocket.UpgradeOptions{})
	if err != nil {
		return
	}
	c := &fakeConn{f: f, conn: conn, over: make(chan struct{})}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		conn.Close()
		return
	}
	f.conns = append(f.conns, c)
	f.wg.Go(func() {
		defer close(c.over)
		defer conn.Close()
		p := websocket.NewParser(websocket.Server, 1<<20)
		defer p.Release()
		b := append(leftover, make([]byte, 4096)...)
		for n, err := len(leftover), error(nil); err == nil; n, err = conn.Read(b) {
			if p.Feed(b[:n], c) != nil {
				return
			}
		}
	})
}

// Message implements websocket.Handler.
func (c *fakeConn) Message(op websocket.Opcode, payload []byte) error {
	if op == websocket.Close {
		return io.EOF
	}
	for line := range strings.SplitSeq(string(payload), "\n") {
		var q struct {
			ID      int
			Connect *struct {
				Token string
				Data  struct{ From string }
			}
			Subscribe, History *struct{ Channel string }
		}
		if err := json.Unmarshal([]byte(line), &q); err != nil {
			return err
		}
		f := c.f
		f.mu.Lock()
		switch {
		case q.Connect != nil:
			user, ok := strings.CutPrefix(q.Connect.Token, "token of ")
			if !ok || f.has("no connect") {
				c.write(fmt.Sprintf(`{"id":%d,"error":{"code":101,"message":"unauthorized"}}`, q.ID))
				break
			}
			c.user = user
			var first, rest []string
			if q.Connect.Data.From == "oldest" {
				first = f.lines[user]
				first, rest = first[:min(2, len(first))], first[min(2, len(first)):]
			}
			c.write(fmt.Sprintf(`{"id":%d,"connect":{"client":"c","ping":1,"pong":true,"subs":{"me":{"recoverable":true,"offset":0,"publications":[%s]}}}}`, q.ID, strings.Join(first, ",")))
			for _, p := range rest {
				c.write(`{"push":{"channel":"me","pub":` + p + `}}`)
			}
			if f.pingEvery > 0 && !f.has("no ping") {
				f.wg.Go(c.ping)
			}
		case q.Subscribe != nil:
			channel := strings.TrimPrefix(q.Subscribe.Channel, "open:")
			f.rooms[channel] = append(f.rooms[channel], c)
			c.write(fmt.Sprintf(`{"id":%d,"subscribe":{}}`, q.ID))
		case q.History != nil:
			c.write(fmt.Sprintf(`{"id":%d,"history":{"epoch":"e","offset":%d}}`, q.ID, len(f.lines[c.user])))
		}
		f.mu.Unlock()
	}
	return nil
}

func (c *fakeConn) ping() {
	t := time.NewTicker(c.f.pingEvery)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			c.write("{}")
		case <-c.over:
			return
		}
	}
}
