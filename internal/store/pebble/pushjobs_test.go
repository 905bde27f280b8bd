package pebble

import (
	"errors"
	"maps"
	"slices"
	"testing"

	pdb "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/parleychat/parley/internal/store"
)

// TestPushCutOff cuts a long change off behind each of its parts: every job is where
// it was, where it is to go, or both, and making the change again makes it whole.
func TestPushCutOff(t *testing.T) {
	t.Parallel()
	const n = 200
	first := pushJobs(n)
	look := store.PushLook{Due: 5, Ref: first[0].Ref, App: 1, Targets: []int{1, 2}}
	again := store.PushLook{Due: 5, Ref: first[0].Ref, App: 1, Targets: []int{3}}
	other := store.PushLook{Due: 6, Ref: first[0].Ref, App: 1, Targets: []int{4}}
	// A third of the jobs stays at its place, the rest comes later.
	next := slices.Clone(first)
	want := map[store.PushPlace]uint8{}
	for i := range next {
		next[i].Attempts = 1
		if i%3 > 0 {
			next[i].Due += 1000
		}
		want[next[i].PushPlace] = 1
	}
	change := &store.PushChange{
		Put: next, Drop: first, Look: []store.PushLook{again}, Looked: []store.PushLook{look, other},
		Halt: []store.PushHalt{{Lane: first[0].Lane, Since: 1}}, Watermark: 1,
	}
	errCut := errors.New("cut off")
	for cut := 1; ; cut++ {
		s := mustOpen(t, Options{Dir: "data", FS: vfs.NewMem(), Consumers: []string{store.PushConsumer}})
		state := func() (places map[store.PushPlace]uint8, looks []store.PushLook) {
			t.Helper()
			list, err := s.PushJobs(t.Context(), &first[0].Lane, 0, store.PushPlace{}, 1<<60, 10*n)
			if err != nil {
				t.Fatal(err)
			}
			places = map[store.PushPlace]uint8{}
			for _, j := range list {
				places[j.PushPlace] = j.Attempts
			}
			if looks, err = s.PushLooks(t.Context(), 10, 10); err != nil {
				t.Fatal(err)
			}
			return places, looks
		}
		if err := s.ChangePush(t.Context(), &store.PushChange{Put: first, Look: []store.PushLook{look, other}}); err != nil {
			t.Fatal(err)
		}
		parts := 0
		w := &pushWriter{batch: s.db.NewBatch(), most: 2000, next: func(b *pdb.Batch) (*pdb.Batch, error) {
			if parts++; parts > cut {
				return b, errCut
			}
			return s.db.NewBatch(), s.apply(b, pdb.NoSync)
		}}
		w.long(change)
		places, looks := state()
		for i := range first {
			_, old := places[first[i].PushPlace]
			if _, moved := places[next[i].PushPlace]; !old && !moved {
				t.Fatalf("cut off behind part %d, job %d is nowhere", cut, i)
			}
		}
		// The look that is asked for anew is never gone.
		if len(looks) == 0 || looks[0].Due != look.Due {
			t.Fatalf("cut off behind part %d the looks are %+v", cut, looks)
		}
		if m := s.marks[store.PushConsumer].Load(); m != 0 {
			t.Fatalf("cut off behind part %d the watermark is %d", cut, m)
		}
		if err := s.ChangePush(t.Context(), change); err != nil {
			t.Fatal(err)
		}
		places, looks = state()
		if !maps.Equal(places, want) || len(looks) != 1 || !slices.Equal(looks[0].Targets, again.Targets) {
			t.Fatalf("made again behind part %d there are %d jobs, want %d; looks %+v", cut, len(places), len(want), looks)
		}
		mustClose(t, s)
		if w.err == nil {
			if cut < 5 {
				t.Errorf("the change has only %d parts", cut)
			}
			return
		}
		if !errors.Is(w.err, errCut) {
			t.Fatal(w.err)
		}
	}
}
