package push

import (
	"strconv"

	"github.com/parleychat/parley/internal/chat"
)

// A Verdict is what came of asking a provider whether it takes a credential.
type Verdict struct {
	Result
	Err error // why it could not be asked at all: the credential cannot be used
}

// A Checked is a credential, and what its provider says of it.
type Checked struct {
	Credential chat.PushCredential
	Verdict
}

// The words of verdicts.
const (
	VerdictGood    = "good"
	VerdictRefused = "refused"
	VerdictUnknown = "unknown"
)

// Word is good where the provider takes the credential, refused where it says that
// it does not, and otherwise unknown.
func (v *Verdict) Word() string {
	switch {
	case v.Err != nil, v.Class == AuthRefresh, v.Class == ConfigHalt:
		return VerdictRefused
	case v.Class == Accepted, v.Class == QuotaDay, v.Class == UserCap:
		return VerdictGood
	}
	return VerdictUnknown
}

// Advice is what to do about it; nothing where it is good.
func (v *Verdict) Advice() string {
	if v.Err != nil {
		return "it cannot be used: " + v.Err.Error()
	}
	switch v.Class {
	case Accepted, UserCap:
		return ""
	case QuotaDay:
		return "the provider takes it, but its quota of the day is used up"
	case AuthRefresh, ConfigHalt:
		return "the provider refuses it: look the code up in its console or documentation, compare id, secret, package and environment, and see that push is switched on there"
	case RetryAfter:
		return "the provider asks to be left alone for a while: try again later"
	case Retry:
		return "the provider did not answer: see that its address can be reached from here, and with push-ca that its certificate is trusted"
	}
	return "the provider answered something else, from which it cannot be told: look the code up in its documentation"
}

// Refusal is why a credential is not set that the provider was asked about.
func (v *Verdict) Refusal() string {
	if v.Err != nil {
		return v.Advice()
	}
	return "was refused with " + strconv.Quote(v.Code) + ": " + v.Advice()
}
