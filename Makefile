# Skerry. `make help` lists the targets; README.md tells the story.

SHELL    := /bin/bash
BIN      := bin
CACHE    := .cache
TOOLS    := $(CACHE)/bin
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS  := -s -w -X skerry.dev/skerry/api.BuildVersion=$(VERSION)
STATIC   := -tags netgo,osusergo -ldflags '-s -w -X main.release=$(VERSION) -linkmode external -extldflags "-static"'
TESTTIME ?= 30m
# Programs and tests share what they compile: without cgo and paths, but for libcontainer's half in C.
GOTEST   := go test -trimpath -timeout $(TESTTIME)
GOBUILD  := go build -trimpath
# The agent has 16 MiB: functions closer together, and nothing inlined of Kubernetes' types, make 0.4 MiB of room.
AGENT    := $(GOBUILD) -gcflags='k8s.io/...=-l' -ldflags '$(LDFLAGS) -funcalign=16'
K8S      := 1.37.2
KUBEVER  := k8s.io/component-base/version
# One setting of cgo for everything of Kubernetes', so that each of its packages is compiled once.
KUBELDFLAGS := -s -w -X $(KUBEVER).gitVersion=v$(K8S) -X $(KUBEVER).gitMajor=1 -X $(KUBEVER).gitMinor=37 -X $(KUBEVER).gitTreeState=clean -X $(KUBEVER).gitCommit=none -X $(KUBEVER).buildDate=1970-01-01T00:00:00Z
ROOT     := $(abspath .)

export PATH := $(ROOT)/$(TOOLS):$(ROOT)/$(BIN):$(PATH)

.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build the four binaries into bin/
	CGO_ENABLED=0 $(GOBUILD) -ldflags '$(LDFLAGS) $(KUBELDFLAGS)' -o $(BIN)/skerry ./cmd/skerry
	CGO_ENABLED=0 $(GOBUILD) -ldflags '$(LDFLAGS)' -o $(BIN)/skerry-coordinator ./cmd/skerry-coordinator
	CGO_ENABLED=0 $(AGENT) -o $(BIN)/skerry-agent ./cmd/skerry-agent
	CGO_ENABLED=1 $(GOBUILD) $(STATIC) -o $(BIN)/skerry-keeper ./cmd/skerry-keeper

