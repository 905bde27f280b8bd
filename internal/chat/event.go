package chat

// An Event is something that has happened to a message that was sent before, or
// to what a user has made of their channels. It travels as a message does, in a
// [Message] of its own that has nothing else to say: its From and its target are
// the two sides of the channel, and both the user where nobody else is to know.
type Event struct {
	Kind     EventKind
	UID      UID    // of the message it is about
	Operator string // who did it
	At       int64  // Unix ms

	Admin  bool   // recall: done in the name of the app
	Delete bool   // recall: nothing is to be left in its place
	Extra  string // recall

	Content string // update: the new one; of a stream's chunk its text
	Seq     uint64 // of a stream's chunk

	Set     map[string]string // metadata, of a message or an open channel: pairs that are new or changed
	Removed []string          // keys that are gone

	UIDs []UID // read, delete: of the messages it is about
	UpTo UID   // in place of them: all up to here

	// Of what has no message: the channel as the user sees it.
	ChannelType ChannelType
	Channel     string
	Own         *OwnChange // channel: what the user has set

	Room *RoomNews // of an open channel itself; never stored
}

// An EventKind says what has happened. Numbers are stored: never reuse one.
type EventKind uint8

// The kinds of event.
const (
	EventRecall   EventKind = 1
	EventUpdate   EventKind = 2
	EventMetadata EventKind = 3
	// EventStream is a chunk of a stream, told to who is online as it comes and
	// never kept.
	EventStream EventKind = 4
	// EventStreamEnd says that a stream is complete: in timelines it stands for
	// the whole message.
	EventStreamEnd EventKind = 5
	EventReceipt   EventKind = 6
	EventRead      EventKind = 7
	EventChannel   EventKind = 8
	EventDelete    EventKind = 9

	// Of open channels. They are told to who is there and never stored.
	EventParticipants EventKind = 16
	EventMute         EventKind = 17
	EventFreeze       EventKind = 18
	EventBan          EventKind = 19
	EventPairs        EventKind = 20
	EventEnded        EventKind = 21
	EventShed         EventKind = 22
	EventAllow        EventKind = 31

	// EventTyping is told to who is online and never stored. Its Operator is typing
	// something of the type in Extra, if that is not empty.
	EventTyping EventKind = 255
)

// String is the kind's name on the client protocol.
func (k EventKind) String() string {
	switch k {
	case EventRecall:
		return "recall"
	case EventUpdate:
		return "update"
	case EventMetadata:
		return "metadata"
	case EventStream:
		return "stream"
	case EventStreamEnd:
		return "message"
	case EventReceipt:
		return "receipt"
	case EventRead:
		return "read"
	case EventChannel:
		return "channel"
	case EventParticipants:
		return "participants"
	case EventMute:
		return "mute"
	case EventFreeze:
		return "freeze"
	case EventBan:
		return "ban"
	case EventPairs:
		return "kv"
	case EventEnded:
		return "destroyed"
	case EventShed:
		return "shed"
	case EventDelete:
		return "delete"
	case EventTyping:
		return "typing"
	case EventAllow:
		return "allow"
	}
	return "unknown"
}

// An OwnChange is something that a user has set on their channels: the whole new
// value of it, so that being told twice does no harm.
type OwnChange struct {
	Part OwnPart

	PinnedAt int64       // pin: Unix ms; 0 when it is pinned no more
	Level    NotifyLevel // level: of the event's channel, or of all of its type
	Quiet    *QuietHours // quiet: nil when there are none any more
	Tags     []Tag       // tags: all that the user has

	// Tagged: channels that were given the tag, and that lost it.
	Tag      string
	TaggedAt int64 // Unix ms
	Tagged   []Channel
	Untagged []Channel
}

// An OwnPart says what a user has set. Numbers are stored: never reuse one.
type OwnPart uint8

// The parts.
const (
	OwnPin     OwnPart = 1
	OwnLevel   OwnPart = 2
	OwnQuiet   OwnPart = 3
	OwnTags    OwnPart = 4
	OwnTagged  OwnPart = 5
	OwnRemoved OwnPart = 8 // from the list, until something new is said there
)

// A State is what has become of a message for one recipient since it was sent. It
// lies over the message, which never changes. A State in hand is immutable; a
// change makes a new one.
type State struct {
	Recall *Recall // nil unless it was recalled
	Edit   *Edit   // nil unless its content was changed
	ReadAt int64   // Unix ms: when the recipient had read it, of messages that want a receipt

	// Stream is set while and after the message's text came in chunks.
	Stream *Stream

	// Metadata counts in place of the message's own once Version is above 0.
	// Every change to it makes a new Version.
	Metadata map[string]Pair
	Version  uint64
	// Told is the Version that timelines know of, since ToldAt (Unix ms). While
	// it is behind, they are to be told.
	Told   uint64
	ToldAt int64
	// Due is when the message is to be looked at again (Unix ms, 0 for never): to
	// tell of its metadata or to close its stream, whichever comes first. It may
	// be too early.
	Due int64
	// Of the changes since Told: who made the last one, and who made all of them
	// and need not be told; empty when there are several.
	Operator string
	Quiet    string
}

// A Recall says how a message was recalled.
type Recall struct {
	Operator string
	At       int64 // Unix ms
	Admin    bool
	Delete   bool
	Extra    string
	// DisableUpdateLast keeps the notice from being shown as the channel's last
	// message.
	DisableUpdateLast bool
}

// An Edit is the content that was put in place of the one that was sent.
type Edit struct {
	Content string
	At      int64 // Unix ms
}

// A Pair is the value of one key of a message's metadata.
type Pair struct {
	Value   string
	At      int64  // Unix ms
	Version uint64 // of the state that brought it
	// Removed marks a key that is gone and of which not all know yet.
	Removed bool
}
