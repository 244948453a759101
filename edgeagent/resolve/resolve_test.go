package resolve

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"skerry.dev/skerry/messaging"
)

func refs() Refs {
	return Refs{
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: "web-1", Namespace: "shop", UID: "u1",
				Labels: map[string]string{"app": "web", "tier": "front"}, Annotations: map[string]string{"a/b": "c\nd"},
			},
			Spec: corev1.PodSpec{NodeName: "n1", Containers: []corev1.Container{{
				Name: "app", Resources: corev1.ResourceRequirements{
					Requests: corev1.ResourceList{"cpu": resource.MustParse("250m")},
					Limits:   corev1.ResourceList{"memory": resource.MustParse("100Mi")},
				},
			}}},
		},
		PodIPs: []string{"10.42.1.5"}, HostIPs: []string{"10.41.0.11"},
		ConfigMaps: map[string]map[string][]byte{"settings": {"mode": []byte("fast"), "bad=key": []byte("x"), "level": []byte("3")}},
		Secrets:    map[string]map[string][]byte{"keys": {"token": []byte("sealed:t0p"), "broken": []byte("?")}},
		Open: func(sealed []byte) ([]byte, error) {
			plain, ok := strings.CutPrefix(string(sealed), "sealed:")
			if !ok {
				return nil, errors.New("not sealed to this node")
			}
			return []byte(plain), nil
		},
		Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("1Gi")},
		Services: []messaging.ServicePort{
			{Namespace: "shop", Name: "data-base", Protocol: "TCP", ClusterIP: "10.43.0.9", Port: 5432},
			{Namespace: "other", Name: "x", Protocol: "TCP", ClusterIP: "10.43.0.10", Port: 1},
		},
	}
}

func container(t *testing.T, text string) *corev1.Container {
	t.Helper()
	c := &corev1.Container{}
	if err := yaml.UnmarshalStrict([]byte(text), c); err != nil {
		t.Fatal(err)
	}
	c.Name = "app"
	c.Resources = refs().Pod.Spec.Containers[0].Resources
	return c
}

