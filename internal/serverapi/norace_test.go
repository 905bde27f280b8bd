//go:build !race

package serverapi

const raceEnabled = false
