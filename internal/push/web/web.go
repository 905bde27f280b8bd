// Package web puts notifications in words that a page's service worker reads, and
// takes them to the push services of browsers (RFC 8030), encrypted so that only the
// browser can read them (RFC 8291), in the name of the app (RFC 8292).
package web

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for browsers. Where the sender says something too,
// that is in force.
type Options struct {
	Icon, Badge, Link string
}

const (
	// maxPlain is what is left for us of the 4096 bytes that every push service takes.
	maxPlain = recordSize - headerSize - overhead
	maxTTL   = 28 * 24 * time.Hour // Google's; others keep longer
)

// A payload is what the service worker gets: what it calls showNotification with,
// and the number for the app's icon. The names are those of the browsers' API.
type payload struct {
	Title              string `json:"title"`
	Body               string `json:"body"`
	Icon               string `json:"icon,omitzero"`
	Badge              string `json:"badge,omitzero"` // the small picture in one colour
	Image              string `json:"image,omitzero"`
	Tag                string `json:"tag"`
	Timestamp          int64  `json:"timestamp"` // Unix ms
	RequireInteraction bool   `json:"requireInteraction,omitzero"`
	Count              *int   `json:"count,omitzero"` // on the app's icon
	Data               data   `json:"data"`
}

type data struct {
	push.Extras
	Link string `json:"link,omitzero"`
}

// Render puts a notification in the service worker's words, and says how the push
// service is to treat it. The body is as it is before it is encrypted.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	s, ok := chat.OfWebToken(n.To.Token)
	if !ok {
		return push.Request{}, push.ErrToken
	}
	return render(n, &s, o, now)
}

func render(n *push.Notification, s *chat.WebSubscription, o *Options, now time.Time) (push.Request, error) {
	if n.Silent {
		return push.Request{}, push.ErrSilent // browsers show something for each message, or ask for no more
	}
	ttl, err := n.TTL(now, time.Second, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	set := &n.Settings().WEB
	v := payload{Tag: cmp.Or(set.Tag, n.Shown().String()), Timestamp: n.UID.Millis(), RequireInteraction: set.RequireInteraction}
	if n.HasBadge {
		v.Count = &n.Badge
	}
	v.Data.Link = cmp.Or(set.Link, o.Link)
	body, cut, err := push.Fit(n.Parts(), maxPlain, func(p push.Parts) []byte {
		v.Title, v.Body, v.Data.Extras = p.Title, p.Body, n.Extras(p)
		v.Icon, v.Badge, v.Image = "", "", ""
		if p.Image {
			v.Icon, v.Badge, v.Image = cmp.Or(set.Icon, o.Icon), o.Badge, set.Image
		}
		return push.JSON(v)
	}, nil)
	if err != nil {
		return push.Request{}, err
	}
	r := push.Request{Method: "POST", Path: s.Path, Body: body, Cut: cut, Header: make(map[string]string, 8)}
	r.Header["Content-Type"] = "application/octet-stream"
	r.Header["TTL"] = strconv.FormatInt(int64(ttl/time.Second), 10)
	r.Header["Urgency"] = urgency(n, set)
	// Only when the sender asks, as with Google's service, which is behind most of these.
	if set.Tag != "" {
		r.Header["Topic"] = topic(set.Tag)
	}
	return r, nil
}

func urgency(n *push.Notification, set *push.WEB) string {
	switch {
	case set.Urgency != "":
		return set.Urgency
	case strings.HasPrefix(n.Type, "RC:VC"): // calls, as push.Lifetime has it
		return "high"
	}
	return "normal"
}

// topic is the tag as a header can carry it: 32 characters at most, of base64url.
func topic(tag string) string {
	sum := sha256.Sum256([]byte(tag))
	return base64.RawURLEncoding.EncodeToString(sum[:24])
}

var classes = push.Classes{
	"200": {Class: push.Accepted},
	"201": {Class: push.Accepted},
	"202": {Class: push.Accepted},

	"404": {Class: push.TokenDead},
	"410": {Class: push.TokenDead},

	// A page may subscribe with whatever key it likes, so that this may be the fault of
	// one subscription: it must not stop the lane. When all are refused, the gate does.
	"401": {Class: push.TokenStrike, Alert: true},
	"403": {Class: push.TokenStrike, Alert: true},

	"400": {Class: push.PayloadBad},
	"413": {Class: push.PayloadBad},
	"429": {Class: push.RetryAfter},
}

// maxID is as much of an id as is kept, in bytes.
const maxID = 64

// Classify reads an answer. Push services answer by status; what they say besides is
// for people, each in its own way.
func Classify(status int, header http.Header, _ []byte) push.Result {
	code := strconv.Itoa(status)
	r, known := classes[code]
	if !known {
		r = push.ByStatus(status, push.ParseRetryAfter(header.Get))
		if r.Class == push.ConfigHalt || r.Class == push.AuthRefresh {
			r.Class, r.Alert = push.TokenStrike, true // whatever a browser gave for its address
		}
		return r
	}
	r.Code = code
	switch r.Class {
	case push.RetryAfter:
		r.After = push.ParseRetryAfter(header.Get)
	case push.Accepted:
		// The message has an address of its own. Whoever knows all of it can delete it.
		if at := header.Get("Location"); at != "" {
			if r.ID = path.Base(at); len(r.ID) > maxID {
				r.ID = r.ID[:maxID]
			}
		}
	}
	return r
}
