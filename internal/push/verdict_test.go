package push_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/parleychat/parley/internal/push"
)

// Only a clear refusal counts as one: an outage must keep no credential out.
func TestVerdict(t *testing.T) {
	t.Parallel()
	for class, want := range map[push.Class]string{
		push.Accepted: "good", push.QuotaDay: "good", push.UserCap: "good",
		push.ConfigHalt: "refused", push.AuthRefresh: "refused",
		push.Retry: "unknown", push.RetryAfter: "unknown", push.PayloadBad: "unknown", push.TokenDead: "unknown", push.TokenStrike: "unknown",
	} {
		v := push.Verdict{Result: push.Result{Class: class, Code: `"7"`}}
		if v.Word() != want || (v.Advice() == "") != (class == push.Accepted || class == push.UserCap) {
			t.Errorf("%s: %s, %q", class, v.Word(), v.Advice())
		}
		if text := v.Refusal(); want == "refused" && !strings.HasPrefix(text, `was refused with "\"7\"": `) {
			t.Errorf("%s: %s", class, text)
		}
	}
	v := push.Verdict{Err: errors.New("p8: is none")}
	if v.Word() != "refused" || v.Advice() != "it cannot be used: p8: is none" || v.Refusal() != v.Advice() {
		t.Errorf("%s, %s, %s", v.Word(), v.Advice(), v.Refusal())
	}
}
