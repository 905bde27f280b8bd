//go:build race

package serverapi

const raceEnabled = true