func TestEnv(t *testing.T) {
	r := refs()
	off := false
	r.Pod.Spec.EnableServiceLinks = &off
	for name, c := range map[string]struct{ spec, want string }{
		"plain and expanded": {`env: [{name: A, value: x}, {name: B, value: "$(A)-$(NONE)-$$(A)-$A$"}]`, "A=x B=x-$(NONE)-$(A)-$A$"},
		"from all of a map":  {`envFrom: [{configMapRef: {name: settings}, prefix: P_}]`, "P_level=3 P_mode=fast"},
		"env wins over envFrom": {
			`{envFrom: [{configMapRef: {name: settings}}], env: [{name: mode, value: "slow"}, {name: C, value: "$(level)"}]}`,
			"C=3 level=3 mode=slow",
		},
		"keys": {`env:
- {name: M, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}
- {name: T, valueFrom: {secretKeyRef: {name: keys, key: token}}}
- {name: O, valueFrom: {secretKeyRef: {name: none, key: token, optional: true}}}
- {name: P, valueFrom: {configMapKeyRef: {name: settings, key: none, optional: true}}}`, "M=fast T=t0p"},
		"optional maps": {`envFrom: [{configMapRef: {name: none, optional: true}}, {secretRef: {name: none, optional: true}}]`, ""},
		"fields": {`env:
- {name: A, valueFrom: {fieldRef: {fieldPath: metadata.name}}}
- {name: B, valueFrom: {fieldRef: {fieldPath: status.podIP}}}
- {name: C, valueFrom: {fieldRef: {fieldPath: "metadata.labels['tier']"}}}
- {name: D, valueFrom: {fieldRef: {fieldPath: status.hostIP}}}`, "A=web-1 B=10.42.1.5 C=front D=10.41.0.11"},
		"resources": {`env:
- {name: A, valueFrom: {resourceFieldRef: {resource: requests.cpu}}}
- {name: B, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}
- {name: C, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}
- {name: D, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: app}}}`, "A=1 B=250 C=100 D=4"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := r.Env(container(t, c.spec))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEnvRefuses(t *testing.T) {
	for spec, want := range map[string]string{
		`envFrom: [{configMapRef: {name: none}}]`:                                                   `configmap "none" not found`,
		`envFrom: [{secretRef: {name: none}}]`:                                                      `secret "none" not found`,
		`envFrom: [{secretRef: {name: keys}}]`:                                                      `not sealed to this node`,
		`env: [{name: A, valueFrom: {configMapKeyRef: {name: settings, key: x}}}]`:                  `couldn't find key x in ConfigMap shop/settings`,
		`env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: x}}}]`:                         `couldn't find key x in Secret shop/keys`,
		`env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.containers}}}]`:                     `field "spec.containers"`,
		`env: [{name: A, valueFrom: {resourceFieldRef: {resource: cpu}}}]`:                          `resource field "cpu"`,
		`env: [{name: A, valueFrom: {resourceFieldRef: {resource: limits.cpu, containerName: z}}}]`: `no such container`,
	} {
		if _, err := refs().Env(container(t, spec)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", spec, err, want)
		}
	}
	var missing *MissingError
	if _, err := refs().Env(container(t, `env: [{name: A, valueFrom: {secretKeyRef: {name: keys, key: x}}}]`)); !errors.As(err, &missing) {
		t.Errorf("error %v is no MissingError", err)
	}
}

func TestServiceEnv(t *testing.T) {
	got, err := refs().Env(container(t, `env: [{name: DATA_BASE_SERVICE_PORT, value: "1"}, {name: URL, value: "db://$(DATA_BASE_SERVICE_HOST)"}]`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"DATA_BASE_PORT=tcp://10.43.0.9:5432", "DATA_BASE_PORT_5432_TCP=tcp://10.43.0.9:5432", "DATA_BASE_PORT_5432_TCP_ADDR=10.43.0.9",
		"DATA_BASE_PORT_5432_TCP_PORT=5432", "DATA_BASE_PORT_5432_TCP_PROTO=tcp", "DATA_BASE_SERVICE_HOST=10.43.0.9",
		"DATA_BASE_SERVICE_PORT=1", "URL=db://10.43.0.9",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// The API is named to every pod; a service of the pod's own namespace takes the name, if the pod wants to know of those.
func TestAPIEnv(t *testing.T) {
	api := messaging.ServicePort{Namespace: "default", Name: "kubernetes", Protocol: "TCP", ClusterIP: "10.43.0.1", Port: 443, PortName: "https"}
	own := messaging.ServicePort{Namespace: "shop", Name: "kubernetes", Protocol: "TCP", ClusterIP: "10.43.0.9", Port: 80}
	off := false
	names := "KUBERNETES_PORT=tcp://10.43.0.1:443 KUBERNETES_PORT_443_TCP=tcp://10.43.0.1:443 KUBERNETES_PORT_443_TCP_ADDR=10.43.0.1 " +
		"KUBERNETES_PORT_443_TCP_PORT=443 KUBERNETES_PORT_443_TCP_PROTO=tcp KUBERNETES_SERVICE_HOST=10.43.0.1 " +
		"KUBERNETES_SERVICE_PORT=443 KUBERNETES_SERVICE_PORT_HTTPS=443"
	for name, c := range map[string]struct {
		services []messaging.ServicePort
		links    *bool
		want     string
	}{
		"without links":     {[]messaging.ServicePort{own, api}, &off, names},
		"with links":        {[]messaging.ServicePort{api}, nil, names},
		"the name is taken": {[]messaging.ServicePort{api, own}, nil, "10.43.0.9"},
		"nothing is known":  {nil, nil, ""},
	} {
		r := refs()
		r.Services, r.Pod.Spec.EnableServiceLinks = c.services, c.links
		got, err := r.Env(container(t, "{}"))
		if err != nil {
			t.Fatal(err)
		}
		if name == "the name is taken" {
			if !slices.Contains(got, "KUBERNETES_SERVICE_HOST="+c.want) {
				t.Errorf("%s: %q", name, got)
			}
		} else if diff := cmp.Diff(c.want, strings.Join(got, " ")); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestFieldOfMaps(t *testing.T) {
	for path, want := range map[string]string{
		"metadata.labels":                 "app=\"web\"\ntier=\"front\"",
		"metadata.annotations":            `a/b="c\nd"`,
		"metadata.annotations['a/b']":     "c\nd",
		"metadata.annotations['missing']": "",
	} {
		if got, err := refs().Field(path); err != nil || got != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"metadata.labels['a", "spec['x']"} {
		if _, err := refs().Field(path); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("a$(B)$$(C)$")
	f.Fuzz(func(t *testing.T, s string) {
		got := Expand(s, func(string) (string, bool) { return "", false })
		if !strings.Contains(s, "$") && got != s {
			t.Errorf("%q became %q", s, got)
		}
	})
}
