# The two commands are `make demo` and `make test`; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.PHONY: help demo demo-down test check unit neighbours deny docs integration e2e bench manifests image judge-bench judge-docs

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: ## Build what is missing, start a real cluster and watch three releases
	@e2e/demo

demo-down: ## End the demo's cluster
	@e2e/rig/down

test: check unit neighbours judge-bench deny docs integration ## Everything that CI runs

check: ## Format and lint
	cargo fmt --all --check
	cargo clippy --locked --all-targets --features crash-points -- -D warnings
	cargo clippy --locked --package judge-bench -- -D warnings

unit: ## Unit, property, model, vector and tidy tests
	cargo test --locked --features crash-points --lib --bins

judge-bench: ## How often the judge is wrong and how fast it is right, beside its peers; LONG=1 for 10,000 releases each
	cargo run --locked --profile judge --package judge-bench -- $(if $(LONG),--long) $(ARGS)

judge-docs: ## Tables, figures and pictures of the last judge-bench, for docs/
	cargo run --locked --profile judge --package judge-bench -- --write docs

neighbours: ## What kstatus, Flux and Argo CD make of gates in every state
	cd e2e/neighbours && CGO_ENABLED=0 GOWORK=off go test .

deny: ## Licences, bans and sources of everything in the tree
	@e2e/tools cargo-deny
	cargo fetch --locked
	"$$(e2e/tools --path cargo-deny)" --offline check licenses bans sources

docs: ## The documentation builds without warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps --document-private-items

integration: ## Against a stand-in of GitHub; releases on a real API server, and with real pods and traffic
	cargo test --locked --features crash-points --test github
	@e2e/run --quick core
	@e2e/run older
	@e2e/run --quick cluster

e2e: ## Every scenario, the long ones too; one with `make e2e SCENARIO=name`
	@e2e/run core $(SCENARIO)
	@e2e/run older $(SCENARIO)
	@e2e/run cluster $(SCENARIO)
	@e2e/run argo $(SCENARIO)
	@e2e/run helm $(SCENARIO)
	@e2e/run gitops $(SCENARIO)

bench: ## What it costs, on a real API server with faked pods
	@e2e/bench/run

manifests: ## Write the generated files anew
	cargo run --quiet -- manifests --output .

image: ## The operator's image as an OCI archive, without a Docker daemon
	@e2e/image
