package chat

import (
	"maps"
	"regexp"
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

// Check says whether the template could be one. Languages are to be in the form
// that ParseLanguage gives.
func (t *PushTemplate) Check() error {
	if err := CheckTemplateID("templateId", t.ID); err != nil {
		return err
	}
	if len(t.Texts) == 0 {
		return Invalid("languages", "is required")
	}
	if n := len(t.Texts); n > MaxTemplateTexts {
		return Invalidf("languages", "at most %d languages, got %d", MaxTemplateTexts, n)
	}
	if _, ok := t.Texts[t.Default]; !ok {
		return Invalid("defaultLanguage", "must be one of the template's languages")
	}
	return nil
}

// CheckTemplateID says whether a template may have this id. The error names field.
func CheckTemplateID(field, id string) error { return checkTagText(field, id, maxTemplateID) }

// CheckPushText says whether a template may say this. Errors name what is below
// field.
func CheckPushText(field string, t PushText) error {
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
