package fcm

import (
	"testing"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/golden"
)

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
