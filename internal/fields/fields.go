// Package fields reads JSON objects by tables that say how each field is read,
// without reflection.
//
// It is forgiving about the forms in which callers send a value, as the
// platform it follows is: a switch may be a number, a boolean or a digit in
// quotes, a number may be a decimal string, and null is the same as absent.
// What does not fit is refused with an error that names the field's path, the
// rule, and what came instead. Unknown fields are ignored. A field that comes
// twice is an error: taking either one would silently drop what the caller said
// with the other.
package fields

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley/internal/chat"
)

// A Field says how one field of an object is read into a T. Read is called when
// the field is there and not null; its errors need not name the field.
type Field[T any] struct {
	Name string
	Read func(*Reader, *T) error
}

// A Table is the fields of an object that are known.
type Table[T any] struct {
	list   []Field[T]
	byName map[string]int
}

// NewTable makes a table. Two fields of one name are a mistake in the program.
func NewTable[T any](list ...Field[T]) *Table[T] {
	t := &Table[T]{list: list, byName: make(map[string]int, len(list))}
	for i, f := range list {
		if _, dup := t.byName[f.Name]; dup {
			panic("fields: two fields named " + f.Name)
		}
		t.byName[f.Name] = i
	}
	return t
}

// Names lists the fields' names in the table's order.
func (t *Table[T]) Names() []string {
	names := make([]string, len(t.list))
	for i, f := range t.list {
		names[i] = f.Name
	}
	return names
}

// Decode reads text, which must be one JSON object, into v. Errors are of kind
// KindInvalid or KindTooLong; their Field is the path within the object, empty
// when text is not a JSON object at all.
func (t *Table[T]) Decode(text []byte, v *T) error {
	r := readers.Get().(*Reader)
	err := decode(r, t, text, v)
	r.release()
	return err
}

// DecodeString is Decode for a string.
func (t *Table[T]) DecodeString(text string, v *T) error {
	r := readers.Get().(*Reader)
	r.own = append(r.own[:0], text...)
	err := decode(r, t, r.own, v)
	r.release()
	return err
}

func decode[T any](r *Reader, t *Table[T], text []byte, v *T) error {
	r.src = *bytes.NewBuffer(text)
	r.dec.Reset(&r.src)
	err := t.readObject(r, v)
	if err == nil {
		// Nothing but white space may follow.
		if _, err = r.dec.ReadToken(); err == io.EOF {
			return nil
		} else if err == nil {
			err = chat.Invalidf("", "invalid JSON at byte %d: unexpected data after the object", r.dec.InputOffset())
		}
	}
	return r.explain(err, len(text))
}

// explain turns the decoder's errors into ours.
func (r *Reader) explain(err error, size int) error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		switch {
		case errors.Is(syntax.Err, jsontext.ErrDuplicateName):
			return chat.Invalidf("", "invalid JSON at byte %d: the name %s comes twice in one object",
				syntax.ByteOffset, Quote(syntax.JSONPointer.LastToken()))
		case errors.Is(syntax.Err, io.ErrUnexpectedEOF):
			return chat.Invalidf("", "invalid JSON at byte %d: unexpected end", size)
		}
		return chat.Invalidf("", "invalid JSON at byte %d: %s", syntax.ByteOffset, syntax.Err)
	}
	if err == io.EOF {
		return chat.Invalid("", "must be a JSON object, got nothing")
	}
	if _, ok := errors.AsType[*chat.Error](err); !ok {
		return chat.Invalid("", "invalid JSON: "+err.Error())
	}
	return err
}

