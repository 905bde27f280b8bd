package chat

import (
	"strings"
	"unicode/utf8"
)

// TypeFlags say how the server treats messages of a type.
type TypeFlags uint8

const (
	// Kept types are shown in clients' local history.
	Kept TypeFlags = 1 << iota
	// Counted types add to the unread count.
	Counted
	// Missed types wait for recipients who are offline. Types without it are
	// delivered to online devices only and leave no trace.
	Missed
	// Pushed types notify offline devices even without pushContent.
	Pushed
)

// MaxMessageType is the longest message type, in characters.
const MaxMessageType = 32

const builtinPrefix = "RC:"

// builtinTypes are the types every client knows and their flags
// (message-about/objectname, -notification, -callback, -status).
var builtinTypes = func() map[string]TypeFlags {
	const (
		content      = Kept | Counted | Missed | Pushed
		notification = Kept | Missed
		signal       = Missed
		status       = 0
	)
	m := map[string]TypeFlags{
		// The one signal that is pushed by default is the recall command.
		"RC:RcCmd": signal | Pushed,
	}
	for flags, names := range map[TypeFlags]string{
		content: "TxtMsg ImgMsg GIFMsg HQVCMsg VcMsg FileMsg SightMsg LBSMsg ReferenceMsg " +
			"CombineMsg CombineV2Msg ImgTextMsg StreamMsg",
		notification: "InfoNtf RcNtf ContactNtf ProfileNtf GrpNtf CmdNtf",
		signal: "CmdMsg ReadNtf RRReqMsg RRRspMsg SRSMsg chrmKVNotiMsg MsgExMsg VCInvite VCAccept " +
			"VCRinging VCHangup VCModifyMedia VCModifyMem PSCmd RRMsg LogCmdMsg",
		status: "TypSts",
	} {
		for name := range strings.FieldsSeq(names) {
			m[builtinPrefix+name] = flags
		}
	}
	return m
}()

// customFlags is how custom types are treated unless the app says otherwise:
// the server cannot know how a client registered them, so nothing is lost.
const customFlags = Kept | Counted | Missed

// registrationFlags are the words an app can set a custom type to; they are
// those of the client SDKs' registration call.
var registrationFlags = map[string]TypeFlags{
	"none":      Missed,
	"persisted": Kept | Missed,
	"counted":   Kept | Counted | Missed,
	"status":    0,
}

// IsBuiltin reports whether name has the prefix of built-in types.
func IsBuiltin(name string) bool { return strings.HasPrefix(name, builtinPrefix) }

// Type says how messages of the named type are treated in this app, or what is
// wrong with the name.
func (s *Settings) Type(field, name string) (TypeFlags, error) {
	if name == "" {
		return 0, Invalid(field, "is required")
	}
	if n := utf8.RuneCountInString(name); n > MaxMessageType {
		return 0, TooLong(field, MaxMessageType, n, "characters")
	}
	if !utf8.ValidString(name) {
		return 0, Invalid(field, "must be valid UTF-8")
	}
	if flags, ok := builtinTypes[name]; ok {
		return flags, nil
	}
	if IsBuiltin(name) && !s.UnknownBuiltins {
		return 0, Invalid(field, "unknown built-in type; custom types must not start with RC:")
	}
	if flags, ok := s.CustomTypes[name]; ok {
		return flags, nil
	}
	return customFlags, nil
}
