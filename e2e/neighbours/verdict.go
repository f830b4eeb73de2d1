package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/fluxcd/cli-utils/pkg/kstatus/status"
	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"tollgate.invalid/neighbours/argocd"
)

// Verdict is what the tools around a cluster make of an object.
type Verdict struct {
	Kind string `json:"kind"`
	Name string `json:"name"`
	// Kstatus is the verdict of the reference implementation, which Helm and Flux wait by.
	Kstatus string `json:"kstatus"`
	// Flux is the verdict of our healthCheckExprs.
	Flux string `json:"flux"`
	// ArgoCD is the health that our script gives, and Message its sentence.
	ArgoCD  string `json:"argoCD"`
	Message string `json:"message"`
	// Actions are those that Argo CD offers.
	Actions []string `json:"actions"`
}

// judge asks each tool. config is the directory that holds argo-cd and flux.
func judge(config string, object *unstructured.Unstructured) (Verdict, error) {
	verdict := Verdict{Kind: object.GetKind(), Name: object.GetName()}
	computed, err := status.Compute(object)
	if err != nil {
		return verdict, fmt.Errorf("kstatus: %w", err)
	}
	verdict.Kstatus = string(computed.Status)
	if verdict.Flux, err = flux(filepath.Join(config, "flux", "health-check-exprs.yaml"), object); err != nil {
		return verdict, fmt.Errorf("flux: %w", err)
	}
	scripts := filepath.Join(config, "argo-cd", "tollgate.dev", object.GetKind())
	health, err := argocd.RunHealth(filepath.Join(scripts, "health.lua"), object.Object)
	if err != nil {
		return verdict, fmt.Errorf("argo-cd: %w", err)
	}
	verdict.ArgoCD, verdict.Message = health.Status, health.Message
	discovery := filepath.Join(scripts, "actions", "discovery.lua")
	if _, err := os.Stat(discovery); err == nil {
		if verdict.Actions, err = argocd.RunDiscovery(discovery, object.Object); err != nil {
			return verdict, fmt.Errorf("argo-cd: %w", err)
		}
	}
	return verdict, nil
}

// flux evaluates the expressions as kustomize-controller does; an object without a status has
// nothing that they could read yet, and Flux goes on waiting.
func flux(file string, object *unstructured.Unstructured) (string, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var checks []kustomize.CustomHealthCheck
	if err := yaml.UnmarshalStrict(text, &checks); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	for _, check := range checks {
		if check.APIVersion != object.GetAPIVersion() || check.Kind != object.GetKind() {
			continue
		}
		evaluator, err := cel.NewStatusEvaluator(&check.HealthCheckExpressions)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		if _, has := object.Object["status"]; !has {
			return string(status.InProgressStatus), nil
		}
		result, err := evaluator.Evaluate(context.Background(), object)
		if err != nil {
			return "", err
		}
		return string(result.Status), nil
	}
	return "", fmt.Errorf("%s has no check for %s", file, object.GetKind())
}
