package turn

import (
	"context"
	"sync"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

func TestOneAtATime(t *testing.T) {
	t.Parallel()
	turns := New()
	var wg sync.WaitGroup
	a, b := new(int), new(int)
	for range 200 {
		for key, count := range map[string]*int{"a": a, "b": b} {
			wg.Go(func() {
				end, err := Take(t.Context(), turns, key)
				if err != nil {
					t.Error(err)
					return
				}
				defer end()
				*count++ // the race detector sees it when two have the turn
			})
		}
	}
	wg.Wait()
	if *a != 200 || *b != 200 {
		t.Errorf("%d and %d turns were taken, want 200 each", *a, *b)
	}
}

func TestGivingUp(t *testing.T) {
	t.Parallel()
	turns := New()
	end, err := Take(t.Context(), turns, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Take(ctx, turns, 1); chat.KindOf(err) != chat.KindUnavailable {
		t.Errorf("waiting for a turn that is taken: %v", err)
	}
	end()
	if end, err = Take(t.Context(), turns, 1); err != nil {
		t.Fatal(err)
	}
	end()
}

func TestSeveralAtOnce(t *testing.T) {
	t.Parallel()
	turns := New()
	var wg sync.WaitGroup
	counts := make([]*int, 3)
	for i := range counts {
		counts[i] = new(int)
	}
	for i := range 200 {
		// Each in an order of its own.
		keys := []int{i % 3, (i + 1 + i%2) % 3}
		wg.Go(func() {
			end, err := TakeAll(t.Context(), turns, keys)
			if err != nil {
				t.Error(err)
				return
			}
			defer end()
			for _, k := range keys {
				*counts[k]++
			}
		})
	}
	wg.Wait()
	if n := *counts[0] + *counts[1] + *counts[2]; n != 400 {
		t.Errorf("%d turns were taken, want 400", n)
	}

	// Who gives up has none of them.
	end, err := Take(t.Context(), turns, 1)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := TakeAll(ctx, turns, []int{0, 1, 2}); chat.KindOf(err) != chat.KindUnavailable {
		t.Errorf("waiting for turns of which one is taken: %v", err)
	}
	end()
	if end, err = TakeAll(t.Context(), turns, []int{0, 1, 2, 1}); err != nil {
		t.Fatal(err)
	}
	end()
}
