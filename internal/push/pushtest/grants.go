package pushtest

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// grants are the access tokens that a provider has given for client credentials.
type grants struct {
	id, secret string

	mu    sync.Mutex
	until map[string]time.Time // by token, until when it is good; zero when it was revoked
	since time.Time            // when the first of given was
	given int
}

const (
	grantLifetime = time.Hour
	grantWindow   = 5 * time.Minute
	maxGrants     = 1000 // in a window
)

// give gives an access token to whoever asks for it rightly; else it says what is
// wrong, in OAuth's own word.
func (g *grants) give(s *Sim, r *http.Request) (token, wrong string) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return "", "invalid_request"
	}
	form, err := url.ParseQuery(bodyOf(r))
	if err != nil {
		return "", "invalid_request"
	}
	if form.Get("grant_type") != "client_credentials" {
		return "", "unsupported_grant_type"
	}
	if form.Get("client_id") != g.id || subtle.ConstantTimeCompare([]byte(form.Get("client_secret")), []byte(g.secret)) != 1 {
		return "", "invalid_client"
	}
	now := s.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	if now.Sub(g.since) >= grantWindow {
		g.since, g.given = now, 0
		for t, until := range g.until {
			if now.Sub(until) > grantLifetime {
				delete(g.until, t)
			}
		}
	}
	if g.given++; g.given > maxGrants {
		return "", "slow_down"
	}
	var b [48]byte
	_, _ = rand.Read(b[:])
	// The real ones have slashes in them, which some clients take wrongly.
	token = "CF3/" + base64.StdEncoding.EncodeToString(b[:])
	if g.until == nil {
		g.until = map[string]time.Time{}
	}
	g.until[token] = now.Add(grantLifetime)
	return token, ""
}

// answerGrant answers a request for an access token.
func answerGrant(g *grants, s *Sim, w http.ResponseWriter, r *http.Request) {
	token, wrong := g.give(s, r)
	if wrong != "" {
		refuseGrant(w, wrong)
		return
	}
	answerJSON(w, http.StatusOK, struct {
		Token   string `json:"access_token"`
		Expires int    `json:"expires_in"`
		Type    string `json:"token_type"`
	}{token, int(grantLifetime / time.Second), "Bearer"})
}

// refuseGrant says that there is no access token, in a word of OAuth.
func refuseGrant(w http.ResponseWriter, wrong string) {
	status := http.StatusBadRequest
	switch wrong {
	case "slow_down":
		status = http.StatusServiceUnavailable
	case "invalid_client":
		status = http.StatusUnauthorized
	}
	answerJSON(w, status, struct {
		Error string `json:"error"`
		Text  string `json:"error_description"`
	}{wrong, "The request for an access token was refused"})
}

// takes reports whether the request bears a token that is good.
func (g *grants) takes(s *Sim, r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.mu.Lock()
	defer g.mu.Unlock()
	return ok && s.Now().Before(g.until[token])
}

func (g *grants) revoke() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for t := range g.until {
		g.until[t] = time.Time{}
	}
}

// daily counts by name, each of the providers' days anew.
type daily struct {
	mu    sync.Mutex
	day   int64
	count map[string]int
}

// take takes one of at most this many, and reports whether there was one left.
func (d *daily) take(now time.Time, name string, most int) bool {
	const hour = 60 * 60
	day := (now.Unix() + 8*hour) / (24 * hour) // their midnight is that of UTC+8
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.count == nil || d.day != day {
		d.day, d.count = day, map[string]int{}
	}
	if d.count[name] >= most {
		return false
	}
	d.count[name]++
	return true
}
