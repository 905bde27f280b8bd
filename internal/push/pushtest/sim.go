package pushtest

import (
	"net/http"
	"sync"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// Options of a simulator.
type Options struct {
	Now func() time.Time // time.Now when nil
	// Strangers says that tokens which nobody has registered belong to phones too.
	Strangers bool
	// Shown, when set, is told of what phones show, from any goroutine.
	Shown func(Shown)
	// Seen, when set, is told of every request before it is answered, from any
	// goroutine.
	Seen func(r *http.Request, body string)
	// Seed is what keys and secrets are made of: the same ones of the same seed, so
	// that credentials stay good when a simulator is started again. Without one they
	// are made up.
	Seed string
	// Forget has phones remember nothing of what they were given, of which there may
	// be too much: only Shown and the Stats tell.
	Forget bool
	// Strict has what may be said to one phone, and when, limited as tightly as the
	// providers do it. Otherwise there are limits that hardly anything meets.
	Strict bool
	// Streams is how many requests there may be at once on one connection of HTTP/2;
	// 1000 when 0.
	Streams int
	// HTTP1 has nothing newer spoken than HTTP/1, as by most of the providers.
	HTTP1 bool
	// Images says whether a provider that looks at images first lets one pass; all do
	// when nil.
	Images func(link string) bool
	// Daily is how many notifications an app may send on one day of the provider's;
	// 0 is a million.
	Daily int
}

// A Sim is the server of one provider.
type Sim struct {
	Provider chat.PushProvider

	options Options
	kind    kind

	mu     sync.Mutex
	phones map[string]*Phone // by token
	faults []*Fault
	stats  Stats
}

// A kind is what is a provider's own.
type kind interface {
	// serve answers a request that no fault has met. It asks s for phones and tells
	// it what they show.
	serve(s *Sim, w http.ResponseWriter, r *http.Request)
	// auth reports whether the request asks for an access token.
	auth(r *http.Request) bool
	// refuse answers with one of the provider's own codes, in its own form.
	refuse(w http.ResponseWriter, code string)
	// revoke makes all access tokens void that were given out.
	revoke()
	// credential is one that the simulator lets in, at the address.
	credential(address string) chat.PushCredential
	// http2 reports whether nothing else is spoken.
	http2() bool
}

func newSim(p chat.PushProvider, o Options, k kind) *Sim {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Sim{Provider: p, options: o, kind: k, phones: map[string]*Phone{}}
}

// Now is the time on the simulator's clock.
func (s *Sim) Now() time.Time { return s.options.Now() }

// Credential is what the simulator lets in, for an app's settings: its BaseURL is
// the address that the simulator is served at.
func (s *Sim) Credential(address string) chat.PushCredential {
	c := s.kind.credential(address)
	c.Provider, c.BaseURL = s.Provider, address
	return c
}

// Revoke makes all access tokens void that were given out.
func (s *Sim) Revoke() { s.kind.revoke() }

// Stats are counts of what a simulator was asked.
type Stats struct {
	Requests  int `json:"requests"`  // for sending, whatever came of them
	Auths     int `json:"auths"`     // for access tokens
	Taken     int `json:"taken"`     // notifications accepted, repeats among them
	Refused   int `json:"refused"`   // notifications refused by the simulator itself, not by a fault
	Odd       int `json:"odd"`       // notifications accepted that look like a mistake: the provider takes them, and does something else
	Faults    int `json:"faults"`    // requests that met a fault
	Protocol1 int `json:"protocol1"` // requests over HTTP/1
	Conns     int `json:"conns"`     // connections made
	Open      int `json:"open"`      // connections there are
}

// Stats are the counts so far.
func (s *Sim) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stats
}

// A Phone is a device that has a token of the provider.
type Phone struct {
	Token        string
	Package      string // that the token is of; empty takes any
	Environment  chat.PushEnvironment
	RegisteredAt time.Time
	Gone         bool // the app was removed: the token is dead
	GoneAt       time.Time
	Off          bool // notifications are switched off
	Test         bool // known to the provider as a device for tests

	away    bool
	waiting []Shown // while it is away
	shown   []Shown // what it has on its screen, oldest first
	log     []Shown // everything it was ever given
}

// A keeper is a kind that keeps less for phones that are away than all they are
// sent.
type keeper interface {
	// keep is what waits for a phone once n does too.
	keep(waiting []Shown, n Shown) []Shown
}

// A namer is a kind whose phones are not known by their whole tokens.
type namer interface {
	// named is what the phone with the token is known by here.
	named(token string) string
}

func (s *Sim) named(token string) string {
	if k, ok := s.kind.(namer); ok {
		return k.named(token)
	}
	return token
}

