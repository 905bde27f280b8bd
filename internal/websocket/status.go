package websocket

import (
	"encoding/binary"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Close codes of RFC 6455 section 7.4.1 that this package uses itself.
const (
	CodeNormal        = 1000
	CodeGoingAway     = 1001
	CodeProtocolError = 1002
	CodeNoStatus      = 1005 // never on the wire: the close frame had no code
	CodeInvalidData   = 1007
	CodeTooBig        = 1009
)

// An Error is a breach of the protocol by the peer. Code and Reason are what
// the close frame should say.
type Error struct {
	Code   uint16
	Reason string
}

func (e *Error) Error() string { return fmt.Sprintf("websocket: %s (close %d)", e.Reason, e.Code) }

// One value each, so that a flood of broken frames costs no memory.
var (
	errReservedBits      = &Error{CodeProtocolError, "reserved bits set"}
	errReservedOpcode    = &Error{CodeProtocolError, "reserved opcode"}
	errMaskMissing       = &Error{CodeProtocolError, "client frame not masked"}
	errMaskPresent       = &Error{CodeProtocolError, "server frame masked"}
	errControlFragmented = &Error{CodeProtocolError, "fragmented control frame"}
	errControlTooLong    = &Error{CodeProtocolError, "control frame over 125 bytes"}
	errLengthEncoding    = &Error{CodeProtocolError, "length not minimally encoded"}
	errContinuation      = &Error{CodeProtocolError, "continuation without a message"}
	errInterleaved       = &Error{CodeProtocolError, "new message within a fragmented one"}
	errClosePayload      = &Error{CodeProtocolError, "invalid close payload"}
	errCloseReason       = &Error{CodeInvalidData, "close reason is not UTF-8"}
	errText              = &Error{CodeInvalidData, "text is not UTF-8"}
	errTooBig            = &Error{CodeTooBig, "message too big"}
)

// CloseCode is the code and reason with which to close a connection after err:
// those of an Error, and otherwise 1001 without a reason.
func CloseCode(err error) (code uint16, reason string) {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code, e.Reason
	}
	return CodeGoingAway, ""
}

// ParseClose splits the payload of a close frame. The Parser has checked it; an
// empty one gives CodeNoStatus.
func ParseClose(payload []byte) (code uint16, reason string) {
	if len(payload) < 2 {
		return CodeNoStatus, ""
	}
	return binary.BigEndian.Uint16(payload), string(payload[2:])
}

func checkClose(payload []byte) error {
	if len(payload) == 0 {
		return nil
	}
	if len(payload) == 1 || !validCloseCode(binary.BigEndian.Uint16(payload)) {
		return errClosePayload
	}
	if !utf8.Valid(payload[2:]) {
		return errCloseReason
	}
	return nil
}

// validCloseCode says which codes may be on the wire: RFC 6455 section 7.4,
// with 1012 to 1014 as registered since. 1004 to 1006 and 1015 are for local
// use only, and what is not given out yet is an error too.
func validCloseCode(c uint16) bool {
	switch {
	case c >= 1000 && c <= 1003, c >= 1007 && c <= 1014, c >= 3000 && c <= 4999:
		return true
	}
	return false
}
