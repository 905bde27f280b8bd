package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// Options say what to measure.
type Options struct {
	Cases   []string      // names out of Cases; none, or "all", for all of them
	Time    time.Duration // of load per case; 10 s
	Dir     string        // where the servers' data folders are made and removed; the system's folder for temporary files when empty
	Program string        // the server's binary; the running one when empty

	// Settings are those of the servers that are not at their default, as
	// "name=value". With Compare, each case is measured that many times with
	// them, in turn with as many times without.
	Settings []string
	Compare  int

	scale scale
	start func(ctx context.Context, data string, settings []string) (*server, error)
}

// Cases are the names of all cases, in the order in which they run.
var Cases = []string{"direct", "direct-1000", "live", "open-one", "open-steady", "open-rooms", "open-flood", "push-enqueue", "push-apns", "push-fcm", "push-drain", "idle"}

// pushCases are what "push" stands for.
var pushCases = []string{"push-enqueue", "push-apns", "push-fcm", "push-drain"}

// openCases are what "open" stands for.
var openCases = []string{"open-one", "open-steady", "open-rooms", "open-flood"}

// A scale is how large the cases are. Tests use a smaller one.
type scale struct {
	callers      int           // direct, live: requests in flight
	recipients   int           // direct, live: users per caller
	groupCallers int           // direct-1000: requests in flight
	group        int           // direct-1000: recipients per request
	participants int           // open
	flooded      int           // open-flood: participants
	pushes       int           // push-apns, push-fcm: notifications
	queued       int           // push-drain: notifications
	connections  int           // idle
	ping         time.Duration // idle: interval
	verify       time.Duration // longest time for reading back,
	read         time.Duration // and for one timeline
	deliver      time.Duration // longest time for a message to all, or a late ping
	settle       time.Duration // before something is measured at rest
	probe        time.Duration // of the disk
}

var fullScale = scale{
	callers: 256, recipients: 16,
	groupCallers: 16, group: 1000,
	participants: 10_000, flooded: 1000,
	pushes: 100_000, queued: 1_000_000,
	connections: 15_000, ping: 5 * time.Second,
	verify: 45 * time.Second, read: 20 * time.Second, deliver: 20 * time.Second, settle: 3 * time.Second, probe: time.Second,
}

// A Report is the outcome of a run.
type Report struct {
	Machine Machine  `json:"machine"`
	Results []Result `json:"results"`

	Comparisons []Comparison `json:"comparisons,omitempty"`
}

// OK reports whether every promise was kept and every floor reached.
func (r *Report) OK() bool { return r.Kept() && r.Fast() }

// Kept reports whether everything that was accepted was found again.
func (r *Report) Kept() bool {
	return !slices.ContainsFunc(r.Results, func(x Result) bool { return len(x.Broken) > 0 })
}

// Fast reports whether every floor was reached.
func (r *Report) Fast() bool {
	return !slices.ContainsFunc(r.Results, func(x Result) bool {
		return slices.ContainsFunc(x.Floors, func(f Floor) bool { return !f.Met })
	})
}

// A Result is the outcome of one case.
type Result struct {
	Case     string   `json:"case"`
	Load     string   `json:"load"` // what was done
	Settings []string `json:"settings,omitempty"`
	Seconds  float64  `json:"seconds"` // of the measured part
	Rates    []Rate   `json:"rates"`
	Latency  *Latency `json:"latency,omitempty"`
	Server   Server   `json:"server"`
	Floors   []Floor  `json:"floors"`
	Verified string   `json:"verified"`         // what was checked, in words
	Broken   []string `json:"broken,omitempty"` // what was not as promised; the first few
	Notes    []string `json:"notes,omitempty"`
}

// A Rate is how much of something was done.
type Rate struct {
	Unit      string  `json:"unit"`
	Count     int64   `json:"count"`
	Seconds   float64 `json:"seconds"` // in which that was
	PerSecond float64 `json:"perSecond"`
}

// Latency is in milliseconds.
type Latency struct {
	Of   string  `json:"of"`
	P50  float64 `json:"p50"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p999"`
}

