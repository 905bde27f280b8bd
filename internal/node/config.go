package node

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley/internal/chat"
)

// A DataDir is the setting that every command has.
type DataDir struct {
	Data string `default:"./parley-data" env:"PARLEY_DATA" placeholder:"DIR" help:"Folder that holds everything the server keeps."`
}

// Config is a node's process settings. Its tags are the one source of the
// flags, the environment variables, the names in the file, and the reference
// page.
type Config struct {
	DataDir

	Listen  string `default:"127.0.0.1:8080" env:"PARLEY_LISTEN" placeholder:"HOST:PORT" help:"Address that everything is served on. Port 0 takes a free one; the file listen in the data folder says which."`
	TLSCert string `name:"tls-cert" env:"PARLEY_TLS_CERT" placeholder:"FILE" help:"Certificate chain (PEM) to serve HTTPS and WSS with. Read again when the file changes."`
	TLSKey  string `name:"tls-key" env:"PARLEY_TLS_KEY" placeholder:"FILE" help:"Private key (PEM) of the certificate."`

	AppKey    string `env:"PARLEY_APP_KEY" placeholder:"KEY" help:"Make sure that an app with this key exists."`
	AppSecret string `env:"PARLEY_APP_SECRET" placeholder:"SECRET" help:"Secret of that app. One that differs replaces the stored one. Prefer the environment or the file: other users of the machine can read command lines."`

	LogFormat string `default:"text" enum:"text,json" env:"PARLEY_LOG_FORMAT" placeholder:"text|json" help:"Form of log lines."`
	LogLevel  string `default:"info" enum:"debug,info,warn,error" env:"PARLEY_LOG_LEVEL" placeholder:"debug|info|warn|error" help:"Lowest level that is logged."`
	Metrics   bool   `default:"true" negatable:"" env:"PARLEY_METRICS" help:"Serve Prometheus metrics at /metrics."`
	DemoPage  string `default:"auto" enum:"auto,on,off" env:"PARLEY_DEMO_PAGE" placeholder:"auto|on|off" help:"Serve the live page at /demo/, which opens with a link that works once. auto is on when the address is a loopback one, which only this machine reaches."`

	Trace bool `default:"true" negatable:"" env:"PARLEY_TRACE" help:"Keep which sessions messages were written to and acknowledged by, for message traces."`

	PushGrace    time.Duration `default:"3s" env:"PARLEY_PUSH_GRACE" placeholder:"DURATION" help:"How long a message may take to be acknowledged until whoever is not connected is notified."`
	PushPatience time.Duration `default:"10s" env:"PARLEY_PUSH_PATIENCE" placeholder:"DURATION" help:"How much longer it may take where there is a connection, which may be dead."`
	PushInFlight int           `default:"256" env:"PARLEY_PUSH_IN_FLIGHT" placeholder:"N" help:"Requests to a push provider that are under way at once, for each credential of an app."`
	PushQueue    int           `default:"2000000" env:"PARLEY_PUSH_QUEUE" placeholder:"N" help:"Notifications that may wait for a push provider, for each credential of an app. Beyond that they are dropped."`
	PushCA       string        `name:"push-ca" env:"PARLEY_PUSH_CA" placeholder:"FILE" help:"Certificates (PEM) of authorities that are trusted with push providers' addresses besides the machine's own, such as that of a relay."`
	PushWebHosts []string      `name:"push-web-hosts" env:"PARLEY_PUSH_WEB_HOSTS" placeholder:"HOST,..." help:"Hosts of browsers' push services besides those of Google, Mozilla, Microsoft and Apple, such as push.example.com or *.push.example.com. Browsers name the host that is called: name none of your own network."`

	PingInterval    time.Duration `default:"25s" env:"PARLEY_PING_INTERVAL" placeholder:"DURATION" help:"How often clients are pinged."`
	MinFree         Size          `default:"512MiB" env:"PARLEY_MIN_FREE" placeholder:"SIZE" help:"Refuse writes while the data folder's disk has less free space. 0 turns the check off."`
	ShutdownTimeout time.Duration `default:"20s" env:"PARLEY_SHUTDOWN_TIMEOUT" placeholder:"DURATION" help:"How long a stop may take before what is under way is cut off."`
	ShutdownSpread  time.Duration `default:"3s" env:"PARLEY_SHUTDOWN_SPREAD" placeholder:"DURATION" help:"Time over which clients are told to reconnect at a stop, so that they do not all come back at once."`
}

