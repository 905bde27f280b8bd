package apns

import (
	"testing"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
)

// BenchmarkRender is what a notification costs before it is sent, and BenchmarkClassify
// what its answer does.
func BenchmarkRender(b *testing.B) {
	b.ReportAllocs()
	n := golden.Example(b, token)
	for b.Loop() {
		if _, err := Render(&n, &Options{}, golden.Now); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkClassify(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if Classify(200, nil, nil).Class != push.Accepted {
			b.Fatal("not accepted")
		}
	}
}
