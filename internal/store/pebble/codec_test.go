package pebble

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
	"google.golang.org/protobuf/encoding/protowire"
)

func bodyRow(m *chat.Message, count int, echoAt uint64, targets []target) []byte {
	return appendContent(appendBody(nil, m, count, echoAt, targets), m.Content)
}

var sampleMessage = &chat.Message{
	App: 7, ChannelType: chat.System, Flags: chat.Kept, From: "alice", Type: "RC:TxtMsg", Content: `{"content":"x"}`,
	Persist: true, HasMetadata: true, Metadata: map[string]string{"a": "", "b": "2"},
	Push: chat.PushOptions{Badge: -1, HasBadge: true, Ext: "{}", More: `{"ios":{}}`},
}

func TestBodyCodec(t *testing.T) {
	t.Parallel()
	targets := []target{{"bob", 1}, {"carol", 1 << 40}, {"room", 0}}
	row := bodyRow(sampleMessage, 3, 9, targets)
	want := &body{message: sampleMessage, count: 3, echoAt: 9, targets: targets}
	got, err := decodeBody(row)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if n := contentLen(sampleMessage.Content); n != len(row)-len(appendBody(nil, sampleMessage, 3, 9, targets)) {
		t.Errorf("contentLen is %d", n)
	}

	// A field of a later release is skipped, wherever it stands.
	later := protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), "new")
	later = protowire.AppendFixed64(protowire.AppendTag(later, 1000, protowire.Fixed64Type), 5)
	for _, r := range [][]byte{slices.Concat(later, row), slices.Concat(row, later)} {
		if got, err := decodeBody(r); err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("with a later field: %+v, %v", got, err)
		}
	}
	// The row shares no memory with what was read from it.
	clear(row)
	if !reflect.DeepEqual(got, want) {
		t.Error("the body changed with its row")
	}
}

// TestCutRows cuts every kind of row at every byte: an error or less, no panic.
func TestCutRows(t *testing.T) {
	t.Parallel()
	ref := chat.NewUID(1773144000000, chat.Direct, 5, 3)
	rows := map[string]struct {
		row    []byte
		decode func([]byte) error
	}{
		"body":    {bodyRow(sampleMessage, 2, 0, []target{{"bob", 1}}), func(b []byte) error { _, err := decodeBody(b); return err }},
		"targets": {appendTarget(appendTarget(nil, target{"bob", 300}), target{"carol", 1}), func(b []byte) error { _, err := decodeTargets(b, 2); return err }},
		"entry":   {appendEntry(nil, store.EntryOut, 300, ref, ""), func(b []byte) error { _, err := decodeEntry(b); return err }},
		"head":    {appendHead(nil, headState{1000, 20000, 900}), func(b []byte) error { _, err := decodeHead(b); return err }},
		"once":    {appendOnce(nil, &store.Once{}, ref), func(b []byte) error { _, err := decodeOnce(b); return err }},
		"history": {appendHistory(nil, store.EntryIn, rowCounted, 3), func(b []byte) error { _, err := decodeHistory(b, ref); return err }},
		"log":     {appendLogRow(nil, 1773144000000, nil), func(b []byte) error { _, err := decodeLogRow(b); return err }},

		"push job":     {appendJob(nil, &samplePushJob), func(b []byte) error { return decodeJob(samplePushPlace, b, &store.PushJob{}) }},
		"push look":    {appendLook(nil, &store.PushLook{App: 7, Targets: []int{1, 300}}), func(b []byte) error { return decodeLook(b, &store.PushLook{}) }},
		"push reasons": {appendReasons(nil, &store.PushReasonsOf{Reasons: []uint8{1, 1, 2}}), func(b []byte) error { _, err := decodeReasons(b); return err }},
		"push outcome": {appendOutcome(nil, &store.PushOutcome{UID: ref, Class: "retry", At: 5, Cut: 1}), func(b []byte) error { return decodeOutcome(b, &store.PushOutcome{}) }},
	}
	// Without its last field such a row is one too; everything else needs all.
	tagged := map[string]bool{"body": true, "push job": true, "push look": true, "push reasons": true, "push outcome": true}
	for name, r := range rows {
		if err := r.decode(r.row); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		for i := range r.row {
			if err := r.decode(r.row[:i]); err == nil && !tagged[name] || err != nil && !errors.Is(err, errRow) {
				t.Errorf("%s cut at %d: %v", name, i, err)
			}
		}
	}
}

var (
	samplePushJob = store.PushJob{
		PushPlace: store.PushPlace{Due: 1773144003000, UID: chat.NewUID(1773144000000, chat.Direct, 300, 3), User: "bob", Device: "phone"},
		Kind:      store.PushWithdraw, Silent: true, Ref: chat.NewUID(1773144000000, chat.Direct, 0, 3), MadeAt: 1773144003000, Expires: 1773230400000,
		Attempts: 2, Without: 1, Held: 7, Collapse: 1 << 60, Code: "500", Offset: 70,
	}
	samplePushPlace = appendPlace(nil, &samplePushJob.PushPlace)
)

