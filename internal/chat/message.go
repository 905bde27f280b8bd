package chat

import (
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"
)

// Limits of a message, from the pages "Send a direct message", "Send a system
// channel message" and "Send an open channel message".
const (
	MaxContent          = 128 << 10 // bytes of UTF-8
	MaxDirectRecipients = 1000
	MaxSystemRecipients = 100
	// MaxOpenChannels is ours: the page recommends at most 10 and names no
	// maximum.
	MaxOpenChannels = 100

	MaxMetadataKey     = 32   // characters
	MaxMetadataValue   = 4096 // characters
	MaxMetadataPerSend = 100  // pairs; the same for each later call of the server
	MaxMetadataPerCall = 20   // pairs in one call of a client
	MaxMetadata        = 300  // pairs on one message

	// Bounds of count, the iOS badge. MinBadge leaves the badge unchanged.
	MinBadge = -1
	MaxBadge = 9999

	// MaxPushText bounds pushContent and pushData, in bytes. The pages give no
	// limit; providers refuse whole payloads of more than 4 KiB.
	MaxPushText = 16 << 10
)

// An AppID is an app's number within this installation. App keys are what
// callers use; ids keep stored rows short.
type AppID uint32

// An Origin says through which door a message came.
type Origin uint8

// The origins of a message.
const (
	FromServer Origin = iota // the server API
	FromClient               // a client connection
)

// A Message is what one request asks to be delivered: the part that is the same
// for every recipient. It is stored once and never changes; what can change
// later (recall, update, metadata) lies over it by UID.
type Message struct {
	App         AppID
	ChannelType ChannelType
	Origin      Origin
	Flags       TypeFlags // of MessageType when it was sent
	From        string
	Type        string
	Content     string
	RequestID   string // X-Request-ID of the call, for the trace

	Persist           bool // store in history
	DisableUpdateLast bool // leave the channel list as it is
	NeedReadReceipt   bool
	Echo              bool // the sender asked for a copy on their own devices
	VerifyBlocklist   bool
	HasMetadata       bool
	Stream            bool // its text comes in chunks; Content is that of the first
	Metadata          map[string]string

	Push     PushOptions
	Priority Priority // open channels only

	// Event, when set, is all there is to say: the message is not one to be shown
	// but tells what happened to another.
	Event *Event
}

// PushOptions are a send's fields about push notifications, checked but not
// interpreted.
type PushOptions struct {
	Content          string
	Data             string
	Ext              string // JSON as sent; empty when Disabled
	More             string // JSON of what a broadcast by tags or package says besides; mostly empty
	Disabled         bool
	ContentAvailable bool
	Badge            int  // MinBadge to MaxBadge
	HasBadge         bool // whether Badge was given and has effect
}

// A Priority is the priority an open channel message was sent with.
type Priority uint8

// The priorities of the page "Send an open channel message".
const (
	PriorityStandard Priority = iota
	PriorityAllowlisted
	PriorityHigh
	PriorityLow
)

// String is the priority's name in metrics and on the client protocol.
func (p Priority) String() string {
	switch p {
	case PriorityStandard:
		return "standard"
	case PriorityAllowlisted:
		return "allowlisted"
	case PriorityHigh:
		return "high"
	case PriorityLow:
		return "low"
	}
	return "unknown"
}

// Ephemeral reports whether nothing of the message is to be kept: it reaches
// online devices only.
func (m *Message) Ephemeral() bool {
	if m.ChannelType == Open {
		return !m.Persist
	}
	return m.Flags&Missed == 0
}

// WantsReceipt reports whether the sender learns of it when a recipient has read
// the message.
func (m *Message) WantsReceipt() bool {
	return m.NeedReadReceipt && m.Persist && m.ChannelType == Direct
}

// Check says whether the message may be sent under the app's settings, and
// fills in Flags. Errors name the request's fields.
func (m *Message) Check(s *Settings) error { return m.check(s, false) }

// CheckMade is Check for a message whose content was made by us, of parts that
// were checked: what is made of a stream's text is longer than the text.
func (m *Message) CheckMade(s *Settings) error { return m.check(s, true) }

func (m *Message) check(s *Settings, made bool) error {
	if err := CheckID("fromUserId", m.From); err != nil {
		return err
	}
	flags, err := s.Type("messageType", m.Type)
	if err != nil {
		return err
	}
	m.Flags = flags
	if !made {
		if err := CheckContent(m.Type, m.Content); err != nil {
			return err
		}
	}
	if n := len(m.Push.Content); n > MaxPushText {
		return TooLong("pushContent", MaxPushText, n, "bytes")
	}
	if n := len(m.Push.Data); n > MaxPushText {
		return TooLong("pushData", MaxPushText, n, "bytes")
	}
	if m.Push.HasBadge && (m.Push.Badge < MinBadge || m.Push.Badge > MaxBadge) {
		return Invalidf("count", "from %d to %d, got %d", MinBadge, MaxBadge, m.Push.Badge)
	}
	if m.Priority > PriorityLow {
		return Invalidf("priority", "one of 0, 1, 2, 3, got %d", m.Priority)
	}
	return CheckMetadata("metadata", m.Metadata)
}

// CheckContent says whether a message of the type may have this content.
func CheckContent(messageType, content string) error {
	switch {
	case content == "":
		return Invalid("content", "is required")
	case len(content) > MaxContent:
		return TooLong("content", MaxContent, len(content), "bytes")
	case !utf8.ValidString(content):
		return Invalid("content", "must be valid UTF-8")
	case IsBuiltin(messageType) && !isJSONObject(content):
		return Invalid("content", "must be a JSON object for built-in type "+messageType)
	}
	return nil
}

func isJSONObject(s string) bool {
	for i := range len(s) {
		switch s[i] {
		case ' ', '\t', '\r', '\n':
			continue
		case '{':
			// Three times as fast as encoding/json on a long text. What clients
			// can make of doubled names or broken escapes is theirs to say.
			return jsontext.Value(s).IsValid(jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))
		}
		return false
	}
	return false
}

// CheckMetadata says whether the pairs of one request obey the rules of
// message metadata.
func CheckMetadata(field string, pairs map[string]string) error {
	if len(pairs) > MaxMetadataPerSend {
		return Invalidf(field, "at most %d pairs, got %d", MaxMetadataPerSend, len(pairs))
	}
	for k, v := range pairs {
		if k == "" {
			return Invalid(field, "keys must not be empty")
		}
		// A key of foreign characters is not echoed back whole.
		if n := utf8.RuneCountInString(k); n > MaxMetadataKey {
			return TooLong(field+" key", MaxMetadataKey, n, "characters")
		}
		for i := range len(k) {
			if !isMetadataKeyByte(k[i]) {
				return Invalidf(field, "key %q may hold only letters, digits and + = - _", k)
			}
		}
		if n := utf8.RuneCountInString(v); n > MaxMetadataValue {
			return TooLong(field+"."+k, MaxMetadataValue, n, "characters")
		}
	}
	return nil
}

func isMetadataKeyByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' ||
		c == '+' || c == '=' || c == '-' || c == '_'
}
