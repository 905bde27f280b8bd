package chat

import (
	"slices"
	"strings"
	"time"
)

// A Broadcast is a system message for all users of an app who fit its audience,
// whoever they turn out to be: it is kept once, and becomes an ordinary message
// of each of them when they are next heard of. A Broadcast in hand is immutable.
type Broadcast struct {
	App       AppID
	UID       UID // its time is when it was sent
	Kind      BroadcastKind
	From      string
	RequestID string
	Audience  Audience
	// Life is for how long it is given to users who were not there at once.
	Life time.Duration

	// Message is what is given, nil where only the rest was asked for and in a
	// BroadcastRecall.
	Message *Message

	// Of a BroadcastRecall: which broadcast is taken back, and how.
	Recalls           UID
	Recall            Recall
	DisableUpdateLast bool
}

// A BroadcastKind says which call a broadcast is of. Numbers are stored: never
// reuse one.
type BroadcastKind uint8

// The kinds of broadcast.
const (
	BroadcastAll     BroadcastKind = 1 // to all users
	BroadcastOnline  BroadcastKind = 2 // to all users who are online, or soon are
	BroadcastTag     BroadcastKind = 3 // by users' tags
	BroadcastPackage BroadcastKind = 4 // by the app packages users connect with
	BroadcastRecall  BroadcastKind = 5 // takes a BroadcastAll back
)

// String is the kind's name in answers and logs.
func (k BroadcastKind) String() string {
	switch k {
	case BroadcastAll:
		return "all"
	case BroadcastOnline:
		return "online"
	case BroadcastTag:
		return "tag"
	case BroadcastPackage:
		return "package"
	case BroadcastRecall:
		return "recall"
	}
	return "unknown"
}

// MaxBroadcastDays is BroadcastLife in days.
const MaxBroadcastDays = 7

// BroadcastLife is how long a broadcast is given to users who come later, and
// OnlineLife how long one to those who are online is.
const (
	BroadcastLife = MaxBroadcastDays * 24 * time.Hour
	OnlineLife    = 10 * time.Minute
)

// Until is the last moment (Unix ms) at which users who come get it.
func (b *Broadcast) Until() int64 { return b.UID.Millis() + b.Life.Milliseconds() }

// An Audience says whom a broadcast is for. What is not given does not matter;
// the zero of it is everybody.
type Audience struct {
	AllTags   []string // the user has all of these
	AnyTag    []string // and one of these
	Package   string   // and is connected with this app package
	Platforms []string // on one of these platforms; counts only with Package
}

// Everybody reports whether there is nothing to fit.
func (a *Audience) Everybody() bool {
	return len(a.AllTags) == 0 && len(a.AnyTag) == 0 && a.Package == ""
}

// ByTags reports whether users' tags matter.
func (a *Audience) ByTags() bool { return len(a.AllTags)+len(a.AnyTag) > 0 }

// A Client is what a connection says of the program that made it. Both texts may
// be empty.
type Client struct{ Platform, Package string }

// web is the platform that has no packages.
const web = "web"

// Fits reports whether a user with these tags (sorted) and clients is of the
// audience.
func (a *Audience) Fits(tags []string, clients []Client) bool {
	has := func(tag string) bool {
		_, found := slices.BinarySearch(tags, tag)
		return found
	}
	for _, tag := range a.AllTags {
		if !has(tag) {
			return false
		}
	}
	if len(a.AnyTag) > 0 && !slices.ContainsFunc(a.AnyTag, has) {
		return false
	}
	return a.Package == "" || slices.ContainsFunc(clients, a.fitsClient)
}

func (a *Audience) fitsClient(c Client) bool {
	return c.Package == a.Package && !strings.EqualFold(c.Platform, web) &&
		slices.ContainsFunc(a.Platforms, func(p string) bool { return strings.EqualFold(p, c.Platform) })
}
