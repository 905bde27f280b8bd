package gateway

import (
	"errors"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/websocket"
)

// An ErrorRow is one error code that answers to commands can carry.
type ErrorRow struct {
	Code      uint32
	Text      string      // sent unless there is something more telling to say
	Temporary bool        // the same call can succeed later; clients retry by this flag
	Kinds     []chat.Kind // the failures it stands for; none for the protocol's own
	When      string      // for the documentation
}

// Codes up to 113 and their meaning are the Centrifuge protocol's. Above, 400
// to 1999 are ours, and the five-digit ones are those that clients of the
// platform we follow already know.
const (
	codeInternal          = 100
	codeUnauthorized      = 101
	codeUnknownChannel    = 102
	codeMethodNotFound    = 104
	codeAlreadySubscribed = 105
	codeLimit             = 106
	codeBadRequest        = 107
	codeNotAvailable      = 108
	codeTokenExpired      = 109
	codeTooManyRequests   = 111
	codeUnrecoverable     = 112
)

var errorTable = []ErrorRow{
	{codeInternal, "internal error", true, []chat.Kind{chat.KindInternal}, "A fault of the server. The log has the details."},
	{codeUnauthorized, "unauthorized", false, []chat.Kind{chat.KindAppKey, chat.KindSignature, chat.KindToken}, "The credentials let nobody in. While connecting, a token that was never good closes the connection with 3500 instead."},
	{codeUnknownChannel, "unknown channel", false, nil, "The channel's name is not one of those this server has: me, and open:{channelId}."},
	{codeMethodNotFound, "method not found", false, nil, "There is no rpc method of this name."},
	{codeAlreadySubscribed, "already subscribed", false, nil, "The connection has this subscription already. me is subscribed by the server itself."},
	{codeLimit, "limit exceeded", false, nil, "The connection is in 128 open channels already."},
	{codeBadRequest, "bad request", false, []chat.Kind{chat.KindInvalid, chat.KindTooLong, chat.KindKeepAliveFull}, "A field breaks a rule; the message names both."},
	{codeNotAvailable, "not available", false, nil, "The server does not offer this call, or not for this channel."},
	{codeTokenExpired, "token expired", false, []chat.Kind{chat.KindTokenExpired}, "The token is past its lifetime, or was voided. Connect again with a new one."},
	{codeTooManyRequests, "too many requests", true, []chat.Kind{chat.KindRate}, "Commands come faster than the connection may send them. Who goes on regardless is closed with 3013."},
	{codeUnrecoverable, "unrecoverable position", false, nil, "The position is of another epoch, so what came after it cannot be told."},
	{403, "forbidden", false, []chat.Kind{chat.KindForbidden}, "The message is not the user's to change."},
	{404, "not found", false, []chat.Kind{chat.KindNotFound, chat.KindNoUser}, "The message or user named does not exist."},
	{405, "blocked by the recipient", false, []chat.Kind{chat.KindBlocked}, "The recipient has the sender on their blocklist."},
	{409, "conflict", false, []chat.Kind{chat.KindConflict}, "The clientMsgId was used before with another message."},
	{1009, "feature is off", false, []chat.Kind{chat.KindFeatureOff}, "The app has this feature switched off."},
	{1050, "unavailable, try again", true, []chat.Kind{chat.KindUnavailable}, "The server cannot take this now. Nothing was done."},
	{1051, "outcome unknown, repeat with the same clientMsgId", true, []chat.Kind{chat.KindUnknown}, "The call was under way when something failed. Repeated with the same clientMsgId it is done once."},
	{20106, "muted in direct channels", false, []chat.Kind{chat.KindMutedDirect}, "The app's backend has muted the user in direct channels."},
	{20109, "clients cannot send to the system channel", false, []chat.Kind{chat.KindSystemReadOnly}, "Only the app's backend sends system messages."},
	{20604, "sending too fast", true, []chat.Kind{chat.KindTooFast}, "The connection sends more messages than the app setting limits.client allows, or says too often that its user is typing."},
	{23406, "not in the open channel", false, []chat.Kind{chat.KindNotInOpen}, "The user has not entered the open channel, or is in it no more."},
	{23408, "muted in open channels", false, []chat.Kind{chat.KindMutedOpen}, "The app's backend has muted the user in open channels."},
	{23409, "kept out of the open channel", false, []chat.Kind{chat.KindBannedOpen}, "The app's backend has banned the user from the open channel for a time."},
	{23410, "no such open channel", false, []chat.Kind{chat.KindNoOpenChannel}, "The open channel does not exist, and the app has open.strict set."},
	{23423, "the open channel's metadata is full", false, []chat.Kind{chat.KindPairsFull}, "The open channel has 100 pairs of metadata, and may not have more."},
	{23424, "the pair is somebody else's", false, []chat.Kind{chat.KindPairTaken}, "Another user has set this key of the open channel's metadata."},
	{30016, "content too large", false, []chat.Kind{chat.KindContentTooLarge}, "A message's content is over 131072 bytes of UTF-8."},
	{34008, "the message takes no metadata", false, []chat.Kind{chat.KindNoMetadata}, "The message was sent without hasMetadata."},
	{34010, "metadata is full", false, []chat.Kind{chat.KindMetadataFull}, "The message has 300 pairs of metadata, and may not have more."},
}