// TestPushJobCodec sees that what a later release adds is skipped, that nothing is
// shared with the row, and that rows are as small as they are said to be.
func TestPushJobCodec(t *testing.T) {
	t.Parallel()
	row := appendJob(nil, &samplePushJob)
	later := protowire.AppendString(protowire.AppendTag(nil, 999, protowire.BytesType), "new")
	later = protowire.AppendFixed64(protowire.AppendTag(later, 1000, protowire.Fixed64Type), 5)
	for _, r := range [][]byte{row, slices.Concat(later, row), slices.Concat(row, later)} {
		place := bytes.Clone(samplePushPlace)
		var j store.PushJob
		err := decodeJob(place, r, &j)
		clear(place)
		clear(r)
		if err != nil || j != samplePushJob {
			t.Errorf("got %+v, %v, want %+v", j, err, samplePushJob)
		}
		row = appendJob(nil, &samplePushJob)
	}
	for i := range samplePushPlace[:len(samplePushPlace)-len("phone")] {
		if err := decodeJob(samplePushPlace[:i], row, &store.PushJob{}); !errors.Is(err, errRow) {
			t.Errorf("a place cut at %d: %v", i, err)
		}
	}
	j := pushJobs(1)[0]
	if n := jobKeyLen(&j) + len(appendJob(nil, &j)); n > 120 || jobKeyLen(&j) != len(appendJobKey(nil, &j)) {
		t.Errorf("a job takes %d bytes, its key is %d and not %d", n, len(appendJobKey(nil, &j)), jobKeyLen(&j))
	}
}

// TestHistoryBits sees that what stands beside a row's kind does not show in it,
// and that rows of before it was there are read.
func TestHistoryBits(t *testing.T) {
	t.Parallel()
	ref := chat.NewUID(1773144000000, chat.Direct, 5, 3)
	want := store.HistoryEntry{UID: ref, Ref: ref.Plus(-3), Kind: store.EntryIn}
	for _, row := range [][]byte{{1, 3}, appendHistory(nil, store.EntryIn, rowCounted|rowReceipt, 3)} {
		if h, err := decodeHistory(row, ref); err != nil || h != want {
			t.Errorf("row %x is %+v, %v", row, h, err)
		}
	}
}

func FuzzBody(f *testing.F) {
	f.Add(bodyRow(sampleMessage, 3, 9, []target{{"bob", 1}}))
	own := &chat.OwnChange{
		Part: chat.OwnTagged, PinnedAt: 5, Level: chat.NotifyAll, Quiet: &chat.QuietHours{From: 1, To: 2, Zone: "UTC", Level: 5},
		Tags: []chat.Tag{{ID: "w", Name: "Work", At: 5}}, Tag: "w", TaggedAt: 7,
		Tagged: []chat.Channel{{Type: chat.Direct, ID: "a"}}, Untagged: []chat.Channel{{Type: chat.Group, ID: "b"}},
	}
	f.Add(bodyRow(&chat.Message{App: 1, ChannelType: chat.Direct, From: "bob", Event: &chat.Event{
		Kind: chat.EventChannel, At: 5, ChannelType: chat.Direct, Channel: "alice", Own: own,
	}}, 1, 0, []target{{"bob", 1}}))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, row []byte) {
		b, err := decodeBody(row)
		if err != nil {
			if !errors.Is(err, errRow) {
				t.Fatalf("%v is not about the row", err)
			}
			return
		}
		// What was understood survives being written again.
		again, err := decodeBody(bodyRow(b.message, b.count, b.echoAt, b.targets))
		if err != nil || !reflect.DeepEqual(again, b) {
			t.Fatalf("%+v became %+v, %v", b, again, err)
		}
	})
}

