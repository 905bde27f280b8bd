package directory

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
)

// Limits of what a token is issued for (user/register).
const (
	MaxName      = 128  // bytes
	MaxAvatarURL = 1024 // bytes
)

// A Grant is what a valid token gives: who may connect, to which app.
type Grant struct {
	App       *chat.App
	User      *chat.User
	IssuedAt  int64     // Unix ms
	ExpiresAt time.Time // zero when the token is permanent
}

// claims are a token's payload: app, user and time of issue, nothing else, so
// that a token for the longest user id stays under 256 bytes.
type claims struct {
	App    string `json:"iss"`
	User   string `json:"sub"`
	Issued millis `json:"iat"`
}

// millis is a JWT NumericDate with its milliseconds. The exact time matters: a
// token issued a millisecond after tokens were voided is good.
type millis int64

func (m *millis) UnmarshalJSON(b []byte) error {
	var s json.Number
	if err := json.Unmarshal(b, &s); err != nil {
		return err
	}
	f, err := s.Float64()
	if err != nil || f < 0 || f > 1e11 {
		return errors.New("iat is not a time in seconds")
	}
	*m = millis(math.Round(f * 1000))
	return nil
}

// The times are checked here, against the directory's clock and the app's
// settings, so the library is given none of them.
func (c *claims) GetExpirationTime() (*jwt.NumericDate, error) { return nil, nil }
func (c *claims) GetIssuedAt() (*jwt.NumericDate, error)       { return nil, nil }
func (c *claims) GetNotBefore() (*jwt.NumericDate, error)      { return nil, nil }
func (c *claims) GetIssuer() (string, error)                   { return c.App, nil }
func (c *claims) GetSubject() (string, error)                  { return c.User, nil }
func (c *claims) GetAudience() (jwt.ClaimStrings, error)       { return nil, nil }

// IssueToken registers the user, or updates their name and avatar, and gives a
// new token. Tokens given before stay valid.
func (d *Directory) IssueToken(ctx context.Context, app *chat.App, user, name, avatarURL string) (string, error) {
	if err := chat.CheckID("userId", user); err != nil {
		return "", err
	}
	if err := checkProfile(&name, &avatarURL); err != nil {
		return "", err
	}
	var issued int64
	err := d.store.UpdateUsers(ctx, app.ID, []string{user}, func(u *chat.User) {
		now := d.now()
		if !u.Registered() {
			u.CreatedAt = now.Truncate(time.Millisecond)
		}
		u.Name, u.AvatarURL = name, avatarURL
		// A cutoff may lie ahead of a clock that has stepped back; a fresh
		// token is good all the same.
		issued = max(now.UnixMilli(), u.TokensFrom)
	})
	if err != nil {
		return "", err
	}
	return d.sign(app, user, issued)
}

// tokenHeader is the protected header of every token: {"alg":"HS256"}. The
// optional typ is left out; with it the longest app key and user id make more
// than 256 bytes.
const tokenHeader = "eyJhbGciOiJIUzI1NiJ9"

// sign makes a token. The payload is put together here because encoding/json
// writes <, > and & as six bytes each, and ids may be full of them.
func (d *Directory) sign(app *chat.App, user string, issued int64) (string, error) {
	payload, err := jsontext.AppendQuote([]byte(`{"iss":"`+app.Key+`","sub":`), user)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	payload = appendNumericDate(append(payload, `,"iat":`...), issued)
	payload = append(payload, '}')
	text := tokenHeader + "." + base64.RawURLEncoding.EncodeToString(payload)
	sum, err := jwt.SigningMethodHS256.Sign(text, app.TokenKey)
	if err != nil {
		return "", fmt.Errorf("token: %w", err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(sum), nil
}

// appendNumericDate appends Unix milliseconds as the seconds of a JWT.
func appendNumericDate(b []byte, ms int64) []byte {
	b = strconv.AppendInt(b, ms/1000, 10)
	if ms %= 1000; ms != 0 {
		b = append(b, '.', byte('0'+ms/100), byte('0'+ms/10%10), byte('0'+ms%10))
	}
	return b
}

// ExpireTokens voids the users' tokens issued before the given time (Unix ms),
// at once and durably. A later cutoff is never moved back. The caller closes
// live connections.
func (d *Directory) ExpireTokens(ctx context.Context, app *chat.App, users []string, before int64) error {
	if err := checkIDs("userIds", MaxExpire, users); err != nil {
		return err
	}
	switch now := d.now().UnixMilli(); {
	case before <= 0:
		return chat.Invalid("expiresAt", "must be a time in Unix milliseconds")
	case before > now:
		return chat.Invalidf("expiresAt", "must not be in the future: %d is after %d", before, now)
	}
	return d.store.UpdateUsers(ctx, app.ID, users, func(u *chat.User) {
		u.TokensFrom = max(u.TokensFrom, before)
	})
}

// MaxExpire is how many users one call may void the tokens of.
const MaxExpire = 1000

// Verify says who a token lets in: KindToken when it is malformed or wrongly
// signed, KindBanned and KindDeleted when its user is kept out, KindTokenExpired
// when it was good once.
func (d *Directory) Verify(ctx context.Context, token string) (*Grant, error) {
	var c claims
	var app *chat.App
	_, err := jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) {
		if app = d.App(c.App); app == nil {
			return nil, errors.New("no such app")
		}
		return app.TokenKey, nil
	}, jwt.WithValidMethods([]string{"HS256"}))
	if err != nil {
		return nil, chat.Because(chat.KindToken, "the token is malformed or wrongly signed", err)
	}
	if chat.CheckID("sub", c.User) != nil {
		return nil, chat.Fail(chat.KindToken, "the token names no valid user")
	}
	u, err := d.store.User(ctx, app.ID, c.User)
	if errors.Is(err, &chat.Error{Kind: chat.KindNoUser}) {
		// Every token was issued to a user who was stored first: this one is of
		// another life of the data.
		return nil, chat.Fail(chat.KindToken, "the token's user is not known here")
	}
	if err != nil {
		return nil, err
	}
	// Before the token's own faults: who is kept out is not to get a new one.
	if err := d.keptOut(u); err != nil {
		return nil, err
	}
	g := &Grant{App: app, User: u, IssuedAt: int64(c.Issued)}
	if g.IssuedAt < u.TokensFrom {
		return nil, chat.Fail(chat.KindTokenExpired, "the token was voided")
	}
	if life := app.Settings.TokenLifetime; life > 0 {
		g.ExpiresAt = time.UnixMilli(g.IssuedAt).Add(life)
		if !d.now().Before(g.ExpiresAt) {
			return nil, chat.Fail(chat.KindTokenExpired, "the token is expired")
		}
	}
	return g, nil
}
