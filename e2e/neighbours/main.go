// Command neighbours says what the tools around a cluster make of Tollgate's objects: kstatus (by
// which Helm and Flux wait), Flux with our expressions, and Argo CD with our scripts.
//
//	kubectl get releasegates,canaryanalyses -A -o json | neighbours CONFIG_DIRECTORY
//
// It reads one object or a list of them, and writes one line of JSON for each.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: neighbours CONFIG_DIRECTORY < OBJECTS"))
	}
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		fail(err)
	}
	objects, err := parse(text)
	if err != nil {
		fail(err)
	}
	lines := json.NewEncoder(os.Stdout)
	for _, object := range objects {
		verdict, err := judge(os.Args[1], &object)
		if err == nil {
			err = lines.Encode(verdict)
		}
		if err != nil {
			fail(fmt.Errorf("%s %s: %w", object.GetKind(), object.GetName(), err))
		}
	}
}

// parse reads one object or a list of them, as JSON or YAML.
func parse(text []byte) ([]unstructured.Unstructured, error) {
	text, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, err
	}
	one := unstructured.Unstructured{}
	if err := one.UnmarshalJSON(text); err == nil && !one.IsList() {
		return []unstructured.Unstructured{one}, nil
	}
	list := unstructured.UnstructuredList{}
	if err := list.UnmarshalJSON(text); err != nil {
		return nil, err
	}
	return list.Items, nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "neighbours:", err)
	os.Exit(1)
}