// Server is what the server's process used during the measured part.
type Server struct {
	CPUSeconds float64 `json:"cpuSeconds"`
	RSSBefore  int64   `json:"rssBefore"` // bytes
	RSSAfter   int64   `json:"rssAfter"`

	// How busy it, we and all others kept the machine, in cores.
	Cores     float64 `json:"cores"`
	Generator float64 `json:"generatorCores"`
	Others    float64 `json:"otherCores"`
}

// A Floor is what the project promises, and what was reached.
type Floor struct {
	What    string  `json:"what"`
	Bound   float64 `json:"bound"`
	Most    bool    `json:"most"` // Bound is the most allowed, not the least
	Reached float64 `json:"reached"`
	Met     bool    `json:"met"`
}

func atLeast(what string, bound, reached float64) Floor {
	return Floor{What: what, Bound: bound, Reached: reached, Met: reached >= bound}
}

func atMost(what string, bound, reached float64) Floor {
	return Floor{What: what, Bound: bound, Most: true, Reached: reached, Met: reached <= bound}
}

// Run measures and prints to out as it goes. The Report has what was done so
// far also when Run fails, which it does when something could not be measured;
// a missed floor or a broken promise is in the Report.
func Run(ctx context.Context, o Options, out io.Writer) (*Report, error) {
	cases, err := choose(o.Cases)
	if err != nil {
		return nil, err
	}
	if o.Compare < 0 || o.Compare > 0 && len(o.Settings) == 0 {
		return nil, errors.New("nothing to compare: name the settings")
	}
	for _, s := range o.Settings {
		if name, _, ok := strings.Cut(s, "="); !ok || name == "" {
			return nil, fmt.Errorf("setting %q: must be name=value", s)
		}
	}
	if o.Time <= 0 {
		o.Time = 10 * time.Second
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	if o.Dir, err = filepath.Abs(o.Dir); err != nil {
		return nil, err
	}
	if o.scale == (scale{}) {
		o.scale = fullScale
	}
	if o.start == nil {
		if o.Program == "" {
			if o.Program, err = os.Executable(); err != nil {
				return nil, err
			}
		}
		o.start = func(ctx context.Context, data string, settings []string) (*server, error) {
			return startProcess(ctx, o.Program, data, settings)
		}
	}

	r := &Report{Machine: machine(o.Dir)}
	if err := r.Machine.timeSyncs(o.Dir, o.scale.probe); err != nil {
		return r, fmt.Errorf("write to %s: %w", o.Dir, err)
	}
	r.Machine.print(out)
	if len(o.Settings) > 0 {
		fmt.Fprintf(out, "settings of the server besides: %s\n", strings.Join(o.Settings, " "))
	}
	for _, name := range cases {
		for _, measure := range measures[name] {
			if o.Compare > 0 {
				err = o.compare(ctx, name, measure, r, out)
			} else {
				_, err = o.measure(ctx, name, measure, r, out)
			}
			if err != nil {
				return r, err
			}
		}
	}
	return r, nil
}

// measure adds what it measures to r, and prints it.
func (o *Options) measure(ctx context.Context, name string, m measure, r *Report, out io.Writer) (*Result, error) {
	fmt.Fprintf(out, "\n%s: ", name)
	res, err := m(ctx, o)
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx) // and not what it led to
	}
	if err != nil {
		fmt.Fprintln(out, "failed")
		if res != nil && len(res.Rates) > 0 {
			res.print(out) // what there is says where it failed
		}
		return nil, fmt.Errorf("measure %s: %w", name, err)
	}
	res.Settings = o.Settings
	if o := res.Server.Others; o > 0.2 {
		res.Notes = append(res.Notes, fmt.Sprintf("other processes kept %.1f cores busy meanwhile; the figures are of what was left", o))
	}
	r.Results = append(r.Results, *res)
	res.print(out)
	return res, nil
}

type measure func(context.Context, *Options) (*Result, error)

var measures = map[string][]measure{
	"direct":       {direct},
	"direct-1000":  {directMany, directLong},
	"live":         {live},
	"open-one":     {openOne},
	"open-steady":  {openSteady},
	"open-rooms":   {openRooms},
	"open-flood":   {openFlood},
	"push-enqueue": {pushEnqueue},
	"push-apns":    {pushThrough(chat.APNs, "push-apns")},
	"push-fcm":     {pushThrough(chat.FCM, "push-fcm")},
	"push-drain":   {pushDrain},
	"idle":         {idle},
}