// Shown is a notification as a phone gets it.
type Shown struct {
	Provider chat.PushProvider
	Token    string
	At       time.Time
	ID       string // the provider's id
	Key      string // notifications of one key take each other's place; empty is a place of its own
	Collapse string // while the phone is away, one of these takes the place of another, where the provider has that
	Request  string // by which the sender names the request, where the provider has that
	Title    string
	Body     string
	Data     string // appData
	Card     string // rc, as JSON
	Removes  string
	Badge    int // -1 when it leaves that
	Silent   bool
	Expires  time.Time
	Payload  string // of browsers: what their service worker is given
}

// Register makes a phone known, in place of one with the same token.
func (s *Sim) Register(p Phone) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.RegisteredAt.IsZero() {
		p.RegisteredAt = s.Now()
	}
	p.Token = s.named(p.Token)
	s.phones[p.Token] = &p
}

// Remove has the app removed from the phone: its token is dead from now on.
func (s *Sim) Remove(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	token = s.named(token)
	p := s.phones[token]
	if p == nil {
		p = &Phone{Token: token}
		s.phones[token] = p
	}
	p.Gone, p.GoneAt = true, s.Now()
}

// phone is the one with the token, a copy without what it shows; found is false
// when there is none.
func (s *Sim) phone(token string) (p Phone, found bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.phones[token]; p != nil {
		known := *p
		known.waiting, known.shown, known.log = nil, nil, nil
		return known, true
	}
	return Phone{Token: token}, s.options.Strangers
}

// maxLog is how much a phone remembers of what it was given.
const maxLog = 1000

// show gives a phone a notification, or keeps it until the phone is back.
func (s *Sim) show(n Shown) {
	n.Provider, n.At = s.Provider, s.Now()
	s.mu.Lock()
	s.stats.Taken++
	p := s.phones[n.Token]
	if p == nil {
		p = &Phone{Token: n.Token, RegisteredAt: n.At}
		if !s.options.Forget {
			s.phones[n.Token] = p
		}
	}
	if p.away {
		if n.Expires.IsZero() || n.Expires.After(n.At) {
			if k, ok := s.kind.(keeper); ok {
				p.waiting = k.keep(p.waiting, n)
			} else if len(p.waiting) < maxLog {
				p.waiting = append(p.waiting, n)
			}
		}
		s.mu.Unlock()
		return
	}
	if !s.options.Forget {
		p.put(n)
	}
	s.mu.Unlock()
	if s.options.Shown != nil {
		s.options.Shown(n)
	}
}

// put has the phone show a notification.
func (p *Phone) put(n Shown) {
	if len(p.log) < maxLog {
		p.log = append(p.log, n)
	}
	if n.Silent {
		return
	}
	if n.Key != "" {
		for i := range p.shown {
			if p.shown[i].Key == n.Key {
				p.shown = append(p.shown[:i], p.shown[i+1:]...)
				break
			}
		}
	}
	if len(p.shown) < maxLog {
		p.shown = append(p.shown, n)
	}
}

// Disconnect has the phone with the token be away: what it is sent waits at the
// provider, as far as that keeps it.
func (s *Sim) Disconnect(token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.phones[s.named(token)]; p != nil {
		p.away = true
	}
}

// Connect has the phone with the token be back. It is given what has waited and has
// not expired.
func (s *Sim) Connect(token string) {
	var given []Shown
	s.mu.Lock()
	if p := s.phones[s.named(token)]; p != nil {
		for _, n := range p.waiting {
			if n.At = s.Now(); n.Expires.IsZero() || n.Expires.After(n.At) {
				p.put(n)
				given = append(given, n)
			}
		}
		p.away, p.waiting = false, nil
	}
	s.mu.Unlock()
	if s.options.Shown != nil {
		for _, n := range given {
			s.options.Shown(n)
		}
	}
}

// refused counts a notification that the simulator refuses.
func (s *Sim) refused() {
	s.mu.Lock()
	s.stats.Refused++
	s.mu.Unlock()
}

// odd counts a notification that is taken and looks like a mistake.
func (s *Sim) odd() {
	s.mu.Lock()
	s.stats.Odd++
	s.mu.Unlock()
}

// Screen is what the phone with the token shows now, oldest first.
func (s *Sim) Screen(token string) []Shown {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.phones[s.named(token)]; p != nil {
		return append([]Shown(nil), p.shown...)
	}
	return nil
}

// Log is everything that the phone with the token was given, the first 1000.
func (s *Sim) Log(token string) []Shown {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.phones[s.named(token)]; p != nil {
		return append([]Shown(nil), p.log...)
	}
	return nil
}

// Phones is how many phones are known.
func (s *Sim) Phones() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.phones)
}
