package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"tollgate.invalid/neighbours/argocd"
)

const config = "../../config"

func scripts(kind string) string { return filepath.Join(config, "argo-cd", "tollgate.dev", kind) }

func load(t *testing.T, into any, path ...string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, into); err != nil {
		t.Fatalf("%s: %v", filepath.Join(path...), err)
	}
}

func object(t *testing.T, path ...string) *unstructured.Unstructured {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	objects, err := parse(text)
	if err != nil || len(objects) != 1 {
		t.Fatalf("%s: %d objects, %v", filepath.Join(path...), len(objects), err)
	}
	return &objects[0]
}

// states are the objects of a kind that its tests are about.
func states(t *testing.T, kind string) map[string]*unstructured.Unstructured {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(scripts(kind), "testdata", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]*unstructured.Unstructured{}
	for _, file := range files {
		if name := strings.TrimSuffix(filepath.Base(file), ".yaml"); !strings.HasSuffix(name, "-asked") {
			found[name] = object(t, file)
		}
	}
	return found
}

// The files have Argo CD's own format, health_test.yaml and action_test.yaml.
func TestArgoCDSaysOfEveryStateWhatItsFileSays(t *testing.T) {
	for _, kind := range []string{"ReleaseGate", "CanaryAnalysis"} {
		var file struct {
			Tests []struct {
				InputPath    string                           `json:"inputPath"`
				HealthStatus struct{ Status, Message string } `json:"healthStatus"`
			} `json:"tests"`
		}
		load(t, &file, scripts(kind), "health_test.yaml")
		for _, test := range file.Tests {
			found, err := argocd.RunHealth(filepath.Join(scripts(kind), "health.lua"), object(t, scripts(kind), test.InputPath).Object)
			if err != nil || found.Status != test.HealthStatus.Status || found.Message != test.HealthStatus.Message {
				t.Errorf("%s %s: %+v, %v; it should be %+v", kind, test.InputPath, found, err, test.HealthStatus)
			}
		}
		if told := states(t, kind); len(file.Tests) != len(told) {
			t.Errorf("%s: %d tests of %d states", kind, len(file.Tests), len(told))
		}
	}
}

func TestArgoCDMayHoldAbortAndRetryWhereThatMakesSenseAndNothingElse(t *testing.T) {
	var file struct {
		DiscoveryTests []struct {
			InputPath string `json:"inputPath"`
			Result    []struct {
				Name     string `json:"name"`
				Disabled bool   `json:"disabled"`
			} `json:"result"`
		} `json:"discoveryTests"`
		ActionTests []struct {
			Action             string `json:"action"`
			InputPath          string `json:"inputPath"`
			ExpectedOutputPath string `json:"expectedOutputPath"`
		} `json:"actionTests"`
	}
	gate := scripts("ReleaseGate")
	load(t, &file, gate, "action_test.yaml")
	for _, test := range file.DiscoveryTests {
		wanted := []string{}
		for _, action := range test.Result {
			if !action.Disabled {
				wanted = append(wanted, action.Name)
			}
		}
		offered, err := argocd.RunDiscovery(filepath.Join(gate, "actions", "discovery.lua"), object(t, gate, test.InputPath).Object)
		if err != nil || !slices.Equal(offered, wanted) {
			t.Errorf("%s offers %v, %v; it should offer %v", test.InputPath, offered, err, wanted)
		}
	}
	for _, test := range file.ActionTests {
		var wanted []struct {
			K8sOperation    string         `json:"k8sOperation"`
			UnstructuredObj map[string]any `json:"unstructuredObj"`
		}
		load(t, &wanted, gate, test.ExpectedOutputPath)
		created, err := argocd.RunAction(filepath.Join(gate, "actions", test.Action, "action.lua"), object(t, gate, test.InputPath).Object)
		if err != nil || len(created) != 1 || len(wanted) != 1 {
			t.Errorf("%s: %d objects, %v", test.Action, len(created), err)
			continue
		}
		asked := unstructured.Unstructured{Object: created[0]}
		if name := asked.GetName(); !strings.HasPrefix(name, "checkout-"+test.Action+"-") || len(name) > 63 {
			t.Errorf("%s creates an object named %q", test.Action, name)
		}
		asked.SetName("")
		unstructured.RemoveNestedField(asked.Object, "metadata", "name")
		if !equality.Semantic.DeepEqual(asked.Object, wanted[0].UnstructuredObj) {
			t.Errorf("%s creates %v; it should create %v", test.Action, asked.Object, wanted[0].UnstructuredObj)
		}
	}
	actions, err := os.ReadDir(filepath.Join(gate, "actions"))
	names := []string{}
	for _, action := range actions {
		names = append(names, action.Name())
	}
	if !slices.Equal(names, []string{"abort", "discovery.lua", "hold", "retry"}) {
		t.Errorf("actions are %v, %v", names, err)
	}
}

func TestKstatusFluxAndArgoCDAgree(t *testing.T) {
	// A gate that a person suspended while nothing is in flight is done for those who wait; Argo CD
	// can say that it is suspended, too.
	same := map[string][]status.Status{
		"Healthy":     {status.CurrentStatus},
		"Progressing": {status.InProgressStatus},
		"Suspended":   {status.InProgressStatus, status.CurrentStatus},
		"Degraded":    {status.FailedStatus},
	}
	for _, kind := range []string{"ReleaseGate", "CanaryAnalysis"} {
		for name, state := range states(t, kind) {
			verdict, err := judge(config, state)
			if err != nil {
				t.Errorf("%s %s: %v", kind, name, err)
			}
			if !slices.Contains(same[verdict.ArgoCD], status.Status(verdict.Kstatus)) || verdict.Flux != verdict.Kstatus {
				t.Errorf("%s %s: %+v", kind, name, verdict)
			}
		}
	}
}

func TestWhatIsMountedInArgoCDIsWhatIsTested(t *testing.T) {
	var mounted struct {
		APIVersion string            `json:"apiVersion"`
		Kind       string            `json:"kind"`
		Metadata   map[string]string `json:"metadata"`
		Data       map[string]string `json:"data"`
	}
	load(t, &mounted, config, "argo-cd", "argocd-cm.yaml")
	script := func(path ...string) string {
		text, err := os.ReadFile(filepath.Join(append([]string{scripts("ReleaseGate")}, path...)...))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	var actions struct {
		Discovery   string `json:"discovery.lua"`
		Definitions []struct {
			Name   string `json:"name"`
			Action string `json:"action.lua"`
		} `json:"definitions"`
	}
	if err := yaml.UnmarshalStrict([]byte(mounted.Data["resource.customizations.actions.tollgate.dev_ReleaseGate"]), &actions); err != nil {
		t.Fatal(err)
	}
	if mounted.Data["resource.customizations.health.tollgate.dev_ReleaseGate"] != script("health.lua") || actions.Discovery != script("actions", "discovery.lua") {
		t.Error("argocd-cm.yaml has other scripts than tollgate.dev/ReleaseGate")
	}
	for _, action := range actions.Definitions {
		if action.Action != script("actions", action.Name, "action.lua") {
			t.Errorf("argocd-cm.yaml has another action %s", action.Name)
		}
	}
	if len(actions.Definitions) != 3 {
		t.Errorf("argocd-cm.yaml has %d actions", len(actions.Definitions))
	}
}
