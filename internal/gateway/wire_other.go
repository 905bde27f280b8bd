//go:build !linux

package gateway

import "net"

// Only Linux has the lean wire; elsewhere every connection is a stream.
func newWire(conn net.Conn) wire { return newStreamWire(conn) }
