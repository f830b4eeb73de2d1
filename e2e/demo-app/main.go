// Command demo-app is the rig's workload: a shop's checkout whose errors and
// latency are set by the environment (settings.go), with Prometheus metrics.
//
//	/         takes an order and answers with version, pod and request number
//	/ready    readiness
//	/metrics  Prometheus metrics
package main

import (
	"context"
	"encoding/json"
	"errors"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"
)

// dice are seeded and shared by all requests of the pod.
type dice struct {
	mu sync.Mutex
	r  *rand.Rand
}

func (d *dice) roll() (err, order, slow float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.r.Float64(), d.r.Float64(), d.r.ExpFloat64()
}

type answer struct {
	Version string `json:"version"`
	Pod     string `json:"pod"`
	Request uint64 `json:"request"`
	Order   string `json:"order"`
}

func main() {
	s := readSettings()
	if s.crash {
		log.Fatal("CRASH=1: told to crash at start")
	}
	m, d := newMetrics(), &dice{r: rand.New(rand.NewPCG(s.seed, 1))}
	ready := time.Now().Add(s.readyAfter)

	mux := http.NewServeMux()
	mux.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if time.Now().Before(ready) {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, r *http.Request) {
		if s.noMetrics {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		m.write(w, s.version)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		start := time.Now()
		err, order, slow := d.roll()
		time.Sleep(s.extraLatency + time.Duration(slow*float64(s.latency)))
		a, code := answer{Version: s.version, Pod: s.pod, Order: "taken"}, http.StatusOK
		switch {
		case err < s.errorRatio+s.burst.at(start, s.seed):
			a.Order, code = "failed", http.StatusInternalServerError
		case order < s.orderFailRatio:
			a.Order = "failed"
		}
		a.Request = m.record(code, a.Order == "failed", time.Since(start))
		h := w.Header()
		h.Set("Content-Type", "application/json")
		h.Set("X-Version", s.version)
		h.Set("X-Pod", s.pod)
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(a)
	})

	server := &http.Server{Addr: ":8080", Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		<-told.Done()
		// Gateways and proxies hear of the pod's end at the same time as the pod.
		time.Sleep(s.drain)
		grace, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		_ = server.Shutdown(grace)
	}()
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		log.Fatal(err)
	}
	<-drained
}
