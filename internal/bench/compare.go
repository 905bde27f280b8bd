package bench

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A Comparison is what settings make of a case: the same load again and again, in
// turn on a server as it is and on one with the settings. The two are measured
// within minutes of each other, and each as often before the other as behind it,
// so that a machine that drifts does so for both.
type Comparison struct {
	Case     string   `json:"case"`
	Load     string   `json:"load"`
	Settings []string `json:"settings"`
	Unit     string   `json:"unit"`
	Pairs    []Pair   `json:"pairs"`

	// Medians over the pairs of what the server without the settings did, with
	// what the other one did as 1. CPU is 0 where it is not known.
	Throughput float64 `json:"throughput"`
	CPU        float64 `json:"cpu"` // time of the server per unit
	Latency    float64 `json:"latency"`
}

// A Pair is one measurement of each.
type Pair struct {
	Without Sample `json:"without"` // the settings
	With    Sample `json:"with"`
}

// A Sample is what is compared of a result.
type Sample struct {
	PerSecond float64 `json:"perSecond"`
	CPU       float64 `json:"cpuMicros"` // of the server per unit
	P50       float64 `json:"p50"`       // ms
}

func sampleOf(r *Result) Sample {
	s := Sample{PerSecond: r.Rates[0].PerSecond}
	if n := r.Rates[0].Count; n > 0 {
		s.CPU = r.Server.CPUSeconds * 1e6 / float64(n)
	}
	if r.Latency != nil {
		s.P50 = r.Latency.P50
	}
	return s
}

// compare measures a case so many times both ways. What was measured is in r also
// when it fails.
func (o *Options) compare(ctx context.Context, name string, m measure, r *Report, out io.Writer) error {
	c := Comparison{Case: name, Settings: o.Settings}
	plain := *o
	plain.Settings = nil
	for i := range o.Compare {
		var p Pair
		order := []*Options{&plain, o}
		if i%2 == 1 {
			slices.Reverse(order)
		}
		for _, side := range order {
			res, err := side.measure(ctx, name, m, r, out)
			if err != nil {
				return err
			}
			c.Load, c.Unit = res.Load, res.Rates[0].Unit
			if side == o {
				p.With = sampleOf(res)
			} else {
				p.Without = sampleOf(res)
			}
		}
		c.Pairs = append(c.Pairs, p)
	}
	c.sum()
	r.Comparisons = append(r.Comparisons, c)
	c.print(out)
	return nil
}

func (c *Comparison) sum() {
	of := func(f func(*Sample) float64) float64 {
		var ratios []float64
		for i := range c.Pairs {
			p := &c.Pairs[i]
			if with := f(&p.With); with > 0 {
				ratios = append(ratios, f(&p.Without)/with)
			}
		}
		return median(ratios)
	}
	c.Throughput = of(func(s *Sample) float64 { return s.PerSecond })
	c.CPU = of(func(s *Sample) float64 { return s.CPU })
	c.Latency = of(func(s *Sample) float64 { return s.P50 })
}

// median is 0 for nothing.
func median(list []float64) float64 {
	list = slices.SortedFunc(slices.Values(list), cmp.Compare[float64])
	n := len(list)
	if n == 0 {
		return 0
	}
	return (list[(n-1)/2] + list[n/2]) / 2
}

func (c *Comparison) print(out io.Writer) {
	fmt.Fprintf(out, "\n%s, as it is and with %s: %s\n", c.Case, strings.Join(c.Settings, " "), c.Load)
	for i := range c.Pairs {
		p := &c.Pairs[i]
		fmt.Fprintf(out, "  pair %-23d %s per second %.0f, with %.0f; server's CPU %.1f µs each, with %.1f; p50 %.2f ms, with %.2f\n",
			i+1, c.Unit, p.Without.PerSecond, p.With.PerSecond, p.Without.CPU, p.With.CPU, p.Without.P50, p.With.P50)
	}
	fmt.Fprintf(out, "  %-28s throughput %.3f, server's CPU each %.3f, p50 %.3f of what it is with the settings\n",
		"median of the pairs", c.Throughput, c.CPU, c.Latency)
}
