//go:build race

package gateway

// raceEnabled: frames are larger with the race detector, and so are stacks.
const raceEnabled = true
