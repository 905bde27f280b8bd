package chat

import (
	"fmt"
	"maps"
	"slices"
	"time"
	"unicode/utf8"
)

// An OpenChannel is what is known of one life of an open channel beyond what is
// said in it. One in hand is immutable; a change makes a new one.
//
// The channel without an ID stands for all open channels of an app: who is muted
// there is muted everywhere, and the lists of types are the app's.
type OpenChannel struct {
	ID        string
	CreatedAt int64 // Unix ms; 0 when it has no life
	Ends      Ending
	TTL       time.Duration // how long it lives without activity, or at all

	// ActiveAt (Unix ms) is up to a minute old: when somebody last entered, left
	// or wrote.
	ActiveAt  int64
	Frozen    bool // only those allowed may write
	KeepAlive bool // it does not end by itself

	Muted    map[string]Restriction
	Banned   map[string]Restriction
	Allowed  map[string]int64 // who may write in spite of all: since when, Unix ms
	Priority map[string]int64 // whose messages are not shed, likewise
	Pairs    map[string]OpenPair

	// Of all of an app's channels: message types, since when.
	PriorityTypes map[string]int64
	LowTypes      map[string]int64
}

// An Ending is how an open channel ends by itself. The numbers are those of the
// server API.
type Ending uint8

const (
	// EndsIdle channels end when nothing has happened in them for their TTL.
	EndsIdle Ending = 0
	// EndsFixed channels end when their TTL has passed since they began.
	EndsFixed Ending = 1
)

// Bounds of an open channel's TTL (open-channel/create). The page gives 10800
// minutes beside "7 days"; the days are taken for right.
const (
	MinOpenTTL = 60 * time.Minute
	MaxOpenTTL = 10080 * time.Minute
)

// Bounds of what is said of an open channel. That of priority senders is the
// platform's for a channel, and that of types its for an app's low ones; the
// others are ours and keep a channel in memory small.
const (
	MaxRestricted      = 10_000 // users who are muted, and who are banned
	MaxAllowed         = 1000
	MaxPrioritySenders = 5
	MaxDeclaredTypes   = 20 // of each kind

	MaxRestriction = 43200 * time.Minute
	MaxNotice      = 4096 // characters of what goes with the news of it
)

// A Restriction is something a user must not do in an open channel for a time.
type Restriction struct {
	Since int64 // Unix ms
	Until int64 // Unix ms
}

// Holds reports whether the restriction is in force at the given time.
func (r Restriction) Holds(now time.Time) bool { return now.UnixMilli() < r.Until }

// An OpenPair is the value of one key of an open channel's metadata.
type OpenPair struct {
	Value      string
	Owner      string // who set it
	AutoDelete bool   // it goes when its owner leaves
	UpdatedAt  int64  // Unix ms

	// Stay names the owner's stay in the channel that the pair ends with, by when
	// it began (Unix ms). It is 0 when the owner has not been there since the pair
	// was set, and when AutoDelete is off.
	Stay int64
}

// Limits of an open channel's metadata. Values are limited like those of messages.
const (
	MaxOpenPairs        = 100 // in one channel
	MaxOpenPairKey      = 128 // characters
	MaxOpenPairsPerCall = 20
)

// CheckOpenPairs says whether the pairs of one request, up to limit, can be set in
// an open channel.
func CheckOpenPairs(field string, limit int, pairs map[string]string) error {
	if len(pairs) > limit {
		return Invalidf(field, "at most %d pairs, got %d", limit, len(pairs))
	}
	// In an order, so that the same request has the same error.
	for _, k := range slices.Sorted(maps.Keys(pairs)) {
		if err := checkOpenKey(field+" key", k); err != nil {
			return err
		}
		if n := utf8.RuneCountInString(pairs[k]); n > MaxMetadataValue {
			return TooLong(field+"."+k, MaxMetadataValue, n, "characters")
		}
	}
	return nil
}

// CheckOpenKeys says whether these can be keys of an open channel's metadata.
func CheckOpenKeys(field string, keys []string) error {
	for i, k := range keys {
		if err := checkOpenKey(fmt.Sprintf("%s[%d]", field, i), k); err != nil {
			return err
		}
	}
	return nil
}

func checkOpenKey(field, k string) error {
	if k == "" {
		return Invalid(field, "must not be empty")
	}
	// A key of foreign characters is not echoed back whole.
	if n := utf8.RuneCountInString(k); n > MaxOpenPairKey {
		return TooLong(field, MaxOpenPairKey, n, "characters")
	}
	for i := range len(k) {
		if !isMetadataKeyByte(k[i]) {
			return Invalidf(field, "%q may hold only letters, digits and + = - _", k)
		}
	}
	return nil
}

// EndsAt is when the channel ends by itself, counting activity from no earlier
// than since: 0 when it does not.
func (c *OpenChannel) EndsAt(since int64) int64 {
	switch {
	case c.CreatedAt == 0 || c.KeepAlive:
		return 0
	case c.Ends == EndsFixed:
		return c.CreatedAt + c.TTL.Milliseconds()
	}
	return max(c.ActiveAt, c.CreatedAt, since) + c.TTL.Milliseconds()
}

// Clone is a copy that can be changed.
func (c *OpenChannel) Clone() *OpenChannel {
	n := *c
	n.Muted, n.Banned = maps.Clone(c.Muted), maps.Clone(c.Banned)
	n.Allowed, n.Priority = maps.Clone(c.Allowed), maps.Clone(c.Priority)
	n.Pairs = maps.Clone(c.Pairs)
	n.PriorityTypes, n.LowTypes = maps.Clone(c.PriorityTypes), maps.Clone(c.LowTypes)
	for _, m := range []*map[string]Restriction{&n.Muted, &n.Banned} {
		if *m == nil {
			*m = map[string]Restriction{}
		}
	}
	for _, m := range []*map[string]int64{&n.Allowed, &n.Priority, &n.PriorityTypes, &n.LowTypes} {
		if *m == nil {
			*m = map[string]int64{}
		}
	}
	if n.Pairs == nil {
		n.Pairs = map[string]OpenPair{}
	}
	return &n
}

// RoomNews is what those in an open channel are told of it, each event some of
// it.
type RoomNews struct {
	// Participants: how many there are, how many came and went since they were
	// told last, and the first few of these by name.
	Count                   int
	EnteredCount, LeftCount int
	Entered                 []Comer
	Left                    []string

	// Mute, ban, freeze, allow: whether it begins or ends, for whom, until when
	// (Unix ms), and whether it is for all open channels of the app.
	On    bool
	Users []string
	Until int64
	All   bool
	Extra string

	Shed [PriorityLow + 1]int // messages that the channel did not take, by class
}

// A Comer is somebody who entered, and what they had to say with it.
type Comer struct{ User, Extra string }
