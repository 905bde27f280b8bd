package node

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley/internal/chat"
)

// failedSeeds are seeds that failed once, each with what it showed. They stay.
var failedSeeds = []uint64{}

const (
	// modelSteps is how many steps all seeds of a run take together, modelRace
	// how many under the race detector, where each costs ten times as much, and
	// modelShort how many with -short.
	modelSteps = 10_000
	modelRace  = 4_000
	modelShort = 1_500
	// modelLife is how many steps one seed takes at most. Long lives find what
	// needs much history, many lives what needs an odd beginning.
	modelLife = 1_000
)

// TestModel sends, recalls, changes, connects, cuts lines, crashes and restarts at
// random, and compares what every device is shown and what the history holds with
// a model in memory. PARLEY_MODEL_STEPS asks for more steps, PARLEY_MODEL_SEED for
// one seed alone.
func TestModel(t *testing.T) {
	t.Parallel()
	steps := modelSteps
	switch {
	case testing.Short():
		steps = modelShort
	case raceEnabled:
		steps = modelRace
	}
	if n, err := strconv.Atoi(os.Getenv("PARLEY_MODEL_STEPS")); err == nil {
		steps = n
	}
	if seed, err := strconv.ParseUint(os.Getenv("PARLEY_MODEL_SEED"), 10, 64); err == nil {
		runModel(t, seed, min(steps, modelLife))
		return
	}
	lives := (steps + modelLife - 1) / modelLife
	seeds := slices.Clone(failedSeeds)
	for i := range uint64(lives) {
		// Half of them are the same in every run, the others new in each.
		seed := i + 1
		if i%2 == 1 {
			seed = rand.Uint64N(1 << 32)
		}
		seeds = append(seeds, seed)
	}
	for _, seed := range seeds {
		t.Run(strconv.FormatUint(seed, 10), func(t *testing.T) {
			t.Parallel()
			runModel(t, seed, min(steps, modelLife))
		})
	}
}

// A modelRun is one life: what the model knows, and the node that it drives.
type modelRun struct {
	t       *testing.T
	seed    uint64
	rng     *rand.Rand
	verbose bool
	step    int
	trail   []trailLine

	// The world, see model_world_test.go.
	dir      string
	disk     *modelDisk
	clock    modelClock
	began    int64 // the clock at first
	highest  int64 // and at most
	backs    int   // how often it was set back
	node     *Node
	app      chat.AppID
	base     string
	http     *http.Client
	tokens   map[string]string
	epoch    string
	nonce    atomic.Uint64
	readers  sync.WaitGroup
	inFlight sync.WaitGroup
	mu       sync.Mutex
	cut      bool // the power is cut: answers do not count any more
	broken   []string

	// The model.
	users    []*modelUser
	devices  []*modelDevice
	messages []*modelMessage // that timelines hold, in the order in which they were asked for
	byUID    map[string]*modelMessage
	sends    []*modelSend  // that can be repeated
	focus    *modelMessage // what the requests of a burst are mostly about
	casts    []*modelCast
	tokensOf int  // makes every content and extra another one
	round    int  // counts what was begun together
	alone    bool // the round is of one request
	unsure   bool // a round is not judged yet
}

// A modelUser is what the model knows of a user: what their timeline holds, and
// what its events come to for each message.
type modelUser struct {
	name     string
	desk     *modelDevice // on which their calls are made
	timeline []string     // publications' data; offset 1 is the first
	lastUID  chat.UID
	folded   map[string]*foldedMessage
	blocks   map[string]bool // whom they block
	views    map[viewKey]*modelView
	welcomes []welcome // not looked at yet
	// brought are the broadcasts that may be in the timeline already, although the
	// model has not seen them there: a connect that is over had to bring them, or
	// they came by themselves just before the user was cut off.
	brought map[*modelCast]bool
}

