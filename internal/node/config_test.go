package node

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

func good() Config {
	return Config{
		DataDir: DataDir{"data"}, Listen: "127.0.0.1:0", LogFormat: "text", LogLevel: "info", DemoPage: demoAuto,
		PushGrace: 3 * time.Second, PushPatience: 10 * time.Second, PushInFlight: 256, PushQueue: 1000,
		PingInterval: 25 * time.Second, ShutdownTimeout: 20 * time.Second, ShutdownSpread: 3 * time.Second,
	}
}

func TestConfigCheck(t *testing.T) {
	t.Parallel()
	c := good()
	if err := c.Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Config){
		"data: ":              func(c *Config) { c.Data = "" },
		"listen: want":        func(c *Config) { c.Listen = "8080" },
		"listen: the port":    func(c *Config) { c.Listen = "localhost:http" },
		"tls-cert, tls-key: ": func(c *Config) { c.TLSKey = "key.pem" },
		"tls-cert, tls-key: open missing.pem": func(c *Config) {
			c.TLSCert, c.TLSKey = "missing.pem", "missing.pem"
		},
		"app-key, app-secret: ": func(c *Config) { c.AppKey = "k" },
		"ping-interval: ":       func(c *Config) { c.PingInterval = 0 },
		"push-grace: ":          func(c *Config) { c.PushGrace = 2 * time.Minute },
		"push-patience: ":       func(c *Config) { c.PushPatience = 0 },
		"push-in-flight: ":      func(c *Config) { c.PushInFlight = 0 },
		"push-queue: ":          func(c *Config) { c.PushQueue = 99 },
		"push-ca: ":             func(c *Config) { c.PushCA = "missing.pem" },
		"push-ca: config.go":    func(c *Config) { c.PushCA = "config.go" },
		"shutdown-timeout: ":    func(c *Config) { c.ShutdownTimeout = 0; c.ShutdownSpread = 0 },
		"shutdown-spread: ":     func(c *Config) { c.ShutdownSpread = time.Minute },
		"log-level: ":           func(c *Config) { c.LogLevel = "loud" },
		"log-format: ":          func(c *Config) { c.LogFormat = "xml" },
		"demo-page: ":           func(c *Config) { c.DemoPage = "perhaps" },
	} {
		c := good()
		spoil(&c)
		if err := c.Check(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want an error about %q", err, want)
		}
	}
	// All that is wrong is said at once.
	c.Listen, c.LogLevel = "", ""
	if err := c.Check(); !strings.Contains(err.Error(), "listen: ") || !strings.Contains(err.Error(), "log-level: ") {
		t.Errorf("got %v", err)
	}
}

// The environment speaks of a setting by its flag's name.
func TestConfigNames(t *testing.T) {
	t.Parallel()
	for _, f := range reflect.VisibleFields(reflect.TypeFor[Config]()) {
		if f.Anonymous {
			continue
		}
		name := f.Tag.Get("name")
		if name == "" {
			for i, r := range f.Name {
				if i > 0 && r >= 'A' && r <= 'Z' {
					name += "-"
				}
				name += strings.ToLower(string(r))
			}
		}
		want := "PARLEY_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
		if got := f.Tag.Get("env"); got != want {
			t.Errorf("%s: env %q, want %q", f.Name, got, want)
		}
		if f.Tag.Get("help") == "" {
			t.Errorf("%s: no help", f.Name)
		}
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Size{
		"0": 0, "512": 512, "7B": 7, "100KB": 100_000, "1KiB": 1024, "256MiB": 256 << 20, "2 GiB": 2 << 30, "1TB": 1e12,
	} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err != nil || s != want {
			t.Errorf("%q = %d, %v, want %d", text, s, err, want)
		}
		var again Size
		if err := again.UnmarshalText([]byte(s.String())); err != nil || again != s {
			t.Errorf("%q is written %q, which reads as %d, %v", text, s, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "-1", "1.5GiB", "5 apples", "99999999999999999999", "9999999999TiB"} {
		var s Size
		if err := s.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q was read as %d", text, s)
		}
	}
}
