package pebble

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

// rows counts the rows of a space.
func rows(t *testing.T, s *Store, space byte) (n int) {
	t.Helper()
	if err := s.eachRow([]byte{space}, func(_, _ []byte) error { n++; return nil }); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestExpireLeavesNothing sees that what is past its time is gone from the disk,
// of every kind of row.
func TestExpireLeavesNothing(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem(), Now: func() time.Time { return now }})
	defer mustClose(t, s)
	ctx := context.Background()
	for i := range 10 {
		a := direct("alice", benchUsers(20)...)
		a.History = i%2 == 0
		a.Once = &store.Once{Key: [16]byte{byte(i)}}
		mustAppend(t, s, a)
		o := direct("alice", "room")
		o.Message.ChannelType = chat.Open
		mustAppend(t, s, o)
	}
	records, err := s.ReadLog(ctx, 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.IndexLog(ctx, records); err != nil {
		t.Fatal(err)
	}
	spaces := []byte{spaceTimeline, spaceBody, spaceTargets, spaceOnce, spaceHistory}
	for _, step := range []struct {
		days int
		want []int
	}{
		{0, []int{200, 20, 10, 10, 210}},
		{7, []int{200, 20, 10, 0, 210}},
		{1, []int{0, 20, 10, 0, 210}},
		{1, []int{0, 15, 5, 0, 210}},
		{100, []int{0, 5, 5, 0, 100}},
		{150, []int{0, 0, 0, 0, 0}},
	} {
		now = now.AddDate(0, 0, step.days)
		if err := s.Expire(ctx); err != nil {
			t.Fatal(err)
		}
		for i, space := range spaces {
			if n := rows(t, s, space); n != step.want[i] {
				t.Errorf("on %s space %d has %d rows, want %d", now.Format(time.DateOnly), space, n, step.want[i])
			}
		}
	}
	// Heads outlive all of it.
	if n, err := s.Head(ctx, 1, benchUsers(1)[0]); n != 10 || err != nil {
		t.Errorf("head is %d, %v, want 10", n, err)
	}
}

// TestLogIsCut sees that the log goes once all have passed, and not before, and
// that its numbers go on.
func TestLogIsCut(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	o := Options{Dir: "data", FS: fs, Consumers: []string{"slow"}}
	s := mustOpen(t, o)
	ctx := context.Background()
	b := s.db.NewBatch()
	for i := range uint64(logPiece + 10) {
		if err := b.Set(appendLogKey(nil, i+1), appendLogRow(nil, 1, nil), nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.apply(b, pdb.Sync); err != nil {
		t.Fatal(err)
	}
	mustClose(t, s)
	s = mustOpen(t, o)
	head := s.LogHead()
	if head != logPiece+10 {
		t.Fatalf("log head is %d", head)
	}
	for _, step := range []struct {
		consumer string
		seq      uint64
		want     int
	}{
		{store.IndexConsumer, head, logPiece + 10},
		{"slow", 100, logPiece + 10}, // not worth a cut yet
		{"slow", logPiece + 7, 3},
		{"slow", head, 3},
	} {
		if err := s.SetWatermark(ctx, step.consumer, step.seq); err != nil {
			t.Fatal(err)
		}
		if err := s.Expire(ctx); err != nil {
			t.Fatal(err)
		}
		if n := rows(t, s, spaceLog); n != step.want {
			t.Errorf("with %s at %d the log has %d records, want %d", step.consumer, step.seq, n, step.want)
		}
	}
	mustClose(t, s)
	s = mustOpen(t, o)
	defer mustClose(t, s)
	mustAppend(t, s, direct("alice", "bob"))
	if s.LogHead() != head+1 {
		t.Errorf("log head is %d after %d", s.LogHead(), head)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewPedanticRegistry()
	o := Options{Dir: "data", FS: vfs.NewMem(), Metrics: reg, Consumers: []string{"slow"}}
	s := mustOpen(t, o)
	for i := range 3 {
		mustAppend(t, s, direct("alice", fmt.Sprint("user", i), "bob"))
	}
	if err := s.Append(context.Background(), direct("alice")); err == nil {
		t.Error("an append without targets was taken")
	}
	want := `
		# HELP parley_store_appends_total Requests committed.
		# TYPE parley_store_appends_total counter
		parley_store_appends_total 3
		# HELP parley_store_entries_total Timeline entries committed.
		# TYPE parley_store_entries_total counter
		parley_store_entries_total 6
		# HELP parley_store_heads Timeline heads in memory.
		# TYPE parley_store_heads gauge
		parley_store_heads 4
		# HELP parley_store_log_head Newest record of the batch log.
		# TYPE parley_store_log_head gauge
		parley_store_log_head 3
		# HELP parley_store_log_lag Records a consumer has not come by yet.
		# TYPE parley_store_log_lag gauge
		parley_store_log_lag{consumer="heads"} 3
		parley_store_log_lag{consumer="index"} 3
		parley_store_log_lag{consumer="slow"} 3
		# HELP parley_store_refused_total Requests refused before anything was written, by reason.
		# TYPE parley_store_refused_total counter
		parley_store_refused_total{reason="invalid"} 1
	`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "parley_store_appends_total", "parley_store_entries_total",
		"parley_store_heads", "parley_store_log_head", "parley_store_log_lag", "parley_store_refused_total"); err != nil {
		t.Error(err)
	}
	mustClose(t, s)
	// The names are free again for the next life.
	mustClose(t, mustOpen(t, o))
}

// Rows of bans that have ended go, of every app and of these alone.
func TestEndedBansExpire(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 10, 12, 0, 0, 0, time.UTC)
	s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem(), Now: func() time.Time { return now }})
	defer mustClose(t, s)
	for _, app := range []chat.AppID{1, 2, 1<<32 - 1} {
		for user, until := range map[string]time.Duration{"short": time.Minute, "long": time.Hour} {
			if err := s.UpdateUsers(t.Context(), app, []string{user}, func(u *chat.User) {
				u.BannedUntil, u.DeletedAt = now.Add(until).UnixMilli(), 1
			}); err != nil {
				t.Fatal(err)
			}
		}
	}
	rows := func() (n int) {
		if err := s.eachRow([]byte{spaceState}, func(_, _ []byte) error { n++; return nil }); err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := rows(); n != 12 {
		t.Fatalf("%d rows, want 12", n)
	}
	now = now.Add(time.Minute)
	if err := s.Expire(t.Context()); err != nil {
		t.Fatal(err)
	}
	if n := rows(); n != 9 {
		t.Errorf("%d rows after three bans ended, want 9", n)
	}
}
