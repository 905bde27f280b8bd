package directory

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/store/pebble"
)

// A house is a directory over a real engine that can be closed and opened again.
type house struct {
	t   *testing.T
	fs  vfs.FS
	now time.Time
	mu  sync.Mutex
	*Directory
	close func()
}

func newHouse(t *testing.T) *house {
	h := &house{t: t, fs: vfs.NewMem(), now: time.UnixMilli(1_790_000_000_123)}
	h.open()
	t.Cleanup(func() { h.close() })
	return h
}

func (h *house) clock() time.Time {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.now
}

func (h *house) pass(d time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.now = h.now.Add(d)
}

func (h *house) open() {
	h.t.Helper()
	s, err := pebble.Open(h.t.Context(), pebble.Options{Dir: "data", FS: h.fs, Now: h.clock, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		h.t.Fatal(err)
	}
	h.close = func() {
		if err := s.Close(); err != nil {
			h.t.Error(err)
		}
	}
	if h.Directory, err = Open(h.t.Context(), s, h.clock); err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) reopen() {
	h.close()
	h.open()
}

func (h *house) app() *chat.App {
	h.t.Helper()
	a, err := h.CreateApp(h.t.Context())
	if err != nil {
		h.t.Fatal(err)
	}
	return a
}

func (h *house) token(a *chat.App, user string) string {
	h.t.Helper()
	token, err := h.IssueToken(h.t.Context(), a, user, "name", "")
	if err != nil {
		h.t.Fatal(err)
	}
	return token
}

func wantKind(t *testing.T, what string, err error, kind chat.Kind) {
	t.Helper()
	if err == nil || chat.KindOf(err) != kind {
		t.Errorf("%s: got %v, want kind %v", what, err, kind)
	}
}

func TestAppsSurviveARestart(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	b, what, err := h.EnsureApp(t.Context(), "given-key", "given-secret")
	if err != nil || what != "created" {
		t.Fatalf("ensure: %q, %v", what, err)
	}
	if _, err := h.SetApp(t.Context(), a.Key, map[string]string{"limits.direct": "7/h", "types.custom": "app:ping=status"}); err != nil {
		t.Fatal(err)
	}
	token := h.token(b, "bob")
	h.reopen()
	got := h.App(a.Key)
	if got == nil || got.Secret != a.Secret || got.ID != a.ID || got.Settings.LimitDirect != (chat.Rate{N: 7, Per: time.Hour}) {
		t.Fatalf("after a restart: %+v", got)
	}
	if flags, err := got.Settings.Type("", "app:ping"); err != nil || flags != 0 {
		t.Errorf("custom type after a restart: flags %v, %v", flags, err)
	}
	if _, what, err := h.EnsureApp(t.Context(), "given-key", "given-secret"); what != "" || err != nil {
		t.Errorf("ensuring an app that is there: %q, %v", what, err)
	}
	if _, what, err := h.EnsureApp(t.Context(), "given-key", "another"); what != "secret replaced" || err != nil {
		t.Errorf("ensuring another secret: %q, %v", what, err)
	}
	h.reopen()
	if s := h.App("given-key").Secret; s != "another" {
		t.Errorf("secret %q after it was replaced", s)
	}
	if _, err := h.Verify(t.Context(), token); err != nil {
		t.Errorf("a new app secret voided a token: %v", err)
	}
}

func TestSetAppChangesAllOrNone(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	_, err := h.SetApp(t.Context(), a.Key, map[string]string{"limits.direct": "1/s", "missed.days": "8"})
	wantKind(t, "a bad value", err, chat.KindInvalid)
	if !strings.HasPrefix(err.Error(), "missed.days: ") {
		t.Errorf("%q does not name the setting", err)
	}
	if got := h.App(a.Key).Settings.All(); !maps.Equal(got, a.Settings.All()) {
		t.Error("a refused change changed something")
	}
	_, err = h.SetApp(t.Context(), "nobody", nil)
	wantKind(t, "an unknown app", err, chat.KindNotFound)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, other := h.app(), h.app()
	first := h.token(a, "bob")
	h.pass(time.Millisecond)
	second := h.token(a, "bob")
	for _, token := range []string{first, second} {
		g, err := h.Verify(t.Context(), token)
		if err != nil || g.App.ID != a.ID || g.User.ID != "bob" || !g.ExpiresAt.IsZero() {
			t.Fatalf("verify: %+v, %v", g, err)
		}
	}
	forged, err := jwt.NewWithClaims(jwt.SigningMethodHS256, &claims{App: a.Key, User: "bob", Issued: millis(h.clock().Unix())}).SignedString(other.TokenKey)
	if err != nil {
		t.Fatal(err)
	}
	unsigned, err := jwt.NewWithClaims(jwt.SigningMethodNone, &claims{App: a.Key, User: "bob"}).SignedString(jwt.UnsafeAllowNoneSignatureType)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := h.sign(a, "stranger", h.clock().UnixMilli())
	if err != nil {
		t.Fatal(err)
	}
	for name, token := range map[string]string{
		"another app's key": forged, "no signature": unsigned, "a user never stored": stranger,
		"garbage": "abc", "empty": "", "cut": first[:len(first)-1],
	} {
		_, err := h.Verify(t.Context(), token)
		wantKind(t, name, err, chat.KindToken)
	}
}

func TestExpireVoidsWhatWasIssuedBefore(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	old := h.token(a, "bob")
	h.pass(time.Millisecond)
	cutoff := h.clock().UnixMilli()
	atCutoff := h.token(a, "bob")
	alices := h.token(a, "alice")

	wantKind(t, "a cutoff ahead", h.ExpireTokens(t.Context(), a, []string{"bob"}, cutoff+1), chat.KindInvalid)
	if _, err := h.Verify(t.Context(), old); err != nil {
		t.Fatalf("a refused call voided a token: %v", err)
	}
	if err := h.ExpireTokens(t.Context(), a, []string{"bob"}, cutoff); err != nil {
		t.Fatal(err)
	}
	// An earlier cutoff does not bring tokens back.
	if err := h.ExpireTokens(t.Context(), a, []string{"bob"}, cutoff-1000); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		_, err := h.Verify(t.Context(), old)
		wantKind(t, "a token from before the cutoff", err, chat.KindTokenExpired)
		for name, token := range map[string]string{"at the cutoff": atCutoff, "of another user": alices} {
			if _, err := h.Verify(t.Context(), token); err != nil {
				t.Errorf("token %s: %v", name, err)
			}
		}
		h.reopen()
		a = h.App(a.Key)
	}
}

