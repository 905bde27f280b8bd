//go:build !linux

package bench

import (
	"io/fs"
	"os/exec"
	"time"
)

// Where there is no /proc, a run measures what it sees from outside only.

func (m *Machine) describe(string) {}

func processUsage(int) usage { return usage{} }

func machineCPU() time.Duration { return 0 }

func allocated(info fs.FileInfo) int64 { return info.Size() }

func ownGroup(*exec.Cmd) {}
