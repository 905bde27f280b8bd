package dispatch

import "github.com/parleychat/parley/internal/push"

// leastWide is how many requests are under way to a provider of which it is not known
// whether it takes any: not one alone, which might hang and hold all others up.
const leastWide = 2

// An opening is how many requests may be under way to a provider that was not there,
// or has asked to be left alone: few, and one more for each that it has taken since.
// It never has more to do than it has just shown to manage, however much waits, and
// one that is quick is soon given all.
//
// Where it has asked to be left alone that was perhaps too much, so beyond half of
// that there is one more only after each has been answered.
type opening struct {
	width int    // 0 for as many as there may be
	half  int    // up to where it grows with each answer
	taken int    // since it has grown last
	spell uint64 // what was sent in an earlier one says nothing
}

// narrow begins anew, after so many requests were under way.
func (o *opening) narrow(from int) {
	o.width, o.half, o.taken = leastWide, from/2, 0
	o.spell++
}

// took notes that the provider has taken a request, which was sent in the spell. most
// is how many may be under way in any case.
func (o *opening) took(spell uint64, most int) (wider bool) {
	if o.width == 0 || spell != o.spell {
		return false
	}
	if o.taken++; o.width >= o.half && o.taken < o.width {
		return false
	}
	o.taken = 0
	if o.width++; o.width >= most {
		o.width = 0
	}
	return true
}

// fits reports whether one more request may be under way.
func (o *opening) fits(flight int) bool { return o.width == 0 || flight < o.width }

// takes reports whether a provider that answers so takes requests, whatever it has to
// say of the notification.
func takes(a push.Attempt) bool {
	switch a.Class {
	case push.Accepted, push.TokenDead, push.TokenStrike, push.UserCap:
		return true
	}
	return a.Class == push.RetryAfter && a.Device
}
