package admin

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	socketName = "admin.sock"
	// The socket is bound under boundName in a folder of its own.
	privatePrefix = ".parley-"
	boundName     = "s"
	// pointerName is the file that says where the socket is when the data
	// folder's own path is too long for one.
	pointerName = "admin.path"
	// maxSocketPath keeps below the 104 bytes that macOS and the BSDs allow for
	// a socket's path with its ending zero; Linux allows 108.
	maxSocketPath = 100
)

// ErrNotRunning says that nobody listens on the data folder's socket.
var ErrNotRunning = errors.New("no node is running on this data folder")

// Listen opens the socket of the data folder. Nobody but the owner can connect
// to it, at no moment: it is bound in a private folder first. The caller is the
// only node on the folder (the store's lock sees to that), so a socket that is
// still there is a leftover and gets replaced.
func Listen(dir string) (net.Listener, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if err := removeLeftovers(dir); err != nil {
		return nil, err
	}
	at := filepath.Join(dir, socketName)
	// The name it is bound under is the longer of the two.
	short := len(filepath.Join(dir, privatePrefix+"4294967295", boundName)) > maxSocketPath
	base := dir
	if short {
		base = runtimeDir()
	}
	private, err := os.MkdirTemp(base, privatePrefix) // mode 0700
	if err != nil {
		return nil, err
	}
	bound := filepath.Join(private, boundName)
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: bound, Net: "unix"})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(private))
	}
	ln.SetUnlinkOnClose(false)
	s := &socket{UnixListener: ln}
	err = os.Chmod(bound, 0o600)
	switch {
	case err != nil:
	case short:
		// Found through a file that says where it is.
		s.files = []string{filepath.Join(dir, pointerName), bound, private}
		err = os.WriteFile(s.files[0], []byte(bound+"\n"), 0o600)
	default:
		s.files = []string{at}
		if err = os.Rename(bound, at); err == nil {
			err = os.Remove(private)
		}
	}
	if err != nil {
		return nil, errors.Join(err, ln.Close(), os.RemoveAll(private))
	}
	return s, nil
}

// A socket takes its files away when it is closed.
type socket struct {
	*net.UnixListener
	files []string
}

func (s *socket) Close() error {
	err := s.UnixListener.Close()
	for _, f := range s.files {
		if e := os.Remove(f); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
	}
	s.files = nil
	return err
}

// removeLeftovers takes away what a node that was killed left behind outside of
// what Listen replaces.
func removeLeftovers(dir string) error {
	at, err := readPointer(dir)
	if err != nil || at == "" {
		return err
	}
	// Only what has the shape of our own making is removed, whatever the file
	// says.
	if private := filepath.Dir(at); filepath.Base(at) == boundName && strings.HasPrefix(filepath.Base(private), privatePrefix) {
		if err := os.RemoveAll(private); err != nil {
			return err
		}
	}
	return os.Remove(filepath.Join(dir, pointerName))
}

func readPointer(dir string) (string, error) {
	b, err := os.ReadFile(filepath.Join(dir, pointerName))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return strings.TrimSpace(string(b)), err
}

// runtimeDir is a folder with a short path.
func runtimeDir() string {
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && len(dir) < maxSocketPath/2 {
		if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
			return dir
		}
	}
	return "/tmp"
}

// dial connects to the socket of the data folder.
func dial(ctx context.Context, dir string) (net.Conn, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	at, err := readPointer(dir)
	if err != nil {
		return nil, err
	}
	if at == "" {
		at = filepath.Join(dir, socketName)
	}
	// A folder with a path too long for a socket has none in it: asking for the
	// file first tells that from other failures.
	if _, err := os.Stat(at); errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", at)
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotRunning
	}
	return conn, err
}
