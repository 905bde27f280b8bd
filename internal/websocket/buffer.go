package websocket

import (
	"math/bits"
	"sync"
)

// Partial messages grow through these sizes, each with a pool of its own:
// memory follows the bytes that came, never the length a header claims, and a
// connection that sent half a message does not hold the room of the largest.
const (
	minBufferBits = 9  // 512 B
	maxBufferBits = 20 // 1 MiB; larger ones are left to the garbage collector
)

type buffer struct{ b []byte }

var bufferPools [maxBufferBits - minBufferBits + 1]sync.Pool

func bufferClass(n int) int {
	return max(0, bits.Len(uint(max(n, 1)-1))-minBufferBits)
}

func getBuffer(n int) *buffer {
	c := bufferClass(n)
	if c >= len(bufferPools) {
		return &buffer{make([]byte, 0, n)}
	}
	if b, ok := bufferPools[c].Get().(*buffer); ok {
		return b
	}
	return &buffer{make([]byte, 0, 1<<(c+minBufferBits))}
}

func putBuffer(b *buffer) {
	c := bufferClass(cap(b.b))
	if c < len(bufferPools) && cap(b.b) == 1<<(c+minBufferBits) {
		b.b = b.b[:0]
		bufferPools[c].Put(b)
	}
}

// extend appends p to b, moving to a larger buffer where needed.
func (b *buffer) extend(p []byte) *buffer {
	if need := len(b.b) + len(p); need > cap(b.b) {
		larger := getBuffer(max(need, 2*cap(b.b)))
		larger.b = append(larger.b, b.b...)
		putBuffer(b)
		b = larger
	}
	b.b = append(b.b, p...)
	return b
}
