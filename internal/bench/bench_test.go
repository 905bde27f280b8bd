package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/websocket"
)

var smallScale = scale{
	callers: 3, recipients: 2,
	groupCallers: 2, group: 5,
	participants: 20, flooded: 20,
	connections: 5, ping: 30 * time.Millisecond, pushes: 50, queued: 100,
	verify: 10 * time.Second, read: 5 * time.Second, deliver: 10 * time.Second, settle: 30 * time.Millisecond, probe: time.Millisecond,
}

func small(t *testing.T, f *fake, cases ...string) Options {
	return Options{Cases: cases, Time: 150 * time.Millisecond, Dir: t.TempDir(), scale: smallScale, start: f.start}
}

// faked are the cases that a fake can stand in for. Notifying those who are away
// takes a server: see TestPush.
func faked() []string {
	return slices.DeleteFunc(slices.Clone(Cases), func(name string) bool { return slices.Contains(pushCases, name) })
}

// The floors are not reached by a fake on a small scale, and need not be; what
// is counted has to be there.
func TestEachCase(t *testing.T) {
	t.Parallel()
	for _, name := range faked() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := small(t, &fake{}, name)
			var out bytes.Buffer
			r, err := Run(t.Context(), o, &out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if !r.Kept() || len(r.Results) != len(measures[name]) {
				t.Errorf("%s", out.String())
			}
			for _, res := range r.Results {
				if res.Case != name || len(res.Rates) == 0 || res.Rates[0].Count == 0 || !strings.HasPrefix(res.Verified, "all ") {
					t.Errorf("%+v", res)
				}
			}
			if left, err := filepath.Glob(filepath.Join(o.Dir, "*")); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
			if !json.Valid(mustJSON(t, r)) {
				t.Error("the report is not JSON")
			}
		})
	}
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Each fault has to be found, or the checks are worth nothing.
func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, fault, want string }{
		{"direct", "lost", "offset 2 is message"},
		{"direct", "gap", "offset 3 follows 1"},
		{"direct", "double", "offset 3 is message"},
		{"direct", "wrong message", "offset 2 is message"},
		{"direct", "no connect", "the server answered"},
		{"direct-1000", "wrong message", "offset 2 is message"},
		{"live", "lost", "offset 2 is message"},
		{"live", "gap", "offset 3 follows 1"},
		{"live", "double", "which nobody has sent"},
		{"live", "wrong message", "offset 2 is message"},
		{"open-one", "open lost", "did not reach 1 of 20"},
		{"open-one", "open double", "got message 2, want 3"},
		{"open-steady", "open swapped", "got offset 4, want 3"},
		{"open-one", "hang up", "lost its connection"},
		{"open-steady", "open lost late", "got offset 4, want 3"},
		{"open-steady", "open double late", "got offset 3, want 4"},
		{"open-rooms", "open lost", "did not reach"},
		{"open-flood", "open lost", "did not come"},
		{"idle", "no ping", "connections were not pinged"},
	} {
		t.Run(c.fault, func(t *testing.T) {
			t.Parallel()
			o := small(t, &fake{faults: []string{c.fault}}, c.name)
			o.scale.deliver = 300 * time.Millisecond
			o.Time = time.Second // most show at somebody's second message
			r, err := Run(t.Context(), o, &bytes.Buffer{})
			if err != nil {
				t.Fatal(err)
			}
			if r.Kept() || r.OK() {
				t.Fatal("not found")
			}
			var all []string
			for _, res := range r.Results {
				all = append(all, res.Broken...)
				if len(res.Broken) > maxComplaints+1 {
					t.Errorf("%d complaints", len(res.Broken))
				}
			}
			if s := strings.Join(all, "\n"); !strings.Contains(s, c.want) {
				t.Errorf("got %s\nwant %s", s, c.want)
			}
		})
	}
}

