package chat

import (
	"maps"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of push templates.
const (
	MaxPushTemplates = 100  // of an app (push-template)
	maxTemplateID    = 64   // characters
	maxTemplateTitle = 50   // characters, as that of pushExt
	maxTemplateBody  = 1000 // characters
	MaxTemplateTexts = 50   // languages
)

// A PushTemplate is what a push says, in several languages. A message names it in
// pushExt.templateId. Templates in hand are immutable.
type PushTemplate struct {
	ID      string
	Default string // the language for those whose own is not among Texts
	Texts   map[string]PushText
	Since   int64 // Unix ms: when it was set to what it is
}

// A PushText is what a template says in one language, with placeholders.
type PushText struct {
	Title string // may be empty
	Body  string
}

// PushPlaceholders are what stands in a template for what each push has of its
// own: the sender's name, and what the message says.
var PushPlaceholders = []string{"{sender}", "{content}"}

var anyPlaceholder = regexp.MustCompile(`\{[A-Za-z_][A-Za-z0-9_]*\}`)

// A PushTranslation is what a template says in one language, as its author
// writes it.
type PushTranslation struct {
	Language string
	PushText
}

// NewPushTemplate makes a template of what its author wrote, checked. Errors name
// the field.
func NewPushTemplate(id, defaultLanguage string, texts []PushTranslation) (*PushTemplate, error) {
	if err := CheckTemplateID("templateId", id); err != nil {
		return nil, err
	}
	t := &PushTemplate{ID: id, Texts: map[string]PushText{}}
	var err error
	if t.Default, err = ParseLanguage("defaultLanguage", defaultLanguage); err != nil {
		return nil, err
	}
	if len(texts) == 0 {
		return nil, Invalid("languages", "is required")
	}
	if n := len(texts); n > MaxTemplateTexts {
		return nil, Invalidf("languages", "at most %d items, got %d", MaxTemplateTexts, n)
	}
	for i, text := range texts {
		at := "languages[" + strconv.Itoa(i) + "]"
		language, err := ParseLanguage(at+".language", text.Language)
		if err != nil {
			return nil, err
		}
		if _, twice := t.Texts[language]; twice {
			return nil, Invalid(at+".language", "stands in the list twice")
		}
		if err := checkPushText(at, text.PushText); err != nil {
			return nil, err
		}
		t.Texts[language] = text.PushText
	}
	if _, ok := t.Texts[t.Default]; !ok {
		return nil, Invalid("defaultLanguage", "must be one of the template's languages")
	}
	return t, nil
}

// CheckTemplateID says whether a template may have this id. The error names field.
func CheckTemplateID(field, id string) error { return checkTagText(field, id, maxTemplateID) }

// checkPushText says whether a template may say this. Errors name what is below
// field.
func checkPushText(field string, t PushText) error {
	if t.Body == "" {
		return Invalid(field+".body", "is required")
	}
	for _, f := range [...]struct {
		name, text string
		limit      int
	}{{"title", t.Title, maxTemplateTitle}, {"body", t.Body, maxTemplateBody}} {
		at := field + "." + f.name
		if !utf8.ValidString(f.text) {
			return Invalid(at, "must be valid UTF-8")
		}
		if n := utf8.RuneCountInString(f.text); n > f.limit {
			return TooLong(at, f.limit, n, "characters")
		}
		for _, p := range anyPlaceholder.FindAllString(f.text, -1) {
			if p != "{sender}" && p != "{content}" {
				return Invalid(at, "has no placeholder "+p+"; there are "+strings.Join(PushPlaceholders, " and "))
			}
		}
	}
	return nil
}

// Same reports whether the two say the same under the same id.
func (t *PushTemplate) Same(o *PushTemplate) bool {
	return t.ID == o.ID && t.Default == o.Default && maps.Equal(t.Texts, o.Texts)
}
