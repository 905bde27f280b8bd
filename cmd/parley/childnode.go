package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// A childNode is a server in a process of its own, which can be killed without
// the command that started it.
type childNode struct {
	dir     string
	address string

	mu  sync.Mutex
	log bytes.Buffer // what all its runs have logged

	settings []string // arguments of serve besides

	cmd    *exec.Cmd
	exited chan error // has the outcome of cmd, for one reader
}

// newChildNode is a node that does not run yet, on a free port.
func newChildNode(dir string) (*childNode, error) {
	address, err := freeAddress()
	return &childNode{dir: dir, address: address}, err
}

// freeAddress is an address that nobody listens on. Its port is below those
// that systems give to outgoing connections: the node must get it again after
// a restart, and a client that tries to reach it meanwhile must not be given
// the same port and so meet itself.
func freeAddress() (string, error) {
	var err error
	for range 100 {
		address := net.JoinHostPort("127.0.0.1", strconv.Itoa(10_240+rand.N(20_000)))
		var ln net.Listener
		if ln, err = net.Listen("tcp", address); err == nil {
			return address, ln.Close()
		}
	}
	return "", fmt.Errorf("no free port: %w", err)
}

// Write takes the node's log.
func (n *childNode) Write(b []byte) (int, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.Write(b)
}

// start runs the node and waits until it serves.
func (n *childNode) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// Not bound to ctx: an interrupt must not end the node before its clients.
	n.cmd = exec.Command(self, append([]string{"serve", "--data", n.dir, "--listen", n.address, "--shutdown-spread", "0s", "--no-banner"}, n.settings...)...)
	for _, v := range os.Environ() {
		// Settings that are meant for another server are not for this one.
		if !strings.HasPrefix(v, "PARLEY_") {
			n.cmd.Env = append(n.cmd.Env, v)
		}
	}
	n.cmd.Stderr = n
	// A Ctrl-C in the terminal is for the command, which then stops the node.
	n.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := n.cmd.Start(); err != nil {
		return err
	}
	n.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(n.cmd, n.exited)
	return n.awaitReady(ctx)
}

// startTime is how long a node may take to come up; after a crash it reads its
// log first.
const startTime = 20 * time.Second

func (n *childNode) awaitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.address+"/readyz", nil)
		if err != nil {
			return err
		}
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
		}
		select {
		case <-tick.C:
		case err := <-n.exited:
			n.cmd = nil
			return fmt.Errorf("the node ended at its start: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("the node did not come up: %w", ctx.Err())
		}
	}
}

func (n *childNode) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

// kill ends the node as a crash does: no goodbye, nothing flushed.
func (n *childNode) kill() error {
	if err := n.cmd.Process.Kill(); err != nil {
		return err
	}
	<-n.exited
	n.cmd = nil
	return nil
}

// stop asks the node to end, and waits. Without a running node it does nothing.
func (n *childNode) stop() error {
	if n.cmd == nil {
		return nil
	}
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case err := <-n.exited:
		n.cmd = nil
		if err != nil {
			return fmt.Errorf("the node did not stop well: %w", err)
		}
		return nil
	case <-time.After(startTime):
		return errors.Join(errors.New("the node did not stop in time and was killed"), n.kill())
	}
}
