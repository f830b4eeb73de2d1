package main

import (
	"hash/fnv"
	"log"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"time"
)

// settings are read from the environment once, at start. An image may bring
// some along (images.txt); the pod's own env wins.
type settings struct {
	version        string
	pod            string
	errorRatio     float64       // ERROR_RATIO: share of requests answered 500
	orderFailRatio float64       // ORDER_FAIL_RATIO: share of orders that fail behind a 200
	latency        time.Duration // LATENCY_MS: mean of the exponential part, default 2
	extraLatency   time.Duration // EXTRA_LATENCY_MS: added to every request
	readyAfter     time.Duration // READY_AFTER_S
	drain          time.Duration // DRAIN_S: goes on serving so long after SIGTERM, default 1
	noMetrics      bool          // NO_METRICS=1: /metrics is 404
	crash          bool          // CRASH=1: exits at start
	seed           uint64        // SEED: default, a different one in every pod
	burst          burst         // BURST
}

// burst is noise that no release is to blame for: in every stretch of `every`
// seconds, `last` seconds at a time that follows from the seed have the given
// ratio of errors added. It goes by the wall clock, so pods with equal SEED
// suffer together, whatever their version, and pods without it each alone.
type burst struct {
	ratio       float64
	every, last float64
}

func (b burst) at(now time.Time, seed uint64) float64 {
	if b.ratio == 0 {
		return 0
	}
	seconds := float64(now.UnixMilli()) / 1000
	stretch := uint64(seconds / b.every)
	start := rand.New(rand.NewPCG(seed, stretch)).Float64() * (b.every - b.last)
	into := seconds - float64(stretch)*b.every
	if into >= start && into < start+b.last {
		return b.ratio
	}
	return 0
}

func number(key string, fallback float64) float64 {
	text := os.Getenv(key)
	if text == "" {
		return fallback
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil || v < 0 {
		log.Fatalf("%s=%q is not a number from 0 up", key, text)
	}
	return v
}

func duration(key string, fallback float64, unit time.Duration) time.Duration {
	return time.Duration(number(key, fallback) * float64(unit))
}

func readSettings() settings {
	s := settings{
		version:        os.Getenv("VERSION"),
		pod:            os.Getenv("HOSTNAME"),
		errorRatio:     number("ERROR_RATIO", 0),
		orderFailRatio: number("ORDER_FAIL_RATIO", 0),
		latency:        duration("LATENCY_MS", 2, time.Millisecond),
		extraLatency:   duration("EXTRA_LATENCY_MS", 0, time.Millisecond),
		readyAfter:     duration("READY_AFTER_S", 0, time.Second),
		drain:          duration("DRAIN_S", 1, time.Second),
		noMetrics:      os.Getenv("NO_METRICS") == "1",
		crash:          os.Getenv("CRASH") == "1",
	}
	if text := os.Getenv("SEED"); text != "" {
		s.seed = uint64(number("SEED", 0))
	} else {
		h := fnv.New64a()
		_, _ = h.Write([]byte(s.pod))
		s.seed = h.Sum64()
	}
	if text := os.Getenv("BURST"); text != "" {
		parts := strings.Split(text, ",")
		var v [3]float64
		for i := range v {
			var err error
			if len(parts) != 3 {
				log.Fatalf("BURST=%q is not RATIO,EVERY_S,LAST_S", text)
			}
			if v[i], err = strconv.ParseFloat(parts[i], 64); err != nil || v[i] < 0 {
				log.Fatalf("BURST=%q is not RATIO,EVERY_S,LAST_S", text)
			}
		}
		if v[1] == 0 || v[2] > v[1] {
			log.Fatalf("BURST=%q: LAST_S must fit into EVERY_S", text)
		}
		s.burst = burst{v[0], v[1], v[2]}
	}
	return s
}
