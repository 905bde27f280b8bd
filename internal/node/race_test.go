//go:build race

package node

// raceEnabled: the model takes fewer steps with the race detector.
const raceEnabled = true
