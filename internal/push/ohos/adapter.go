package ohos

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
	"github.com/parleychat/parley/internal/push/line"
)

const (
	sendHost = "https://push-api.cloud.huawei.com"
	// audience is what tokens are for: the address where others would ask for one.
	// It is so whatever address they are taken to.
	audience = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"

	tokenLifetime = time.Hour // Huawei takes up to a day
	tokenEarly    = 5 * time.Minute
)

type adapter struct {
	caller  line.Caller
	options Options
	now     func() time.Time
}

// New makes the adapter of a credential. Nothing is connected before its first use.
func New(c *chat.PushCredential, o line.Options, now func() time.Time) (push.Adapter, error) {
	if err := c.Check(); err != nil {
		return nil, err
	}
	var account struct {
		ProjectID  string `json:"project_id"`
		KeyID      string `json:"key_id"`
		PrivateKey string `json:"private_key"`
		SubAccount string `json:"sub_account"`
	}
	// The decoder's own words may quote what is secret.
	if json.Unmarshal([]byte(c.Fields["serviceAccount"]), &account) != nil {
		return nil, chat.Invalid("serviceAccount", "must be the text of the service account's file, which is a JSON object")
	}
	key, err := jwt.ParseRSAPrivateKeyFromPEM([]byte(account.PrivateKey))
	if err != nil {
		return nil, chat.Invalid("serviceAccount", "private_key must be an RSA key in PEM")
	}
	// Nobody is asked for a token: who can sign one is the account.
	sign := func(context.Context) (line.Pass, error) {
		made := now()
		t := jwt.NewWithClaims(jwt.SigningMethodPS256, jwt.MapClaims{
			"iss": account.SubAccount, "aud": audience, "iat": made.Add(-line.Skew).Unix(), "exp": made.Add(tokenLifetime - line.Skew).Unix(),
		})
		t.Header["kid"] = account.KeyID
		value, err := t.SignedString(key)
		if err != nil {
			return line.Pass{}, line.Fail(push.Result{Class: push.ConfigHalt, Code: "key"}, err)
		}
		return line.Pass{Value: "Bearer " + value, Made: made, Until: made.Add(tokenLifetime - tokenEarly)}, nil
	}
	return &adapter{
		now: now,
		options: Options{
			ProjectID: account.ProjectID, Category: c.Fields["category"], Action: c.Fields["action"],
			ShowsBadge: c.Fields["showBadge"] == "1", Test: c.Fields["testMessages"] == "1",
		},
		caller: line.Caller{
			Line: line.New(o), Address: cmp.Or(strings.TrimRight(c.BaseURL, "/"), sendHost),
			Classify: Classify, Token: line.Token{Now: now, Make: sign},
		},
	}, nil
}

// Batch is 1: requests take many tokens, but one message for all of them.
func (a *adapter) Batch() int { return 1 }

func (a *adapter) Send(ctx context.Context, batch []*push.Notification) []push.Attempt {
	return line.Each(batch, a.Render, func(n *push.Notification, r *push.Request) push.Result {
		result := a.caller.Call(ctx, r)
		if n.Silent && result.Code == noRightToType {
			// Those that are shown are another type, to which the app may have a right.
			result.Class, result.Alert = push.PayloadBad, true
		}
		return result
	})
}

// Check sends a test message to nobody. There is nothing else to ask: tokens are
// made here, and Huawei looks at nothing without sending it.
func (a *adapter) Check(ctx context.Context) push.Result {
	o := a.options
	o.Test = true
	r, err := Render(push.Nobody(), &o, a.now())
	if err != nil {
		return push.Refused(err).Result
	}
	result := a.caller.Call(ctx, &r)
	switch result.Class {
	case push.TokenDead, push.TokenStrike:
		// Whoever is told what is wrong with the token has been let in.
		result.Class = push.Accepted
	}
	return result
}

func (a *adapter) Close() { a.caller.Line.Close() }

// Render implements push.Renderer.
func (a *adapter) Render(n *push.Notification) (push.Request, error) {
	return Render(n, &a.options, a.now())
}

// PassAge implements push.PassHolder.
func (a *adapter) PassAge() (time.Duration, bool) { return a.caller.Token.PassAge() }
