package web

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/internal/chat"
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
	return pushtest.NewWEB(pushtest.Options{Strangers: true, Forget: true, Seed: golden.Seed})
}

// BenchmarkSend is what a push costs, with the simulator in a process of its own.
func BenchmarkSend(b *testing.B) {
	tokens := golden.Tokens(2000, "browser-%d")
	for i := range tokens {
		tokens[i] = pushtest.Registered(chat.WEB, tokens[i])
	}
	for name, inFlight := range map[string]int{"apart": 256, "apart, 16": 16} {
		b.Run(name, func(b *testing.B) {
			address, ca, end := golden.Apart(b)
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM(ca)
			c := forBench().Credential(address)
			a, err := New(&c, line.Options{Roots: roots}, time.Now)
			if err != nil {
				b.Fatal(err)
			}
			b.Cleanup(a.Close)
			n := golden.Example(b, "")
			n.Expires = time.Time{}
			golden.Bench(b, a, inFlight, n, tokens)
			b.ReportMetric(float64(end().Microseconds())/float64(b.N), "peer-µs/push")
		})
	}
}

// BenchmarkRender, BenchmarkSeal and BenchmarkClassify are what of it is ours.
func BenchmarkRender(b *testing.B) {
	b.ReportAllocs()
	n := golden.Example(b, token)
	for b.Loop() {
		if _, err := Render(&n, &Options{}, golden.Now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkSeal(b *testing.B) {
	b.ReportAllocs()
	s, _ := chat.OfWebToken(token)
	text := make([]byte, 400)
	for b.Loop() {
		key, err := ecdh.P256().GenerateKey(rand.Reader)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := seal(text, &s, key, make([]byte, saltSize)); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Classify(201, nil, nil).Class != push.Accepted {
			b.Fatal("not accepted")
		}
	}
}
