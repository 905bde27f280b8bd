package line

import (
	"context"
	"errors"
	"testing"
	"time"
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
		return Pass{string(rune('a' + made - 1)), now, now.Add(time.Hour)}, nil
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
