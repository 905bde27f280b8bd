package dispatch

import (
	"context"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/store"
)

// attempt tries to get a batch to the provider. It may be the one by which a lane that
// is closed sees whether it goes.
func (l *lane) attempt(ctx context.Context, at *seat, batch []store.PushJob, probe bool) {
	asked := true
	defer func() {
		l.mu.Lock()
		l.flight--
		if probe {
			l.probing = false
			if !asked {
				l.probeAt = l.now() // it has not told whether the provider is there: the next one may
			}
		}
		l.mu.Unlock()
	}()
	began := l.beginning()
	notes := make([]*push.Notification, 0, len(batch))
	index := make([]int, 0, len(batch))
	for i := range batch {
		j := &batch[i]
		n, end, err := l.compose(ctx, j)
		var instead *store.PushJob
		if end != nil && j.Held > 0 && othersLeft(end.Class) {
			instead, err = l.heldBy(ctx, j)
		}
		switch {
		case err != nil:
			if ctx.Err() == nil {
				l.d.warn("composing a notification", err)
			}
			// The older it is the longer it waits: it may be its own trouble.
			now := l.now()
			l.put(j, j, now.Add(min(max(now.Sub(time.UnixMilli(j.MadeAt))/8, time.Second), time.Minute)))
		case instead != nil:
			l.replace(j, end, instead)
			asked = false
		case end != nil:
			l.settle(j, end)
			asked = false
		case n.lane != l.id:
			l.mu.Lock()
			l.freeLocked(j)
			l.moveLocked(j, n.lane)
			l.mu.Unlock()
			asked = false
		default:
			notes, index = append(notes, &n.Notification), append(index, i)
		}
	}
	if len(notes) == 0 {
		return
	}
	asked = true
	start := time.Now()
	results := l.send(ctx, at, notes)
	took := time.Since(start)
	l.d.metrics.request(l, took, len(notes))
	l.mu.Lock()
	if results[0].Class == push.Accepted {
		l.quick.took(took, start)
	}
	wider := l.opening.width > 0 && slices.ContainsFunc(results, takes) && l.opening.took(began.spell, l.mostLocked())
	l.mu.Unlock()
	if wider {
		l.nudge()
	}
	for k, i := range index {
		l.result(ctx, began, &batch[i], notes[k], results[k])
	}
}

// compose is that of the dispatcher. A panic is the notification's trouble, or the
// server would go down for it after each start.
func (l *lane) compose(ctx context.Context, j *store.PushJob) (n *composed, end *store.PushOutcome, err error) {
	defer func() {
		if p := recover(); p != nil {
			l.panicked(p)
			end = &store.PushOutcome{Class: push.PayloadBad.String(), Code: panicCode}
		}
	}()
	return l.d.compose(ctx, j)
}

// send has the adapter send. Where that panics, each is sent by itself, and is over if
// that panics too.
func (l *lane) send(ctx context.Context, at *seat, notes []*push.Notification) (list []push.Attempt) {
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		l.panicked(p)
		if list = nil; len(notes) == 1 {
			list = []push.Attempt{{Result: push.Result{Class: push.PayloadBad, Code: panicCode}}}
			return
		}
		for i := range notes {
			list = append(list, l.send(ctx, at, notes[i:i+1])...)
		}
	}()
	if list = at.Send(ctx, notes); len(list) != len(notes) {
		panic(fmt.Sprintf("%d answers for %d notifications", len(list), len(notes)))
	}
	return list
}

const panicCode = "panic"

func (l *lane) panicked(p any) {
	l.d.Logger.Error("push: a notification panicked", "lane", l.name(), "panic", p, "stack", string(debug.Stack()))
}

// A beginning tells later whether others got through meanwhile, and whether the lane
// was narrowed.
type beginning struct{ successes, spell uint64 }

func (l *lane) beginning() beginning {
	l.mu.Lock()
	defer l.mu.Unlock()
	return beginning{l.successes, l.opening.spell}
}
