//go:build !linux

package bench

import "context"

// bareWriter is known on Linux only.
func (o *Options) bareWriter(context.Context, int, []byte) (perCore float64, err error) {
	return 0, nil
}