func TestTokenLifetime(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	token := h.token(a, "bob")
	if _, err := h.SetApp(t.Context(), a.Key, map[string]string{"tokens.lifetime": "1h"}); err != nil {
		t.Fatal(err)
	}
	h.pass(time.Hour - time.Millisecond)
	if g, err := h.Verify(t.Context(), token); err != nil || g.ExpiresAt.Sub(h.clock()) != time.Millisecond {
		t.Fatalf("within its life: %+v, %v", g, err)
	}
	h.pass(time.Millisecond)
	_, err := h.Verify(t.Context(), token)
	wantKind(t, "past its life", err, chat.KindTokenExpired)
}

func TestTokenFitsItsBound(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, _, err := h.EnsureApp(t.Context(), strings.Repeat("k", maxAppKey), "s")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []string{"u", "<", "&", "é"} {
		user := strings.Repeat(c, chat.MaxID/len(c))
		token := h.token(a, user)
		if len(token) > 256 {
			t.Errorf("token of %d bytes for %s, want at most 256", len(token), user)
		}
		if g, err := h.Verify(t.Context(), token); err != nil || g.User.ID != user {
			t.Errorf("token for %s: %v", user, err)
		}
	}
}

func TestIssueChecksItsFields(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a := h.app()
	for field, call := range map[string][3]string{
		"userId":    {"has space", "n", ""},
		"name":      {"u", "", ""},
		"avatarUrl": {"u", "n", strings.Repeat("x", MaxAvatarURL+1)},
	} {
		_, err := h.IssueToken(t.Context(), a, call[0], call[1], call[2])
		if e, ok := errors.AsType[*chat.Error](err); !ok || e.Field != field {
			t.Errorf("got %v, want an error about %s", err, field)
		}
	}
	if _, err := h.User(t.Context(), a, "u"); chat.KindOf(err) != chat.KindNoUser {
		t.Errorf("refused calls registered a user: %v", err)
	}
	h.token(a, "u")
	if _, err := h.IssueToken(t.Context(), a, "u", "new name", "https://a/b.png"); err != nil {
		t.Fatal(err)
	}
	u, err := h.User(t.Context(), a, "u")
	if err != nil || u.Name != "new name" || u.AvatarURL != "https://a/b.png" || !u.CreatedAt.Equal(h.clock().Truncate(time.Millisecond)) {
		t.Errorf("user after a second issue: %+v, %v", u, err)
	}
}

func TestAppsDoNotShareUsers(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	a, b := h.app(), h.app()
	h.token(a, "bob")
	_, err := h.User(t.Context(), b, "bob")
	wantKind(t, "another app's user", err, chat.KindNoUser)
	wantKind(t, "another app's user", h.CheckRegistered(context.Background(), b, "toUserIds", "bob"), chat.KindNoUser)
	if err := h.CheckRegistered(t.Context(), a, "toUserIds", "bob"); err != nil {
		t.Error(err)
	}
}
