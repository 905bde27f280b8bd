package bench

import (
	"math/bits"
	"sync/atomic"
	"time"
)

// A histogram counts durations in buckets 3 % wide, for any number of
// goroutines at once.
type histogram struct{ counts [buckets]atomic.Uint64 }

// bucketBits is how many leading bits of a duration name its bucket.
const bucketBits = 6

const buckets = (64-bucketBits)<<(bucketBits-1) + 1<<bucketBits

// bucketOf: below 2^6 each value has a bucket; above, each power of two has
// 2^5 of them.
func bucketOf(ns uint64) int {
	shift := max(0, bits.Len64(ns)-bucketBits)
	return shift<<(bucketBits-1) + int(ns>>shift)
}

// bucketTop is the largest value of a bucket.
func bucketTop(b int) uint64 {
	if b < 1<<bucketBits {
		return uint64(b)
	}
	shift := b>>(bucketBits-1) - 1
	return uint64(b-shift<<(bucketBits-1)+1)<<shift - 1
}

func (h *histogram) add(d time.Duration) { h.counts[bucketOf(uint64(max(0, d)))].Add(1) }

// quantile is the duration that a part q of all does not exceed, at most 3 %
// too high; 0 when there are none.
func (h *histogram) quantile(q float64) time.Duration {
	var all uint64
	for i := range h.counts {
		all += h.counts[i].Load()
	}
	var seen uint64
	for i := range h.counts {
		if seen += h.counts[i].Load(); seen > 0 && float64(seen) >= q*float64(all) {
			return time.Duration(bucketTop(i))
		}
	}
	return 0
}