// A modelMessage is a message for one recipient, as it is now.
type modelMessage struct {
	n        int
	uid      string
	id       chat.UID // the same
	sentAt   int64
	from, to string
	kind     chat.ChannelType
	typ      string
	content  string // now
	persist  bool
	takes    bool // hasMetadata
	copied   bool // the sender's timeline has a copy
	receipt  bool // needReadReceipt
	quiet    bool // disableUpdateLastMsg
	metadata map[string]string
	editedAt int64
	edits    int
	recall   *modelEvent
	recalled int              // in which round
	hushed   bool             // the recall's notice is not to be the last message
	readAt   int64            // when its sender was told that it was read
	owed     bool             // it was read, so its sender is to be told
	marked   int64            // when it was read by itself
	hidden   map[string]int64 // when each side deleted it for themselves
	cast     *modelCast       // of which it is
	offset   uint64           // of that, where it came
	ahead    bool             // it was given a time ahead of the clock
	backs    int              // how often the clock had been set back when it was sent
	// silent are keys that a side need not have learned the value of: it set them
	// itself and did not ask to be told.
	silent map[string]map[string]bool
}

func (m *modelMessage) String() string { return fmt.Sprintf("m%d", m.n) }

// A foldedMessage is what a timeline's events come to.
type foldedMessage struct {
	content  string
	editedAt int64
	metadata map[string]string
	recalled bool
	toldAt   int64 // when it was told of metadata last
	backs    int   // how often the clock had been set back by then
}

// A modelEvent is a publication's data.
type modelEvent struct {
	Event   string
	Message struct {
		MessageUID, ChannelType, ChannelID, FromUserID, Direction, MessageType, Content string
		SentAt, UpdatedAt                                                               int64
		ShouldPersist, HasMetadata, NeedReadReceipt, DisableUpdateLastMsg               bool
		Metadata                                                                        map[string]string
	}
	MessageUID, ChannelType, ChannelID, OperatorID string
	IsAdmin, IsDelete                              bool
	Extra, Content                                 string
	RecalledAt, UpdatedAt                          int64
	Set                                            map[string]string
	Removed                                        removedPart

	MessageUIDs                        []string
	UpTo                               string
	ReadAt, DeletedAt, ClearedAt       int64
	ReadCount, UnreadCount, TotalCount int
	Users                              []struct {
		UserID string
		ReadAt int64
	}
}

// A removedPart is what an event says of removing: of metadata the keys, of a
// channel that it is.
type removedPart struct {
	keys    []string
	channel bool
}

func (p *removedPart) UnmarshalJSON(b []byte) error {
	if b[0] == '[' {
		return json.Unmarshal(b, &p.keys)
	}
	return json.Unmarshal(b, &p.channel)
}

// An op is one request of a step, with what it must come to.
type op struct {
	text    string
	touches []string // users and messages, to find the op in the trail
	user    string   // whose desk makes the call, if one does
	call    func(context.Context) answer

	// wants are the entries that one commit must leave, all or none. The first of
	// a message is that of its recipient.
	wants []*want
	// takes says whether an entry can be of this request, where it is not known
	// before how many it leaves, and moves the model. Bad is what is wrong with it.
	takes func(u *modelUser, e *modelEvent) (mine bool, bad string)
	view  *modelView // that it is about
	did   []string   // UIDs of the messages for which it was what changed something
	// judge says what is wrong with the answer and with what was seen of the
	// wants. It is asked when the entries of the step were applied, and moves what
	// of the model no entry tells of.
	judge func(a answer, seen bool) string
	// again is the same request once more, for when no answer came.
	again func() *op

	metadata *metadataChange
	lasting  bool // done late, it would undo what came meanwhile
	a        answer
}

// A want is an entry that a timeline must get.
type want struct {
	user string
	key  string // by which it is found, see keyOf
	seen func(e *modelEvent) string
	did  bool
}

