package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// A Client does on a running node what a Service does on the spot.
type Client struct {
	http *http.Client
}

var _ API = (*Client)(nil)

// Connect reaches the node that runs on the data folder. It is ErrNotRunning
// when there is none.
func Connect(ctx context.Context, dir string) (*Client, error) {
	c := &Client{http: &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{
			DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx, dir) },
		},
	}}
	if _, err := c.Node(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Close drops the connection.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Node implements API.
func (c *Client) Node(ctx context.Context) (Node, error) {
	return call[Node](ctx, c, http.MethodGet, "/node", nil)
}

// Apps implements API.
func (c *Client) Apps(ctx context.Context) ([]App, error) {
	return call[[]App](ctx, c, http.MethodGet, "/apps", nil)
}

// CreateApp implements API.
func (c *Client) CreateApp(ctx context.Context, key, secret string) (App, error) {
	return call[App](ctx, c, http.MethodPost, "/apps", createRequest{key, secret})
}

// SetApp implements API.
func (c *Client) SetApp(ctx context.Context, key string, values map[string]string) (App, error) {
	return call[App](ctx, c, http.MethodPatch, "/apps/"+url.PathEscape(key), setRequest{values})
}

// IssueToken implements API.
func (c *Client) IssueToken(ctx context.Context, key, user, name string) (Token, error) {
	return call[Token](ctx, c, http.MethodPost, "/apps/"+url.PathEscape(key)+"/tokens", tokenRequest{user, name})
}

// DemoLink implements API.
func (c *Client) DemoLink(ctx context.Context) (DemoLink, error) {
	return call[DemoLink](ctx, c, http.MethodPost, "/demo-links", struct{}{})
}

// PushCredentials implements API.
func (c *Client) PushCredentials(ctx context.Context, key string) ([]PushCredential, error) {
	return call[[]PushCredential](ctx, c, http.MethodGet, "/apps/"+url.PathEscape(key)+"/push/credentials", nil)
}

// SetPushCredential implements API.
func (c *Client) SetPushCredential(ctx context.Context, key string, k PushKey, baseURL string, fields map[string]string, check bool) (PushVerdict, error) {
	return call[PushVerdict](ctx, c, http.MethodPut, "/apps/"+url.PathEscape(key)+"/push/credentials", credentialRequest{k, baseURL, fields, check})
}

// CheckPushCredentials implements API.
func (c *Client) CheckPushCredentials(ctx context.Context, key string, k PushKey) ([]PushChecked, error) {
	return call[[]PushChecked](ctx, c, http.MethodPost, "/apps/"+url.PathEscape(key)+"/push/credentials/check", k)
}

// RemovePushCredential implements API.
func (c *Client) RemovePushCredential(ctx context.Context, key string, k PushKey) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/apps/"+url.PathEscape(key)+"/push/credentials", k)
	return err
}

// PushTemplates implements API.
func (c *Client) PushTemplates(ctx context.Context, key string) ([]PushTemplate, error) {
	return call[[]PushTemplate](ctx, c, http.MethodGet, "/apps/"+url.PathEscape(key)+"/push/templates", nil)
}

// SetPushTemplate implements API.
func (c *Client) SetPushTemplate(ctx context.Context, key string, t PushTemplate) error {
	_, err := call[struct{}](ctx, c, http.MethodPut, "/apps/"+url.PathEscape(key)+"/push/templates", t)
	return err
}

// RemovePushTemplate implements API.
func (c *Client) RemovePushTemplate(ctx context.Context, key, id string) error {
	_, err := call[struct{}](ctx, c, http.MethodDelete, "/apps/"+url.PathEscape(key)+"/push/templates", templateRequest{id})
	return err
}

func call[A any](ctx context.Context, c *Client, method, path string, q any) (answer A, err error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer, err
	}
	r, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, bytes.NewReader(body))
	if err != nil {
		return answer, err
	}
	resp, err := c.http.Do(r)
	if err != nil {
		if errors.Is(err, ErrNotRunning) {
			return answer, ErrNotRunning
		}
		return answer, fmt.Errorf("ask the running node: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		err = json.NewDecoder(resp.Body).Decode(&answer)
		return answer, err
	}
	var f failure
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil {
		return answer, fmt.Errorf("ask the running node: status %d", resp.StatusCode)
	}
	return answer, &chat.Error{Kind: f.Kind, Field: f.Field, Rule: f.Rule}
}
