package chat

import "unicode/utf8"

// A ChannelType says what kind of conversation a channel is. The numbers are
// those of the server API.
type ChannelType uint8

// The channel types. Community and group sends are not served yet; their
// numbers are fixed because they are part of every UID.
const (
	Direct    ChannelType = 1
	Group     ChannelType = 3
	Open      ChannelType = 4
	System    ChannelType = 6
	Community ChannelType = 10
)

// String is the type's name on the client protocol.
func (t ChannelType) String() string {
	switch t {
	case Direct:
		return "direct"
	case Group:
		return "group"
	case Open:
		return "open"
	case System:
		return "system"
	case Community:
		return "community"
	}
	return "unknown"
}

// ParseChannelType is the inverse of String; ok is false for other words.
func ParseChannelType(s string) (t ChannelType, ok bool) {
	for _, t := range []ChannelType{Direct, Group, Open, System, Community} {
		if t.String() == s {
			return t, true
		}
	}
	return 0, false
}

// MaxID is the longest user or channel id, in bytes of UTF-8.
const MaxID = 64

// CheckID says whether id may name a user or a channel: 1 to 64 bytes of UTF-8
// without spaces or control characters. The error names field.
func CheckID(field, id string) error {
	if id == "" {
		return Invalid(field, "is required")
	}
	if len(id) > MaxID {
		return Invalidf(field, "at most %d bytes, got %d", MaxID, len(id))
	}
	if !utf8.ValidString(id) {
		return Invalid(field, "must be valid UTF-8")
	}
	for _, r := range id {
		if isSpaceOrControl(r) {
			return Invalid(field, "must not contain spaces or control characters")
		}
	}
	return nil
}

func isSpaceOrControl(r rune) bool {
	switch {
	case r <= ' ', r == 0x7f:
		return true
	case r < 0x80:
		return false
	case r <= 0xa0, r == 0x1680, r >= 0x2000 && r <= 0x200a, r == 0x2028, r == 0x2029, r == 0x202f, r == 0x205f, r == 0x3000:
		return true
	}
	return false
}