// keyOf names an entry by what no other entry has.
func keyOf(e *modelEvent) string {
	switch e.Event {
	case "message":
		return "message " + e.Message.Content + " " + e.Message.Direction + " " + e.Message.ChannelID
	case "recall":
		return "recall " + e.Extra
	case "update":
		return "update " + e.Content
	}
	return e.Event
}

type trailLine struct {
	step    int
	text    string
	touches []string
}

// say notes a step, and what users and messages it touches.
func (r *modelRun) say(touches []string, format string, args ...any) {
	l := trailLine{r.step, fmt.Sprintf(format, args...), touches}
	r.trail = append(r.trail, l)
	if r.verbose {
		r.t.Logf("%5d  %s", l.step, l.text)
	}
}

// complain is fail for other goroutines: the step's end looks at it.
func (r *modelRun) complain(_ []string, format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.broken = append(r.broken, fmt.Sprintf(format, args...))
}

// fail ends the run with the part of the trail that has to do with the messages
// named, or when there are none with the users; and in any case with what
// happened to the whole node lately.
func (r *modelRun) fail(about []string, format string, args ...any) {
	r.t.Helper()
	const most, lately = 40, 60
	isMessage := func(name string) bool { return strings.HasPrefix(name, "m") }
	if slices.ContainsFunc(about, isMessage) {
		about = slices.DeleteFunc(slices.Clone(about), func(name string) bool { return !isMessage(name) })
	}
	var lines []string
	for i := len(r.trail) - 1; i >= 0 && len(lines) < most; i-- {
		l := r.trail[i]
		near := i >= len(r.trail)-3 || l.touches == nil && l.step > r.step-lately || len(about) == 0
		for _, a := range about {
			near = near || slices.Contains(l.touches, a)
		}
		if near {
			lines = append(lines, fmt.Sprintf("%5d  %s", l.step, l.text))
		}
	}
	slices.Reverse(lines)
	slices.Sort(about)
	r.t.Fatalf("seed %d, step %d: %s\n\nWhat led to it (%s):\n%s\n\nPARLEY_MODEL_SEED=%d repeats it.",
		r.seed, r.step, fmt.Sprintf(format, args...), strings.Join(slices.Compact(about), ", "), strings.Join(lines, "\n"), r.seed)
}

const (
	modelUsers   = 4
	modelDevices = 3 // of each user, besides the desk
)

// newModelRun is a run whose node is up, and which ends with the test.
func newModelRun(t *testing.T, seed uint64) *modelRun {
	r := &modelRun{
		t: t, seed: seed, rng: rand.New(rand.NewPCG(seed, 0)), verbose: os.Getenv("PARLEY_MODEL_LOG") != "",
		dir: t.TempDir(), disk: &modelDisk{MemFS: vfs.NewCrashableMem()},
		http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: modelPatience}, byUID: map[string]*modelMessage{},
	}
	r.began = time.Date(2026, 11, 22, 23, 50, 0, 0, time.UTC).UnixMilli() // a day ends soon
	r.clock.ms.Store(r.began)
	for i := range modelUsers {
		u := &modelUser{name: fmt.Sprint("u", i), folded: map[string]*foldedMessage{}, blocks: map[string]bool{}, views: map[viewKey]*modelView{}, brought: map[*modelCast]bool{}}
		u.desk = &modelDevice{r: r, user: u, knows: false}
		r.users = append(r.users, u)
		r.devices = append(r.devices, u.desk)
		for n := range modelDevices {
			d := &modelDevice{r: r, user: u, n: n + 1}
			if n > 0 {
				d.id = fmt.Sprint("d", n)
			}
			r.devices = append(r.devices, d)
		}
	}
	t.Cleanup(func() {
		r.disk.release()
		for _, d := range r.devices {
			d.drop()
		}
		r.readers.Wait()
		if r.node != nil {
			ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), modelPatience)
			defer cancel()
			_ = r.node.Stop(ctx)
		}
		r.http.CloseIdleConnections()
	})
	r.boot()
	return r
}

