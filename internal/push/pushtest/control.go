package pushtest

import (
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// A Control lets other programs provoke faults and see what phones show, over
// HTTP. What it takes and gives is JSON; docs/push-sim.md describes it.
type Control struct {
	sims []*Sim

	mu     sync.Mutex
	last   int
	faults map[int]standing
}

// A standing fault can be taken away again.
type standing struct {
	sim  *Sim
	mend func()
}

// NewControl makes the control of these simulators.
func NewControl(sims []*Sim) *Control {
	return &Control{sims: sims, faults: map[int]standing{}}
}

// maxControl is as much as is read of a request, in bytes.
const maxControl = 1 << 20

// ServeHTTP implements http.Handler.
func (c *Control) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var v any
	var err error
	// A web page that somebody opens on this machine is not to have a say: what it
	// can send without asking is no JSON.
	if r.Method == http.MethodPost && !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		http.Error(w, "Content-Type must be application/json", http.StatusUnsupportedMediaType)
		return
	}
	switch r.Method + " " + r.URL.Path {
	case "POST /faults":
		v, err = c.fail(http.MaxBytesReader(w, r.Body, maxControl))
	case "DELETE /faults":
		v, err = c.mend(r)
	case "POST /phones":
		v, err = c.phone(http.MaxBytesReader(w, r.Body, maxControl))
	case "GET /screen":
		v, err = c.screen(r, (*Sim).Screen)
	case "GET /log":
		v, err = c.screen(r, (*Sim).Log)
	case "GET /subscription":
		if name := r.FormValue("name"); name == "" {
			err = chat.Invalid("name", "is required")
		} else {
			v = jsontext.Value(Subscription(name))
		}
	case "GET /stats":
		all := map[string]Stats{}
		for _, s := range c.sims {
			all[s.Provider.String()] = s.Stats()
		}
		v = all
	default:
		http.Error(w, "there are POST and DELETE /faults, POST /phones, GET /screen?token=, /log?token=, /subscription?name= and /stats", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		v = map[string]string{"error": err.Error()}
	}
	_ = json.MarshalWrite(w, v, json.Deterministic(true), jsontext.AllowInvalidUTF8(true))
	_, _ = w.Write([]byte("\n"))
}

// sim is the simulator of the provider by this name.
func (c *Control) sim(name string) (*Sim, error) {
	p, err := chat.ParsePushProvider(name)
	if err != nil {
		return nil, err
	}
	for _, s := range c.sims {
		if s.Provider == p {
			return s, nil
		}
	}
	return nil, chat.Invalid("provider", p.String()+" is not simulated here")
}

func (c *Control) fail(body io.Reader) (any, error) {
	var m map[string]jsontext.Value
	if err := json.UnmarshalRead(body, &m); err != nil {
		return nil, fmt.Errorf("want a JSON object: %w", err)
	}
	provider, f := "", Fault{}
	for name, value := range m {
		var err error
		switch {
		case name == "provider":
			provider, err = scalar(value)
		case name == "header":
			err = json.Unmarshal(value, &f.Header)
		default:
			var text string
			if text, err = scalar(value); err == nil {
				err = f.set(name, text)
			}
		}
		if err != nil {
			return nil, chat.Invalid(name, err.Error())
		}
	}
	s, err := c.sim(provider)
	if err != nil {
		return nil, err
	}
	id, err := c.Fail(s, f)
	return map[string]int{"id": id}, err
}

// maxFaults is how many there may be at once.
const maxFaults = 1000

// Fail has things go wrong with a simulator, and gives the number by which that can
// be taken away.
func (c *Control) Fail(s *Sim, f Fault) (id int, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.faults) >= maxFaults {
		return 0, fmt.Errorf("there are %d faults already: take some away", maxFaults)
	}
	c.last++
	c.faults[c.last] = standing{s, s.Fail(f)}
	return c.last, nil
}