// What cannot be measured is an error.
func TestRefusalsEndTheRun(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, fault, want string }{
		{"direct", "refuse", "refused on purpose"},
		{"direct-1000", "short answer", "the answer has 4 UIDs, want 5"},
		{"live", "no connect", "unauthorized"},
		{"live", "refuse", "refused on purpose"},
		{"open-one", "no connect", "unauthorized"},
		{"idle", "no connect", "unauthorized"},
	} {
		t.Run(c.name+" "+c.fault, func(t *testing.T) {
			t.Parallel()
			o := small(t, &fake{faults: []string{c.fault}}, c.name)
			if _, err := Run(t.Context(), o, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if left, err := filepath.Glob(filepath.Join(o.Dir, "*")); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestCancelEndsSoon(t *testing.T) {
	t.Parallel()
	for _, name := range faked() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
			defer cancel()
			o := small(t, &fake{}, name)
			o.Time = time.Hour
			start := time.Now()
			if _, err := Run(ctx, o, &bytes.Buffer{}); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v", err)
			}
			if d := time.Since(start); d > 5*time.Second {
				t.Errorf("took %s", d)
			}
			if left, err := filepath.Glob(filepath.Join(o.Dir, "*")); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}

func TestUnknownCase(t *testing.T) {
	t.Parallel()
	if _, err := Run(t.Context(), Options{Cases: []string{"idle", "nonsense"}}, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "direct-1000") {
		t.Errorf("got %v", err)
	}
}

// The test binary plays the server; see TestMain.
func TestServerProcess(t *testing.T) {
	t.Parallel()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Cases: []string{"direct"}, Time: 100 * time.Millisecond, Dir: t.TempDir(), Program: program, scale: smallScale}
	var out bytes.Buffer
	r, err := Run(t.Context(), o, &out)
	if err != nil || !r.Kept() {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if s := r.Results[0].Server; s.RSSAfter == 0 && processUsage(os.Getpid()).rss > 0 {
		t.Errorf("the process was not measured: %+v", s)
	}
	if left, err := filepath.Glob(filepath.Join(o.Dir, "*")); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// Both sides of a comparison are measured in turn, and each first as often as
// the other.
func TestCompare(t *testing.T) {
	t.Parallel()
	f := &fake{}
	o := small(t, f, "live")
	o.Settings, o.Compare = []string{"trace=false", "x=y"}, 3
	var out bytes.Buffer
	r, err := Run(t.Context(), o, &out)
	if err != nil || !r.Kept() || len(r.Results) != 6 || len(r.Comparisons) != 1 {
		t.Fatalf("%v\n%s", err, out.String())
	}
	var order []string
	for i, s := range f.started {
		if !slices.Equal(s, r.Results[i].Settings) {
			t.Errorf("the result of a server with %q says %q", s, r.Results[i].Settings)
		}
		order = append(order, strings.Join(s, " "))
	}
	const with = "trace=false x=y"
	if want := []string{"", with, with, "", "", with}; !slices.Equal(order, want) {
		t.Errorf("servers were started with %q, want %q", order, want)
	}
	c := r.Comparisons[0]
	if len(c.Pairs) != 3 || c.Unit != "requests" || c.Throughput <= 0 || c.Pairs[1].With.PerSecond != r.Results[2].Rates[0].PerSecond || c.Pairs[1].Without.PerSecond != r.Results[3].Rates[0].PerSecond {
		t.Errorf("%+v", c)
	}
	if !strings.Contains(out.String(), "as it is and with trace=false x=y") || !strings.Contains(out.String(), "median of the pairs") {
		t.Error(out.String())
	}
}

func TestMedianOfPairs(t *testing.T) {
	t.Parallel()
	pair := func(without, with float64) Pair {
		return Pair{Without: Sample{PerSecond: without, CPU: 2 * without}, With: Sample{PerSecond: with}}
	}
	for _, tt := range []struct {
		pairs []Pair
		want  float64
	}{
		{nil, 0},
		{[]Pair{pair(90, 100)}, 0.9},
		{[]Pair{pair(90, 100), pair(100, 100), pair(10, 100)}, 0.9},
		{[]Pair{pair(80, 100), pair(100, 100)}, 0.9},
		{[]Pair{pair(80, 0)}, 0},
	} {
		c := Comparison{Pairs: tt.pairs}
		if c.sum(); c.Throughput != tt.want || c.CPU != 0 || c.Latency != 0 {
			t.Errorf("%+v: want %g", c, tt.want)
		}
	}
}

func TestBadSettings(t *testing.T) {
	t.Parallel()
	for _, o := range []Options{{Compare: 2}, {Settings: []string{"trace"}}, {Settings: []string{"=x"}}, {Compare: -1, Settings: []string{"a=b"}}} {
		if r, err := Run(t.Context(), o, &bytes.Buffer{}); r != nil || err == nil {
			t.Errorf("%+v: %v", o, err)
		}
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := startProcess(t.Context(), program, t.TempDir(), []string{"nonsense=1"}); err == nil || !strings.Contains(err.Error(), "unknown flag --nonsense") {
		t.Errorf("a setting that does not exist: %v", err)
	}
}

func TestServerThatDoesNotStart(t *testing.T) {
	t.Parallel()
	for program, want := range map[string]string{"/bin/false": "ended while starting", "/nonexistent": "no such file"} {
		if _, err := startProcess(t.Context(), program, t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v", program, err)
		}
	}
}

func TestHistogram(t *testing.T) {
	t.Parallel()
	var h histogram
	if d := h.quantile(0.5); d != 0 {
		t.Errorf("median of nothing is %s", d)
	}
	for i := range 1000 {
		h.add(time.Duration(i+1) * time.Millisecond)
	}
	for q, want := range map[float64]time.Duration{0.5: 500 * time.Millisecond, 0.99: 990 * time.Millisecond, 0.999: 999 * time.Millisecond, 1: time.Second} {
		if got := h.quantile(q); got < want || got > want*104/100 {
			t.Errorf("quantile %g is %s, want %s", q, got, want)
		}
	}
	for _, v := range []uint64{0, 1, 63, 64, 65, 127, 128, 1000, 1 << 40, 1<<63 - 1} {
		b := bucketOf(v)
		if top := bucketTop(b); top < v || top > v+v/32 || b > 0 && bucketTop(b-1) >= v {
			t.Errorf("%d is in bucket %d, whose top is %d", v, b, top)
		}
	}
	if b := bucketOf(1<<64 - 1); b != buckets-1 {
		t.Errorf("the last bucket is %d", b)
	}
}

func TestReadHead(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		head           string
		status, length int
		ok             bool
	}{
		{"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n", 200, 12, true},
		{"HTTP/1.1 429 Too Many\r\nx: y\r\ncontent-length:0\r\n\r\n", 429, 0, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 0, 0, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", 0, 0, false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n", 0, 0, false},
		{"HTTP/1.1 x", 0, 0, false},
		{"\r\n\r\n", 0, 0, false},
	} {
		status, length, err := readHead([]byte(c.head))
		if (err == nil) != c.ok || c.ok && (status != c.status || length != c.length) {
			t.Errorf("%q: got %d %d %v", c.head, status, length, err)
		}
	}
}

// What an attendee makes of frames that are joined, and cut anywhere.
func TestAttendee(t *testing.T) {
	t.Parallel()
	pub := func(offset, seq int) string {
		return fmt.Sprintf(`{"push":{"channel":"open:c","pub":{"data":{"event":"message","message":{"content":"{\\"offset\\":9 lane 0 sequence %d sent 1"}},"offset":%d}}}`, seq, offset)
	}
	stream := func(offsets ...int) (b []byte) {
		var lines []string
		for _, o := range offsets {
			lines = append(lines, pub(o, o-1))
		}
		return websocket.AppendText(nil, []byte(strings.Join(lines, "\n")))
	}
	for _, tt := range []struct {
		name, want string
		in         [][]byte
		count      int
	}{
		{"one each", "", [][]byte{stream(1), stream(2)}, 2},
		{"joined", "", [][]byte{stream(1, 2, 3), stream(4, 5)}, 5},
		{"a hole between frames", "got offset 3, want 2", [][]byte{stream(1), stream(3, 4)}, 3},
		{"a hole within a frame", "got offset 4, want 3", [][]byte{stream(1, 2, 4, 5)}, 4},
		{"a double", "got offset 2, want 3", [][]byte{stream(1, 2, 2, 3)}, 4},
		{"a frame twice", "got offset 1, want 3", [][]byte{stream(1, 2), stream(1, 2)}, 4},
		{"another channel's", "", [][]byte{stream(1), websocket.AppendText(nil, []byte(`{"push":{"channel":"me"}}`)), stream(2)}, 2},
		{"long", "", [][]byte{stream(slices.Collect(func(yield func(int) bool) {
			for i := 1; i <= 600 && yield(i); i++ {
			}
		})...)}, 600},
	} {
		for _, closer := range []int{0, 5} {
			for cut := range 3 {
				var broken complaints
				a := &audience{broken: &broken, lanes: 1}
				l := a.attendee(closer, "c")
				l.next = 1
				all := bytes.Join(tt.in, nil)
				n := 0
				for len(all) > 0 {
					piece := all[:min(len(all), []int{len(all), 7, 1000}[cut])]
					k, err := l.feed(piece)
					if err != nil {
						t.Fatal(err)
					}
					n += k
					all = all[len(piece):]
				}
				if got := strings.Join(broken.list(), "; "); n != tt.count || (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) {
					t.Errorf("%s (attendee %d, cut %d): %d publications, %s", tt.name, closer, cut, n, got)
				}
			}
		}
	}
	l := (&audience{}).attendee(5, "c")
	if _, err := l.feed(websocket.AppendClose(nil, 3008, "slow")); err == nil || !strings.Contains(err.Error(), "3008") {
		t.Errorf("a close gives %v", err)
	}
}

func FuzzReadHead(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, n, err := readHead(b); err == nil && n < 0 {
			t.Errorf("length %d", n)
		}
	})
}

func FuzzScan(f *testing.F) {
	uid := chat.NewUID(1, chat.Direct, 1, 1)
	f.Add([]byte(`{"messageUID":"` + uid.String() + `"},{"messageUID":"short"},{"messageUID":"`))
	f.Fuzz(func(t *testing.T, b []byte) {
		n := 0
		for range uidsIn(b) {
			n++
		}
		if want := bytes.Count(b, uidMember); n != want {
			t.Errorf("%d members, want %d", n, want)
		}
		numberAfter(b, offsetMember)
	})
}

// The cases of push need a server that notifies: the real one.
func TestPush(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "parley")
	if out, err := exec.Command("go", "build", "-o", program, "github.com/parleychat/parley/cmd/parley").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range []string{"push-enqueue", "push-fcm"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := Options{Cases: []string{name}, Time: 150 * time.Millisecond, Dir: t.TempDir(), Program: program, scale: smallScale}
			var out bytes.Buffer
			r, err := Run(t.Context(), o, &out)
			if err != nil {
				t.Fatalf("%v\n%s", err, out.String())
			}
			if !r.Kept() || len(r.Results) != 1 || len(r.Results[0].Floors) == 0 || r.Results[0].Verified == "" {
				t.Errorf("%s", out.String())
			}
			if left, err := filepath.Glob(filepath.Join(o.Dir, "*")); err != nil || len(left) != 0 {
				t.Errorf("left behind: %v, %v", left, err)
			}
		})
	}
}
