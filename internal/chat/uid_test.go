package chat

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestUIDFields(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		millis  int64
		ct      ChannelType
		counter uint16
		run     uint32
	}{
		{0, 0, 0, 0}, {1795320000000, Direct, 0, 1}, {1795320000000, System, 12345, 99999},
		{1<<42 - 1, 15, MaxUIDBlock - 1, MaxRun}, {1, Open, 1, 1}, {1795320000001, Community, MaxUIDBlock - 1, MaxRun},
	} {
		u := NewUID(c.millis, c.ct, c.counter, c.run)
		if u.Millis() != c.millis || u.ChannelType() != c.ct || u.Counter() != int(c.counter) || u.Run() != c.run {
			t.Errorf("%+v became %d %d %d %d", c, u.Millis(), u.ChannelType(), u.Counter(), u.Run())
		}
		if u.Time() != time.UnixMilli(c.millis) {
			t.Errorf("%+v: %v", c, u.Time())
		}
		back, err := ParseUID(u.String())
		if err != nil || back != u || len(u.String()) != 19 {
			t.Errorf("%+v: %s reads as %v, %v", c, u, back, err)
		}
		if u.IsZero() != (u == UID{}) {
			t.Errorf("%+v: zero %t", c, u.IsZero())
		}
	}
	// Too wide values are cut, not spilled into their neighbours.
	if u := NewUID(1, 0x1f, 0xffff, 0xffffffff); u.Millis() != 1 || u.ChannelType() != 0xf || u.Counter() != MaxUIDBlock-1 || u.Run() != MaxRun {
		t.Errorf("%d %d %d %d", u.Millis(), u.ChannelType(), u.Counter(), u.Run())
	}
}

// The text form is a promise: ids are kept by callers for years.
func TestUIDText(t *testing.T) {
	t.Parallel()
	for text, u := range map[string]UID{
		"2222-2222-2222-2222": {},
		"F427-NLW2-2J22-2223": NewUID(1795320000000, Direct, 0, 1),
		"ZZZZ-ZZZZ-ZZZZ-ZZZZ": NewUID(1<<42-1, 15, MaxUIDBlock-1, MaxRun),
	} {
		if u.String() != text {
			t.Errorf("%s, want %s", u, text)
		}
	}
	for _, bad := range []string{
		"", "2222", "2222-2222-2222-222", "2222-2222-2222-22222", "2222222222222222222", "2222-2222-2222_2222",
		"2222-2222-2222-2220", "2222-2222-2222-222I", "2222-2222-2222-222O", "2222-2222-2222-2221", "2222-2222-2222-222a",
		"XXXX-JJJJ-KKK-LLLL", " 2222-2222-2222-2222"[:19], "2222-2222-222ä-222",
	} {
		if _, err := ParseUID(bad); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
}

func TestUIDOrder(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var us []UID
	for range 500 {
		us = append(us, NewUID(r.Int64N(4)+1795320000000, ChannelType(r.UintN(16)), uint16(r.UintN(4)), uint32(r.UintN(3))))
	}
	slices.SortFunc(us, UID.Compare)
	for i := 1; i < len(us); i++ {
		a, b := us[i-1], us[i]
		if c := a.Compare(b); c > 0 || (c == 0) != (a == b) || b.Compare(a) != -c {
			t.Fatalf("%s and %s compare as %d", a, b, c)
		}
		if strings.Compare(a.String(), b.String()) != a.Compare(b) {
			t.Fatalf("%s and %s sort otherwise as text", a, b)
		}
		if a.Millis() > b.Millis() {
			t.Fatalf("%s is before %s, its time is not", a, b)
		}
	}
}

func TestUIDBlock(t *testing.T) {
	t.Parallel()
	first := NewUID(1795320000000, Direct, 7, 3)
	for i := range 1000 {
		u := first.Plus(i)
		if u.IndexIn(first, 1000) != i {
			t.Fatalf("%d has index %d", i, u.IndexIn(first, 1000))
		}
		if i > 0 && u.Compare(first.Plus(i-1)) <= 0 {
			t.Fatalf("%d is not after %d", i, i-1)
		}
	}
	for _, other := range []UID{
		first.Plus(1000), NewUID(1795320000000, Direct, 6, 3), NewUID(1795320000001, Direct, 7, 3),
		NewUID(1795320000000, System, 7, 3), NewUID(1795320000000, Direct, 7, 4), {},
	} {
		if i := other.IndexIn(first, 1000); i != -1 {
			t.Errorf("%s has index %d", other, i)
		}
	}
}

// Whatever the clock does, UIDs grow, blocks do not overlap, and none stays
// behind the floor.
func TestUIDSource(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	types := []ChannelType{Direct, Group, Open, System, Community}
	const floor = 1795320000000
	s := NewUIDSource(5, floor)
	now := int64(floor - 1000)
	var last UID
	for range 20000 {
		switch r.IntN(10) {
		case 0:
			now += r.Int64N(50)
		case 1:
			now -= r.Int64N(5000)
		}
		n := 1 + r.IntN(3)
		if r.IntN(20) == 0 {
			n = 1 + r.IntN(MaxUIDBlock)
		}
		ct := types[r.IntN(len(types))]
		first := s.Block(time.UnixMilli(now), ct, n)
		if first.Compare(last) <= 0 || first.Millis() <= floor || first.ChannelType() != ct || first.Run() != 5 {
			t.Fatalf("%s after %s", first, last)
		}
		last = first.Plus(n - 1)
		if first.Counter()+n > MaxUIDBlock || last.Millis() != first.Millis() || last.Millis() != s.Millis() {
			t.Fatalf("a block of %d from %s ends at %s", n, first, last)
		}
	}
}

// In step with the clock as long as it runs forward.
func TestUIDSourceKeepsTime(t *testing.T) {
	t.Parallel()
	s := NewUIDSource(1, 0)
	for ms := int64(1795320000000); ms < 1795320001000; ms++ {
		for i, ct := range []ChannelType{Direct, Direct, Open, System} {
			if u := s.Block(time.UnixMilli(ms), ct, 100); u.Millis() != ms {
				t.Fatalf("call %d at %d has time %d", i, ms, u.Millis())
			}
		}
	}
}

func FuzzParseUID(f *testing.F) {
	for _, s := range []string{"F427-NLW2-2J22-2223", "2222-2222-2222-2222", "ZZZZ-ZZZZ-ZZZZ-ZZZZ", "", "2222-2222-2222-222", "2222-2222-2222-222\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		u, err := ParseUID(s)
		if err == nil && u.String() != s {
			t.Fatalf("%q reads as %s", s, u)
		}
	})
}

func BenchmarkUIDAppend(b *testing.B) {
	u := NewUID(1795320000000, Direct, 7, 3)
	buf := make([]byte, 0, 19)
	b.ReportAllocs()
	for b.Loop() {
		buf = u.Append(buf[:0])
	}
}

func BenchmarkParseUID(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseUID("F427-NLW2-2J22-2223"); err != nil {
			b.Fatal(err)
		}
	}
}