// mend takes the fault of an id away, those of a provider, or all.
func (c *Control) mend(r *http.Request) (any, error) {
	id, provider := r.FormValue("id"), r.FormValue("provider")
	var only *Sim
	if provider != "" {
		var err error
		if only, err = c.sim(provider); err != nil {
			return nil, err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	mended := 0
	for n, f := range c.faults {
		if id != "" && id != strconv.Itoa(n) || only != nil && only != f.sim {
			continue
		}
		f.mend()
		delete(c.faults, n)
		mended++
	}
	return map[string]int{"mended": mended}, nil
}

func (c *Control) phone(body io.Reader) (any, error) {
	var q struct {
		Provider    string `json:"provider"`
		Token       string `json:"token"`
		Package     string `json:"package"`
		Environment string `json:"environment"`
		Gone        bool   `json:"gone"`
		Off         bool   `json:"off"`
		Test        bool   `json:"test"`
	}
	if err := json.UnmarshalRead(body, &q, json.RejectUnknownMembers(true)); err != nil {
		return nil, err
	}
	s, err := c.sim(q.Provider)
	if err != nil {
		return nil, err
	}
	p := Phone{Token: q.Token, Package: q.Package, Off: q.Off, Test: q.Test}
	if p.Token == "" {
		return nil, chat.Invalid("token", "is required")
	}
	if p.Environment, err = chat.ParsePushEnvironment(s.Provider, q.Environment); err != nil {
		return nil, err
	}
	s.Register(p)
	if q.Gone {
		s.Remove(p.Token)
	}
	return struct{}{}, nil
}

// screen is what the phone shows, of one provider or whichever knows the token.
func (c *Control) screen(r *http.Request, of func(*Sim, string) []Shown) (any, error) {
	token, provider := r.FormValue("token"), r.FormValue("provider")
	if token == "" {
		return nil, chat.Invalid("token", "is required")
	}
	sims := c.sims
	if provider != "" {
		s, err := c.sim(provider)
		if err != nil {
			return nil, err
		}
		sims = []*Sim{s}
	}
	shown := []Shown{}
	for _, s := range sims {
		shown = append(shown, of(s, token)...)
	}
	return shown, nil
}

// scalar is a text, a number or a truth value as text.
func scalar(v jsontext.Value) (string, error) {
	switch v.Kind() {
	case '"':
		text, err := jsontext.AppendUnquote(nil, v)
		return string(text), err
	case '0', 't', 'f':
		return string(v), nil
	}
	return "", fmt.Errorf("must be a text, a number, true or false")
}

// ParseFault reads a fault such as "code=10072,times=3" or "auth,status=503". What
// is said without a value is true.
func ParseFault(text string) (Fault, error) {
	var f Fault
	for part := range strings.SplitSeq(text, ",") {
		name, value, given := strings.Cut(part, "=")
		if !given {
			value = "true"
		}
		if name == "header" {
			k, v, ok := strings.Cut(value, ":")
			if !ok {
				return f, chat.Invalid(name, "want header=Name:value")
			}
			if f.Header == nil {
				f.Header = map[string]string{}
			}
			f.Header[k] = strings.TrimSpace(v)
			continue
		}
		if err := f.set(name, value); err != nil {
			return f, chat.Invalid(name, err.Error())
		}
	}
	return f, nil
}

// faultNames are what a fault is described by, besides header.
var faultNames = []string{
	"auth", "token", "skip", "times", "delay", "hang", "reset", "lost", "goaway", "revoke", "code", "status", "body", "drip",
}

// set sets a part of the fault.
func (f *Fault) set(name, value string) (err error) {
	switch name {
	case "auth":
		f.Auth, err = strconv.ParseBool(value)
	case "token":
		f.Token = value
	case "skip":
		f.Skip, err = count(value)
	case "times":
		f.Times, err = count(value)
	case "delay":
		if f.Delay, err = time.ParseDuration(value); err != nil {
			err = fmt.Errorf("must be a duration such as 2s")
		}
	case "hang":
		f.Hang, err = strconv.ParseBool(value)
	case "reset":
		f.Reset, err = strconv.ParseBool(value)
	case "lost":
		f.Lost, err = strconv.ParseBool(value)
	case "goaway":
		f.GoAway, err = strconv.ParseBool(value)
	case "revoke":
		f.Revoke, err = strconv.ParseBool(value)
	case "code":
		f.Code = value
	case "status":
		if f.Status, err = count(value); err == nil && (f.Status < 200 || f.Status > 599) {
			err = fmt.Errorf("must be from 200 to 599")
		}
	case "body":
		f.Body = value
	case "drip":
		f.Drip, err = strconv.ParseBool(value)
	default:
		return fmt.Errorf("is no part of a fault; there are header, %s", strings.Join(faultNames, ", "))
	}
	if _, wrong := err.(*strconv.NumError); wrong {
		return fmt.Errorf("must be true or false")
	}
	return err
}

func count(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("must be a number")
	}
	return int(n), nil
}

// MarshalJSON is the notification as other programs read it.
func (n Shown) MarshalJSON() ([]byte, error) {
	v := struct {
		Provider string         `json:"provider"`
		Token    string         `json:"token"`
		At       int64          `json:"at"`
		ID       string         `json:"id"`
		Key      string         `json:"key,omitzero"`
		Request  string         `json:"request,omitzero"`
		Title    string         `json:"title"`
		Body     string         `json:"body"`
		Data     string         `json:"data,omitzero"`
		Card     jsontext.Value `json:"card,omitzero"`
		Removes  string         `json:"removes,omitzero"`
		Badge    *int           `json:"badge,omitzero"`
		Silent   bool           `json:"silent,omitzero"`
		Expires  int64          `json:"expires,omitzero"`
		Payload  jsontext.Value `json:"payload,omitzero"`
	}{
		Provider: n.Provider.String(), Token: n.Token, At: n.At.UnixMilli(), ID: n.ID, Key: n.Key, Request: n.Request,
		Title: n.Title, Body: n.Body, Data: n.Data, Removes: n.Removes, Silent: n.Silent,
	}
	if card := jsontext.Value(n.Card); card.IsValid() {
		v.Card = slices.Clone(card)
	}
	if payload := jsontext.Value(n.Payload); payload.IsValid() {
		v.Payload = slices.Clone(payload)
	}
	if n.Badge >= 0 {
		v.Badge = &n.Badge
	}
	if !n.Expires.IsZero() {
		v.Expires = n.Expires.UnixMilli()
	}
	return json.Marshal(v, jsontext.AllowInvalidUTF8(true))
}
