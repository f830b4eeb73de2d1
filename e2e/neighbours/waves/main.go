// Command waves syncs manifests into a namespace as Argo CD does: by Argo CD's own engine with our
// health scripts. It ends with the sync.
//
//	waves CONFIG_DIRECTORY NAMESPACE < MANIFESTS
//
// It writes a line of JSON whenever the operation changes.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/argoproj/argo-cd/gitops-engine/pkg/cache"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/health"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/sync/common"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/kube"
	"github.com/argoproj/argo-cd/gitops-engine/pkg/utils/tracing"
	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"tollgate.invalid/neighbours/argocd"
)

const (
	// Between two looks at what is applied.
	pause = 500 * time.Millisecond
	// Between two waves, Argo CD's default (ARGOCD_SYNC_WAVE_DELAY).
	waveDelay = 2 * time.Second
)

// State is what Argo CD shows of a sync: the phase is Running, Succeeded, Failed or Error.
type State struct {
	Phase   common.OperationPhase `json:"phase"`
	Message string                `json:"message"`
	// Resources are the phases by kind and name, of those applied so far.
	Resources map[string]common.OperationPhase `json:"resources"`
}

// scripts is the directory of our health scripts.
type scripts string

// GetResourceHealth runs our script for a kind; nil leaves the kind to Argo CD.
func (directory scripts) GetResourceHealth(object *unstructured.Unstructured) (*health.HealthStatus, error) {
	kind := object.GroupVersionKind()
	file := filepath.Join(string(directory), kind.Group, kind.Kind, "health.lua")
	if _, err := os.Stat(file); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	found, err := argocd.RunHealth(file, object.Object)
	if err != nil {
		return nil, err
	}
	return &health.HealthStatus{Status: health.HealthStatusCode(found.Status), Message: found.Message}, nil
}

// application is what is synced, and where.
type application struct {
	cluster   *rest.Config
	live      cache.ClusterCache
	namespace string
	targets   []*unstructured.Unstructured
	health    scripts
}

func main() {
	if len(os.Args) != 3 {
		fail(errors.New("usage: waves CONFIG_DIRECTORY NAMESPACE < MANIFESTS"))
	}
	synced, err := read(os.Args[1], os.Args[2])
	if err == nil {
		err = synced.sync()
	}
	if err != nil {
		fail(err)
	}
}

func read(config, namespace string) (*application, error) {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return nil, err
	}
	targets, err := kube.SplitYAML(text)
	if err != nil {
		return nil, err
	}
	for _, target := range targets {
		target.SetNamespace(namespace)
	}
	cluster, err := clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG"))
	if err != nil {
		return nil, err
	}
	whole := func(*unstructured.Unstructured, bool) (any, bool) { return nil, true }
	live := cache.NewClusterCache(cluster, cache.SetNamespaces([]string{namespace}), cache.SetLogr(logr.Discard()),
		cache.SetPopulateResourceInfoHandler(whole))
	return &application{cluster, live, namespace, targets, scripts(filepath.Join(config, "argo-cd"))}, live.EnsureSynced()
}

// sync goes on until the operation is over. Each round begins from what is live and from how far the
// round before came, as in Argo CD's controller.
func (app *application) sync() error {
	last, before := "", sync.SyncOpt(sync.WithInitialState("", "", nil, metav1.Now()))
	for {
		phase, message, results, err := app.round(before)
		if err != nil {
			return err
		}
		before = sync.WithInitialState(phase, message, results, metav1.Now())
		state := State{phase, message, map[string]common.OperationPhase{}}
		for _, result := range results {
			state.Resources[result.ResourceKey.Kind+"/"+result.ResourceKey.Name] = result.HookPhase
		}
		line, err := json.Marshal(state)
		if err != nil {
			return err
		}
		if string(line) != last {
			last = string(line)
			fmt.Println(last)
		}
		if phase.Completed() {
			return nil
		}
		time.Sleep(pause)
	}
}

func (app *application) round(before sync.SyncOpt) (common.OperationPhase, string, []common.ResourceSyncResult, error) {
	ours := map[kube.ResourceKey]bool{}
	for _, target := range app.targets {
		ours[kube.GetResourceKey(target)] = true
	}
	managed, err := app.live.GetManagedLiveObjs(app.targets, func(resource *cache.Resource) bool { return ours[resource.ResourceKey()] })
	if err != nil {
		return "", "", nil, err
	}
	between := func(_ common.SyncPhase, _ int, last bool) error {
		if !last {
			time.Sleep(waveDelay)
		}
		return nil
	}
	kubectl := &kube.KubectlCmd{Log: logr.Discard(), Tracer: tracing.NopTracer{}}
	operation, end, err := sync.NewSyncContext("main", sync.Reconcile(app.targets, managed, app.namespace, app.live), app.cluster, app.cluster,
		kubectl, app.namespace, before, sync.WithHealthOverride(app.health), sync.WithSyncWaveHook(between), sync.WithLogr(logr.Discard()))
	if err != nil {
		return "", "", nil, err
	}
	defer end()
	operation.Sync()
	phase, message, results := operation.GetState()
	return phase, message, results, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "waves:", err)
	os.Exit(1)
}
