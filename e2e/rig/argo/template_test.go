// Package argo asks with Argo Rollouts' own code what the AnalysisTemplate of Tollgate makes of each
// answer that could come back.
package argo

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/argoproj/argo-rollouts/metricproviders/webmetric"
	"github.com/argoproj/argo-rollouts/pkg/apis/rollouts/v1alpha1"
	analysisutil "github.com/argoproj/argo-rollouts/utils/analysis"
	templateutil "github.com/argoproj/argo-rollouts/utils/template"
	log "github.com/sirupsen/logrus"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

func template(t *testing.T) v1alpha1.AnalysisTemplate {
	t.Helper()
	text, err := os.ReadFile("../../../config/argo-rollouts/analysis-template.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var template v1alpha1.AnalysisTemplate
	if err := yaml.UnmarshalStrict(text, &template); err != nil {
		t.Fatal(err)
	}
	return template
}

// asked is the template's metric with its arguments, as the controller would run it.
func asked(t *testing.T, url string) v1alpha1.Metric {
	t.Helper()
	template := template(t)
	values := map[string]string{"url": url, "namespace": "shop", "analysis": "checkout", "revision": "64f5b9c8d7", "step": "1", "token": "s3cret"}
	args := []v1alpha1.Argument{}
	for _, arg := range template.Spec.Args {
		value, known := values[arg.Name]
		if !known {
			t.Fatalf("the test gives no value to %s", arg.Name)
		}
		args = append(args, v1alpha1.Argument{Name: arg.Name, Value: &value})
	}
	text, err := json.Marshal(template.Spec.Metrics[0])
	if err != nil {
		t.Fatal(err)
	}
	resolved, err := templateutil.ResolveArgs(string(text), args)
	if err != nil {
		t.Fatal(err)
	}
	var metric v1alpha1.Metric
	if err := json.Unmarshal([]byte(resolved), &metric); err != nil {
		t.Fatal(err)
	}
	return metric
}

func measured(t *testing.T, metric v1alpha1.Metric) v1alpha1.Measurement {
	t.Helper()
	client, err := webmetric.NewWebMetricHttpClient(metric)
	if err != nil {
		t.Fatal(err)
	}
	parser, err := webmetric.NewWebMetricJsonParser(metric)
	if err != nil {
		t.Fatal(err)
	}
	return webmetric.NewWebMetricProvider(*log.NewEntry(log.New()), client, parser).Run(&v1alpha1.AnalysisRun{}, metric)
}

func TestOnlyPromoteAboutThisRevisionIsASuccess(t *testing.T) {
	const about = `"revision": "64f5b9c8d7", "decisionId": "0123456789abcdef"`
	for _, answer := range []struct {
		name, body string
		code       int
		expected   v1alpha1.AnalysisPhase
	}{
		{"promote", `{"decision": "promote", ` + about + `}`, 200, v1alpha1.AnalysisPhaseSuccessful},
		{"hold", `{"decision": "hold", ` + about + `}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"abort", `{"decision": "abort", ` + about + `}`, 200, v1alpha1.AnalysisPhaseFailed},
		{"promote of another revision", `{"decision": "promote", "revision": "7d9f8b6c5d"}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"abort of another revision", `{"decision": "abort", "revision": "7d9f8b6c5d"}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"a new word", `{"decision": "proceed", ` + about + `}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"another case", `{"decision": "Promote", ` + about + `}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"another type", `{"decision": true, ` + about + `}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"another name", `{"verdict": "promote", ` + about + `}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"deeper", `{"data": {"decision": "promote", ` + about + `}}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"an empty object", `{}`, 200, v1alpha1.AnalysisPhaseInconclusive},
		{"a list", `[{"decision": "promote", ` + about + `}]`, 200, v1alpha1.AnalysisPhaseError},
		{"a word as JSON", `"promote"`, 200, v1alpha1.AnalysisPhaseError},
		{"bad request", `{"error": "revision is missing"}`, 400, v1alpha1.AnalysisPhaseError},
		{"no token", `{"error": "send a bearer token"}`, 401, v1alpha1.AnalysisPhaseError},
		{"forbidden", `{"error": "may not get"}`, 403, v1alpha1.AnalysisPhaseError},
		{"unknown", `{"error": "there is none"}`, 404, v1alpha1.AnalysisPhaseError},
		{"another revision on trial", `{"error": "not on trial"}`, 409, v1alpha1.AnalysisPhaseError},
		{"promote with an error's code", `{"decision": "promote", ` + about + `}`, 500, v1alpha1.AnalysisPhaseError},
		{"an HTML error", `<html>Bad Gateway</html>`, 502, v1alpha1.AnalysisPhaseError},
	} {
		t.Run(answer.name, func(t *testing.T) {
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if got := r.URL.String(); got != "/v1/analyses/shop/checkout/decision?revision=64f5b9c8d7&step=1" {
					t.Errorf("asked for %s", got)
				}
				if got := r.Header.Get("Authorization"); got != "Bearer s3cret" {
					t.Errorf("asked as %s", got)
				}
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(answer.code)
				_, _ = w.Write([]byte(answer.body))
			}))
			defer server.Close()
			got := measured(t, asked(t, server.URL))
			if got.Phase != answer.expected {
				t.Errorf("%s: %s, not %s (%s)", answer.body, got.Phase, answer.expected, got.Message)
			}
		})
	}
}

