package pushtest

import "testing"

// Of one seed and name comes one secret, and of nothing else.
func TestSecrets(t *testing.T) {
	t.Parallel()
	// Without a seed none is like another.
	if one, two := (Options{}).secret("x"), (Options{}).secret("x"); one == two {
		t.Errorf("twice %q", one)
	}
	a, other, none := Options{Seed: "a"}, Options{Seed: "b"}, Options{}
	again := Options{Seed: "a"}
	if s := a.secret("x"); len(s) != 32 || s != again.secret("x") || s == a.secret("y") || s == other.secret("x") || s == none.secret("x") {
		t.Errorf("secret %q", s)
	}
	if n := a.number("x"); n < 100_000_000 || n > 999_999_999 || n != again.number("x") || n == a.number("y") || n == other.number("x") || n == none.number("x") {
		t.Errorf("number %d", n)
	}
	if k := a.key("x"); !k.Equal(again.key("x")) || k.Equal(a.key("y")) || k.Equal(other.key("x")) || k.Equal(none.key("x")) {
		t.Error("keys of the curve")
	}
	if k := a.rsaKey("x"); k.N.BitLen() != 2048 || k.Validate() != nil || !k.Equal(again.rsaKey("x")) || k.Equal(other.rsaKey("x")) || k.Equal(none.rsaKey("x")) {
		t.Error("RSA keys")
	}
}
