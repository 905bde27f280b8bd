package gateway

import (
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/websocket"
)

// A message to a thousand users who are all online, over real sockets, to the
// last byte read. The clients are in this process and do as little as they can.
func BenchmarkDirectToThousandOnline(b *testing.B) {
	h := newHouse(b)
	h.set("limits.direct", "0")
	const users = 1000
	var to []string
	var got atomic.Int64
	done := make(chan struct{}, 1)
	var want atomic.Int64
	for i := range users {
		u := fmt.Sprint("u", i)
		to = append(to, u)
		r := rawDial(b, h)
		r.write(masked(`{"connect":{"token":"` + h.token(u) + `"},"id":1}`))
		r.frame()
		_ = r.nc.SetReadDeadline(time.Time{})
		go func(nc net.Conn, p websocket.Parser) {
			buf := make([]byte, 16<<10)
			count := handler(func(op websocket.Opcode, b []byte) error {
				if n := int64(strings.Count(string(b), `"offset"`)); n > 0 && got.Add(n) == want.Load() {
					done <- struct{}{}
				}
				return nil
			})
			for {
				n, err := nc.Read(buf)
				if err != nil || p.Feed(buf[:n], count) != nil {
					return
				}
			}
		}(r.nc, r.parser)
	}
	content := strings.Repeat("x", 200)
	b.ResetTimer()
	for range b.N {
		want.Add(users)
		h.send(chat.Direct, "alice", content, to...)
		<-done
	}
	b.ReportMetric(float64(b.N*users)/b.Elapsed().Seconds(), "deliveries/s")
}
