package gateway

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/room"
)

type metrics struct {
	sessionsOpened prometheus.Counter
	disconnects    *prometheus.CounterVec
	refusals       *prometheus.CounterVec
	deliveries     *prometheus.CounterVec
	recovered      prometheus.Counter
	framesJoined   prometheus.Histogram
	openDropped    *prometheus.CounterVec

	// Looked up once: the labels are few and the write path is hot.
	delivered [frameKinds]prometheus.Counter
	given     [room.Ranks]prometheus.Counter // up, for slow connections
}

func newMetrics(g *Gateway, reg prometheus.Registerer) *metrics {
	m := &metrics{
		sessionsOpened: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_sessions_opened_total", Help: "Successful connect commands.",
		}),
		disconnects: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_disconnects_total", Help: "Connections that ended, by the code they were closed with; client when the client closed it, lost when it ended without a word.",
		}, []string{"code"}),
		refusals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_commands_refused_total", Help: "Client commands answered with an error, by code.",
		}, []string{"code"}),
		deliveries: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_deliveries_total", Help: "Publications written to connections: timeline entries, open channel messages, ephemeral messages.",
		}, []string{"kind"}),
		recovered: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_recovered_entries_total", Help: "Timeline entries given to sessions that were catching up after connecting.",
		}),
		framesJoined: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "parley_frames_joined", Help: "Replies and publications in one write to a connection.",
			Buckets: []float64{1, 2, 4, 8, 16, 32, 64, 128},
		}),
		openDropped: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_open_dropped_total", Help: "Open channel and ephemeral publications dropped because a connection's queue was full, by priority.",
		}, []string{"priority"}),
	}
	for kind, label := range map[frameKind]string{
		frameTimeline: "timeline", frameEphemeral: "ephemeral",
		frameOpenLow: "open", frameOpen: "open", frameOpenHigh: "open", frameOpenKept: "open",
	} {
		m.delivered[kind] = m.deliveries.WithLabelValues(label)
	}
	for rank, label := range map[room.Rank]string{room.RankLow: "low", room.RankStandard: "standard", room.RankHigh: "high", room.RankKept: "allowlisted"} {
		m.given[rank] = m.openDropped.WithLabelValues(label)
	}
	if reg == nil {
		return m
	}
	reg.MustRegister(m.sessionsOpened, m.disconnects, m.refusals, m.deliveries, m.recovered, m.framesJoined, m.openDropped,
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_connections", Help: "Client connections open.",
		}, func() float64 { return float64(g.everyone.len()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_open_rooms", Help: "Open channels in which somebody is, or was a moment ago.",
		}, func() float64 { return float64(g.opts.Rooms.Size().Rooms) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_open_participants", Help: "Users in open channels, each as often as they are in one.",
		}, func() float64 { return float64(g.opts.Rooms.Size().Participants) }),
		prometheus.NewCounterFunc(prometheus.CounterOpts{
			Name: "parley_open_overflow_total", Help: "Open channel publications given up for a whole channel because handing out could not keep up.",
		}, func() float64 { return float64(g.opts.Rooms.Overflowed()) }),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_connection_queue_bytes", Help: "Bytes that wait to be written to connections.",
		}, g.queuedBytes),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "parley_runner_queue_depth", Help: "Connections that wait for their turn to be written to.",
		}, g.runnerDepth),
	)
	return m
}

// wrote counts what a turn writes.
func (m *metrics) wrote(j *joiner) {
	if j.total > 0 {
		m.framesJoined.Observe(float64(j.total))
	}
	for kind, c := range m.delivered {
		if n := j.counts[kind]; n > 0 && c != nil {
			c.Add(float64(n))
		}
	}
}

// wroteBatch counts n open channel publications in one write.
func (m *metrics) wroteBatch(n int) {
	m.framesJoined.Observe(float64(n))
	m.delivered[frameOpen].Add(float64(n))
}

// dropped counts a publication that a connection is not given.
func (m *metrics) dropped(r room.Rank) { m.given[r].Inc() }

func (m *metrics) disconnected(d *DisconnectRow) {
	label := d.When
	if d != closeLost && d.When != closedByClient {
		label = strconv.Itoa(int(d.Code))
	}
	m.disconnects.WithLabelValues(label).Inc()
}

func (m *metrics) refused(code uint32) {
	m.refusals.WithLabelValues(strconv.FormatUint(uint64(code), 10)).Inc()
}

// queuedBytes is counted when it is asked for: a counter that all connections
// share would be touched at every delivery.
func (g *Gateway) queuedBytes() float64 {
	sum := 0.0
	for _, c := range g.everyone.list() {
		c.mu.Lock()
		sum += float64(c.queue.bytes + c.resting)
		c.mu.Unlock()
	}
	return sum
}

func (g *Gateway) runnerDepth() float64 {
	sum := 0
	for _, r := range g.runners {
		r.mu.Lock()
		sum += r.depth
		r.mu.Unlock()
	}
	return float64(sum)
}
