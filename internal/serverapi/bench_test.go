package serverapi

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/courier"
	"github.com/parleychat/parley/internal/directory"
	"github.com/parleychat/parley/internal/room"
	"github.com/parleychat/parley/internal/store"
)

// memory is as much of a store as a send needs. It keeps nothing, so that what
// is measured is the door and the courier.
type memory struct{ uids *chat.UIDSource }

func (m *memory) Append(_ context.Context, a *store.Append) error {
	a.Placed.First = m.uids.Block(time.Now(), a.Message.ChannelType, len(a.Targets))
	if a.Done != nil {
		a.Done(nil)
	}
	return nil
}

func (m *memory) Once(context.Context, [16]byte) (*store.Once, error)          { return nil, nil }
func (m *memory) ListApps(context.Context) ([]*chat.App, error)                { return nil, nil }
func (m *memory) PutApp(_ context.Context, app *chat.App) error                { app.ID = 1; return nil }
func (m *memory) User(context.Context, chat.AppID, string) (*chat.User, error) { return nil, nil }
func (m *memory) UpdateUsers(context.Context, chat.AppID, []string, func(*chat.User)) error {
	return nil
}

// A sink is the least a ResponseWriter can be.
type sink struct {
	header http.Header
	status int
	bytes  int
}

func (s *sink) Header() http.Header         { return s.header }
func (s *sink) WriteHeader(status int)      { s.status = status }
func (s *sink) Write(p []byte) (int, error) { s.bytes += len(p); return len(p), nil }

func benchSend(b *testing.B, path, body string, edits ...string) {
	m := &memory{chat.NewUIDSource(1, 0)}
	d, err := directory.Open(b.Context(), m, time.Now)
	if err != nil {
		b.Fatal(err)
	}
	app, _, err := d.EnsureApp(b.Context(), "uwd1c0sxdlx2", "s3cret-of-the-app")
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"limits.direct", "limits.system", "limits.open"} {
		if _, err := d.SetApp(b.Context(), app.Key, map[string]string{name: "0"}); err != nil {
			b.Fatal(err)
		}
	}
	logger := slog.New(slog.DiscardHandler)
	c := courier.New(courier.Options{Store: m, Users: d, Rooms: room.New(time.Now), Now: time.Now, Logger: logger})
	h := New(Options{Directory: d, Courier: c, Presence: &presence{}, Logger: logger})

	text := []byte(body)
	reader := bytes.NewReader(text)
	r := (&http.Request{
		Method: http.MethodPost, URL: &url.URL{Path: path}, Header: http.Header{}, Body: io.NopCloser(reader), ContentLength: int64(len(text)),
	}).WithContext(b.Context())
	r.Header["App-Key"] = []string{app.Key}
	r.Header["Content-Type"] = []string{"application/json"}
	// Calls are signed ahead, many at a time: to stop the clock for each would
	// cost more than the call.
	var signed [4096][3]string
	w := &sink{header: http.Header{}}
	i := 0
	b.ReportAllocs()
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		if i%len(signed) == 0 {
			b.StopTimer()
			stamp := strconv.FormatInt(time.Now().UnixMilli(), 10)
			for k := range signed {
				nonce := strconv.Itoa(i + k)
				signed[k] = [3]string{nonce, stamp, sha1Hex(app.Secret + nonce + stamp)}
			}
			b.StartTimer()
		}
		for k, name := range []string{"Nonce", "Timestamp", "Signature"} {
			r.Header[name] = signed[i%len(signed)][k : k+1]
		}
		i++
		reader.Reset(text)
		clear(w.header)
		if h.ServeHTTP(w, r); w.status != 200 {
			b.Fatal(w.status)
		}
	}
}

func BenchmarkDirectSend(b *testing.B) {
	body := set(sendBody(`"pushContent":"thisisapush","pushData":"{\"pushData\":\"hello\"}","shouldPersist":1,"isEchoToSender":0`), "toUserIds", `["2193"]`)
	b.Run("recipients=1", func(b *testing.B) { benchSend(b, direct, body) })
	b.Run("recipients=1000", func(b *testing.B) { benchSend(b, direct, set(body, "toUserIds", ids(1000))) })
	b.Run("content=64KB", func(b *testing.B) {
		benchSend(b, direct, set(body, "content", quote(`{"content":"`+string(bytes.Repeat([]byte("x"), 64<<10))+`"}`)))
	})
}