func FuzzRows(f *testing.F) {
	ref := chat.NewUID(1773144000000, chat.Direct, 5, 3)
	f.Add(appendEntry(nil, store.EntryOut, 300, ref, "bob"))
	f.Add(appendTarget(nil, target{"bob", 300}))
	f.Add(appendHead(nil, headState{1000, 20000, 900}))
	f.Add(appendOnce(nil, &store.Once{Left: []string{"x"}}, ref))
	f.Add(appendLogRow(nil, 5, []store.Ref{{App: 1, UID: ref}}))
	f.Add(appendJob(nil, &samplePushJob))
	f.Add(appendLook(appendLook(nil, &store.PushLook{Targets: []int{1, 300}}), &store.PushLook{Targets: []int{2}}))
	f.Add(appendReasons(nil, &store.PushReasonsOf{Targets: []int{3, 4, 900}, Reasons: []uint8{1, 1, 2}}))
	f.Add(appendOutcome(nil, &store.PushOutcome{UID: ref, Class: "retry"}))
	f.Add(appendPreferences(nil, &chat.Preferences{
		Levels: map[chat.ChannelType]chat.NotifyLevel{chat.Direct: chat.NotifyAll},
		Quiet:  &chat.QuietHours{From: 1, To: 2, Zone: "UTC", Level: 5}, Tags: []chat.Tag{{ID: "w", Name: "Work", At: 5}},
	}))
	f.Fuzz(func(t *testing.T, row []byte) {
		if p, _, err := decodePreferences(row); err == nil && p != nil {
			back, _, err := decodePreferences(appendPreferences(nil, p))
			if err != nil || !reflect.DeepEqual(back, p) {
				t.Fatalf("preferences %+v became %+v, %v", p, back, err)
			}
		}
		if e, err := decodeEntry(row); err == nil {
			index := e.UID.Counter() - e.Ref.Counter()
			if index >= 0 {
				back, err := decodeEntry(appendEntry(nil, e.Kind, index, e.Ref, e.Peer))
				if err != nil || back != e {
					t.Fatalf("entry %+v became %+v, %v", e, back, err)
				}
			}
		}
		if ts, err := decodeTargets(row, 1); err == nil && len(ts) != 1 {
			t.Fatalf("%d targets", len(ts))
		}
		if rec, err := decodeLogRow(row); err == nil {
			back, err := decodeLogRow(appendLogRow(nil, rec.At, rec.Refs))
			if err != nil || !reflect.DeepEqual(back, rec) {
				t.Fatalf("record %+v became %+v, %v", rec, back, err)
			}
		}
		if h, err := decodeHead(row); err == nil {
			if back, err := decodeHead(appendHead(nil, h)); err != nil || back != h {
				t.Fatalf("head %+v became %+v, %v", h, back, err)
			}
		}
		if o, err := decodeOnce(row); err == nil {
			back, err := decodeOnce(appendOnce(nil, o, o.First))
			if err != nil || !reflect.DeepEqual(back, o) {
				t.Fatalf("once %+v became %+v, %v", o, back, err)
			}
		}
		_, _ = decodeHistory(row, ref)
		_ = decodeOutcome(row, &store.PushOutcome{})
		j, back := store.PushJob{}, store.PushJob{}
		if err := decodeJob(samplePushPlace, row, &j); err == nil {
			if err := decodeJob(appendPlace(nil, &j.PushPlace), appendJob(nil, &j), &back); err != nil || back != j {
				t.Fatalf("job %+v became %+v, %v", j, back, err)
			}
		}
		if list, err := decodeReasons(row); err == nil {
			back, err := decodeReasons(appendReasons(nil, &store.PushReasonsOf{Reasons: list}))
			if err != nil || !slices.Equal(back, list) {
				t.Fatalf("reasons %v became %v, %v", list, back, err)
			}
		}
		if l := (store.PushLook{}); decodeLook(row, &l) == nil && checkTargets(l.Targets, chat.MaxUIDBlock) == nil {
			back := store.PushLook{}
			if err := decodeLook(appendLook(nil, &l), &back); err != nil || back.App != l.App || !slices.Equal(back.Targets, l.Targets) {
				t.Fatalf("look %+v became %+v, %v", l, back, err)
			}
		}
	})
}

// TestKeysKeepUsersApart sees that no user's rows lie among another's.
func TestKeysKeepUsersApart(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 1))
	ids := []string{"a", "b", "ab", "a\x00", "a\xff", "\x00", "\xff\xff"}
	for range 200 {
		id := make([]byte, 1+rng.IntN(4))
		for i := range id {
			id[i] = "\x00\x01ab\xfe\xff"[rng.IntN(6)]
		}
		ids = append(ids, string(id))
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	kinds := map[string]func(string) []byte{
		"timeline": func(id string) []byte { return appendTimelinePrefix(nil, 3, 1, id) },
		"device":   func(id string) []byte { return appendDevicePrefix(nil, 1, id) },
		"channel":  func(id string) []byte { return appendChannelPrefix(nil, 1, id) },
		"push job": func(id string) []byte { return appendLanePrefix(nil, &store.PushLane{Package: id}) },
		"history": func(id string) []byte {
			return appendHistoryPrefix(nil, 3, &store.ChannelRef{App: 1, Owner: id, Type: chat.Direct, Channel: id})
		},
	}
	for kind, key := range kinds {
		for _, a := range ids {
			for _, b := range ids {
				if a != b && bytes.HasPrefix(key(b), key(a)) {
					t.Fatalf("%s rows of %q begin like those of %q", kind, b, a)
				}
			}
		}
	}
}

func TestAfter(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ prefix, want []byte }{
		{[]byte{1}, []byte{2}},
		{[]byte{1, 0xff}, []byte{2}},
		{[]byte{1, 2, 0xff, 0xff}, []byte{1, 3}},
		{[]byte{0xff}, nil},
	} {
		if got := after(tt.prefix); !bytes.Equal(got, tt.want) {
			t.Errorf("after(%x) is %x, want %x", tt.prefix, got, tt.want)
		}
	}
}

func TestMonths(t *testing.T) {
	t.Parallel()
	for _, ms := range []int64{0, 1, 1773144000000, 1798761599999, 1798761600000, 4102444800000} {
		m := monthOf(ms)
		if start, next := monthStart(m), monthStart(m+1); ms < start || ms >= next {
			t.Errorf("%s: month %d goes from %d to %d", fmt.Sprint(ms), m, start, next)
		}
	}
}