func choose(names []string) ([]string, error) {
	if len(names) == 0 || slices.Contains(names, "all") {
		return Cases, nil
	}
	var chosen []string
	for _, n := range names {
		switch {
		case n == "open":
			chosen = append(chosen, openCases...)
		case n == "push":
			chosen = append(chosen, pushCases...)
		case slices.Contains(Cases, n):
			chosen = append(chosen, n)
		default:
			return nil, fmt.Errorf("no case %q: want all or some of %s, or open or push for all of their cases", n, strings.Join(Cases, ", "))
		}
	}
	return chosen, nil
}

// folder makes a data folder for f and leaves nothing of it.
func (o *Options) folder(f func(data string) error) (err error) {
	data, err := os.MkdirTemp(o.Dir, "parley-bench-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(data)) }()
	return f(data)
}

// serve runs f against a server on a data folder of its own.
func (o *Options) serve(ctx context.Context, f func(*server) error) error {
	return o.folder(func(data string) error { return o.serveOn(ctx, data, nil, f) })
}

// serveOn runs f against a server on the data folder, with settings that the
// case needs.
func (o *Options) serveOn(ctx context.Context, data string, settings []string, f func(*server) error) (err error) {
	srv, err := o.start(ctx, data, slices.Concat(o.Settings, settings))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.stop()) }()
	return f(srv)
}

func (m *Machine) print(out io.Writer) {
	fmt.Fprintf(out, "machine: %d cores", m.Cores)
	for _, s := range []string{m.CPU, fmt.Sprintf("%d MB", m.MemoryMB), m.System, m.Kernel, m.Go, "data on " + m.FileSystem + " in " + m.Folder} {
		fmt.Fprintf(out, ", %s", s)
	}
	if m.Load != "" {
		fmt.Fprintf(out, "\nload average of the minute before: %s; whatever else runs takes from both server and generator", m.Load)
	}
	if l := m.Sync; l != nil {
		fmt.Fprintf(out, "\ndisk: %s: p50 %.2f ms, p99 %.2f ms", l.Of, l.P50, l.P99)
	}
	fmt.Fprintln(out, "\nserver: its own process on the same machine, every setting at its default but the limits, which are off")
	if m.FileSystem == "tmpfs" {
		fmt.Fprintln(out, "note: tmpfs is memory. Syncing costs nothing there; the figures say nothing about a disk.")
	}
}

func (r *Result) print(out io.Writer) {
	fmt.Fprint(out, r.Load)
	if len(r.Settings) > 0 {
		fmt.Fprintf(out, "; the server with %s", strings.Join(r.Settings, " "))
	}
	fmt.Fprintln(out)
	for _, x := range r.Rates {
		fmt.Fprintf(out, "  %-28s %12d in %.1f s, %.0f per second\n", x.Unit, x.Count, x.Seconds, x.PerSecond)
	}
	if l := r.Latency; l != nil {
		fmt.Fprintf(out, "  %-28s p50 %.1f ms, p99 %.1f ms, p99.9 %.1f ms\n", l.Of, l.P50, l.P99, l.P999)
	}
	s := &r.Server
	fmt.Fprintf(out, "  %-28s %.2f s CPU, memory %.1f MB before, %.1f MB after\n", "server", s.CPUSeconds, float64(s.RSSBefore)/1e6, float64(s.RSSAfter)/1e6)
	fmt.Fprintf(out, "  %-28s server %.2f, generator %.2f, others %.2f\n", "cores busy", s.Cores, s.Generator, s.Others)
	fmt.Fprintf(out, "  %-28s %s\n", "checked", r.Verified)
	for _, f := range r.Floors {
		bound, verdict := "at least", "reached"
		if f.Most {
			bound = "at most"
		}
		if !f.Met {
			verdict = "MISSED"
		}
		fmt.Fprintf(out, "  %-28s %.4g, wanted %s %.4g: %s\n", f.What, f.Reached, bound, f.Bound, verdict)
	}
	for _, s := range r.Broken {
		fmt.Fprintf(out, "  BROKEN: %s\n", s)
	}
	for _, s := range r.Notes {
		fmt.Fprintf(out, "  note: %s\n", s)
	}
}
