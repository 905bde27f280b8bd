package dispatch

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// What deciding costs for each of a thousand recipients who are offline, among
// 20,000 users of the app. Registered is how many of all have a device.
func BenchmarkDecide1000(b *testing.B) {
	for _, c := range []struct {
		name       string
		registered func(i int) bool
		to         func(i int) bool
	}{
		{"NoDevices", func(int) bool { return false }, func(int) bool { return true }},
		{"OthersHaveDevices", func(i int) bool { return i%2 == 1 }, func(i int) bool { return i%2 == 0 }},
		{"OneDeviceEach", func(int) bool { return true }, func(int) bool { return true }},
	} {
		b.Run(c.name, func(b *testing.B) {
			s := newSentry(b)
			ctx := context.Background()
			rng := rand.New(rand.NewPCG(1, 2))
			var to []string
			var cursors []store.UserDevice
			for i := range 20_000 {
				user := fmt.Sprint("user-", rng.Uint32())
				if c.registered(i) {
					s.register(user)
					cursors = append(cursors, store.UserDevice{App: s.app.ID, User: user, Device: store.Device{ID: "phone", Epoch: s.store.Epoch(), SeenAt: 1, Platform: "android"}})
				}
				if c.to(i) {
					to = append(to, user)
				}
			}
			if err := s.store.PutDevices(ctx, cursors); err != nil {
				b.Fatal(err)
			}
			if err := s.store.UpdateUsers(ctx, s.app.ID, to, func(u *chat.User) { u.Name, u.CreatedAt = "Name of "+u.ID, time.UnixMilli(1) }); err != nil {
				b.Fatal(err)
			}
			var refs []chat.UID
			for range 32 {
				rng.Shuffle(len(to), func(i, j int) { to[i], to[j] = to[j], to[i] })
				refs = append(refs, s.send(strings.Join(to[:1000], " ")))
			}
			f := newFollower(s.Dispatcher)
			b.ReportAllocs()
			b.ResetTimer()
			for i := range b.N {
				ref := refs[i%len(refs)]
				if err := f.request(ctx, &store.LogRecord{At: ref.Millis() + int64(i)}, store.Ref{App: s.app.ID, UID: ref}); err != nil {
					b.Fatal(err)
				}
				if err := f.write(ctx, false); err != nil {
					b.Fatal(err)
				}
			}
			b.StopTimer()
			b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*1000), "µs/recipient")
			want := "no_device"
			if c.name == "OneDeviceEach" {
				want = "away"
			}
			if got := s.reasons(refs[0]); len(got) != 1000 || slices.ContainsFunc(got, func(w string) bool { return w != want }) {
				b.Errorf("reasons %q", got[:min(len(got), 5)])
			}
		})
	}
}

// What sending to a thousand people who are offline, by four at once, loses to the
// follower that decides upon them meanwhile.
func BenchmarkSendWhileDeciding(b *testing.B) {
	for _, c := range []struct {
		name            string
		follow, devices bool
	}{{"Alone", false, false}, {"NoDevices", true, false}, {"OneDeviceEach", true, true}} {
		b.Run(c.name, func(b *testing.B) {
			s := newSentry(b)
			s.Dispatcher.Grace, s.Dispatcher.Now = time.Millisecond, time.Now
			rng := rand.New(rand.NewPCG(1, 2))
			var users []string
			for range 20_000 {
				user := fmt.Sprint("user-", rng.Uint32())
				users = append(users, user)
				if c.devices {
					s.register(user)
				}
			}
			s.pass(time.Since(s.now()))
			if c.follow {
				s.follow()
			}
			var at atomic.Int64
			b.SetParallelism(2)
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				to := make([]string, 1000)
				for pb.Next() {
					n := int(at.Add(1))
					for i := range to {
						to[i] = users[(n*7919+i*19)%len(users)]
					}
					s.append(&store.Append{
						Message: &chat.Message{
							App: s.app.ID, ChannelType: chat.Direct, From: "ann", Type: "RC:TxtMsg", Content: `{"content":"hi"}`,
							Flags: chat.Kept | chat.Counted | chat.Missed | chat.Pushed, Persist: true,
						},
						Targets: slices.Clone(to), History: true,
					})
				}
			})
			b.StopTimer()
			b.ReportMetric(float64(b.N*1000)/b.Elapsed().Seconds(), "recipients/s")
			mark, err := s.store.Watermark(context.Background(), store.PushConsumer)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(100*float64(mark)/float64(s.store.LogHead()), "%decided")
		})
	}
}
