package pushtest

import (
	"net/http/httptest"
	"testing"
	"time"
)

// A project has so many test messages a day, of its own day.
func TestOHOSTestMessages(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 15, 59, 59, 0, time.UTC)
	s := NewOHOS(Options{Strangers: true, Now: func() time.Time { return now }})
	k := s.kind.(*ohos)
	k.bearers["x"] = bearer{expires: now.Add(time.Hour)}
	const body = `{"payload":{"notification":{"category":"IM","title":"t","body":"b","clickAction":{"actionType":0}}},"target":{"token":["p"]},"pushOptions":{"testMessage":true}}`
	ask := func() string {
		r := httptest.NewRequest("POST", "/v3/"+k.project+"/messages:send", nil)
		r.Header.Set("Authorization", "Bearer x")
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("push-type", "0")
		_, code := k.read(s, r, body)
		return code
	}
	for range ohosTests {
		if code := ask(); code != "" {
			t.Fatal(code)
		}
	}
	if code := ask(); code != "80300029" {
		t.Errorf("one too many: %q", code)
	}
	now = now.Add(time.Second)
	if code := ask(); code != "" {
		t.Errorf("the next day: %s", code)
	}
}

// Of access tokens there are so many in a while, and those that ended are forgotten.
func TestGrants(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 10, 0, 0, 0, time.UTC)
	s := NewHW(Options{Now: func() time.Time { return now }})
	k := s.kind.(*hw)
	ask := func() (token, wrong string) {
		r := httptest.NewRequest("POST", hwTokenPath, nil)
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Body = &replay{whole: "grant_type=client_credentials&client_id=" + k.app + "&client_secret=" + k.grants.secret}
		return k.grants.give(s, r)
	}
	for range maxGrants {
		if _, wrong := ask(); wrong != "" {
			t.Fatal(wrong)
		}
	}
	if _, wrong := ask(); wrong != "slow_down" {
		t.Errorf("one too many: %q", wrong)
	}
	now = now.Add(3 * time.Hour)
	if _, wrong := ask(); wrong != "" || len(k.grants.until) != 1 {
		t.Errorf("%q, %d tokens are known", wrong, len(k.grants.until))
	}
}
