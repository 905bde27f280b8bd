package client

import (
	"encoding/json"
	"fmt"
)

// An Event is what a Client tells, in the order in which it happened: one of
// Connected, Connecting, Disconnected, Subscribed, Unsubscribed, Publication
// and Message.
type Event interface{ event() }

// Connected tells that a connection stands. The publications that the server
// recovered follow as Publications.
type Connected struct {
	Client  string // the server's name for the connection
	Version string
	Data    json.RawMessage
	Subs    map[string]Subscribed // the server-side subscriptions
}

// Connecting tells that the connection is lost and will be made again.
type Connecting struct {
	Code   uint32
	Reason string
}

// Disconnected tells that the connection is lost for good. It is the last
// event, and the error of calls that come too late.
type Disconnected struct {
	Code   uint32
	Reason string
	Cause  error // what happened below the protocol, if that was it
}

// Codes that are never on the wire, as the npm client uses them.
const (
	CodeClosed       = 0 // by Close
	CodeTransport    = 1 // Connecting: the transport failed
	CodeUnauthorized = 1 // Disconnected: the token expired and there is no new one
	CodeNoPing       = 2 // Connecting: no ping came in time
	CodeBadProtocol  = 2 // Disconnected: the server's answer makes no sense
	CodeTimeout      = 3 // Connecting: no answer to a subscribe
	CodeUnsubscribe  = 4 // Connecting: no answer to an unsubscribe
	CodeTooBig       = 3 // Disconnected: we sent more than the server takes
)

func (d Disconnected) Error() string {
	if d.Cause != nil {
		return fmt.Sprintf("disconnected: %v", d.Cause)
	}
	return fmt.Sprintf("disconnected: %s (code %d)", d.Reason, d.Code)
}

// Unwrap is the cause.
func (d Disconnected) Unwrap() error { return d.Cause }

// Subscribed tells that a subscription stands. Its publications, those in the
// answer first, follow.
type Subscribed struct {
	Channel       string
	Recoverable   bool
	Positioned    bool
	WasRecovering bool
	Recovered     bool
	Position      Position
	Data          json.RawMessage
}

// Unsubscribed tells that a subscription ended.
type Unsubscribed struct {
	Channel string
	Code    uint32
	Reason  string
}

// Message is the server's message to this one connection, outside any channel.
type Message struct{ Data json.RawMessage }

func (Connected) event()    {}
func (Connecting) event()   {}
func (Disconnected) event() {}
func (Subscribed) event()   {}
func (Unsubscribed) event() {}
func (Publication) event()  {}
func (Message) event()      {}

func (r *subscribeResult) event(channel string) Subscribed {
	return Subscribed{
		Channel: channel, Recoverable: r.Recoverable, Positioned: r.Positioned,
		WasRecovering: r.WasRecovering, Recovered: r.Recovered,
		Position: Position{r.Offset, r.Epoch}, Data: r.Data,
	}
}