// readObject reads the next value, which must be an object.
func (t *Table[T]) readObject(r *Reader, v *T) error {
	if k := r.dec.PeekKind(); k != jsontext.KindBeginObject {
		return r.wrong("must be a JSON object")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != jsontext.KindEndObject {
		name, err := r.name()
		if err != nil {
			return err
		}
		i, known := t.byName[string(name)]
		if !known || r.dec.PeekKind() == jsontext.KindNull {
			if err := r.dec.SkipValue(); err != nil {
				return err
			}
			continue
		}
		if err := t.list[i].Read(r, v); err != nil {
			return Within(t.list[i].Name, err)
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// Within says that err came from inside the named field. Errors that are not
// about a field stay as they are.
func Within(name string, err error) error {
	e, ok := err.(*chat.Error)
	if !ok {
		return err
	}
	under := *e
	switch {
	case e.Field == "":
		under.Field = name
	case strings.HasPrefix(e.Field, "["):
		under.Field = name + e.Field
	default:
		under.Field = name + "." + e.Field
	}
	return &under
}

// A Reader reads values within one document.
type Reader struct {
	dec jsontext.Decoder
	src bytes.Buffer
	own []byte // a copy of a document that came as a string
	tmp []byte // an unescaped string
}

// Readers are kept for the next document, buffers of unusual size are not.
const keepBuffer = 64 << 10

var readers = sync.Pool{New: func() any { return new(Reader) }}

func (r *Reader) release() {
	r.src = bytes.Buffer{}
	r.dec.Reset(&r.src) // lets go of the document
	if cap(r.own) > keepBuffer {
		r.own = nil
	}
	if cap(r.tmp) > keepBuffer {
		r.tmp = nil
	}
	readers.Put(r)
}

// name reads an object's next name. It is good until the next read.
func (r *Reader) name() ([]byte, error) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	return r.unquote(raw)
}

// unquote gives a JSON string's text, good until the next call. Most strings
// have no escapes and need no copy.
func (r *Reader) unquote(raw []byte) ([]byte, error) {
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], nil
	}
	var err error
	r.tmp, err = jsontext.AppendUnquote(r.tmp[:0], raw)
	return r.tmp, err
}

// Text reads a string.
func (r *Reader) Text() (string, error) {
	if r.dec.PeekKind() != jsontext.KindString {
		return "", r.wrong("must be a string")
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		return "", err
	}
	text, err := r.unquote(raw)
	return string(text), err
}

// Texts reads an array of at most limit strings.
func (r *Reader) Texts(limit int) ([]string, error) {
	if r.dec.PeekKind() != jsontext.KindBeginArray {
		return nil, r.wrong("must be an array of strings")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, err
	}
	var list []string
	n := 0
	for ; r.dec.PeekKind() != jsontext.KindEndArray; n++ {
		// Items past the limit are counted, for the error, but not kept.
		if n >= limit {
			if err := r.dec.SkipValue(); err != nil {
				return nil, err
			}
			continue
		}
		s, err := r.Text()
		if err != nil {
			return nil, Within("["+strconv.Itoa(n)+"]", err)
		}
		list = append(list, s)
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return nil, err
	}
	if n > limit {
		return nil, chat.Invalidf("", "at most %d items, got %d", limit, n)
	}
	return list, nil
}

// Switch reads 0 or 1, false or true, "0" or "1".
func (r *Reader) Switch() (bool, error) {
	k := r.dec.PeekKind()
	if k == jsontext.KindBeginObject || k == jsontext.KindBeginArray {
		return false, r.wrong("0 or 1")
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		return false, err
	}
	switch string(raw) {
	case "0", "false", `"0"`:
		return false, nil
	case "1", "true", `"1"`:
		return true, nil
	}
	return false, chat.Invalid("", "0 or 1, got "+short(raw))
}

// Int reads a whole number, which may come as a decimal string.
func (r *Reader) Int() (int64, error) {
	const rule = "must be a whole number"
	k := r.dec.PeekKind()
	if k != jsontext.KindNumber && k != jsontext.KindString {
		return 0, r.wrong(rule)
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		return 0, err
	}
	text := []byte(raw)
	if k == jsontext.KindString {
		text = text[1 : len(text)-1] // digits need no escapes
	}
	if n, ok := parseInt(text); ok {
		return n, nil
	}
	return 0, chat.Invalid("", rule+", got "+short(raw))
}

// TextOrInt reads a whole number, or a string that is none.
func (r *Reader) TextOrInt() (text string, n int64, isText bool, err error) {
	switch r.dec.PeekKind() {
	case jsontext.KindNumber:
		n, err = r.Int()
		return "", n, false, err
	case jsontext.KindString:
		text, err = r.Text()
		if n, ok := parseInt([]byte(text)); ok && err == nil {
			return "", n, false, nil
		}
		return text, 0, true, err
	}
	return "", 0, false, r.wrong("must be a string or a whole number")
}

// parseInt takes whole numbers in every JSON spelling: some languages print 1
// as 1.0 or 1e0.
func parseInt(text []byte) (int64, bool) {
	if len(text) == 0 || len(text) > 32 {
		return 0, false
	}
	for i, c := range text {
		if (c < '0' || c > '9') && c != '.' && c != 'e' && c != 'E' && c != '+' && (c != '-' || i > 0 && text[i-1]|0x20 != 'e') {
			return 0, false
		}
	}
	if text[0] == '+' {
		return 0, false
	}
	s := string(text)
	if n, err := strconv.ParseInt(s, 10, 64); err == nil {
		return n, true
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || f != float64(int64(f)) || f > 1<<53 || f < -1<<53 {
		return 0, false
	}
	return int64(f), true
}

// IntOf reads a whole number that is one of the given values.
func (r *Reader) IntOf(values ...int64) (int, error) {
	n, err := r.Int()
	if err != nil {
		return 0, err
	}
	for _, v := range values {
		if n == v {
			return int(n), nil
		}
	}
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(strconv.FormatInt(v, 10))
	}
	return 0, chat.Invalidf("", "one of %s, got %d", b.String(), n)
}

// Map reads an object of any names and hands over each value that is not null
// as text: strings as they are, other values as their compact JSON.
func (r *Reader) Map(add func(name, value string)) error {
	if r.dec.PeekKind() != jsontext.KindBeginObject {
		return r.wrong("must be an object")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for r.dec.PeekKind() != jsontext.KindEndObject {
		b, err := r.name()
		if err != nil {
			return err
		}
		name := string(b)
		switch r.dec.PeekKind() {
		case jsontext.KindNull:
			if err := r.dec.SkipValue(); err != nil {
				return err
			}
		case jsontext.KindString:
			s, err := r.Text()
			if err != nil {
				return err
			}
			add(name, s)
		default:
			raw, err := r.dec.ReadValue()
			if err != nil {
				return err
			}
			compact := raw.Clone()
			if err := compact.Compact(); err != nil {
				return err
			}
			add(name, string(compact))
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// JSON reads any value, or only an object, and gives its compact text.
func (r *Reader) JSON(object bool) (string, error) {
	if object && r.dec.PeekKind() != jsontext.KindBeginObject {
		return "", r.wrong("must be an object")
	}
	raw, err := r.dec.ReadValue()
	if err != nil {
		return "", err
	}
	compact := raw.Clone()
	if err := compact.Compact(); err != nil {
		return "", err
	}
	return string(compact), nil
}

// TextOrObject reads a string, or an object of which it gives the compact text.
func (r *Reader) TextOrObject() (string, error) {
	if r.dec.PeekKind() == jsontext.KindBeginObject {
		return r.JSON(true)
	}
	return r.Text()
}

// wrong reads the next value and says that it breaks rule.
func (r *Reader) wrong(rule string) error {
	k := r.dec.PeekKind()
	raw, err := r.dec.ReadValue()
	if err != nil {
		return err
	}
	// A text may be anything the caller holds dear, so only its type is told
	// where something else than a text was wanted.
	what := short(raw)
	if k == jsontext.KindString {
		what = "a string"
	}
	return chat.Invalid("", rule+", got "+what)
}

// short describes a value for an error: scalars themselves, cut to a few
// characters, others by their type.
func short(raw jsontext.Value) string {
	switch raw.Kind() {
	case jsontext.KindBeginObject:
		return "an object"
	case jsontext.KindBeginArray:
		return "an array"
	case jsontext.KindString:
		text, err := jsontext.AppendUnquote(nil, raw)
		if err != nil {
			return "a string"
		}
		return Quote(string(text))
	case jsontext.KindNumber:
		if len(raw) > maxShort {
			return "a number of " + strconv.Itoa(len(raw)) + " digits"
		}
	}
	return string(raw)
}

const maxShort = 24

// Quote is s for an error: quoted, and cut to a few characters.
func Quote(s string) string {
	if len(s) > maxShort {
		cut := maxShort
		for !utf8.RuneStart(s[cut]) {
			cut--
		}
		return strconv.Quote(s[:cut]) + "…"
	}
	return strconv.Quote(s)
}

// Text is a field that holds a string.
func Text[T any](name string, at func(*T) *string) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) (err error) {
		*at(v), err = r.Text()
		return err
	}}
}

// TextOrObject is a field that holds a string, or an object, which is read as the text
// of it.
func TextOrObject[T any](name string, at func(*T) (text *string, isObject *bool)) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) (err error) {
		text, isObject := at(v)
		*isObject = r.dec.PeekKind() == jsontext.KindBeginObject
		*text, err = r.TextOrObject()
		return err
	}}
}

