package golden

import (
	"bufio"
	"cmp"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

// simulate is set for a process that is a simulator and no test.
const simulate = "PARLEY_SIMULATE"

// Seed is what the keys of simulators in processes of their own are made of.
const Seed = "benchmark"

// Simulate serves a simulator until standard input ends, if this process was
// started for that, and reports whether it was. serve gives address and authority.
func Simulate(serve func() (address string, ca []byte)) bool {
	if os.Getenv(simulate) == "" {
		return false
	}
	address, ca := serve()
	_, _ = fmt.Fprintf(os.Stdout, "%s\n%s\n", address, ca)
	_, _ = bufio.NewReader(os.Stdin).ReadString(0)
	return true
}

// Apart starts this test binary as a simulator, so that what it costs can be told
// from what we do. cost is its processor time so far; it ends with the benchmark.
func Apart(b *testing.B) (address string, ca []byte, end func() (cost time.Duration)) {
	b.Helper()
	c := exec.Command(os.Args[0], "-test.run=^$")
	c.Env = append(os.Environ(), simulate+"=1")
	in, err := c.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Start(); err != nil {
		b.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if lines.Scan() {
		address = lines.Text()
	}
	for lines.Scan() && lines.Text() != "" {
		ca = append(ca, lines.Text()+"\n"...)
	}
	end = sync.OnceValue(func() time.Duration {
		in.Close()
		_ = c.Wait()
		return c.ProcessState.UserTime() + c.ProcessState.SystemTime()
	})
	b.Cleanup(func() { end() })
	return address, ca, end
}

// Bench sends b.N notifications, so many at a time, each to a phone of its own as
// far as tokens go. It reports how many were sent a second, and what each took of
// this process's processor time.
func Bench(b *testing.B, a push.Adapter, inFlight int, n push.Notification, tokens []string) {
	b.Helper()
	var next atomic.Int64
	var wg sync.WaitGroup
	one := func() {
		i := next.Add(1)
		n := n
		n.To.Token = tokens[int(i)%len(tokens)]
		if got := a.Send(b.Context(), []*push.Notification{&n}); got[0].Class != push.Accepted {
			b.Errorf("%+v", got[0])
		}
	}
	one()
	next.Store(0)
	b.ReportAllocs()
	b.ResetTimer()
	begun, cost := time.Now(), spent()
	for range inFlight {
		wg.Go(func() {
			for next.Load() < int64(b.N) {
				one()
			}
		})
	}
	wg.Wait()
	took := time.Since(begun)
	b.StopTimer()
	done := float64(next.Load())
	b.ReportMetric(done/took.Seconds(), "pushes/s")
	b.ReportMetric(float64((spent()-cost).Microseconds())/done, "cpu-µs/push")
}

// spent is the processor time of this process.
func spent() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// Tokens are so many, each made from its number.
func Tokens(n int, format string) []string {
	tokens := make([]string, n)
	for i := range tokens {
		tokens[i] = strings.TrimSpace(fmt.Sprintf(format, i+1))
	}
	return tokens
}

// forBench is a simulator that two processes can have in common.
func (p Provider) forBench() *pushtest.Sim {
	return p.Sim(pushtest.Options{Strangers: true, Forget: true, Seed: Seed})
}

// Main runs a package's tests, after which nothing may be running, or serves the
// simulator to a benchmark in another process.
func (p Provider) Main(m *testing.M) {
	if !Simulate(func() (string, []byte) {
		server, err := pushtest.NewServer()
		if err != nil {
			panic(err)
		}
		address, err := server.Serve(p.forBench(), "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		return address, server.CA
	}) {
		goleak.VerifyTestMain(m)
	}
}

// Bench is what a push costs. "here" has the simulator in the same process, "apart" in
// one of its own, so that its cost is not counted.
func (p Provider) Bench(b *testing.B) {
	bench := func(b *testing.B, a push.Adapter, inFlight int) {
		n := Example(b, "")
		n.To.Environment, n.Expires = p.Phone.Environment, time.Time{}
		Bench(b, a, inFlight, n, Tokens(20_000, cmp.Or(p.Many, "phone-%d")))
	}
	b.Run("here", func(b *testing.B) {
		r := p.Start(b, Options{Sim: pushtest.Options{Strangers: true, Forget: true, Now: time.Now}})
		bench(b, r.Adapter, 256)
	})
	for name, inFlight := range map[string]int{"apart": 256, "apart, 1000": 1000, "apart, 16": 16} {
		b.Run(name, func(b *testing.B) {
			address, ca, end := Apart(b)
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(ca)
			c := p.forBench().Credential(address)
			if p.Set != nil {
				p.Set(&c)
			}
			a, err := p.New(&c, line.Options{Roots: roots}, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(a.Close)
			bench(b, a, inFlight)
			b.ReportMetric(float64(end().Microseconds())/float64(b.N), "peer-µs/push")
		})
	}
}
