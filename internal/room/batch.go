package room

import (
	"slices"
	"sync"
)

// A Batch is what was published in one window of a room, oldest first and never
// empty. It is shared by all members.
type Batch struct {
	Publications []*Publication

	forms   [Forms]form
	once    sync.Once
	senders map[string]struct{} // made once somebody asks
}

// fewSenders is how many publications are looked through one by one.
const fewSenders = 4

// Form gives the batch in the i-th wire form, made once for all members.
func (b *Batch) Form(i int, encode func(*Batch) []byte) []byte {
	f := &b.forms[i]
	f.once.Do(func() { f.bytes = encode(b) })
	return f.bytes
}

// From reports whether some of the batch is the user's own.
func (b *Batch) From(user string) bool {
	if len(b.Publications) <= fewSenders {
		return slices.ContainsFunc(b.Publications, func(p *Publication) bool { return p.Message.From == user })
	}
	b.once.Do(func() {
		b.senders = make(map[string]struct{}, len(b.Publications))
		for _, p := range b.Publications {
			b.senders[p.Message.From] = struct{}{}
		}
	})
	_, own := b.senders[user]
	return own
}

// Since is what of the batch is after the number.
func (b *Batch) Since(after uint64) []*Publication {
	i := 0
	for i < len(b.Publications) && b.Publications[i].Seq <= after {
		i++
	}
	return b.Publications[i:]
}

// Whole reports whether all of the batch is after the number.
func (b *Batch) Whole(after uint64) bool { return after < b.Publications[0].Seq }

func (b *Batch) last() uint64 { return b.Publications[len(b.Publications)-1].Seq }
