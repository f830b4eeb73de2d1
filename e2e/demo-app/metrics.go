package main

import (
	"fmt"
	"io"
	"sort"
	"sync"
	"time"
)

// started is when this process began to count.
var started = time.Now()

var bounds = []float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5}

// metrics counts this pod's requests, exactly: a request is counted before its
// answer is sent, so what a client has seen is in the numbers.
type metrics struct {
	mu           sync.Mutex
	byCode       map[int]uint64
	buckets      []uint64
	count        uint64
	sum          float64
	orders       uint64
	ordersFailed uint64
}

func newMetrics() *metrics {
	return &metrics{byCode: map[int]uint64{200: 0, 500: 0}, buckets: make([]uint64, len(bounds))}
}

// record counts one request and returns its number.
func (m *metrics) record(code int, orderFailed bool, took time.Duration) uint64 {
	seconds := took.Seconds()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.byCode[code]++
	m.count++
	m.sum += seconds
	for i, bound := range bounds {
		if seconds <= bound {
			m.buckets[i]++ // cumulative, as the text format wants
		}
	}
	m.orders++
	if orderFailed {
		m.ordersFailed++
	}
	return m.count
}

func (m *metrics) write(w io.Writer, version string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	fmt.Fprintf(w, "# TYPE app_info gauge\napp_info{version=%q} 1\n", version)
	// Tells a restart from a counter that fell for another reason.
	fmt.Fprintf(w, "# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds %d\n", started.Unix())
	fmt.Fprintln(w, "# TYPE http_requests_total counter")
	codes := make([]int, 0, len(m.byCode))
	for code := range m.byCode {
		codes = append(codes, code)
	}
	sort.Ints(codes)
	for _, code := range codes {
		fmt.Fprintf(w, "http_requests_total{code=\"%d\"} %d\n", code, m.byCode[code])
	}
	fmt.Fprintln(w, "# TYPE http_request_duration_seconds histogram")
	for i, bound := range bounds {
		fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"%g\"} %d\n", bound, m.buckets[i])
	}
	fmt.Fprintf(w, "http_request_duration_seconds_bucket{le=\"+Inf\"} %d\n", m.count)
	fmt.Fprintf(w, "http_request_duration_seconds_sum %g\n", m.sum)
	fmt.Fprintf(w, "http_request_duration_seconds_count %d\n", m.count)
	fmt.Fprintf(w, "# TYPE orders_total counter\norders_total %d\n", m.orders)
	fmt.Fprintf(w, "# TYPE orders_failed_total counter\norders_failed_total %d\n", m.ordersFailed)
}
