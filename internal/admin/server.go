package admin

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// A Server serves a Service over a socket.
type Server struct {
	http *http.Server
}

// Requests and answers of the socket. They are private to one release: client
// and server are the same binary.
type (
	createRequest struct {
		Key    string `json:"key"`
		Secret string `json:"secret"`
	}
	setRequest struct {
		Values map[string]string `json:"values"`
	}
	tokenRequest struct {
		User string `json:"userId"`
		Name string `json:"name"`
	}
	credentialRequest struct {
		Key     PushKey           `json:"key"`
		BaseURL string            `json:"baseUrl"`
		Fields  map[string]string `json:"fields"`
		Check   bool              `json:"check"`
	}
	templateRequest struct {
		ID string `json:"templateId"`
	}
	failure struct {
		Kind  chat.Kind `json:"kind"`
		Field string    `json:"field"`
		Rule  string    `json:"rule"`
	}
)

const maxRequest = 1 << 20

// NewServer makes a server for s.
func NewServer(s *Service, logger *slog.Logger) *Server {
	mux := http.NewServeMux()
	handle(mux, "GET /node", logger, func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return s.Node(ctx)
	})
	handle(mux, "GET /apps", logger, func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return s.Apps(ctx)
	})
	handle(mux, "POST /apps", logger, func(ctx context.Context, _ *http.Request, q createRequest) (any, error) {
		return s.CreateApp(ctx, q.Key, q.Secret)
	})
	handle(mux, "PATCH /apps/{key}", logger, func(ctx context.Context, r *http.Request, q setRequest) (any, error) {
		return s.SetApp(ctx, r.PathValue("key"), q.Values)
	})
	handle(mux, "POST /apps/{key}/tokens", logger, func(ctx context.Context, r *http.Request, q tokenRequest) (any, error) {
		return s.IssueToken(ctx, r.PathValue("key"), q.User, q.Name)
	})
	handle(mux, "POST /demo-links", logger, func(ctx context.Context, _ *http.Request, _ struct{}) (any, error) {
		return s.DemoLink(ctx)
	})
	handle(mux, "GET /apps/{key}/push/credentials", logger, func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		return s.PushCredentials(ctx, r.PathValue("key"))
	})
	handle(mux, "PUT /apps/{key}/push/credentials", logger, func(ctx context.Context, r *http.Request, q credentialRequest) (any, error) {
		return s.SetPushCredential(ctx, r.PathValue("key"), q.Key, q.BaseURL, q.Fields, q.Check)
	})
	handle(mux, "POST /apps/{key}/push/credentials/check", logger, func(ctx context.Context, r *http.Request, q PushKey) (any, error) {
		return s.CheckPushCredentials(ctx, r.PathValue("key"), q)
	})
	handle(mux, "DELETE /apps/{key}/push/credentials", logger, func(ctx context.Context, r *http.Request, q PushKey) (any, error) {
		return struct{}{}, s.RemovePushCredential(ctx, r.PathValue("key"), q)
	})
	handle(mux, "GET /apps/{key}/push/templates", logger, func(ctx context.Context, r *http.Request, _ struct{}) (any, error) {
		return s.PushTemplates(ctx, r.PathValue("key"))
	})
	handle(mux, "PUT /apps/{key}/push/templates", logger, func(ctx context.Context, r *http.Request, q PushTemplate) (any, error) {
		return struct{}{}, s.SetPushTemplate(ctx, r.PathValue("key"), q)
	})
	handle(mux, "DELETE /apps/{key}/push/templates", logger, func(ctx context.Context, r *http.Request, q templateRequest) (any, error) {
		return struct{}{}, s.RemovePushTemplate(ctx, r.PathValue("key"), q.ID)
	})
	return &Server{http: &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      time.Minute,
		IdleTimeout:       time.Minute,
		ErrorLog:          slog.NewLogLogger(logger.Handler(), slog.LevelWarn),
	}}
}

// Serve answers on ln until Shutdown.
func (s *Server) Serve(ln net.Listener) error {
	if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// Shutdown stops taking requests and waits for those under way.
func (s *Server) Shutdown(ctx context.Context) error { return s.http.Shutdown(ctx) }

func handle[Q any](mux *http.ServeMux, pattern string, logger *slog.Logger, do func(context.Context, *http.Request, Q) (any, error)) {
	mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
		var q Q
		if r.Method != http.MethodGet {
			if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxRequest)).Decode(&q); err != nil {
				write(w, logger, http.StatusBadRequest, failure{chat.KindInvalid, "", "the request is not valid JSON"})
				return
			}
		}
		v, err := do(r.Context(), r, q)
		if err == nil {
			write(w, logger, http.StatusOK, v)
			return
		}
		if e, ok := errors.AsType[*chat.Error](err); ok {
			write(w, logger, http.StatusUnprocessableEntity, failure{e.Kind, e.Field, e.Rule})
			return
		}
		// The owner asks: the cause is theirs to know.
		logger.Error("admin request failed", "request", pattern, "error", err)
		write(w, logger, http.StatusInternalServerError, failure{chat.KindInternal, "", err.Error()})
	})
}

func write(w http.ResponseWriter, logger *slog.Logger, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(v); err != nil {
		logger.Debug("admin answer was not taken", "error", err)
	}
}