func runModel(t *testing.T, seed uint64, steps int) {
	r := newModelRun(t, seed)
	total := 0
	for _, a := range modelActions {
		total += a.weight
	}
	for r.step = 1; r.step <= steps; r.step++ {
		n := r.rng.IntN(total)
		for _, a := range modelActions {
			if n -= a.weight; n < 0 {
				a.do(r)
				break
			}
		}
		if r.step%10 == 0 {
			r.look(nil, r.users)
		}
		r.greet()
		r.mu.Lock()
		broken := r.broken
		r.mu.Unlock()
		if len(broken) > 0 {
			r.fail(nil, "%s", strings.Join(broken, "\n"))
		}
	}
	r.step = steps
	r.verify()
}

func (r *modelRun) user(name string) *modelUser {
	for _, u := range r.users {
		if u.name == name {
			return u
		}
	}
	return nil
}

// do carries out the requests of a step, all at once, and judges them.
func (r *modelRun) do(ops ...*op) {
	r.begin(ops, len(ops) > 1)()
	r.askAgain(ops)
	r.judge(ops)
}

// askAgain repeats what got no answer until it gets one: with its key that is
// harmless, and waits for the first to be settled.
func (r *modelRun) askAgain(ops []*op) {
	for _, o := range ops {
		for tries := 0; o.a.unknown; tries++ {
			if tries == 20 {
				r.fail(o.touches, "%s: there is never an answer", o.text)
			}
			r.say(o.touches, "… no answer, again: %s", o.text)
			if o.user != "" {
				r.desk(o.user)
			}
			o.a = o.call(r.t.Context())
		}
	}
}

// begin makes the calls, and gives what waits for what comes of them.
func (r *modelRun) begin(ops []*op, burst bool) (wait func()) {
	for _, o := range ops {
		mark := ""
		if burst {
			mark = "∥ "
		}
		r.say(o.touches, "%s%s", mark, o.text)
		if o.user != "" {
			r.desk(o.user)
		}
	}
	r.greet()
	r.round++
	r.alone, r.unsure = len(ops) == 1, true
	for _, o := range ops {
		if o.view != nil {
			r.remember(o.view)
		}
	}
	var wg sync.WaitGroup
	for _, o := range ops {
		r.inFlight.Add(1)
		wg.Go(func() {
			defer r.inFlight.Done()
			o.a = o.call(r.t.Context())
		})
	}
	return wg.Wait
}

// judge compares what the requests left in the timelines with what they must
// leave, moves the model, and judges the answers. Requests without an answer are
// left to be asked again.
func (r *modelRun) judge(ops []*op) {
	var touched []*modelUser
	for _, u := range r.users {
		for _, o := range ops {
			if slices.Contains(o.touches, u.name) {
				touched = append(touched, u)
				break
			}
		}
	}
	r.look(ops, touched)
	for _, o := range ops {
		seen := 0
		for _, w := range o.wants {
			if w.did {
				seen++
			}
		}
		if seen > 0 && seen < len(o.wants) {
			var missing []string
			for _, w := range o.wants {
				if !w.did {
					missing = append(missing, w.user+": "+w.key)
				}
			}
			r.fail(o.touches, "%s: answered %v, but only %d of %d entries are there; missing %q", o.text, o.a, seen, len(o.wants), missing)
		}
		if o.a.unknown {
			continue
		}
		if bad := o.judge(o.a, seen > 0); bad != "" {
			r.fail(o.touches, "%s: %s\nanswered %v", o.text, bad, o.a)
		}
	}
	r.judgeMetadata(ops)
	r.judgeReceipts()
	r.settleCasts()
	r.judgeRemovals()
	r.unsure = false
}

