//go:build !cgo

package pebble

const arenasInHeap = true
