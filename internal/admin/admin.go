// Package admin is the owner's door: it makes apps, changes their settings and
// issues tokens. The same operations are served over a socket in the data
// folder that only its owner can open, and called directly on an opened store
// when no node runs.
package admin

import (
	"context"
	"crypto/rand"
	"errors"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// An API is what an owner can do, on a running node or on its stored data.
type API interface {
	// Node describes the running node; Running is false when there is none.
	Node(ctx context.Context) (Node, error)
	// Apps lists all apps, oldest first.
	Apps(ctx context.Context) ([]App, error)
	// CreateApp makes an app. A key or secret that is not given is made up.
	CreateApp(ctx context.Context, key, secret string) (App, error)
	// SetApp changes settings of an app by name, all or none.
	SetApp(ctx context.Context, key string, values map[string]string) (App, error)
	// IssueToken issues an access token. Without a name the user keeps theirs,
	// and a new user is called by their id.
	IssueToken(ctx context.Context, key, user, name string) (Token, error)
	// DemoLink makes a link that opens the running node's live page, once.
	DemoLink(ctx context.Context) (DemoLink, error)

	// PushCredentials lists what providers know the app by, without what is secret.
	PushCredentials(ctx context.Context, key string) ([]PushCredential, error)
	// SetPushCredential puts a credential in place of the one for the same. With
	// check its provider is asked before, and one that it refuses is not set.
	SetPushCredential(ctx context.Context, key string, k PushKey, baseURL string, fields map[string]string, check bool) (PushVerdict, error)
	// CheckPushCredentials has the running node ask providers about the app's
	// credentials: those for what k says, as far as it says it.
	CheckPushCredentials(ctx context.Context, key string, k PushKey) ([]PushChecked, error)
	// RemovePushCredential forgets one; that there is none is no error.
	RemovePushCredential(ctx context.Context, key string, k PushKey) error
	// PushTemplates lists the app's templates, by id.
	PushTemplates(ctx context.Context, key string) ([]PushTemplate, error)
	// SetPushTemplate puts a template in place of the one with its id.
	SetPushTemplate(ctx context.Context, key string, t PushTemplate) error
	// RemovePushTemplate forgets one; that there is none is no error.
	RemovePushTemplate(ctx context.Context, key, id string) error
}

// A Node is a running node, as far as a command needs to know it.
type Node struct {
	Running bool   `json:"running"`
	Version string `json:"version,omitempty"`
	PID     int    `json:"pid,omitempty"`
	Address string `json:"address,omitempty"` // host:port it can be reached at from this machine
	TLS     bool   `json:"tls,omitempty"`
}

// URL is where the node serves HTTP, without a trailing slash.
func (n Node) URL() string {
	if n.TLS {
		return "https://" + n.Address
	}
	return "http://" + n.Address
}

// An App is an app with its secret and every setting.
type App struct {
	Key       string            `json:"key"`
	Secret    string            `json:"secret,omitempty"`
	CreatedAt time.Time         `json:"createdAt"`
	Settings  map[string]string `json:"settings"`
	Changed   map[string]string `json:"changed"` // the settings that differ from the defaults
}

// A Token is an issued access token.
type Token struct {
	App   string `json:"app"`
	User  string `json:"userId"`
	Token string `json:"token"`
}

// A DemoLink opens the live page once.
type DemoLink struct {
	URL   string    `json:"url"`
	Until time.Time `json:"until"` // when it ends, opened or not
}

// Directory is what a service works on.
type Directory interface {
	Apps() []*chat.App
	App(key string) *chat.App
	EnsureApp(ctx context.Context, key, secret string) (*chat.App, string, error)
	SetApp(ctx context.Context, key string, values map[string]string) (*chat.App, error)
	User(ctx context.Context, app *chat.App, id string) (*chat.User, error)
	IssueToken(ctx context.Context, app *chat.App, user, name, avatarURL string) (string, error)
	PushDirectory
}

// A Service carries the operations out.
type Service struct {
	directory Directory
	node      Node
	demo      func() DemoLink // nil without a live page
	pushes    Pushes          // nil where no node runs
}

var _ API = (*Service)(nil)

// NewService works on d, for the node described (the zero Node when none runs).
func NewService(d Directory, n Node) *Service { return &Service{directory: d, node: n} }

// Node implements API.
func (s *Service) Node(context.Context) (Node, error) { return s.node, nil }

// Apps implements API.
func (s *Service) Apps(context.Context) ([]App, error) {
	apps := []App{}
	for _, a := range s.directory.Apps() {
		apps = append(apps, describe(a))
	}
	return apps, nil
}

// CreateApp implements API.
func (s *Service) CreateApp(ctx context.Context, key, secret string) (App, error) {
	if key == "" {
		key = newKey()
	}
	if secret == "" {
		secret = newSecret()
	}
	if s.directory.App(key) != nil {
		return App{}, &chat.Error{Kind: chat.KindConflict, Field: "app key", Rule: "an app has this key already"}
	}
	a, _, err := s.directory.EnsureApp(ctx, key, secret)
	if err != nil {
		return App{}, err
	}
	return describe(a), nil
}

// SetApp implements API.
func (s *Service) SetApp(ctx context.Context, key string, values map[string]string) (App, error) {
	a, err := s.directory.SetApp(ctx, key, values)
	if err != nil {
		return App{}, err
	}
	return describe(a), nil
}

// IssueToken implements API.
func (s *Service) IssueToken(ctx context.Context, key, user, name string) (Token, error) {
	app, err := s.app(key)
	if err != nil {
		return Token{}, err
	}
	// Issuing overwrites name and avatar: a token made by hand must not wipe
	// what the app's backend has set.
	known, err := s.directory.User(ctx, app, user)
	if err != nil && !errors.Is(err, &chat.Error{Kind: chat.KindNoUser}) {
		return Token{}, err
	}
	var avatar string
	if known != nil {
		avatar = known.AvatarURL
		if name == "" {
			name = known.Name
		}
	}
	if name == "" {
		name = user
	}
	token, err := s.directory.IssueToken(ctx, app, user, name, avatar)
	if err != nil {
		return Token{}, err
	}
	return Token{App: key, User: user, Token: token}, nil
}

// OfferDemo says how to make links to the live page. It is called before the
// service is served, and not where the page is off.
func (s *Service) OfferDemo(link func() DemoLink) { s.demo = link }

// DemoLink implements API.
func (s *Service) DemoLink(context.Context) (DemoLink, error) {
	if s.demo == nil {
		return DemoLink{}, chat.Fail(chat.KindFeatureOff, "the server does not serve the live page: "+
			"by itself it does on a loopback address only; demo-page: on switches it on")
	}
	return s.demo(), nil
}

// newKey and newSecret are random text of 65 and 130 bits: a key need only be
// unlike others, a secret must not be guessed.
func newKey() string    { return newSecret()[:13] }
func newSecret() string { return strings.ToLower(rand.Text()) }

func describe(a *chat.App) App {
	return App{
		Key: a.Key, Secret: a.Secret, CreatedAt: a.CreatedAt.UTC(),
		Settings: a.Settings.All(), Changed: a.Settings.Changed(),
	}
}