// look reads what is new in the users' timelines. Only metadata may come by
// itself, when it is due; anything else must be wanted by one of the ops.
func (r *modelRun) look(ops []*op, users []*modelUser) {
	type entry struct {
		u      *modelUser
		offset uint64
		data   []byte
		e      modelEvent
	}
	judge := func(x *entry, by func() string) {
		if bad := by(); bad != "" {
			about := []string{x.u.name}
			if m := r.byUID[x.e.MessageUID]; m != nil {
				about = append(about, m.String())
			}
			r.fail(about, "%s has at offset %d %s: %s", x.u.name, x.offset, x.data, bad)
		}
	}
	// Receipts can be about messages of which only the reader's timeline tells.
	var receipts []*entry
	for _, u := range users {
		for _, p := range r.timelineFrom(u, uint64(len(u.timeline))) {
			if p.Offset != uint64(len(u.timeline))+1 {
				r.fail([]string{u.name}, "the timeline of %s has offset %d after %d: %s", u.name, p.Offset, len(u.timeline), p.Data)
			}
			x := &entry{u: u, offset: p.Offset, data: p.Data}
			if err := json.Unmarshal(p.Data, &x.e); err != nil {
				r.fail([]string{u.name}, "%v in %s", err, p.Data)
			}
			u.timeline = append(u.timeline, string(p.Data))
			if x.e.Event == "receipt" {
				receipts = append(receipts, x)
			} else {
				judge(x, func() string { return r.enter(ops, u, &x.e) })
			}
			judge(x, func() string { return r.fold(u, &x.e) })
		}
	}
	for _, x := range receipts {
		judge(x, func() string { return r.enter(ops, x.u, &x.e) })
	}
	slices.SortFunc(r.messages, func(a, b *modelMessage) int { return a.n - b.n })
}

// enter finds who wanted the entry.
func (r *modelRun) enter(ops []*op, u *modelUser, e *modelEvent) string {
	if e.Event == "metadata" {
		return ""
	}
	key := keyOf(e)
	for _, o := range ops {
		for _, w := range o.wants {
			if w.user == u.name && w.key == key && !w.did {
				w.did = true
				return w.seen(e)
			}
		}
	}
	for _, o := range ops {
		if o.takes != nil {
			if mine, bad := o.takes(u, e); mine {
				return bad
			}
		}
	}
	if mine, bad := r.enterCast(u, e); mine {
		return bad
	}
	return "nobody asked for this"
}

// fold applies the entry to what the user's timeline comes to.
func (r *modelRun) fold(u *modelUser, e *modelEvent) string {
	if e.Event == "message" {
		uid, err := chat.ParseUID(e.Message.MessageUID)
		if err != nil {
			return err.Error()
		}
		if uid.Compare(u.lastUID) <= 0 {
			return fmt.Sprintf("its UID is not above that of the message before, %v", u.lastUID)
		}
		u.lastUID = uid
		if uid.Millis() != e.Message.SentAt {
			return "its UID and sentAt do not agree"
		}
		f := &foldedMessage{content: e.Message.Content, metadata: map[string]string{}}
		maps.Copy(f.metadata, e.Message.Metadata)
		u.folded[e.Message.MessageUID] = f
		return ""
	}
	f := u.folded[e.MessageUID]
	switch e.Event {
	case "receipt":
		if f != nil && f.recalled {
			return "it is about a message that was recalled before"
		}
		return "" // it may be about one of which there is no copy here
	case "read", "delete", "clear", "channel":
		return "" // the user's own, see the requests that they are of
	}
	switch {
	case f == nil:
		return "it is about a message that this timeline does not have"
	case f.recalled:
		return "it is about a message that was recalled before"
	}
	switch e.Event {
	case "recall":
		f.recalled = true
	case "update":
		f.content, f.editedAt = e.Content, e.UpdatedAt
	case "metadata":
		m := r.byUID[e.MessageUID]
		// A change is never from before its message: with a clock that is behind, all
		// have the message's time.
		behind := e.UpdatedAt == m.sentAt && (m.ahead || m.backs != r.backs)
		if apart := e.UpdatedAt - f.toldAt; f.toldAt != 0 && !behind && f.backs == r.backs && apart >= 0 && apart < 2000 {
			return fmt.Sprintf("metadata was told of %d ms before", apart)
		}
		if len(e.Set) == 0 && len(e.Removed.keys) == 0 {
			return "it tells nothing"
		}
		f.toldAt, f.backs = e.UpdatedAt, r.backs
		maps.Copy(f.metadata, e.Set)
		for _, k := range e.Removed.keys {
			delete(f.metadata, k)
		}
	default:
		return "an unknown event"
	}
	return ""
}

