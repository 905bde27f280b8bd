//go:build cgo

package pebble

// With cgo Pebble takes its memory from C.
const arenasInHeap = false
