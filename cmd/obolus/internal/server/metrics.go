package server

import (
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"obolus/audit"
)

// metrics counts in a registry of its own, so that any number of servers can live in one process. Its labels have few
// values: routes, statuses, and the kinds and reasons of the ledger. Nobody's name is among them.
type metrics struct {
	registry  *prometheus.Registry
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	events    *prometheus.CounterVec
}

func newMetrics(version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "obolus_requests_total", Help: "Requests that were answered.",
		}, []string{"method", "route", "status"}),
		durations: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "obolus_request_duration_seconds", Help: "How long requests took; those that wait for a person take long.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"route"}),
		events: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "obolus_events_total", Help: "Events of the ledger, by kind (exchange, redeem, consent, stop and so on), outcome and reason.",
		}, []string{"kind", "outcome", "reason"}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "obolus_build_info", Help: "Always 1.", ConstLabels: prometheus.Labels{"version": version},
	})
	build.Set(1)
	m.registry.MustRegister(m.requests, m.durations, m.events, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

func (m *metrics) request(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(methodName(method), route, strconv.Itoa(status)).Inc()
	m.durations.WithLabelValues(route).Observe(took.Seconds())
}

// event counts an event of the ledger.
func (m *metrics) event(e audit.Event) {
	outcome := "refused"
	if e.Allowed {
		outcome = "ok"
	}
	m.events.WithLabelValues(string(e.Kind), outcome, string(e.Reason)).Inc()
}

// handler gives the numbers to this machine and to private networks. For everybody else there is nothing here.
func (m *metrics) handler() http.Handler {
	numbers := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !near(r.RemoteAddr) {
			noSuchPath(w, r)
			return
		}
		numbers.ServeHTTP(w, r)
	})
}

func near(remote string) bool {
	at, err := netip.ParseAddrPort(remote)
	return err == nil && (at.Addr().Unmap().IsLoopback() || at.Addr().Unmap().IsPrivate())
}
