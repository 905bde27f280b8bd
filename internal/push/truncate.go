package push

import (
	"unicode"
	"unicode/utf8"
)

// A Unit is what a provider counts the length of texts in.
type Unit uint8

// The units.
const (
	Bytes      Unit = iota
	Characters      // Unicode code points
	HalfWidths      // Latin letters are 1 and everything else is 2
)

const ellipsis = "…"

// Length is how long s is.
func (u Unit) Length(s string) int {
	switch u {
	case Characters:
		return utf8.RuneCountInString(s)
	case HalfWidths:
		n := 0
		for _, r := range s {
			n++
			if r > unicode.MaxLatin1 {
				n++
			}
		}
		return n
	}
	return len(s)
}

// Truncate cuts s to at most limit, with an ellipsis where something is missing,
// if there is room for one. What readers see as one character is never parted: a
// letter and its accents, an emoji of several, a flag. A limit too small for any
// gives nothing.
func Truncate(s string, limit int, unit Unit) string {
	if len(s) <= limit && unit != HalfWidths || unit.Length(s) <= limit {
		return s
	}
	room := limit - unit.Length(ellipsis)
	end, used := 0, 0
	for end < len(s) {
		c := cluster(s[end:])
		if used += unit.Length(s[end : end+c]); used > room {
			break
		}
		end += c
	}
	if room < 0 {
		return ""
	}
	// Spaces before the ellipsis would look like a mistake.
	for end > 0 && (s[end-1] == ' ' || s[end-1] == '\n') {
		end--
	}
	return s[:end] + ellipsis
}

const zeroWidthJoiner = 0x200d

// cluster is the length in bytes of what a reader sees as the first character of
// s. It knows combining marks, variation selectors, joiners, skin tones, tags,
// flags, syllables of Hangul, consonants that Indic scripts join, and line ends, which is what of the rules of Unicode
// (UAX 29) occurs in messages; of the rest it takes each code point for itself.
// Joining one too many is harmless here, parting is not.
func cluster(s string) int {
	prev, n := utf8.DecodeRuneInString(s)
	if prev == '\r' && n < len(s) && s[n] == '\n' {
		return n + 1
	}
	if unicode.IsControl(prev) {
		return n
	}
	flag := isRegional(prev)
	for n < len(s) {
		r, size := utf8.DecodeRuneInString(s[n:])
		switch {
		case extends(r), prev == zeroWidthJoiner && !unicode.IsControl(r) && r != ' ', hangulJoins(prev, r), isVirama(prev) && r >= 0x900 && r < 0xe00 && unicode.Is(unicode.Lo, r):
		case flag && isRegional(r):
			flag = false
		default:
			return n
		}
		prev = r
		n += size
	}
	return n
}

// extends reports whether r belongs to the character before it.
func extends(r rune) bool {
	return r >= 0x300 && (unicode.Is(unicode.M, r) || // which variation selectors are too
		r == zeroWidthJoiner || r == 0x200c ||
		r == 0xe33 || r == 0xeb3 || // vowels of Thai and Lao that are letters by name
		r >= 0x1f3fb && r <= 0x1f3ff || // skin tones
		r >= 0xe0020 && r <= 0xe007f) // tags, of the flags of regions
}

// isVirama reports whether r joins the consonants before and behind it, in one of the
// scripts whose readers see them as one (GB9c).
func isVirama(r rune) bool {
	switch r {
	case 0x94d, 0x9cd, 0xacd, 0xb4d, 0xc4d, 0xd4d:
		return true
	}
	return false
}

func isRegional(r rune) bool { return r >= 0x1f1e6 && r <= 0x1f1ff }

// hangulJoins reports whether b goes on the syllable that a is part of.
func hangulJoins(a, b rune) bool {
	const (
		other = iota
		leading
		vowel
		trailing
		open   // a whole syllable without a trailing consonant
		closed // and with one
	)
	kind := func(r rune) int {
		switch {
		case r >= 0x1100 && r <= 0x115f || r >= 0xa960 && r <= 0xa97c:
			return leading
		case r >= 0x1160 && r <= 0x11a7 || r >= 0xd7b0 && r <= 0xd7c6:
			return vowel
		case r >= 0x11a8 && r <= 0x11ff || r >= 0xd7cb && r <= 0xd7fb:
			return trailing
		case r >= 0xac00 && r <= 0xd7a3 && (r-0xac00)%28 == 0:
			return open
		case r >= 0xac00 && r <= 0xd7a3:
			return closed
		}
		return other
	}
	switch kb := kind(b); kind(a) {
	case leading:
		return kb == leading || kb == vowel || kb == open || kb == closed
	case vowel, open:
		return kb == vowel || kb == trailing
	case trailing, closed:
		return kb == trailing
	}
	return false
}
