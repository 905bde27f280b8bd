package admin

import (
	"context"
	"reflect"
	"testing"

	"github.com/parleychat/parley/internal/chat"
)

// The tests' store keeps one app's credentials and templates.
func (m *memory) PushCredentials(context.Context, chat.AppID) ([]chat.PushCredential, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.credentials, nil
}

func (m *memory) PutPushCredential(_ context.Context, _ chat.AppID, c *chat.PushCredential) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.credentials = append(m.credentials, *c)
	return nil
}

func (m *memory) RemovePushCredential(context.Context, chat.AppID, *chat.PushCredential) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.credentials = nil
	return nil
}

func (m *memory) PushTemplates(context.Context, chat.AppID) ([]chat.PushTemplate, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.templates, nil
}

func (m *memory) PutPushTemplate(_ context.Context, _ chat.AppID, t *chat.PushTemplate) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.templates = append(m.templates, *t)
	return nil
}

func (m *memory) RemovePushTemplate(context.Context, chat.AppID, string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.templates = nil
	return nil
}

func TestPush(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T, *Service) API{
		"spot":   func(_ *testing.T, s *Service) API { return s },
		"socket": func(t *testing.T, s *Service) API { return serve(t, t.TempDir(), s) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			d := newDirectory(t)
			if _, _, err := d.EnsureApp(ctx, "shop", "s"); err != nil {
				t.Fatal(err)
			}
			api := open(t, NewService(d, Node{}))
			do := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			refused := func(err error, want string) {
				t.Helper()
				if err == nil || err.Error() != want {
					t.Errorf("%v, want %s", err, want)
				}
			}
			k := PushKey{Provider: "HW", Package: "p"}
			credentials := func(want ...PushKey) {
				t.Helper()
				list, err := api.PushCredentials(ctx, "shop")
				if err != nil || list == nil || len(list) != len(want) {
					t.Fatalf("%+v, %v", list, err)
				}
				for i, c := range list {
					if c.PushKey != want[i] || c.KeyID != "a" || len(c.Fingerprint) != 16 || c.BaseURL != "https://relay" || c.Since.IsZero() {
						t.Errorf("%+v", c)
					}
				}
			}
			credentials()
			refused(only(api.SetPushCredential(ctx, "shop", k, "", map[string]string{"appId": "a"}, false)), "clientSecret: is required for HW")
			refused(only(api.SetPushCredential(ctx, "none", k, "", nil, false)), "app: no app has this key")
			do(only(api.SetPushCredential(ctx, "shop", k, "https://relay", map[string]string{"appId": "a", "clientSecret": "s"}, false)))
			credentials(k)
			do(api.RemovePushCredential(ctx, "shop", k))
			credentials()

			want := PushTemplate{ID: "t", Default: "de", Texts: []PushText{{"de", "T", "B"}, {"en", "", "C"}}}
			do(api.SetPushTemplate(ctx, "shop", want))
			list, err := api.PushTemplates(ctx, "shop")
			do(err)
			want.Since = list[0].Since
			if len(list) != 1 || want.Since.IsZero() || !reflect.DeepEqual(list[0], want) {
				t.Errorf("%+v", list)
			}
			refused(api.SetPushTemplate(ctx, "shop", PushTemplate{ID: "t", Default: "de"}), "languages: is required")
			do(api.RemovePushTemplate(ctx, "shop", "t"))
			if list, err := api.PushTemplates(ctx, "shop"); err != nil || list == nil || len(list) != 0 {
				t.Errorf("%+v, %v", list, err)
			}
		})
	}
}

func only[T any](_ T, err error) error { return err }