// Texts is a field that holds an array of at most limit strings.
func Texts[T any](name string, limit int, at func(*T) *[]string) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) (err error) {
		*at(v), err = r.Texts(limit)
		return err
	}}
}

// Switch is a field that is on or off.
func Switch[T any](name string, at func(*T) *bool) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) (err error) {
		*at(v), err = r.Switch()
		return err
	}}
}

// Object is a field that holds an object.
func Object[T, U any](name string, t *Table[U], at func(*T) *U) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) error { return t.readObject(r, at(v)) }}
}

// ObjectOrText is a field that holds an object, or a string with the object's
// JSON in it.
func ObjectOrText[T, U any](name string, t *Table[U], at func(*T) *U) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) error {
		if r.dec.PeekKind() != jsontext.KindString {
			return t.readObject(r, at(v))
		}
		text, err := r.Text()
		if err != nil {
			return err
		}
		return t.DecodeString(text, at(v))
	}}
}

// Objects is a field that holds an array of objects, all read into one value.
func Objects[T any](name string, t *Table[T]) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) error {
		if r.dec.PeekKind() != jsontext.KindBeginArray {
			return r.wrong("must be an array of objects")
		}
		if _, err := r.dec.ReadToken(); err != nil {
			return err
		}
		for i := 0; r.dec.PeekKind() != jsontext.KindEndArray; i++ {
			if err := t.readObject(r, v); err != nil {
				return Within("["+strconv.Itoa(i)+"]", err)
			}
		}
		_, err := r.dec.ReadToken()
		return err
	}}
}