// unsettled is a message whose metadata the user's timeline has not been told all
// of, or "".
func (r *modelRun) unsettled(u *modelUser) (*modelMessage, string) {
	for _, m := range r.messages {
		f := u.folded[m.uid]
		if f == nil || m.recall != nil || !m.takes {
			continue
		}
		silent := m.silent[u.name]
		for _, k := range slices.Concat(slices.Sorted(maps.Keys(m.metadata)), slices.Sorted(maps.Keys(f.metadata))) {
			was, told := f.metadata[k]
			is, there := m.metadata[k]
			if !silent[k] && (told != there || was != is) {
				return m, fmt.Sprintf("%s knows of %v that its metadata %s is %q, %t; it is %q, %t", u.name, m, k, was, told, is, there)
			}
		}
	}
	return nil, ""
}

// verify waits until everything is told, lets everybody connect and catch up, and
// compares all there is.
func (r *modelRun) verify() {
	// What waits to be told waits for at most two seconds by the clock that was,
	// where that was not set back while somebody looked.
	r.advance(time.Duration(max(0, r.highest-r.clock.ms.Load()))*time.Millisecond + 3*time.Second)
	for _, u := range r.users {
		for end := time.Now().Add(modelPatience); ; time.Sleep(10 * time.Millisecond) {
			r.look(nil, []*modelUser{u})
			m, what := r.unsettled(u)
			if m == nil {
				break
			}
			if time.Now().After(end) {
				r.fail([]string{u.name, m.String()}, "%s", what)
			}
		}
	}
	r.look(nil, r.users) // what came for one while another was looked at
	for _, d := range r.devices {
		if d.client() == nil {
			r.say([]string{d.user.name}, "%s connects to catch up", d)
			d.connect("", 0)
			r.greet()
		}
	}
	r.settleCasts()
	r.catchUp()
	for _, u := range r.users {
		for _, m := range r.messages {
			f := u.folded[m.uid]
			side := m.to == u.name || m.from == u.name && m.copied
			if f == nil {
				if side {
					r.fail([]string{u.name, m.String()}, "%s does not have %v", u.name, m)
				}
				continue
			}
			if !side {
				r.fail([]string{u.name, m.String()}, "%s has %v, which is not theirs", u.name, m)
			}
			if f.recalled != (m.recall != nil) || m.recall == nil && (f.content != m.content || f.editedAt != m.editedAt) {
				r.fail([]string{u.name, m.String()}, "%s sees %v as %+v, it is %+v", u.name, m, f, m)
			}
		}
		for _, other := range r.users {
			r.compareHistory(u, other, chat.Direct, 1+r.rng.IntN(100), r.rng.IntN(3))
		}
		for _, other := range r.users {
			r.compareHistory(u, other, chat.System, 100, 1)
		}
		r.compareChannels(u, 1+r.rng.IntN(10), r.rng.IntN(2))
	}
}

// catchUp waits until all devices that are connected have what there is.
func (r *modelRun) catchUp() {
	for _, d := range r.devices {
		if d.client() != nil {
			d.catchUp()
		}
	}
}

// advance moves the clock.
func (r *modelRun) advance(d time.Duration) {
	r.say(nil, "the clock moves by %v", d)
	if d < 0 {
		r.backs++
	}
	r.highest = max(r.highest, r.clock.ms.Add(d.Milliseconds()))
}
