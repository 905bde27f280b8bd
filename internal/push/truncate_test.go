package push

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// Each is one character to whoever reads it.
var characters = map[string]string{
	"a letter":             "a",
	"a Chinese character":  "中",
	"an accent on its own": "e\u0301",
	"two accents":          "a\u0323\u0302",
	"vowel sign":           "\u0e01\u0e33",
	"Devanagari":           "कि",
	"joined consonants":    "क\u094dष",
	"a syllable of three":  "स\u094dत\u094dर\u0940",
	"an emoji":             "😀",
	"variation selector":   "❤\ufe0f",
	"keycap":               "1\ufe0f\u20e3",
	"skin tone":            "👍🏽",
	"family":               "👩\u200d👩\u200d👧\u200d👦",
	"rainbow flag":         "🏳\ufe0f\u200d🌈",
	"flag":                 "🇩🇪",
	"flag of a region":     "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
	"Hangul":               "한",
	"Hangul in parts":      "\u1112\u1161\u11ab",
	"line end":             "\r\n",
}

func TestCluster(t *testing.T) {
	t.Parallel()
	for name, c := range characters {
		for _, tail := range []string{"", "a", "中", "😀", "🇫🇷", " ", "\n"} {
			if n := cluster(c + tail); n != len(c) {
				t.Errorf("%s before %q: %d bytes, want %d", name, tail, n, len(c))
			}
		}
	}
	// Three flags are three, and four letters of flags are two.
	if s := "🇩🇪🇫🇷🇯🇵"; cluster(s) != 8 || cluster(s[8:]) != 8 || cluster(s[16:]) != 8 {
		t.Error("flags are not told apart")
	}
	if n := cluster("\xff\xfe"); n != 1 {
		t.Errorf("invalid UTF-8: %d", n)
	}
}

func TestTruncate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		limit int
		unit  Unit
		want  string
	}{
		{"hello", 5, Bytes, "hello"},
		{"hello!", 5, Bytes, "he…"},
		{"hello!", 5, Characters, "hell…"},
		{"hello!", 5, HalfWidths, "hel…"},
		{"hello!", 6, HalfWidths, "hello!"},
		{"héllo", 5, Characters, "héllo"},
		{"héllo", 6, Bytes, "héllo"},
		{"héllo", 5, Bytes, "h…"},
		{"中文字", 3, Characters, "中文字"},
		{"中文字", 2, Characters, "中…"},
		{"中文字", 6, HalfWidths, "中文字"},
		{"中文字", 5, HalfWidths, "中…"},
		{"中文字", 8, Bytes, "中…"},
		{"a中b", 4, HalfWidths, "a中b"},
		{"two words here", 5, Characters, "two…"},
		{"👩\u200d👩\u200d👧\u200d👦 home", 5, Characters, "…"},
		{"👩\u200d👩\u200d👧\u200d👦 home", 8, Characters, "👩\u200d👩\u200d👧\u200d👦…"},
		{"🇩🇪🇫🇷🇯🇵", 4, Characters, "🇩🇪…"},
		{"e\u0301e\u0301", 3, Characters, "e\u0301…"},
		{"abc", 2, Bytes, ""},
		{"abc", 0, Characters, ""},
		{"abc", -1, Characters, ""},
		{"", 0, Bytes, ""},
	} {
		if got := Truncate(c.text, c.limit, c.unit); got != c.want {
			t.Errorf("%q to %d of unit %d: %q, want %q", c.text, c.limit, c.unit, got, c.want)
		}
	}
}

// Whatever the limit, what is left is whole characters and fits.
func TestTruncateKeepsCharactersWhole(t *testing.T) {
	t.Parallel()
	for name, c := range characters {
		text := strings.Repeat(c, 5)
		for _, unit := range []Unit{Bytes, Characters, HalfWidths} {
			for limit := range unit.Length(text) + 1 {
				got := Truncate(text, limit, unit)
				if unit.Length(got) > limit {
					t.Errorf("%s: %d of unit %d, at most %d", name, unit.Length(got), unit, limit)
				}
				kept := strings.TrimSuffix(got, ellipsis)
				if name == "line end" {
					continue
				}
				if len(kept)%len(c) != 0 || !utf8.ValidString(got) {
					t.Errorf("%s: cut to %q", name, got)
				}
			}
		}
	}
}

func FuzzTruncate(f *testing.F) {
	for _, c := range characters {
		f.Add(c+c, 3)
	}
	f.Fuzz(func(t *testing.T, s string, limit int) {
		for _, unit := range []Unit{Bytes, Characters, HalfWidths} {
			got := Truncate(s, limit, unit)
			if got != s && unit.Length(got) > max(limit, 0) {
				t.Fatalf("%q to %d of unit %d: %q", s, limit, unit, got)
			}
			if kept := strings.TrimSuffix(got, ellipsis); got != s && !strings.HasPrefix(s, kept) {
				t.Fatalf("%q to %d: %q", s, limit, got)
			}
		}
	})
}