func TestNoAnswerIsAnError(t *testing.T) {
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(20 * time.Second):
		}
	}))
	defer silent.Close()
	gone := httptest.NewServer(nil)
	gone.Close()
	stranger := httptest.NewTLSServer(nil)
	defer stranger.Close()
	for name, url := range map[string]string{"silent": silent.URL, "gone": gone.URL, "a certificate of somebody else": stranger.URL} {
		metric := asked(t, url)
		metric.Provider.Web.TimeoutSeconds = 1
		if got := measured(t, metric); got.Phase != v1alpha1.AnalysisPhaseError {
			t.Errorf("%s: %s (%s)", name, got.Phase, got.Message)
		}
	}
}

// The trap that no condition can close: Argo Rollouts takes a 2xx that is not JSON for a success
// without looking at the conditions. So Tollgate never sends one, and is asked without anything in
// between. When this test fails, Argo Rollouts has closed it, and the page about it can say so.
func TestWhatIsNotJSONIsTakenForASuccess(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"a login page": func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>Please log in</html>")) },
		"the word":     func(w http.ResponseWriter) { _, _ = w.Write([]byte("abort")) },
		"nothing":      func(w http.ResponseWriter) { w.WriteHeader(http.StatusNoContent) },
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
		if got := measured(t, asked(t, server.URL)); got.Phase != v1alpha1.AnalysisPhaseSuccessful {
			t.Errorf("%s: %s", name, got.Phase)
		}
		server.Close()
	}
}

func TestTheTemplateIsOneThatAnInlineStepTakes(t *testing.T) {
	template := template(t)
	if len(template.Spec.Metrics) != 1 {
		t.Fatalf("%d metrics", len(template.Spec.Metrics))
	}
	if err := analysisutil.ValidateMetrics(template.Spec.Metrics); err != nil {
		t.Error(err)
	}
	metric := template.Spec.Metrics[0]
	if metric.EffectiveCount() == nil {
		t.Error("without a count an inline step is refused")
	}
	at := func(value *intstr.IntOrString) int {
		if value == nil {
			return -1
		}
		return value.IntValue()
	}
	if at(metric.FailureLimit) != 0 || at(metric.ConsecutiveSuccessLimit) != 1 || at(metric.InconclusiveLimit) >= at(metric.Count) {
		t.Errorf("limits: %+v", metric)
	}
	if !strings.HasPrefix(metric.Provider.Web.URL, "{{args.url}}/") || metric.Provider.Web.Insecure {
		t.Error("it must be asked by its own name, with its certificate checked")
	}
}
