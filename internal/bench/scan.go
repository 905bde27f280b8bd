package bench

import (
	"bytes"
	"iter"

	"github.com/parleychat/parley/internal/chat"
)

// The checks look for members of JSON objects by their text. That is safe: in
// content, which is the only text from outside, quotes are escaped.

var (
	uidMember    = []byte(`"messageUID":"`)
	offsetMember = []byte(`"offset":`)
	errorMember  = []byte(`"error":`)
	pushStart    = []byte(`{"push":`)
	ping         = []byte(`{}`)
)

const uidLength = 19

// uidsIn gives the value of each messageUID member in b, the zero UID where it
// is none.
func uidsIn(b []byte) iter.Seq[chat.UID] {
	return func(yield func(chat.UID) bool) {
		for {
			i := bytes.Index(b, uidMember)
			if i < 0 {
				return
			}
			b = b[i+len(uidMember):]
			uid, _ := chat.ParseUID(string(b[:min(uidLength, len(b))]))
			if !yield(uid) {
				return
			}
		}
	}
}

// numberAfter reads the decimal digits behind the first mark in b.
func numberAfter(b, mark []byte) (n uint64, ok bool) {
	i := bytes.Index(b, mark)
	if i < 0 {
		return 0, false
	}
	for _, c := range b[i+len(mark):] {
		if c < '0' || c > '9' {
			break
		}
		n, ok = n*10+uint64(c-'0'), true
	}
	return n, ok
}