cross: ## build the agent for amd64, arm64 and armv7
	for t in amd64: arm64: arm:7; do \
	  CGO_ENABLED=0 GOOS=linux GOARCH=$${t%%:*} GOARM=$${t##*:} $(AGENT) \
	    -o $(BIN)/skerry-agent-$${t%%:*} ./cmd/skerry-agent || exit 1; done; ls -l $(BIN)/skerry-agent-*

hello: ## build the demo's workload, two versions of it
	for v in 1 2; do CGO_ENABLED=0 $(GOBUILD) -ldflags "-s -w -X main.version=$$v" -o $(BIN)/hello-$$v ./configs/demo/hello || exit 1; done

demo: deps build hello $(TOOLS)/kubectl ## run the main job on three nodes on this machine
	go run ./tests/demo

deps: ## install the Debian packages that demo and tests need, if they are missing
	@tests/deps

tools: $(TOOLS)/kubectl $(TOOLS)/kubectl-debian $(TOOLS)/helm $(TOOLS)/nats $(TOOLS)/crane ## build the outside programs that tests drive Skerry with

test: deps build hello tools suite ## every test: unit, contract, simulation, end to end
	CGO_ENABLED=1 $(GOTEST) ./edgeagent/keeper/... ./cmd/skerry-keeper
	CGO_ENABLED=0 $(GOTEST) $$(go list ./... | grep -v -e /edgeagent/keeper -e /skerry-keeper)

race: ## the pure packages and the simulation under the race detector
	CGO_ENABLED=1 go test -race -short -timeout $(TESTTIME) ./api/... ./messaging/... ./coordinator/... ./packaging/... ./hwprobe/... ./edgeagent/pod/... ./edgeagent/uplink/... ./edgeagent/checkpoint/... ./tests/sim/...

sim: ## the cluster simulation only, with a month's outage
	CGO_ENABLED=0 $(GOTEST) -count=1 ./tests/sim -args -sim.month

e2e: deps build hello tools ## the end-to-end tests only
	CGO_ENABLED=0 $(GOTEST) -count=1 ./tests/e2e/...

CONFORMANCE := $(CACHE)/conformance
conformance: deps build tools suite ## upstream's conformance suite: FOCUS=regexp PROCS=8 ARGS='--again'; see docs/conformance.md
	go run ./tests/conformance --focus '$(FOCUS)' --procs $(or $(PROCS),8) $(ARGS)

suite: $(addprefix $(CONFORMANCE)/,e2e.test ginkgo agnhost nnp) ## build the conformance suite and what its images need

soak: deps build hello tools ## ten minutes of random kill -9 and power cuts
	go run ./tests/soak

FUZZTIME ?= 20s
fuzz: ## every fuzz target for FUZZTIME each
	@tests/fuzz $(FUZZTIME)

bench: deps build cross $(addprefix $(TOOLS)/,kube-apiserver etcd scheduler_perf) ## measure beside the peers and rewrite docs/benchmarks.md (a quarter of an hour)
	go run ./tests/bench -write docs/benchmarks.md

lint: ## golangci-lint, pinned in tests/tools/lint
	go -C tests/tools/lint build -o $(ROOT)/$(TOOLS)/golangci-lint github.com/golangci/golangci-lint/v2/cmd/golangci-lint
	golangci-lint run ./...

check: lint test ## what a change must pass

generate: ## rewrite generated code
	go generate ./...

$(TOOLS)/kubectl $(TOOLS)/kube-apiserver: tests/tools/kubernetes/go.mod
	CGO_ENABLED=0 go -C tests/tools/kubernetes build -trimpath -o $(ROOT)/$@ -ldflags "$(KUBELDFLAGS)" k8s.io/kubernetes/cmd/$(@F)

$(CONFORMANCE)/e2e.test: tests/conformance/suite/go.mod
	CGO_ENABLED=0 go -C tests/conformance/suite test -c -vet=off -trimpath -o $(ROOT)/$@ -ldflags "$(KUBELDFLAGS)" k8s.io/kubernetes/test/e2e

$(CONFORMANCE)/ginkgo: tests/conformance/suite/go.mod
	CGO_ENABLED=0 go -C tests/conformance/suite build -trimpath -o $(ROOT)/$@ -ldflags '-s -w' github.com/onsi/ginkgo/v2/ginkgo

$(CONFORMANCE)/agnhost: tests/conformance/suite/go.mod
	CGO_ENABLED=0 go -C tests/conformance/suite build -trimpath -o $(ROOT)/$@ -ldflags '-s -w' k8s.io/kubernetes/test/images/agnhost

$(CONFORMANCE)/nnp: tests/conformance/suite/go.mod
	CGO_ENABLED=0 go -C tests/conformance/suite build -trimpath -o $(ROOT)/$@ -ldflags '-s -w' k8s.io/kubernetes/test/images/nonewprivs

$(TOOLS)/scheduler_perf: tests/conformance/suite/go.mod
	CGO_ENABLED=0 go -C tests/conformance/suite test -c -vet=off -trimpath -o $(ROOT)/$@ -ldflags "$(KUBELDFLAGS)" k8s.io/kubernetes/test/integration/scheduler_perf/misc

$(TOOLS)/etcd: tests/tools/etcd/go.mod
	go -C tests/tools/etcd build -trimpath -ldflags '-s -w' -o $(ROOT)/$@ go.etcd.io/etcd/server/v3

$(TOOLS)/nats: tests/tools/nats/go.mod
	go -C tests/tools/nats build -trimpath -ldflags '-s -w' -o $(ROOT)/$@ github.com/nats-io/natscli/nats

$(TOOLS)/kubectl-debian: tests/tools/debian-kubectl
	tests/tools/debian-kubectl $@

$(TOOLS)/helm: tests/tools/helm/go.mod
	CGO_ENABLED=0 go -C tests/tools/helm build -trimpath -ldflags '-s -w' -o $(ROOT)/$@ helm.sh/helm/v3/cmd/helm

$(TOOLS)/crane: tests/tools/registry/go.mod
	go -C tests/tools/registry build -trimpath -ldflags '-s -w' -o $(ROOT)/$@ github.com/google/go-containerregistry/cmd/crane

clean: ## remove what was built (not the Go caches)
	rm -rf $(BIN) $(CACHE) tests/artifacts

.PHONY: help build cross hello demo deps tools test race sim e2e conformance suite soak fuzz bench lint check generate clean
