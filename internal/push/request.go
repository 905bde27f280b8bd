package push

import (
	"net/url"
	"sort"
)

// A Request is a notification in a provider's words: what is to be sent, save for
// what proves who sends it, which the provider's adapter adds.
type Request struct {
	Method string
	Path   string // behind the provider's address
	Header map[string]string
	Body   []byte
	// Form is what Body was made of, of providers that take forms. They sign its
	// fields or have their access token among them.
	Form url.Values
	Cut  Cut // what was left out
}

// FormRequest is a request whose body is a form.
func FormRequest(path string, form url.Values, cut Cut) Request {
	return Request{
		Method: "POST", Path: path, Form: form, Body: []byte(form.Encode()), Cut: cut,
		Header: map[string]string{"Content-Type": "application/x-www-form-urlencoded;charset=UTF-8"},
	}
}

// JSONRequest is a request whose body is JSON.
func JSONRequest(path string, body []byte, cut Cut) Request {
	return Request{
		Method: "POST", Path: path, Body: body, Cut: cut,
		Header: map[string]string{"Content-Type": "application/json; charset=UTF-8"},
	}
}

// Parts are what of a notification may be cut. What leads to the right channel is
// not among them.
type Parts struct {
	Image bool // whether there may be one
	Data  string
	Title string
	Body  string
}

// A Cut says what was left out of a notification to make it fit.
type Cut uint8

// What can be cut, in this order.
const (
	CutImage Cut = 1 << iota
	CutData      // dropped as a whole: half of a JSON text is none
	CutBody
	CutTitle
)

var cutWords = [...]string{"image", "data", "body", "title"}

// Words are what was cut, in the words of traces.
func (c Cut) Words() (words []string) {
	for i, w := range cutWords {
		if c&(1<<i) != 0 {
			words = append(words, w)
		}
	}
	return words
}

// Parts are all of the notification's.
func (n *Notification) Parts() Parts {
	return Parts{Image: true, Data: n.Data, Title: n.Title, Body: n.Body}
}

// Shorten cuts title and body to a provider's limits, counted in its unit.
func (p *Parts) Shorten(title, body int, unit Unit) Cut {
	var cut, c Cut
	if p.Title, c = shorten(p.Title, title, unit, CutTitle); c != 0 {
		cut |= c
	}
	if p.Body, c = shorten(p.Body, body, unit, CutBody); c != 0 {
		cut |= c
	}
	return cut
}

func shorten(s string, limit int, unit Unit, what Cut) (string, Cut) {
	short := Truncate(s, limit, unit)
	if len(short) == len(s) {
		return s, 0
	}
	return short, what
}

// Fit renders ever less of a notification until it has at most limit bytes: first
// without the image, then without the sender's data, then with less of the body, at
// last with less of the title. size is what counts of a rendered body; nil is all.
func Fit(p Parts, limit int, render func(Parts) []byte, size func([]byte) int) ([]byte, Cut, error) {
	if size == nil {
		size = func(b []byte) int { return len(b) }
	}
	var cut Cut
	body := render(p)
	for _, step := range [...]struct {
		cut   Cut
		there bool
		apply func()
	}{
		{CutImage, p.Image, func() { p.Image = false }},
		{CutData, p.Data != "", func() { p.Data = "" }},
	} {
		over := size(body)
		if over <= limit {
			return body, cut, nil
		}
		if !step.there {
			continue
		}
		step.apply()
		if body = render(p); size(body) < over {
			cut |= step.cut
		}
	}
	for _, text := range [...]struct {
		cut Cut
		at  *string
	}{{CutBody, &p.Body}, {CutTitle, &p.Title}} {
		whole := *text.at
		if size(body) <= limit || whole == "" {
			continue
		}
		cut |= text.cut
		// How much of the text fits depends on what of it has to be escaped.
		tooMuch := sort.Search(min(len(whole), limit+1), func(keep int) bool {
			*text.at = Truncate(whole, keep, Bytes)
			return size(render(p)) > limit
		})
		*text.at = Truncate(whole, tooMuch-1, Bytes)
		body = render(p)
	}
	if size(body) > limit {
		return nil, cut, ErrTooLarge
	}
	return body, cut, nil
}
