package line

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// A token that is refused while the next one is made is no reason to give up.
func TestRefuse(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(0)
	made := 0
	k := Token{Now: func() time.Time { return now }}
	k.Make = func(context.Context) (Pass, error) {
		if made++; made == 3 {
			return Pass{}, errors.New("not now")
		}
		return Pass{Value: string(rune('a' + made - 1)), Made: now, Until: now.Add(time.Hour)}, nil
	}
	get := func(want string) {
		t.Helper()
		if v, _ := k.Get(context.Background()); v != want {
			t.Errorf("%q, want %q", v, want)
		}
	}
	refuse := func(value string, want bool) {
		t.Helper()
		if k.Refuse(value) != want {
			t.Errorf("refused %s, want %v", value, want)
		}
	}
	get("a")
	refuse("a", true)
	refuse("a", true) // by another, meanwhile
	get("b")
	refuse("a", true) // late: the new one stays
	get("b")
	k.Least = 20 * time.Minute
	refuse("b", false)
	get("b")
	now = now.Add(20 * time.Minute)
	refuse("b", true)
	get("")
	get("d")
	if age, n := k.Age(); age != 0 || n != 3 {
		t.Errorf("%v, %d made", age, n)
	}
	now = now.Add(time.Hour)
	get("e")
}

// One that is still good is used on while there is no new one, and by all others
// while that is made.
func TestRenew(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(0)
	made := 0
	var then func() error
	k := Token{Now: func() time.Time { return now }}
	k.Make = func(context.Context) (Pass, error) {
		if then != nil {
			if err := then(); err != nil {
				return Pass{}, err
			}
		}
		made++
		return Pass{string(rune('a' + made - 1)), now, now.Add(time.Hour), now.Add(2 * time.Hour)}, nil
	}
	get := func(want string, class push.Class) {
		t.Helper()
		v, err := k.Get(t.Context())
		if v != want || want == "" && ResultOf(err).Class != class || want != "" && err != nil {
			t.Errorf("%q, %v; want %q", v, err, want)
		}
	}
	asked := 0
	fails := func(class push.Class) func() error {
		return func() error {
			asked++
			return Fail(push.Result{Class: class}, nil)
		}
	}
	get("a", 0)
	now = now.Add(time.Hour)
	then = fails(push.Retry)
	get("a", 0)
	get("a", 0)
	now = now.Add(59 * time.Second)
	get("a", 0)
	if asked != 1 {
		t.Errorf("asked %d times within a minute", asked)
	}
	now = now.Add(time.Second)
	then = fails(push.RetryAfter)
	get("a", 0)
	if asked != 2 {
		t.Errorf("asked %d times", asked)
	}
	// Who is not let in any more is told.
	now = now.Add(time.Minute)
	then = fails(push.ConfigHalt)
	get("", push.ConfigHalt)
	// So is everybody when it is over, or is refused.
	then = fails(push.Retry)
	now = now.Add(57 * time.Minute)
	get("a", 0)
	now = now.Add(time.Minute)
	get("", push.Retry)
	then = nil
	get("b", 0)
	now = now.Add(time.Hour)
	then = func() error {
		then = nil
		get("b", 0) // somebody else, meanwhile
		return nil
	}
	get("c", 0)
	k.Refuse("c")
	then = fails(push.Retry)
	get("", push.Retry)
}
