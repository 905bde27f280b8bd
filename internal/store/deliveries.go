package store

import (
	"context"

	"github.com/parleychat/parley/internal/chat"
)

// Deliveries keeps what became of messages after they were committed: what a
// trace tells beyond what bodies and timelines say. It is kept for as long as
// missed messages wait, and is the one thing here that may be lost: nothing but
// a trace depends on it.
type Deliveries interface {
	// PutDeliveries keeps deliveries in bulk.
	PutDeliveries(ctx context.Context, list []Delivery) error
	// Deliveries gives those that the user's entry at offset is part of, of the
	// days from since (Unix ms) on. It stops at MaxDeliveries.
	Deliveries(ctx context.Context, app chat.AppID, user string, offset uint64, since int64) ([]Delivery, error)

	// PutReach keeps how many members open channel messages were queued for.
	PutReach(ctx context.Context, list []Reach) error
	// Reach is how many members an open channel message was queued for; known is
	// false when nobody noted it.
	Reach(ctx context.Context, uid chat.UID) (members int, known bool, err error)

	// LeftOut is who was left out of the request whose first UID is given, in the
	// request's order.
	LeftOut(ctx context.Context, ref chat.UID) ([]string, error)
}

const (
	// MaxDeliverySpan is how many entries one stored Delivery is about at most.
	// Engines cut longer ones: it bounds how far is searched for those that an
	// entry is part of.
	MaxDeliverySpan = 1024
	// MaxDeliveries is how many deliveries of one entry are given.
	MaxDeliveries = 256
)

// A Delivery says that a run of entries of a user's timeline was written to one
// of their sessions, or acknowledged by it. A session that gets a thousand
// entries within moments makes one of these, not a thousand.
type Delivery struct {
	App      chat.AppID
	User     string
	Session  [16]byte // the client id that the session was told
	Device   string   // empty when the client gave none
	Platform string   // likewise
	Kind     DeliveryKind
	After    uint64 // the entries are those above After
	To       uint64 // and up to To
	From     int64  // Unix ms: when the first of them was
	Until    int64  // and the last
}

// A DeliveryKind says what happened to entries. Numbers are stored: never reuse
// one.
type DeliveryKind uint8

const (
	// DeliveryWritten entries were taken by the session's socket.
	DeliveryWritten DeliveryKind = 1
	// DeliveryAcked entries were acknowledged by the client.
	DeliveryAcked DeliveryKind = 2
)

// A Reach is how many members an open channel message was queued for.
type Reach struct {
	UID     chat.UID
	Members int
}
