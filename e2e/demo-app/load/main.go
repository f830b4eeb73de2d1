// Command load sends requests to the rig's gateway at a constant rate and
// counts the answers by version and status. It is open loop: a slow answer
// does not hold back the next request. Every second it prints one line of
// JSON, at the end a line with "summary": true. It is bounded by time and count.
//
//	load -host checkout.shop.test -rate 200 -duration 30s
//
// An answer without the app's X-Version header was made by the gateway; such
// answers and transport errors are "lost", all lost and 5xx are "errors".
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"
)

// tally counts answers, over one second or over all.
type tally struct {
	Summary  bool           `json:"summary,omitempty"`
	Seconds  float64        `json:"t"` // since the start
	Sent     int            `json:"sent"`
	Answered int            `json:"answered"`
	Errors   int            `json:"errors"`
	Lost     int            `json:"lost"`
	Skipped  int            `json:"skipped"` // not sent: too many were in flight
	Versions map[string]int `json:"versions"`
	Codes    map[string]int `json:"codes"`
	// By version and code, as "v1 200".
	VersionCodes map[string]int `json:"version_codes"`
	Pods         map[string]int `json:"pods"`
	// Text of transport errors.
	Failures map[string]int `json:"failures,omitempty"`
	P50      float64        `json:"p50_ms"`
	P95      float64        `json:"p95_ms"`
	P99      float64        `json:"p99_ms"`
	times    []float64
}

func newTally() *tally {
	return &tally{Versions: map[string]int{}, Codes: map[string]int{}, VersionCodes: map[string]int{},
		Pods: map[string]int{}, Failures: map[string]int{}}
}

func (t *tally) add(r result) {
	if r.err != nil {
		t.Errors++
		t.Lost++
		t.Failures[r.err.Error()]++
		return
	}
	t.Answered++
	code := strconv.Itoa(r.code)
	t.Codes[code]++
	t.times = append(t.times, float64(r.took.Microseconds())/1000)
	if r.code >= 500 {
		t.Errors++
	}
	if r.version == "" {
		t.Lost++
		if r.code < 500 {
			t.Errors++
		}
		r.version = "none"
	}
	t.Versions[r.version]++
	t.VersionCodes[r.version+" "+code]++
	if r.pod != "" {
		t.Pods[r.pod]++
	}
}

func (t *tally) print(since time.Duration) {
	t.Seconds = float64(since.Milliseconds()) / 1000
	sort.Float64s(t.times)
	at := func(q float64) float64 {
		if len(t.times) == 0 {
			return 0
		}
		return t.times[int(q*float64(len(t.times)-1))]
	}
	t.P50, t.P95, t.P99 = at(0.5), at(0.95), at(0.99)
	line, _ := json.Marshal(t)
	fmt.Println(string(line))
}

type result struct {
	version, pod string
	code         int
	took         time.Duration
	err          error
}

func usage(format string, a ...any) {
	fmt.Fprintf(os.Stderr, "load: "+format+"\n", a...)
	os.Exit(2)
}

// checkTarget keeps the load on this machine: loopback and the rig's range.
func checkTarget(address string) {
	u, err := url.Parse(address)
	if err != nil || u.Scheme != "http" {
		usage("-url %q is not an http:// address", address)
	}
	ip, err := netip.ParseAddr(u.Hostname())
	rig := netip.MustParsePrefix("198.18.0.0/15")
	if err != nil || !(ip.IsLoopback() || rig.Contains(ip)) {
		usage("-url %q: only addresses of the rig (%s) and loopback are targets", address, rig)
	}
}

