package push

import (
	"context"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// An Adapter takes notifications to one provider, with one credential of one app.
// It may be used by many at once.
type Adapter interface {
	// Batch is how many notifications one call of Send can have, at least 1.
	Batch() int
	// Send makes one attempt for each notification and says what came of it, in
	// their order. It returns within the time a provider has for an answer, or when
	// ctx ends: what was under way is then tried again.
	//
	// The only thing it does twice is to ask with a new access token when the
	// provider refuses the old one.
	Send(ctx context.Context, batch []*Notification) []Attempt
	// Check asks the provider whether it takes the credential, as far as that can
	// be asked without notifying anybody. Accepted is yes.
	Check(ctx context.Context) Result
	// Close lets its connections go. Nothing may be under way.
	Close()
}

// Feedback is of adapters whose provider keeps a list of the tokens it has found
// dead, besides what it says of those that are sent to, or in place of that.
type Feedback interface {
	// Dead are the tokens that the provider has found dead since it was last asked:
	// what it has told once it need not tell again. Providers want to be asked
	// seldom. An error costs nothing but the list; what follows from it is line.ResultOf.
	Dead(ctx context.Context) (tokens []string, err error)
}

// An Attempt is what came of a notification at its provider.
type Attempt struct {
	Result
	Cut Cut // what was left out to make it fit
}

// Nobody is a notification for a token that no device has, by which a provider can
// be asked whether it takes a credential.
func Nobody() *Notification {
	return &Notification{To: chat.PushDevice{Token: "parley-asks-for-no-device"}, Type: "RC:TxtMsg", Title: "Parley", Body: "Parley"}
}

// Refused is what came of a notification that could not be put in the provider's
// words: no provider was asked.
func Refused(err error) Attempt {
	r := Result{Class: PayloadBad, Code: "render"}
	switch err {
	case ErrExpired:
		r.Code = "expired"
	case ErrSilent:
		r.Code = "silent"
	case ErrTooLarge:
		r.Code = "too_large"
	case ErrToken:
		r.Code = "token"
	case ErrPackage:
		r.Code = "package"
	}
	return Attempt{Result: r}
}

// A PassHolder is an adapter that proves who sends with an access token, or a pass
// of its own making, that is good for a while.
type PassHolder interface {
	// PassAge is how old the one is that it has, if it has one.
	PassAge() (age time.Duration, has bool)
}
