package node

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

func loadCertificate(certFile, keyFile string) (*tls.Certificate, error) {
	c, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		return nil, fmt.Errorf("tls-cert, tls-key: %w", err)
	}
	return &c, nil
}

// A certificate is a key pair in two files that is read again when they change.
// Files that make no valid pair leave the old one in use.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	now               func() time.Time

	current atomic.Pointer[tls.Certificate]
	looked  atomic.Int64 // Unix nanoseconds of the last look at the files

	mu   sync.Mutex
	seen [2]stamp // of the files as last read, valid or not
}

// A stamp tells one state of a file from the next.
type stamp struct {
	modified time.Time
	size     int64
}

// lookEvery bounds how often handshakes look at the files. A renewal may take a
// second to show; a goroutine that only waits for it would be one more to own.
const lookEvery = time.Second

func openCertificate(certFile, keyFile string, now func() time.Time, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, now: now, logger: logger}
	c.seen = c.stamps()
	c.looked.Store(now().UnixNano())
	pair, err := loadCertificate(certFile, keyFile)
	if err != nil {
		return nil, err
	}
	c.current.Store(pair)
	return c, nil
}

func (c *certificate) stamps() (s [2]stamp) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if fi, err := os.Stat(name); err == nil {
			s[i] = stamp{fi.ModTime(), fi.Size()}
		}
	}
	return s
}

// get is the certificate for a handshake.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	now, looked := c.now().UnixNano(), c.looked.Load()
	if now-looked >= int64(lookEvery) && c.looked.CompareAndSwap(looked, now) {
		c.look()
	}
	return c.current.Load(), nil
}

func (c *certificate) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stamps()
	if s == c.seen {
		return
	}
	// Remembered first: files that stay bad are complained about once. A pair
	// that is replaced one file after the other changes again and is read again.
	c.seen = s
	pair, err := loadCertificate(c.certFile, c.keyFile)
	if err != nil {
		c.logger.Error("the new TLS certificate cannot be used; the old one stays", "error", err)
		return
	}
	c.current.Store(pair)
	c.logger.Info("TLS certificate read again", "cert", c.certFile)
}
