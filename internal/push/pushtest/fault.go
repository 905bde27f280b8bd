package pushtest

import (
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// A Fault is what goes wrong with requests. The first that fits a request meets it.
type Fault struct {
	Auth  bool   // it is for requests for access tokens, not for those that send
	Token string // it is for requests whose path or body has this in it; empty is all
	Skip  int    // how many requests that fit it leaves alone first
	Times int    // how many it meets; 0 is all until it is taken away

	Delay  time.Duration // before anything else happens
	Hang   bool          // no answer until the caller gives up
	Reset  bool          // the connection breaks without an answer
	Lost   bool          // the request is served, and then the connection breaks
	GoAway bool          // the request is served, and the connection says goodbye
	Revoke bool          // all access tokens are void before the request is served
	Code   string        // it is refused with this code of the provider's, in its form
	Status int           // it is answered with this status, Header and Body
	Header map[string]string
	Body   string
	Drip   bool // Body comes a byte at a time, for as long as the caller waits

	seen, met int
}

// Fail has things go wrong from now on. It gives a way to take the fault away.
func (s *Sim) Fail(f Fault) (mend func()) {
	at := &f
	s.mu.Lock()
	s.faults = append(s.faults, at)
	s.mu.Unlock()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i, o := range s.faults {
			if o == at {
				s.faults = append(s.faults[:i:i], s.faults[i+1:]...)
				return
			}
		}
	}
}

// Mend takes all faults away.
func (s *Sim) Mend() {
	s.mu.Lock()
	s.faults = nil
	s.mu.Unlock()
}

// fault is the one that the request meets, a copy; nil when none does.
func (s *Sim) fault(r *http.Request, body string, auth bool) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Auth != auth || f.Token != "" && !strings.Contains(r.URL.Path, f.Token) && !strings.Contains(body, f.Token) {
			continue
		}
		if f.seen++; f.seen <= f.Skip || f.Times > 0 && f.met >= f.Times {
			continue
		}
		f.met++
		s.stats.Faults++
		at := *f
		return &at
	}
	return nil
}

// maxRequest is far above what any provider takes, in bytes.
const maxRequest = 4 << 20

// readBody reads what there is of a request, at once where its size is known.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if n := r.ContentLength; n >= 0 && n <= 64<<10 {
		body := make([]byte, n)
		_, err := io.ReadFull(r.Body, body)
		return body, err
	}
	return io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequest))
}

// A replay is a body that has been read, to be read again.
type replay struct {
	*strings.Reader
	whole string
}

func (*replay) Close() error { return nil }

// bodyOf is the request's body. It is not to be changed.
func bodyOf(r *http.Request) string {
	if p, ok := r.Body.(*replay); ok {
		return p.whole
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxRequest))
	return string(body)
}

// ServeHTTP implements http.Handler.
func (s *Sim) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	read, err := readBody(w, r)
	if err != nil {
		return
	}
	body := string(read)
	r.Body = &replay{strings.NewReader(body), body}
	if s.options.Seen != nil {
		s.options.Seen(r, body)
	}
	auth := s.kind.auth(r)
	s.mu.Lock()
	if auth {
		s.stats.Auths++
	} else {
		s.stats.Requests++
	}
	if r.ProtoMajor < 2 {
		s.stats.Protocol1++
	}
	none := len(s.faults) == 0
	s.mu.Unlock()
	if none {
		s.kind.serve(s, w, r)
		return
	}
	f := s.fault(r, body, auth)
	if f == nil {
		s.kind.serve(s, w, r)
		return
	}
	if f.Delay > 0 {
		t := time.NewTimer(f.Delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-r.Context().Done():
			return
		}
	}
	if f.Revoke {
		s.kind.revoke()
	}
	switch {
	case f.Hang:
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	case f.Reset:
		panic(http.ErrAbortHandler)
	case f.Lost:
		s.kind.serve(s, discard{}, r)
		panic(http.ErrAbortHandler)
	case f.Code != "":
		s.kind.refuse(w, f.Code)
	case f.Status != 0:
		for name, value := range f.Header {
			w.Header().Set(name, value)
		}
		if f.Drip {
			drip(w, r, f)
			return
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(f.Body)))
		w.WriteHeader(f.Status)
		_, _ = io.WriteString(w, f.Body)
	default:
		if f.GoAway {
			w.Header().Set("Connection", "close") // over HTTP/2 it becomes a GOAWAY
		}
		s.kind.serve(s, w, r)
	}
}

func drip(w http.ResponseWriter, r *http.Request, f *Fault) {
	w.WriteHeader(f.Status)
	for i := 0; r.Context().Err() == nil; i++ {
		b := byte(' ')
		if i < len(f.Body) {
			b = f.Body[i]
		}
		if _, err := w.Write([]byte{b}); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-time.After(50 * time.Millisecond):
		case <-r.Context().Done():
		}
	}
}

// discard is the answer that gets lost.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}
