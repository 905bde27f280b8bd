// Package apns puts notifications in the words of the Apple Push Notification
// service and reads its answers.
package apns

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"strconv"
	"time"

	"github.com/parleychat/parley/internal/push"
)

// Options are what an app has set for Apple's devices.
type Options struct {
	Topic    string // the bundle id, in place of the device's
	Sound    string // "default" when empty
	Category string
}

const (
	maxPayload    = 4096 // bytes
	maxCollapseID = 64   // bytes
	maxTTL        = 30 * 24 * time.Hour
)

type payload struct {
	Aps aps `json:"aps"`
	push.Extras
	RichMediaURI string `json:"richMediaUri,omitzero"`
}

type aps struct {
	Alert             *alert `json:"alert,omitzero"`
	Badge             *int   `json:"badge,omitzero"`
	Sound             any    `json:"sound,omitzero"`
	ThreadID          string `json:"thread-id,omitzero"`
	Category          string `json:"category,omitzero"`
	ContentAvailable  int    `json:"content-available,omitzero"`
	MutableContent    int    `json:"mutable-content,omitzero"`
	InterruptionLevel string `json:"interruption-level,omitzero"`
}

type alert struct {
	Title string `json:"title"`
	Body  string `json:"body"`
}

// criticalSound is what the level critical needs besides Apple's permission.
type criticalSound struct {
	Critical int     `json:"critical"`
	Name     string  `json:"name"`
	Volume   float64 `json:"volume"`
}

// Render puts a notification in Apple's words.
func Render(n *push.Notification, o *Options, now time.Time) (push.Request, error) {
	if b, err := hex.DecodeString(n.To.Token); err != nil || len(b) == 0 {
		return push.Request{}, push.ErrToken
	}
	topic := cmp.Or(o.Topic, n.To.Package)
	if topic == "" {
		return push.Request{}, push.ErrPackage
	}
	ttl, err := n.TTL(now, 0, maxTTL)
	if err != nil {
		return push.Request{}, err
	}
	set := &n.Settings().APNs
	body, cut, err := push.Fit(n.Parts(), maxPayload, func(p push.Parts) []byte {
		v := payload{Extras: n.Extras(p)}
		if n.Silent {
			v.Aps.ContentAvailable = 1
			return push.JSON(v)
		}
		v.Aps = aps{
			Alert: &alert{p.Title, p.Body}, ThreadID: cmp.Or(set.ThreadID, n.Channel), Category: cmp.Or(set.Category, o.Category),
			InterruptionLevel: set.InterruptionLevel, Sound: sound(set.InterruptionLevel, o.Sound),
		}
		if n.HasBadge {
			v.Aps.Badge = &n.Badge
		}
		if n.ContentAvailable {
			v.Aps.ContentAvailable = 1
		}
		// An extension of the app fetches the image, takes away what was recalled, or
		// makes of it what the sender's category says.
		if p.Image && set.RichMediaURI != "" {
			v.RichMediaURI = set.RichMediaURI
			v.Aps.MutableContent = 1
		}
		if !n.Removes.IsZero() || set.Category != "" {
			v.Aps.MutableContent = 1
		}
		return push.JSON(v)
	}, nil)
	if err != nil {
		return push.Request{}, err
	}

	r := push.JSONRequest("/3/device/"+n.To.Token, body, cut)
	r.Header["apns-topic"] = topic
	r.Header["apns-id"] = n.RequestID()
	r.Header["apns-expiration"] = strconv.FormatInt(now.Add(ttl).Unix(), 10)
	if n.Silent {
		r.Header["apns-push-type"] = "background"
		r.Header["apns-priority"] = "5"
		r.Header["apns-expiration"] = "0" // now or never
		return r, nil
	}
	r.Header["apns-push-type"] = "alert"
	r.Header["apns-priority"] = "10"
	if set.InterruptionLevel == "passive" {
		r.Header["apns-priority"] = "5"
	}
	// Without an id of the sender's each message has its own, so that one that is
	// sent again after a lost answer is not shown twice.
	r.Header["apns-collapse-id"] = n.Shown().String()
	if set.CollapseID != "" {
		r.Header["apns-collapse-id"] = collapseID(set.CollapseID)
	}
	return r, nil
}

func sound(level, name string) any {
	name = cmp.Or(name, "default")
	switch level {
	case "passive":
		return nil
	case "critical":
		return criticalSound{1, name, 1}
	}
	return name
}

// collapseID is the id as a header can carry it. Two that are too long stay apart.
func collapseID(id string) string {
	printable := true
	for i := range len(id) {
		printable = printable && id[i] >= ' ' && id[i] < 0x7f
	}
	if printable && len(id) <= maxCollapseID {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return hex.EncodeToString(sum[:])
}

var classes = push.Classes{
	"Unregistered": {Class: push.TokenDead},
	"ExpiredToken": {Class: push.TokenDead},

	"BadDeviceToken":         {Class: push.TokenStrike},
	"DeviceTokenNotForTopic": {Class: push.TokenStrike},

	"ExpiredProviderToken": {Class: push.AuthRefresh},

	"InvalidProviderToken":        {Class: push.ConfigHalt},
	"MissingProviderToken":        {Class: push.ConfigHalt},
	"Forbidden":                   {Class: push.ConfigHalt},
	"UnrelatedKeyIdInToken":       {Class: push.ConfigHalt},
	"BadEnvironmentKeyIdInToken":  {Class: push.ConfigHalt},
	"BadCertificate":              {Class: push.ConfigHalt},
	"BadCertificateEnvironment":   {Class: push.ConfigHalt},
	"BadTopic":                    {Class: push.ConfigHalt},
	"TopicDisallowed":             {Class: push.ConfigHalt},
	"MissingTopic":                {Class: push.ConfigHalt},
	"BadCollapseId":               {Class: push.PayloadBad},
	"BadExpirationDate":           {Class: push.PayloadBad},
	"BadMessageId":                {Class: push.PayloadBad},
	"BadPriority":                 {Class: push.PayloadBad},
	"InvalidPushType":             {Class: push.PayloadBad},
	"PayloadEmpty":                {Class: push.PayloadBad},
	"DuplicateHeaders":            {Class: push.PayloadBad},
	"MissingDeviceToken":          {Class: push.PayloadBad},
	"BadPath":                     {Class: push.PayloadBad},
	"MethodNotAllowed":            {Class: push.PayloadBad},
	"PayloadTooLarge":             {Class: push.PayloadBad},
	"TooManyRequests":             {Class: push.RetryAfter, Device: true},
	"TooManyProviderTokenUpdates": {Class: push.Retry, Alert: true}, // with the same token: a new one makes it worse

	"IdleTimeout":         {Class: push.Retry},
	"InternalServerError": {Class: push.Retry},
	"ServiceUnavailable":  {Class: push.Retry},
	"Shutdown":            {Class: push.Retry},
}

// Classify reads an answer.
func Classify(status int, header http.Header, body []byte) push.Result {
	if status == http.StatusOK {
		return push.Result{Class: push.Accepted, Code: "200", ID: header.Get("apns-id")}
	}
	var v struct {
		Reason    push.Code  `json:"reason"`
		Timestamp push.Loose `json:"timestamp"`
	}
	if !push.ReadJSON(body, &v) {
		v.Reason = ""
	}
	r := classes.Or(string(v.Reason), status, push.ParseRetryAfter(header.Get))
	if r.Class == push.TokenDead {
		v.Timestamp.Into(&r.Since)
	}
	return r
}