func main() {
	target := flag.String("url", "http://198.18.0.1:8000/", "where to send requests")
	host := flag.String("host", "checkout.shop.test", "Host header")
	rate := flag.Float64("rate", 200, "requests per second")
	length := flag.Duration("duration", 30*time.Second, "how long to send, at most 2h")
	most := flag.Int("max-requests", 1_000_000, "how many requests to send at most")
	poisson := flag.Bool("poisson", false, "random gaps between requests, of the same mean rate")
	header := flag.String("header", "", "send a header of this name with a random number 0 to 99, for routes that match on it:\nthe gateway's own split by weight is exact, not random")
	seed := flag.Uint64("seed", 1, "of -poisson and -header")
	timeout := flag.Duration("timeout", 5*time.Second, "for one request")
	flight := flag.Int("max-in-flight", 1000, "requests open at once; more are skipped and counted")
	maxErrors := flag.Int("max-errors", -1, "exit with 1 if there are more errors than this")
	maxLost := flag.Int("max-lost", -1, "exit with 1 if more requests than this are lost")
	quiet := flag.Bool("summary", false, "print only the summary")
	trace := flag.String("trace", "", "print a line with the time (ms since 1970) of each answer of this version")
	flag.Parse()
	if flag.NArg() > 0 || *rate <= 0 || *rate > 20000 || *length <= 0 || *length > 2*time.Hour {
		usage("bad arguments; see -h")
	}
	checkTarget(*target)

	client := &http.Client{
		Timeout:       *timeout,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			MaxIdleConns: *flight, MaxIdleConnsPerHost: *flight, IdleConnTimeout: 10 * time.Second,
			DialContext: (&net.Dialer{Timeout: *timeout}).DialContext,
		},
	}
	ask := func(bucket int) (r result) {
		start := time.Now()
		request, err := http.NewRequest(http.MethodGet, *target, nil)
		if err != nil {
			return result{err: err}
		}
		request.Host = *host
		if *header != "" {
			request.Header.Set(*header, strconv.Itoa(bucket))
		}
		answer, err := client.Do(request)
		if err != nil {
			return result{err: err}
		}
		_, err = io.Copy(io.Discard, answer.Body)
		_ = answer.Body.Close()
		return result{answer.Header.Get("X-Version"), answer.Header.Get("X-Pod"), answer.StatusCode, time.Since(start), err}
	}

	all, second := newTally(), newTally()
	var mu sync.Mutex
	count := func(f func(*tally)) {
		mu.Lock()
		defer mu.Unlock()
		f(all)
		f(second)
	}
	start := time.Now()
	done, printed := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(printed)
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				mu.Lock()
				if !*quiet {
					second.print(time.Since(start))
				}
				second = newTally()
				mu.Unlock()
			}
		}
	}()

	told := make(chan os.Signal, 1)
	signal.Notify(told, os.Interrupt, syscall.SIGTERM)
	random := rand.New(rand.NewPCG(*seed, 2))
	slots := make(chan struct{}, *flight)
	var open sync.WaitGroup
	due := start
sending:
	for sent := 0; sent < *most && due.Sub(start) < *length; sent++ {
		select {
		case <-told:
			break sending
		case <-time.After(time.Until(due)):
		}
		bucket := random.IntN(100)
		select {
		case slots <- struct{}{}:
			count(func(t *tally) { t.Sent++ })
			open.Add(1)
			go func() {
				defer open.Done()
				r := ask(bucket)
				answered := time.Now().UnixMilli()
				<-slots
				count(func(t *tally) { t.add(r) })
				if *trace != "" && r.version == *trace {
					mu.Lock()
					fmt.Printf("{\"answered\":%d}\n", answered)
					mu.Unlock()
				}
			}()
		default:
			count(func(t *tally) { t.Skipped++ })
		}
		gap := 1 / *rate
		if *poisson {
			gap *= random.ExpFloat64()
		}
		due = due.Add(time.Duration(gap * float64(time.Second)))
	}
	open.Wait() // each is bounded by -timeout
	close(done)
	<-printed
	all.Summary = true
	all.print(time.Since(start))
	if *maxErrors >= 0 && all.Errors > *maxErrors || *maxLost >= 0 && all.Lost > *maxLost {
		fmt.Fprintf(os.Stderr, "load: %d errors, %d lost\n", all.Errors, all.Lost)
		os.Exit(1)
	}
}
