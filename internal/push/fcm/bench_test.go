package fcm

import (
	"crypto/x509"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
	"github.com/parleychat/parley/internal/push/line"
	"github.com/parleychat/parley/internal/push/pushtest"
)

func TestMain(m *testing.M) {
	if !golden.Simulate(func() (string, []byte) {
		server, err := pushtest.NewServer()
		if err != nil {
			panic(err)
		}
		address, err := server.Serve(forBench(), "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		return address, server.CA
	}) {
		goleak.VerifyTestMain(m)
	}
}

func forBench() *pushtest.Sim {
	return pushtest.NewFCM(pushtest.Options{Strangers: true, Seed: golden.Seed})
}

// BenchmarkSend is what a push costs. "here" has the simulator in the same process,
// "apart" in one of its own, so that its cost is not counted.
func BenchmarkSend(b *testing.B) {
	bench := func(b *testing.B, sim *pushtest.Sim, address string, roots *x509.CertPool, inFlight int) {
		c := sim.Credential(address)
		a, err := New(&c, line.Options{Roots: roots}, time.Now)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(a.Close)
		n := golden.Example(b, "")
		n.Expires = time.Time{}
		golden.Bench(b, a, inFlight, n, golden.Tokens(20_000, "fcm-token-%0140d"))
	}
	b.Run("here", func(b *testing.B) {
		w := newWorld(b, pushtest.Options{Strangers: true, Now: time.Now})
		bench(b, w.Sim, w.address, w.server.Roots, 256)
	})
	for name, inFlight := range map[string]int{"apart": 256, "apart, 1000": 1000, "apart, 16": 16} {
		b.Run(name, func(b *testing.B) {
			address, ca, end := golden.Apart(b)
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(ca)
			bench(b, forBench(), address, roots, inFlight)
			b.ReportMetric(float64(end().Microseconds())/float64(b.N), "peer-µs/push")
		})
	}
}

// BenchmarkRender is what a notification costs before it is sent, and BenchmarkClassify
// what its answer does.
func BenchmarkRender(b *testing.B) {
	b.ReportAllocs()
	n := golden.Example(b, phone)
	for b.Loop() {
		if _, err := Render(&n, &Options{ProjectID: "p"}, golden.Now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	b.ReportAllocs()
	body := []byte(`{"name":"projects/parley-123456/messages/0:1800000000000000%1f"}`)
	for b.Loop() {
		if Classify(200, nil, body).Class != push.Accepted {
			b.Fatal("not accepted")
		}
	}
}
