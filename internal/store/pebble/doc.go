// Package pebble is the embedded store engine: one Pebble database in one
// folder, owned by one process.
//
// One goroutine gives UIDs, times and offsets and writes batches, a second one
// waits for the disk and then tells everybody: see writer.go. What each row
// looks like is in keys.go and codec.go, and docs/storage.md explains the whole.
package pebble
