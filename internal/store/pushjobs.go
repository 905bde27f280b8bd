package store

import (
	"cmp"
	"context"
	"strings"

	"github.com/parleychat/parley/internal/chat"
)

// PushConsumer is the name under which what notifies those who are away follows
// the log.
const PushConsumer = "push"

// PushQueue keeps notifications that wait for their provider, and what became of
// those that do not any more.
//
// All writing is one call, ChangePush. It is made durable only when asked to be,
// and what was written before is never lost without what was written after it: a
// crash takes the watermark back with the jobs that it stands for. Reads see what
// was written at once, also what a crash could still take back.
type PushQueue interface {
	// ChangePush writes all of the change, or nothing. A crash within a very long
	// one may leave what is new in it without what is dropped and without the
	// watermark, so that making it again makes it whole.
	//
	// What is both dropped and put at one place is there afterwards.
	ChangePush(ctx context.Context, c *PushChange) error

	// PushLanes lists the lanes in which jobs wait.
	PushLanes(ctx context.Context) ([]PushLane, error)
	// PushJobs lists up to limit jobs of the lane with this priority: those
	// strictly behind a place, due at the given time (Unix ms) or before, in the
	// order of their places.
	PushJobs(ctx context.Context, lane *PushLane, priority uint8, behind PushPlace, until int64, limit int) ([]PushJob, error)
	// CountPushJobs is how many jobs of the lane wait with each priority.
	CountPushJobs(ctx context.Context, lane *PushLane) ([PushPriorities]int, error)

	// PushLooks lists up to limit looks due at the given time (Unix ms) or before,
	// the earliest first.
	PushLooks(ctx context.Context, until int64, limit int) ([]PushLook, error)
	// PushPasses are the broadcasts whose notifications are not all made, oldest
	// first, and the newest broadcast that has ever had a pass, or was passed over
	// for good; zero when there is none.
	PushPasses(ctx context.Context) (passes []PushPass, met chat.UID, err error)
	// PushHalts lists the lanes that are halted.
	PushHalts(ctx context.Context) ([]PushHalt, error)

	// PushReasons are the reasons for which the recipients of a request are
	// notified or not, by their place among its targets; shorter than those, or
	// nil, while not all are decided upon, and when it is no longer kept. Who is
	// not decided upon while a later one is has PushUndecided.
	PushReasons(ctx context.Context, ref chat.UID) ([]uint8, error)
	// PushOutcomes are what became of the notifications of a message, as its
	// recipient knows it, by device. Of a broadcast they are those of everybody.
	PushOutcomes(ctx context.Context, uid chat.UID) ([]PushOutcome, error)
	// PushShown is the newest message of the channel that its owner's devices were
	// notified of since that was last taken back; zero when there is none.
	PushShown(ctx context.Context, ch ChannelRef) (chat.UID, error)
}

// KeepPushOutcomes is for how many days, the current one not counted, reasons and
// outcomes are kept.
const KeepPushOutcomes = 7

// PushUndecided stands among reasons for a target that has none yet.
const PushUndecided = 0xff

// A PushLane is where notifications wait for one provider, with one credential of
// the app: that for the package and the environment.
type PushLane struct {
	App         chat.AppID
	Provider    chat.PushProvider
	Environment chat.PushEnvironment
	Package     string
}

// PushPriorities is how many priorities jobs have. 0 comes first.
const PushPriorities = 4

// A PushPlace is where a job stands among those of its lane and priority. The zero
// of it is before them all.
type PushPlace struct {
	Due    int64 // Unix ms; nothing is done earlier
	UID    chat.UID
	User   string
	Device string
}

// Compare orders places as a queue does: by their times, UIDs, users and devices,
// of users the shorter id first.
func (p *PushPlace) Compare(q *PushPlace) int {
	if c := cmp.Or(cmp.Compare(p.Due, q.Due), p.UID.Compare(q.UID), cmp.Compare(len(p.User), len(q.User))); c != 0 {
		return c
	}
	return cmp.Or(strings.Compare(p.User, q.User), strings.Compare(p.Device, q.Device))
}

// A PushJob is one notification that waits, for one device.
type PushJob struct {
	Lane     PushLane
	Priority uint8
	PushPlace

	// The rest can change while the job stays at its place.

	Kind     PushKind
	Silent   bool
	Ref      chat.UID // first UID of the request: names the stored body
	Offset   uint64   // of the entry in the user's timeline; 0 when it has none
	MadeAt   int64    // Unix ms: when it was decided upon; later registrations are others
	Expires  int64    // Unix ms: nobody is to be told later
	Attempts uint8
	Without  uint8  // what to leave out, as package push has it
	Held     uint16 // how many others it stands for besides its own
	Collapse uint64 // of those that are not 0 and the same for a device, the newest is enough
	Code     string // what the last attempt was refused with
}

// A PushKind says what a job does. Numbers are stored: never reuse one.
type PushKind uint8

// The kinds.
const (
	PushMessage  PushKind = 0 // notifies of a message
	PushWithdraw PushKind = 1 // takes back what was shown, up to UID
)

// A PushLook asks for some recipients of a request to be decided upon later.
// Looks at one request at one time are one look, at the targets of all of them.
type PushLook struct {
	Due     int64 // Unix ms
	Ref     chat.UID
	App     chat.AppID
	Targets []int // places among the request's targets, growing
}

// A PushHalt is a lane that stands still, until a time or until somebody mends what
// is wrong. It outlives a crash, so that nothing is asked for what will not be given.
type PushHalt struct {
	Lane  PushLane
	Since int64 // Unix ms; 0 takes the halt away
	Until int64 // Unix ms; 0 until its credential is another
	Code  string
}

// A PushPass is how far a broadcast has come on its way through what the users of
// its app have registered.
type PushPass struct {
	App    chat.AppID
	UID    chat.UID // of the broadcast
	Behind string   // the last user who was come to; empty at the beginning
	Done   bool     // there are no more: it is forgotten
}

// A PushOutcome is what became of one notification.
type PushOutcome struct {
	UID      chat.UID
	Device   string
	User     string // of a broadcast, whose UID is everybody's; otherwise empty
	Provider chat.PushProvider
	Kind     PushKind
	Class    string // package push has the words
	Code     string
	ID       string // the provider's
	Token    string // as much of it as may be shown
	Attempts uint8
	At       int64 // Unix ms
	Cut      uint8 // what was left out, as package push has it
}

// PushReasonsOf are reasons for some of a request's targets. They take the place of
// those that the same targets had.
type PushReasonsOf struct {
	Ref     chat.UID
	Count   int   // how many targets the request has
	Targets []int // growing; nil for the first ones, as many as there are reasons
	Reasons []uint8
}

// A PushChange is written as a whole.
type PushChange struct {
	Put      []PushJob // new, or in place of those at the same places
	Drop     []PushJob // by lane, priority and place
	Look     []PushLook
	Looked   []PushLook // by due and ref
	Halt     []PushHalt
	Reasons  []PushReasonsOf
	Outcomes []PushOutcome
	Shown    []PushShownOf
	Passes   []PushPass // by UID, in place of what they were
	Met      chat.UID   // what PushPasses says of the newest; zero leaves it

	Watermark uint64 // of PushConsumer; 0 leaves it
	Sync      bool   // whether it is to survive a crash when the call returns
}

// PushShownOf is the newest message of a channel that its owner was notified of.
type PushShownOf struct {
	Channel ChannelRef
	UID     chat.UID // zero when nothing is shown any more
}
