// Package store says what durable state promises, as interfaces by domain. The
// engines below it keep the promise; package storetest is the promise written
// as tests, and every engine passes it.
//
// Three rules hold for every engine:
//
//   - An Append is reported done only after it would survive a crash.
//   - No reader sees what a crash could still take back: every read stops at
//     the last synced commit.
//   - UIDs, times and offsets are given together, in commit order. A user's
//     offsets grow by one without a gap and are never reused within an epoch.
package store

import (
	"context"
	"errors"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// ErrRow is of rows that do not hold what they should: left by a mistake, or by a
// release that knew more. To try again does not help.
var ErrRow = errors.New("malformed row")

// A Store is one life of all durable state.
type Store interface {
	Appender
	Timelines
	Messages
	Overlays
	Views
	OpenChannels
	Apps
	Users
	Blocks
	Devices
	PushDevices
	PushSettings
	PushSights
	PushQueue
	Deliveries
	Broadcasts
	Onces
	Log
	Index

	// Epoch names this life of the store. Offsets of different epochs are not
	// comparable. It is made with the store and changes when a backup is
	// restored.
	Epoch() string

	// Health is nil when appends are accepted, and otherwise the error they
	// would be refused with.
	Health() error

	// Close finishes what was appended and releases the store. No other call
	// may be under way.
	Close() error
}

// Appender is the write path of messages.
type Appender interface {
	// Append makes one request durable for all of its targets, or for none.
	// When it returns nil the outcome is in a.Placed and survives a crash.
	//
	// An error of kind KindUnavailable means that nothing was kept. One of kind
	// KindUnknown means that a commit was under way when ctx ended or the
	// engine failed: it may or may not have been kept.
	//
	// The caller must not touch a again before a.Done was called (when set) or
	// Append has returned, whichever is later, and never change its Message: that
	// is what readers get.
	Append(ctx context.Context, a *Append) error
}

// An Append asks for one message to be given to its targets.
type Append struct {
	Message *chat.Message

	// Targets are user ids, or channel ids for an open channel message, in
	// request order, without duplicates. Target i gets the UID First.Plus(i).
	// In a direct or system message each target's timeline gets an entry.
	// At most chat.MaxUIDBlock. Empty only with a Once, States, Views, Marks,
	// Preferences or a Broadcast, which are then all that is kept: the memory of a
	// request that left everybody out, a change that nobody is told of yet, a
	// message for whoever comes.
	Targets []string

	// History asks for the message to be kept in history, not only for as long
	// as missed messages wait. It is without effect on an ephemeral message.
	History bool

	// States are changed in the same commit, also when the message is ephemeral.
	States []StateChange

	// Views and Marks are changed in the same commit, likewise.
	Views []ViewChange
	Marks []MarkChange
	// Preferences, when set, are changed likewise.
	Preferences *PreferencesChange

	// Left are who was left out of the request and got no UID. They are kept
	// with the message, for its trace.
	Left []string

	// Broadcast, when set, is kept, with its Message if it has one. The engine
	// fills its UID in; there are no Targets.
	Broadcast *chat.Broadcast
	// Taking, when set, is noted for every target.
	Taking *Taking

	// Once, when set, is remembered in the same commit.
	Once *Once

	// Done, when set, is called exactly once when the outcome is settled, also
	// when Append returned earlier with KindUnknown. It must not block.
	Done func(error)

	Placed Placed
}

// Placed is where a request ended up. The engine fills it in.
type Placed struct {
	First   chat.UID // the first of the request's consecutive UIDs; its time is the sentAt of all
	Entries []Entry  // per timeline entry written; empty when the message is ephemeral
}

// An Entry is one row of a user's timeline: a small reference to what the user
// must learn.
type Entry struct {
	User   string
	Offset uint64
	UID    chat.UID // names the message for this user
	Ref    chat.UID // first UID of the request: names the stored body
	Peer   string   // for an outgoing copy the recipient, otherwise empty
	Kind   EntryKind
}

// An EntryKind says what an entry tells. Numbers are stored: never reuse one.
type EntryKind uint8

const (
	// EntryIn is a message the user received.
	EntryIn EntryKind = 1
	// EntryOut is a copy of a message the user sent.
	EntryOut EntryKind = 2
)

// A Commit is a batch of appends that became durable together, in the order in
// which UIDs and offsets were given.
type Commit struct {
	Appends []*Append
}

// OnCommit is told of every commit, in order, once it is durable and readable
// and before any of its callers is answered. Ephemeral appends are among them,
// in their place. It runs on the commit path: it must not block on I/O.
type OnCommit func(*Commit)

// Timelines reads what users' devices must learn.
type Timelines interface {
	// Head is the user's newest durable offset, 0 when there is none.
	Head(ctx context.Context, app chat.AppID, user string) (uint64, error)

	// Oldest is the lowest offset still kept for the user under a retention of
	// so many days. It is Head+1 when nothing is kept.
	Oldest(ctx context.Context, app chat.AppID, user string, days int) (uint64, error)

	// Read appends to dst the user's entries in r that are durable and kept,
	// and returns it. Entries come without a gap, in the order r asks for.
	Read(ctx context.Context, app chat.AppID, user string, r Range, dst []Entry) ([]Entry, error)
}

// A Range is a part of a timeline: the offsets strictly between After and
// Before, at most Limit of them, counted from the side where reading starts.
type Range struct {
	After   uint64
	Before  uint64 // 0 is no bound
	Limit   int    // must be positive
	Reverse bool   // newest first
}

// Messages reads stored bodies.
type Messages interface {
	// Message is the body stored under the first UID of its request. It is
	// shared: callers must not change it. KindNotFound when it is not kept any
	// more.
	Message(ctx context.Context, ref chat.UID) (*chat.Message, error)

	// Find is the request that gave uid: its Placed (all entries) and targets.
	// KindNotFound when there is none in this app. Events are not found: they
	// have a body and entries, and are no messages.
	Find(ctx context.Context, app chat.AppID, uid chat.UID) (*Append, error)

	// Given is to whom the request was given whose first UID is ref, an event's too,
	// in its order, and at which offsets of their timelines. Of an open channel's
	// they are channels, without offsets. KindNotFound when it is not kept any more.
	Given(ctx context.Context, ref chat.UID) ([]Target, error)
}

// A Target is one of those to whom a request was given.
type Target struct {
	ID     string // of the user or channel
	Offset uint64
}

// Apps keeps tenants.
type Apps interface {
	// ListApps gives all apps, oldest first.
	ListApps(ctx context.Context) ([]*chat.App, error)
	// PutApp durably stores app. With ID 0 it is new: it gets an ID, and a Key
	// that is taken is KindConflict.
	PutApp(ctx context.Context, app *chat.App) error
}

// Users keeps who is known.
type Users interface {
	// User is KindNoUser when nothing is stored.
	User(ctx context.Context, app chat.AppID, id string) (*chat.User, error)
	// UpdateUsers durably changes users, all or none. change gets each user as
	// stored (or new, with only the ID set) and edits it in place; concurrent
	// updates of one user do not lose each other.
	UpdateUsers(ctx context.Context, app chat.AppID, ids []string, change func(*chat.User)) error
	// ListUsers gives up to limit of the app's users who are in a state, after
	// leaving out skip of them, and how many they are in all. It looks at no
	// other users.
	ListUsers(ctx context.Context, app chat.AppID, state UserState, skip, limit int) (list []Listed, total int, err error)
}

// A Listed is a user in a list of those who are in a state.
type Listed struct {
	User string
	At   int64 // Unix ms: when they came into the state, of a ban when it ends
}

// A UserState is a state of users that is listed. Numbers are stored: never
// reuse one.
type UserState uint8

const (
	// StateBanned are the users whose ban has not ended, the longest banned
	// first: those whose ban ends are the last, so that no page moves by it.
	StateBanned UserState = 1
	// StateDeleted are the soft-deleted users, in the order of their deletion.
	StateDeleted UserState = 2

	stateMuted UserState = 16
)

// StateMuted are the users who are muted in channels of type t, in the order
// in which they were.
func StateMuted(t chat.ChannelType) UserState { return stateMuted + UserState(t) }

// MaxBlocklist is how many users one user can block.
const MaxBlocklist = 3000

// Blocks keeps who wants to hear nothing from whom.
type Blocks interface {
	// Block durably puts the others on the user's blocklist, all or none. Who is
	// on it already keeps their place. More than MaxBlocklist is KindInvalid.
	Block(ctx context.Context, app chat.AppID, user string, others []string) error
	// Unblock durably takes the others off the user's blocklist, all or none.
	Unblock(ctx context.Context, app chat.AppID, user string, others []string) error
	// Blocklist gives the part r of the user's blocklist.
	Blocklist(ctx context.Context, app chat.AppID, user string, r BlockRange) ([]Block, error)
	// Blocked gives those of the others who are on the user's blocklist, and
	// Blockers those on whose blocklist the user is, sorted. Where there is no
	// block, both cost the same for one and for a thousand others.
	Blocked(ctx context.Context, app chat.AppID, user string, others []string) ([]string, error)
	Blockers(ctx context.Context, app chat.AppID, user string, others []string) ([]string, error)
}

// A Block is one line of a blocklist.
type Block struct {
	User string
	// Place is where in the list they stand. Places grow in the order in which
	// users were added and are not given again, so a page goes on from one
	// whatever was added or removed meanwhile.
	Place uint64
}

// A BlockRange is a part of a blocklist: at most Limit blocks behind the place
// After, in the order asked for.
type BlockRange struct {
	After   uint64 // 0 is from where the order begins
	Limit   int    // must be positive
	Reverse bool   // added last first
}

// MaxDevices is how many devices of a user are remembered.
const MaxDevices = 32

// A Device is where one of a user's devices has read up to.
type Device struct {
	ID     string
	Epoch  string
	Offset uint64 // everything up to here was acknowledged
	SeenAt int64  // Unix ms
	// Platform is what its client said it runs on when that was stored; empty when
	// it did not.
	Platform string
}

// Devices keeps device cursors.
type Devices interface {
	// Devices lists a user's devices, longest unseen first.
	Devices(ctx context.Context, app chat.AppID, user string) ([]Device, error)
	// PutDevices stores cursors in bulk; an Offset that is lower than the
	// stored one of the same epoch does not move it back. Where a user then has
	// more than MaxDevices, those longest unseen go. It need not be synced: a
	// lost cursor costs repeated deliveries, which clients sort out by offset.
	PutDevices(ctx context.Context, devices []UserDevice) error
}

// A UserDevice is a device and whose it is.
type UserDevice struct {
	App  chat.AppID
	User string
	Device
}

// OnceLife is how long a Once is remembered.
const OnceLife = 24 * time.Hour

// A Once is the memory of a request that must not be done twice. The answer is
// made again from it, so it is small whatever the request's size.
type Once struct {
	Key  [16]byte // hash of scope and key
	Body [16]byte // hash of the request, to tell a repeat from a misuse
	Left []string // targets that were left out and got no UID
	// First is filled in by the engine from the append that carries it.
	First chat.UID
}

// Onces looks up what was done.
type Onces interface {
	// Once is nil when the key is not known or older than OnceLife. It sees
	// durable appends only; who needs to know of those under way keeps track of
	// them before Append.
	Once(ctx context.Context, key [16]byte) (*Once, error)
}

// Log is the log of committed batches that everything which must follow an
// accept reads, each consumer at its own watermark.
type Log interface {
	// LogHead is the newest durable sequence number, 0 at the beginning.
	LogHead() uint64
	// ReadLog gives up to max records after the given sequence number, durable
	// ones only, oldest first.
	ReadLog(ctx context.Context, after uint64, max int) ([]LogRecord, error)
	// WaitLog returns when LogHead is above after, or with ctx's error.
	WaitLog(ctx context.Context, after uint64) error
	// Watermark is how far the named consumer has come, 0 for a new one. The
	// consumers are named when the store is opened; records are kept until each
	// of them has passed.
	Watermark(ctx context.Context, consumer string) (uint64, error)
	// SetWatermark moves the consumer's watermark. It may be lost in a crash,
	// never ahead of what was done before it.
	SetWatermark(ctx context.Context, consumer string, seq uint64) error
}

// A LogRecord is one committed batch: which requests it held. Ephemeral
// requests are not logged.
type LogRecord struct {
	Seq  uint64
	At   int64 // Unix ms
	Refs []Ref
}

// A Ref names a stored request.
type Ref struct {
	App chat.AppID
	UID chat.UID // the first of the request
}

// IndexConsumer is the name under which an engine's Index follows the log.
const IndexConsumer = "index"

// Index is derived from the log, in bulk, by a consumer: history and the last
// message of each channel. Reads wait until the index has come as far as the
// log's head was when they began, so nobody sees that it is derived.
type Index interface {
	// IndexLog adds the records, which continue where the index's watermark
	// stands, and moves the watermark with them, atomically.
	IndexLog(ctx context.Context, records []LogRecord) error

	// History gives the part r of a channel's messages as seen by its owner
	// (empty for open channels).
	History(ctx context.Context, ch ChannelRef, r HistoryRange) ([]HistoryEntry, error)

	// Channels lists a user's channels, newest message first, and at the end
	// those that only have a Quiet one.
	Channels(ctx context.Context, app chat.AppID, user string, limit int) ([]ChannelState, error)

	// Channel is one line of it; nothing but the channel's name when it is not
	// there.
	Channel(ctx context.Context, ch ChannelRef) (ChannelState, error)

	// Unread counts the channel's messages in r that count as unread: of a counted
	// type, not sent by its owner, and without any mark.
	Unread(ctx context.Context, ch ChannelRef, r KeptRange) (int, error)

	// Wanting are the direct messages in r whose sender wants a receipt of the
	// channel's owner, oldest first.
	Wanting(ctx context.Context, ch ChannelRef, r KeptRange) ([]chat.UID, error)

	// Newest names the newest message of the channel that any of the above is
	// about, zero when there is none.
	Newest(ctx context.Context, ch ChannelRef) (chat.UID, error)
}

// A KeptRange is the part of a direct or system channel behind After, but at most
// Limit messages of it. Messages that are not in history are in it as long as
// missed messages wait: those behind Missed.
type KeptRange struct {
	After, Missed chat.UID
	Limit         int // must be positive
}

// A ChannelRef names a channel as seen by its owner.
type ChannelRef struct {
	App     chat.AppID
	Owner   string
	Type    chat.ChannelType
	Channel string
}

// A HistoryEntry is one message of a channel's history.
type HistoryEntry struct {
	UID  chat.UID
	Ref  chat.UID
	Kind EntryKind
}

// A ChannelState is one line of a user's channel list.
type ChannelState struct {
	Type    chat.ChannelType
	Channel string
	Last    HistoryEntry // zero when there is none

	// Quiet is the newest message that counts as unread and did not become the
	// last one, as it was sent not to; zero when there is none.
	Quiet chat.UID
}
