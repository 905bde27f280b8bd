package courier

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/internal/chat"
)

type metrics struct {
	accepted       *prometheus.CounterVec
	recipients     *prometheus.CounterVec
	refused        *prometheus.CounterVec
	repeated       prometheus.Counter
	left           prometheus.Counter
	openDeliveries prometheus.Counter
	shedBy         *prometheus.CounterVec
	chunks         prometheus.Counter
	streams        *prometheus.CounterVec
	broadcasts     *prometheus.CounterVec
	given          prometheus.Counter

	streamsBySender, streamsByTime prometheus.Counter

	// Looked up once: the labels are few and the send path is hot.
	acceptedBy, recipientsBy map[chat.ChannelType]prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) metrics {
	m := metrics{
		accepted: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_messages_accepted_total", Help: "Send requests made durable, by channel type.",
		}, []string{"channel_type"}),
		recipients: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_recipients_accepted_total", Help: "Targets of accepted send requests, by channel type.",
		}, []string{"channel_type"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_messages_refused_total", Help: "Send requests refused, by channel type and reason.",
		}, []string{"channel_type", "reason"}),
		repeated: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_messages_repeated_total", Help: "Send requests answered from an earlier equal request.",
		}),
		left: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_recipients_left_out_total", Help: "Recipients that a send left out because of a block.",
		}),
		openDeliveries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_open_deliveries_total", Help: "Open channel messages queued for a session.",
		}),
		shedBy: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_open_shed_total", Help: "Open channel messages that a channel did not take, by class and reason.",
		}, []string{"class", "reason"}),
		chunks: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_stream_chunks_total", Help: "Chunks of stream messages made durable, the first of each among them.",
		}),
		streams: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_streams_ended_total", Help: "Stream messages that were ended: by their sender, or for having been left alone.",
		}, []string{"by"}),
		broadcasts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "parley_broadcasts_accepted_total", Help: "Broadcasts made durable, by kind.",
		}, []string{"kind"}),
		given: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "parley_broadcast_messages_total", Help: "Messages and recalls that broadcasts became in users' timelines.",
		}),
		acceptedBy: map[chat.ChannelType]prometheus.Counter{}, recipientsBy: map[chat.ChannelType]prometheus.Counter{},
	}
	for ct := range rules {
		m.acceptedBy[ct] = m.accepted.WithLabelValues(ct.String())
		m.recipientsBy[ct] = m.recipients.WithLabelValues(ct.String())
	}
	m.streamsBySender, m.streamsByTime = m.streams.WithLabelValues("sender"), m.streams.WithLabelValues("time")
	if reg != nil {
		reg.MustRegister(m.accepted, m.recipients, m.refused, m.repeated, m.left, m.openDeliveries, m.shedBy, m.chunks, m.streams, m.broadcasts, m.given)
	}
	return m
}

func (m *metrics) sent(msg *chat.Message, s *Sent, err error) {
	switch {
	case err != nil:
		m.refused.WithLabelValues(msg.ChannelType.String(), chat.KindOf(err).String()).Inc()
	case s.Repeated:
		m.repeated.Inc()
	default:
		m.acceptedBy[msg.ChannelType].Inc()
		m.recipientsBy[msg.ChannelType].Add(float64(len(s.Placed)))
		if s.Left > 0 {
			m.left.Add(float64(s.Left))
		}
	}
}

func (m *metrics) shed(class chat.Priority, reason string) {
	m.shedBy.WithLabelValues(class.String(), reason).Inc()
}