// ErrorTable lists every code that an answer's error can have.
func ErrorTable() []ErrorRow { return errorTable }

var errorsByCode, errorsByKind = func() (map[uint32]*ErrorRow, map[chat.Kind]*ErrorRow) {
	codes, kinds := map[uint32]*ErrorRow{}, map[chat.Kind]*ErrorRow{}
	for i := range errorTable {
		row := &errorTable[i]
		codes[row.Code] = row
		for _, k := range row.Kinds {
			kinds[k] = row
		}
	}
	return codes, kinds
}()

// A replyError is an answer's error.
type replyError struct {
	row  *ErrorRow
	text string
}

func (e *replyError) Error() string { return e.text }

// refuse makes a replyError with one of the protocol's own codes. Without text
// it is the table's.
func refuse(code uint32, text string) *replyError {
	row := errorsByCode[code]
	if text == "" {
		text = row.Text
	}
	return &replyError{row, text}
}

// answerFor says how err looks to a client. Faults of ours keep their text to
// themselves.
func answerFor(err error) *replyError {
	if e, ok := errors.AsType[*replyError](err); ok {
		return e
	}
	e, ok := errors.AsType[*chat.Error](err)
	if !ok || e.Kind == chat.KindInternal {
		return refuse(codeInternal, "")
	}
	row := errorsByKind[e.Kind]
	if row == nil { // the kinds of closesByKind do not come here
		return refuse(codeInternal, "")
	}
	return &replyError{row, e.Error()}
}

// A DisconnectRow is one code that the server closes connections with.
type DisconnectRow struct {
	Code   uint16
	Reason string // the close frame's text; never anything that looks like JSON
	When   string // for the documentation
}

// Reconnect reports whether clients come back by themselves after this code.
func (d DisconnectRow) Reconnect() bool {
	return (d.Code < 3500 || d.Code >= 4000 && d.Code < 4500) && d.Code != websocket.CodeTooBig // B9
}

var (
	closeShutdown     = &DisconnectRow{3001, "shutdown", "The server stops. Its clients are closed one after the other, so that they do not all come back at once."}
	closeExpired      = &DisconnectRow{3005, "connection expired", "The token was voided, or its lifetime ended and the client did not refresh it."}
	closeSlow         = &DisconnectRow{3008, "slow", "The client read nothing for 30 seconds while there was something to read. It can be seen only by a client that reads on before the connection is gone."}
	closeInsufficient = &DisconnectRow{3010, "insufficient state", "Entries that this client still had to be given are past their retention. It reconnects and is told so."}
	closeNoPong       = &DisconnectRow{3012, "no pong", "The client did not answer a ping."}
	closeTooMany      = &DisconnectRow{3013, "too many requests", "The client went on sending commands after hundreds were refused with 111."}
	closeInvalidToken = &DisconnectRow{3500, "invalid token", "The token is missing, malformed or wrongly signed, or a refresh came with a token of somebody else."}
	closeBadRequest   = &DisconnectRow{3501, "bad request", "The client broke the protocol: something that is no command, a command before connect, a second connect, a pong nobody asked for."}
	closeStale        = &DisconnectRow{3502, "stale", "No connect command came in time."}
	closeConnLimit    = &DisconnectRow{3504, "connection limit", "The user has as many connections as the app setting users.sessions allows."}
	closeBanned       = &DisconnectRow{4501, "banned", "The app's backend has banned the user for a time. Connect again when the ban is over: the server does not tell when that is."}
	closeDeleted      = &DisconnectRow{4503, "user deleted", "The app's backend has deleted the user. The user's tokens are good again once the user is restored."}
	closeInapt        = &DisconnectRow{3506, "inappropriate protocol", "The client speaks the Protobuf form of the protocol; this server speaks JSON."}
)

var disconnectTable = []*DisconnectRow{
	{1000, "", "The server closes the connection because the client did. Answers a client's close frame that carries no code."},
	{1002, "protocol error", "The client broke the WebSocket protocol; the reason says how."},
	{1007, "text is not UTF-8", "A text frame does not hold UTF-8."},
	{1009, "message too big", "A frame is over 64 KiB before the connect command, or over 1 MiB after it."},
	closeShutdown, closeExpired, closeSlow, closeInsufficient, closeNoPong, closeTooMany,
	closeInvalidToken, closeBadRequest, closeStale, closeConnLimit, closeInapt,
	closeBanned, closeDeleted,
}

// closesByKind are the failures that no answer is given to: there is nothing
// that the user could do on this connection.
var closesByKind = map[chat.Kind]*DisconnectRow{
	chat.KindBanned:  closeBanned,
	chat.KindDeleted: closeDeleted,
}

// DisconnectTable lists every code that connections are closed with.
func DisconnectTable() []DisconnectRow {
	rows := make([]DisconnectRow, len(disconnectTable))
	for i, d := range disconnectTable {
		rows[i] = *d
	}
	return rows
}
