package courier

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"sync"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store"
)

// MaxIdempotencyKey is the longest idempotency key, in characters of visible
// ASCII.
const MaxIdempotencyKey = 128

// A Claim is the right to carry out the request that came with an idempotency
// key, or the memory that it was carried out. The zero of it, a nil *Claim, is
// a request without a key.
//
// While a claim is open, twins of its request wait for it.
type Claim struct {
	owner     *claims
	once      store.Once
	prior     *store.Once
	appending bool          // the store will call finish
	done      chan struct{} // closed when the outcome is settled
}

type claims struct {
	mu   sync.Mutex
	open map[[16]byte]*Claim
}

// Begin claims a key for the request with this body. scope tells requests of
// different operations or senders apart. It waits while a twin is under way. A
// key that was used with another body is KindConflict.
//
// The caller gives the claim to Send, or to Release when it does not come to
// that.
func (c *Courier) Begin(ctx context.Context, app *chat.App, scope, field, key string, body []byte) (*Claim, error) {
	if len(key) == 0 || len(key) > MaxIdempotencyKey {
		return nil, chat.Invalidf(field, "1 to %d characters, got %d", MaxIdempotencyKey, len(key))
	}
	for i := range len(key) {
		if key[i] <= ' ' || key[i] > '~' {
			return nil, chat.Invalid(field, "may hold only visible ASCII characters")
		}
	}
	cl := &Claim{owner: &c.claims, done: make(chan struct{})}
	cl.once.Key = claimHash(app.ID, scope, []byte(key))
	cl.once.Body = claimHash(app.ID, "", body)
	for {
		twin := c.claims.enter(cl)
		if twin == nil {
			break
		}
		if twin.once.Body != cl.once.Body {
			return nil, errConflict(field)
		}
		select {
		case <-twin.done:
		case <-ctx.Done():
			return nil, chat.Fail(chat.KindUnknown, "an equal request is still under way; repeat with the same key")
		}
	}
	prior, err := c.store.Once(ctx, cl.once.Key)
	if err == nil && prior != nil && prior.Body != cl.once.Body {
		err = errConflict(field)
	}
	if err != nil {
		cl.finish(err)
		return nil, err
	}
	if prior != nil {
		cl.prior = prior
		cl.finish(nil)
	}
	return cl, nil
}

func errConflict(field string) error {
	return &chat.Error{Kind: chat.KindConflict, Field: field, Rule: "was used before with another request body"}
}

// Repeats reports whether the request was carried out before. Send then only
// makes its answer again.
func (cl *Claim) Repeats() bool { return cl != nil && cl.prior != nil }

// Release gives the claim up without a Send. It is safe on nil, and without
// effect once Send was called.
func (cl *Claim) Release() { cl.settle(errReleased) }

var errReleased = chat.Fail(chat.KindInternal, "released")

// settle ends the claim unless the store is to say how it ends.
func (cl *Claim) settle(err error) {
	if cl != nil && !cl.appending && cl.prior == nil {
		cl.finish(err)
	}
}

// carry lets the append remember that the request was carried out, and the store
// say how the claim ends.
func (cl *Claim) carry(a *store.Append) {
	if cl != nil {
		a.Once, a.Done, cl.appending = &cl.once, cl.finish, true
	}
}

// finish lets twins go on: they find the outcome in the store.
func (cl *Claim) finish(error) {
	cl.owner.mu.Lock()
	defer cl.owner.mu.Unlock()
	if cl.owner.open[cl.once.Key] == cl {
		delete(cl.owner.open, cl.once.Key)
		close(cl.done)
	}
}

// enter registers cl, or gives the claim of the same key that is open.
func (c *claims) enter(cl *Claim) (twin *Claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if twin := c.open[cl.once.Key]; twin != nil {
		return twin
	}
	c.open[cl.once.Key] = cl
	return nil
}

// claimHash is 128 bits of SHA-256 over parts that cannot run into each other.
func claimHash(app chat.AppID, scope string, text []byte) (sum [16]byte) {
	h := sha256.New()
	var head [8]byte
	binary.BigEndian.PutUint32(head[:4], uint32(app))
	binary.BigEndian.PutUint32(head[4:], uint32(len(scope)))
	h.Write(head[:])
	h.Write([]byte(scope))
	h.Write(text)
	copy(sum[:], h.Sum(nil))
	return sum
}
