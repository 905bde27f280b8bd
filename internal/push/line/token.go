package line

import (
	"context"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// A Token is what lets an adapter in for a while. It is made by one of those who
// need it, for all of them.
type Token struct {
	// Make makes a new one. Errors are [Failure]s: what follows for whoever waits.
	Make func(ctx context.Context) (Pass, error)
	Now  func() time.Time
	// Least is how old a token must be until the provider takes a new one for
	// another reason than age; a refused one is used on until then.
	Least time.Duration

	mu      sync.Mutex
	pass    Pass
	making  chan struct{} // closed when the one being made is there; nil when none is
	failure error
	next    time.Time // when it is tried again to renew what is still good
	made    int
}

// A Pass is an access token, from when and how long it is used.
type Pass struct {
	Value string
	Made  time.Time
	Until time.Time
	// Good is until when the provider takes it, where that is longer: it is used on
	// while there is no new one.
	Good time.Time
}

// Skew is how far our clock may be ahead of a provider's. What is signed here is
// dated back by it, since nobody is let in with what was made in the future.
const Skew = time.Minute

// renewAgain is how long a token that could not be renewed is used before that is
// tried again.
const renewAgain = time.Minute

// Get gives the token, and makes one where there is none.
func (t *Token) Get(ctx context.Context) (string, error) {
	for {
		t.mu.Lock()
		now := t.Now()
		good := t.pass.Value != "" && now.Before(t.pass.Good)
		if t.pass.Value != "" && now.Before(t.pass.Until) || good && (t.making != nil || now.Before(t.next)) {
			defer t.mu.Unlock()
			return t.pass.Value, nil
		}
		if wait := t.making; wait != nil {
			t.mu.Unlock()
			select {
			case <-wait:
			case <-ctx.Done():
				return "", failed(ctx, ctx.Err())
			}
			t.mu.Lock()
			value, err := t.pass.Value, t.failure
			t.mu.Unlock()
			if err != nil {
				return "", err
			}
			if value != "" {
				return value, nil
			}
			continue
		}
		done := make(chan struct{})
		t.making = done
		t.mu.Unlock()

		// Others wait for it: it must not end because the first of them gives up.
		making, cancel := context.WithTimeout(context.WithoutCancel(ctx), DefaultTimeout)
		pass, err := t.Make(making)
		cancel()

		t.mu.Lock()
		t.failure = err
		switch now = t.Now(); {
		case err == nil:
			t.pass = pass
			t.made++
		case passes(err) && t.pass.Value != "" && now.Before(t.pass.Good):
			// Whoever gives them has trouble, and the one there is lets us in still.
			t.next = now.Add(renewAgain)
			pass, err, t.failure = t.pass, nil, nil
		}
		t.making = nil
		close(done)
		t.mu.Unlock()
		return pass.Value, err
	}
}

// passes reports whether what has failed may well succeed later.
func passes(err error) bool {
	switch ResultOf(err).Class {
	case push.Retry, push.RetryAfter:
		return true
	}
	return false
}

// Refuse says that the provider takes this value no more, and reports whether it
// pays to ask again: with another one, which is there or can be made.
func (t *Token) Refuse(value string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pass.Value != value {
		return true // another is there already, or being made
	}
	if t.Least > 0 && t.Now().Sub(t.pass.Made) < t.Least {
		return false
	}
	t.pass = Pass{}
	return true
}

// Ask asks with the token, and once more with a new one when the provider takes
// the first no more.
func (t *Token) Ask(ctx context.Context, ask func(value string) push.Result) push.Result {
	for again := false; ; again = true {
		value, err := t.Get(ctx)
		if err != nil {
			return ResultOf(err)
		}
		r := ask(value)
		if r.Class != push.AuthRefresh {
			return r
		}
		if again {
			r.Class = push.ConfigHalt
			return r
		}
		if !t.Refuse(value) {
			r.Class = push.Retry
			return r
		}
	}
}

// Age is how old the token is, and how many were made.
func (t *Token) Age() (age time.Duration, made int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pass.Value != "" {
		age = t.Now().Sub(t.pass.Made)
	}
	return age, t.made
}

// PassAge is how old the token is, if there is one.
func (t *Token) PassAge() (age time.Duration, has bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pass.Value == "" {
		return 0, false
	}
	return t.Now().Sub(t.pass.Made), true
}
