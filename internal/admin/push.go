package admin

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// A PushKey says what a credential is for.
type PushKey struct {
	Provider    string `json:"provider"`
	Package     string `json:"package,omitempty"`
	Environment string `json:"environment,omitempty"`
}

// A PushCredential is what may be known of a credential: nothing that is secret.
type PushCredential struct {
	PushKey
	KeyID       string    `json:"keyId,omitempty"`
	Fingerprint string    `json:"fingerprint"`
	BaseURL     string    `json:"baseUrl,omitempty"`
	Since       time.Time `json:"since"`
}

// A PushTemplate is what a push says, by language.
type PushTemplate struct {
	ID      string     `json:"templateId"`
	Default string     `json:"defaultLanguage"`
	Texts   []PushText `json:"languages"`
	Since   time.Time  `json:"since"`
}

// A PushText is what a template says in one language.
type PushText struct {
	Language string `json:"language"`
	Title    string `json:"title,omitempty"`
	Body     string `json:"body"`
}

// A PushVerdict is what a provider says of a credential: the verdict is good,
// refused or unknown, and empty where nobody was asked.
type PushVerdict struct {
	Verdict string `json:"verdict"`
	Class   string `json:"class"`
	Code    string `json:"code"`
	Advice  string `json:"advice,omitempty"`
}

// A PushChecked is a credential, and what its provider says of it.
type PushChecked struct {
	PushCredential
	PushVerdict
}

// Pushes asks providers.
type Pushes interface {
	Check(ctx context.Context, c *chat.PushCredential) push.Verdict
	CheckAll(ctx context.Context, app *chat.App, about func(*chat.PushCredential) bool) ([]push.Checked, error)
}

// OfferPushes says who asks providers. It is called before the service is served.
func (s *Service) OfferPushes(p Pushes) { s.pushes = p }

// PushDirectory is as much of a directory as has to do with push.
type PushDirectory interface {
	PushCredentials(ctx context.Context, app *chat.App) ([]chat.PushCredential, error)
	SetPushCredential(ctx context.Context, app *chat.App, c *chat.PushCredential, byOwner bool) error
	RemovePushCredential(ctx context.Context, app *chat.App, c *chat.PushCredential) error
	PushTemplates(ctx context.Context, app *chat.App) ([]chat.PushTemplate, error)
	SetPushTemplate(ctx context.Context, app *chat.App, t *chat.PushTemplate) error
	RemovePushTemplate(ctx context.Context, app *chat.App, id string) error
}

func (s *Service) app(key string) (*chat.App, error) {
	if app := s.directory.App(key); app != nil {
		return app, nil
	}
	return nil, &chat.Error{Kind: chat.KindNotFound, Field: "app", Rule: "no app has this key"}
}

func (k *PushKey) credential() (c chat.PushCredential, err error) {
	if c.Provider, err = chat.ParsePushProvider(k.Provider); err != nil {
		return c, err
	}
	if c.Package, err = chat.PushPackage("", k.Package); err != nil {
		return c, err
	}
	c.Environment, err = chat.ParsePushEnvironment(c.Provider, k.Environment)
	return c, err
}

// PushCredentials implements API.
func (s *Service) PushCredentials(ctx context.Context, key string) ([]PushCredential, error) {
	app, err := s.app(key)
	if err != nil {
		return nil, err
	}
	list, err := s.directory.PushCredentials(ctx, app)
	out := []PushCredential{}
	for i := range list {
		out = append(out, described(&list[i]))
	}
	return out, err
}

// described is what may be known of a credential.
func described(c *chat.PushCredential) PushCredential {
	return PushCredential{
		PushKey: PushKey{c.Provider.String(), c.Package, c.Environment.String()},
		KeyID:   c.KeyID(), Fingerprint: c.Fingerprint(), BaseURL: c.BaseURL, Since: time.UnixMilli(c.Since).UTC(),
	}
}

func verdict(v *push.Verdict) PushVerdict {
	return PushVerdict{Verdict: v.Word(), Class: v.Class.String(), Code: v.Code, Advice: v.Advice()}
}

// CheckPushCredentials implements API.
func (s *Service) CheckPushCredentials(ctx context.Context, key string, k PushKey) ([]PushChecked, error) {
	app, err := s.app(key)
	if err != nil {
		return nil, err
	}
	about, err := chat.PushCredentialsAbout(k.Provider, "", k.Package, k.Environment)
	if err != nil {
		return nil, err
	}
	if s.pushes == nil {
		return nil, ErrNotRunning
	}
	list, err := s.pushes.CheckAll(ctx, app, about)
	out := []PushChecked{}
	for i := range list {
		out = append(out, PushChecked{described(&list[i].Credential), verdict(&list[i].Verdict)})
	}
	return out, err
}

// SetPushCredential implements API.
func (s *Service) SetPushCredential(ctx context.Context, key string, k PushKey, baseURL string, fields map[string]string, check bool) (said PushVerdict, err error) {
	app, err := s.app(key)
	if err != nil {
		return said, err
	}
	c, err := k.credential()
	if err != nil {
		return said, err
	}
	c.BaseURL, c.Fields = baseURL, maps.Clone(fields)
	if check {
		if err := c.Check(); err != nil {
			return said, err
		}
		if s.pushes == nil {
			return said, ErrNotRunning
		}
		v := s.pushes.Check(ctx, &c)
		if said = verdict(&v); said.Verdict == push.VerdictRefused {
			return said, chat.Invalid("credential", v.Refusal())
		}
	}
	return said, s.directory.SetPushCredential(ctx, app, &c, true)
}

// RemovePushCredential implements API.
func (s *Service) RemovePushCredential(ctx context.Context, key string, k PushKey) error {
	app, err := s.app(key)
	if err != nil {
		return err
	}
	c, err := k.credential()
	if err != nil {
		return err
	}
	return s.directory.RemovePushCredential(ctx, app, &c)
}

// PushTemplates implements API.
func (s *Service) PushTemplates(ctx context.Context, key string) ([]PushTemplate, error) {
	app, err := s.app(key)
	if err != nil {
		return nil, err
	}
	list, err := s.directory.PushTemplates(ctx, app)
	out := []PushTemplate{}
	for _, t := range list {
		one := PushTemplate{ID: t.ID, Default: t.Default, Since: time.UnixMilli(t.Since).UTC()}
		for _, language := range slices.Sorted(maps.Keys(t.Texts)) {
			one.Texts = append(one.Texts, PushText{language, t.Texts[language].Title, t.Texts[language].Body})
		}
		out = append(out, one)
	}
	return out, err
}

// SetPushTemplate implements API.
func (s *Service) SetPushTemplate(ctx context.Context, key string, t PushTemplate) error {
	app, err := s.app(key)
	if err != nil {
		return err
	}
	texts := make([]chat.PushTranslation, len(t.Texts))
	for i, text := range t.Texts {
		texts[i] = chat.PushTranslation{Language: text.Language, PushText: chat.PushText{Title: text.Title, Body: text.Body}}
	}
	template, err := chat.NewPushTemplate(t.ID, t.Default, texts)
	if err != nil {
		return err
	}
	return s.directory.SetPushTemplate(ctx, app, template)
}

// RemovePushTemplate implements API.
func (s *Service) RemovePushTemplate(ctx context.Context, key, id string) error {
	app, err := s.app(key)
	if err != nil {
		return err
	}
	return s.directory.RemovePushTemplate(ctx, app, id)
}