// Check says what is wrong with the settings as a whole, naming the setting.
func (c *Config) Check() error {
	var errs []error
	fail := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Data == "" {
		fail("data: must name a folder")
	}
	if _, port, err := net.SplitHostPort(c.Listen); err != nil {
		fail("listen: want HOST:PORT, got %q", c.Listen)
	} else if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		fail("listen: the port must be a number from 0 to 65535, got %q", port)
	}
	if (c.TLSCert == "") != (c.TLSKey == "") {
		fail("tls-cert, tls-key: both or none must be set")
	} else if c.TLSCert != "" {
		if _, err := loadCertificate(c.TLSCert, c.TLSKey); err != nil {
			errs = append(errs, err)
		}
	}
	if (c.AppKey == "") != (c.AppSecret == "") {
		fail("app-key, app-secret: both or none must be set")
	}
	if c.PingInterval < time.Second || c.PingInterval > time.Hour {
		fail("ping-interval: from 1s to 1h, got %s", c.PingInterval)
	}
	if c.PushGrace < time.Millisecond || c.PushGrace > time.Minute {
		fail("push-grace: from 1ms to 1m, got %s", c.PushGrace)
	}
	if c.PushPatience < time.Millisecond || c.PushPatience > 5*time.Minute {
		fail("push-patience: from 1ms to 5m, got %s", c.PushPatience)
	}
	if c.PushInFlight < 1 || c.PushInFlight > 10_000 {
		fail("push-in-flight: from 1 to 10000, got %d", c.PushInFlight)
	}
	if c.PushQueue < 100 || c.PushQueue > 100_000_000 {
		fail("push-queue: from 100 to 100000000, got %d", c.PushQueue)
	}
	if _, err := loadRoots(c.PushCA); err != nil {
		errs = append(errs, err)
	}
	for _, name := range c.PushWebHosts {
		if err := chat.CheckWebHost(name); err != nil {
			errs = append(errs, err)
		}
	}
	if c.ShutdownTimeout <= 0 || c.ShutdownTimeout > time.Hour {
		fail("shutdown-timeout: more than 0 and at most 1h, got %s", c.ShutdownTimeout)
	}
	if c.ShutdownSpread < 0 || c.ShutdownSpread > c.ShutdownTimeout {
		fail("shutdown-spread: from 0 to shutdown-timeout (%s), got %s", c.ShutdownTimeout, c.ShutdownSpread)
	}
	if err := new(slog.Level).UnmarshalText([]byte(c.LogLevel)); err != nil {
		fail("log-level: debug, info, warn or error, got %q", c.LogLevel)
	}
	if c.LogFormat != "text" && c.LogFormat != "json" {
		fail("log-format: text or json, got %q", c.LogFormat)
	}
	if c.DemoPage != demoAuto && c.DemoPage != demoOn && c.DemoPage != demoOff {
		fail("demo-page: auto, on or off, got %q", c.DemoPage)
	}
	return errors.Join(errs...)
}

// Logger writes to w as the settings say.
func (c *Config) Logger(w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(c.LogLevel)); err != nil {
		level = slog.LevelInfo // Check has refused others
	}
	o := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// A Size is a number of bytes, written as 512, 100KB, 256MiB, 2GiB.
type Size uint64

var sizeUnits = []struct {
	name string
	size uint64
}{
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"KB", 1e3}, {"B", 1}, {"", 1},
}

// UnmarshalText reads a size.
func (s *Size) UnmarshalText(text []byte) error {
	for _, u := range sizeUnits {
		num, ok := strings.CutSuffix(string(text), u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(strings.TrimSpace(num), 10, 64)
		if err != nil || n > 1<<62/u.size {
			break
		}
		*s = Size(n * u.size)
		return nil
	}
	return fmt.Errorf("want a size such as 512MiB, got %q", text)
}

// String writes the size in the largest unit of 1024s that fits.
func (s Size) String() string {
	for _, u := range sizeUnits[:4] {
		if s > 0 && uint64(s)%u.size == 0 {
			return strconv.FormatUint(uint64(s)/u.size, 10) + u.name
		}
	}
	return strconv.FormatUint(uint64(s), 10)
}