// Raw is a field that holds any JSON value, kept as its compact text.
func Raw[T any](name string, at func(*T) *jsontext.Value) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) error {
		raw, err := r.dec.ReadValue()
		if err != nil {
			return err
		}
		*at(v) = raw.Clone()
		return at(v).Compact()
	}}
}

// List is a field that holds an array of at most limit objects, each read into a
// value of its own.
func List[T, U any](name string, limit int, t *Table[U], at func(*T) *[]U) Field[T] {
	return Field[T]{name, func(r *Reader, v *T) error {
		if r.dec.PeekKind() != jsontext.KindBeginArray {
			return r.wrong("must be an array of objects")
		}
		if _, err := r.dec.ReadToken(); err != nil {
			return err
		}
		list, n := at(v), 0
		*list = nil
		for ; r.dec.PeekKind() != jsontext.KindEndArray; n++ {
			// As with texts, items past the limit are only counted.
			if n >= limit {
				if err := r.dec.SkipValue(); err != nil {
					return err
				}
				continue
			}
			var u U
			if err := t.readObject(r, &u); err != nil {
				return Within("["+strconv.Itoa(n)+"]", err)
			}
			*list = append(*list, u)
		}
		if _, err := r.dec.ReadToken(); err != nil {
			return err
		}
		if n > limit {
			return chat.Invalidf("", "at most %d items, got %d", limit, n)
		}
		return nil
	}}
}
