package storm

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"time"

	"sigs.k8s.io/yaml"
)

const (
	image    = "registry.skerry/hello:1"
	replicas = 6
)

// workload is a Deployment that is scaled, or comes and goes, while the storm blows.
const workload = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s, labels: {soak: "yes"}}
spec:
  replicas: %[2]d
  selector: {matchLabels: {app: %[1]s}}
  template:
    metadata: {labels: {app: %[1]s, soak: "yes"}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute, tolerationSeconds: %[3]d}
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute, tolerationSeconds: %[3]d}
      containers:
      - name: hello
        image: ` + image + `
        env:
        - {name: POD_NAME, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
        - {name: POD_UID, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}
        - {name: NODE_NAME, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}
        - {name: SOAK, value: "%[4]s"}
        resources: {requests: {cpu: 20m, memory: 16Mi}}
        readinessProbe: {httpGet: {path: /readyz, port: 8080}, periodSeconds: 1}
`

// service is in front of the Deployment that is never without its pods for long.
const service = `
apiVersion: v1
kind: Service
metadata: {name: patient}
spec:
  selector: {app: patient}
  ports: [{port: 80, targetPort: 8080}]
`

// How long pods stay on a node that is silent or not ready, in seconds.
const (
	quick   = 2
	patient = 600
)

// lasting are the Deployments that are there all the time. Others come and go.
var lasting = map[string]int{"quick": quick, "patient": patient}

// post builds and pushes the image, and posts the lasting workload: one Deployment that moves at once, one that stays
// through a silence.
func (s *storm) post(ctx context.Context) error {
	store := filepath.Join(s.dir, "images")
	for _, args := range [][]string{
		{"image", "build", s.cluster.Bin("hello-1"), "-t", image, "--store", store}, {"image", "push", image, "--store", store},
	} {
		if _, err := s.cluster.Skerry(ctx, args...); err != nil {
			return err
		}
	}
	for name, toleration := range lasting {
		if _, err := s.cluster.Kubectl(ctx, fmt.Sprintf(workload, name, replicas, toleration, s.dir), "apply", "-f", "-"); err != nil {
			return err
		}
	}
	if _, err := s.cluster.Kubectl(ctx, service, "apply", "-f", "-"); err != nil {
		return err
	}
	_, err := s.cluster.Kubectl(ctx, "", "rollout", "status", "deployment/quick", "--timeout=60s")
	return err
}

const (
	deployments = "/apis/apps/v1/namespaces/default/deployments"
	passing     = 3 // Deployments that come and go
	mostPods    = 8 // of a Deployment
)

// deploy scales Deployments, and creates and deletes others, until ctx ends.
func (w *writer) deploy(ctx context.Context, mark string) error {
	for ctx.Err() == nil {
		if w.chance.Intn(3) == 0 {
			w.pass(ctx, "passing-"+strconv.Itoa(w.chance.Intn(passing)), mark)
		} else {
			name := "quick"
			if w.chance.Intn(2) == 0 {
				name = "patient"
			}
			w.scale(ctx, name, w.chance.Intn(mostPods+1))
		}
		select {
		case <-ctx.Done():
		case <-time.After(time.Duration(w.chance.Int63n(int64(time.Second)))):
		}
	}
	return nil
}

func (w *writer) scale(ctx context.Context, name string, replicas int) {
	patch := map[string]any{"spec": map[string]any{"replicas": replicas}}
	w.note(deployments+"/"+name, replicas, w.client.do(ctx, http.MethodPatch, deployments+"/"+name, patch, nil))
}

// pass makes a Deployment, or deletes it when it is there.
func (w *writer) pass(ctx context.Context, name, mark string) {
	size := 1 + w.chance.Intn(2)
	var object map[string]any
	if err := yaml.Unmarshal(fmt.Appendf(nil, workload, name, size, quick, mark), &object); err != nil {
		panic(err) // our own text
	}
	err := w.client.do(ctx, http.MethodPost, deployments, object, nil)
	if !errors.Is(err, errRefused) {
		w.note(deployments+"/"+name, size, err)
		return
	}
	w.note(deployments+"/"+name, absent, w.client.do(ctx, http.MethodDelete, deployments+"/"+name, struct{}{}, nil))
}
