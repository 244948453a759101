package endpoints_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/endpoints"
)

func TestScripts(t *testing.T) {
	controllertest.Scripts(t, "testdata/*.txt", func(*testing.T) map[string]controllertest.Command {
		w := controllertest.New()
		commands := w.Commands(endpoints.Plan)
		commands["service"] = func(args []string) ([]string, error) { return nil, service(w, args) }
		commands["pod"] = func(args []string) ([]string, error) { return nil, pod(w, args) }
		commands["node"] = func(args []string) ([]string, error) { return nil, node(w, args) }
		commands["slice"] = func(args []string) ([]string, error) { return nil, slice(w, args) }
		commands["endpoints"] = func(args []string) ([]string, error) { return nil, byHand(w, args) }
		commands["drop"] = func(args []string) ([]string, error) {
			w.Remove(&corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0]}})
			return nil, nil
		}
		commands["table"] = func([]string) ([]string, error) { return table(w), nil }
		return commands
	})
}

// service name [headless=true] [external=name] [selector=app] [port=name:80:target]... [publish=true] [affinity=true]
func service(w *controllertest.World, args []string) error {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0], Labels: map[string]string{"team": "blue"}},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeClusterIP, ClusterIP: "10.43.0.10"},
	}
	if have := w.Get(svc); have != nil {
		svc.ObjectMeta = have.(*corev1.Service).ObjectMeta
	}
	for _, arg := range args[1:] {
		k, v, _ := strings.Cut(arg, "=")
		switch k {
		case "selector":
			svc.Spec.Selector = map[string]string{"app": v}
		case "headless":
			svc.Spec.ClusterIP = corev1.ClusterIPNone
		case "external":
			svc.Spec.Type, svc.Spec.ExternalName, svc.Spec.ClusterIP = corev1.ServiceTypeExternalName, v, ""
		case "publish":
			svc.Spec.PublishNotReadyAddresses = true
		case "affinity":
			svc.Spec.SessionAffinity = corev1.ServiceAffinityClientIP
		case "port":
			part := strings.Split(v, ":")
			number, err := strconv.ParseInt(part[1], 10, 32)
			if err != nil {
				return err
			}
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: part[0], Port: int32(number), TargetPort: intstr.Parse(part[2]), Protocol: corev1.ProtocolTCP})
		}
	}
	w.Put(svc)
	return nil
}

// pod name app node ip [port=name:number] [ready=false] [hostname=name.subdomain]
func pod(w *controllertest.World, args []string) error {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0], UID: types.UID("uid-" + args[0]), Labels: map[string]string{"app": args[1]}},
		Spec:       corev1.PodSpec{NodeName: args[2], Containers: []corev1.Container{{Name: "main"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodRunning, PodIP: args[3]},
	}
	ready := corev1.ConditionTrue
	for _, arg := range args[4:] {
		k, v, _ := strings.Cut(arg, "=")
		switch k {
		case "hostname":
			p.Spec.Hostname, p.Spec.Subdomain, _ = strings.Cut(v, ".")
		case "ready":
			ready = corev1.ConditionFalse
		case "port":
			name, number, _ := strings.Cut(v, ":")
			n, err := strconv.ParseInt(number, 10, 32)
			if err != nil {
				return err
			}
			p.Spec.Containers[0].Ports = append(p.Spec.Containers[0].Ports, corev1.ContainerPort{Name: name, ContainerPort: int32(n), Protocol: corev1.ProtocolTCP})
		}
	}
	controller.SetPodCondition(&p.Status, corev1.PodCondition{Type: corev1.PodReady, Status: ready}, w.Now)
	w.Put(p)
	return nil
}

func node(w *controllertest.World, args []string) error {
	w.Put(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: args[0], Labels: map[string]string{corev1.LabelTopologyZone: args[1]}, Annotations: map[string]string{"skerry.dev/address": args[2]}},
		Spec:       corev1.NodeSpec{PodCIDR: args[3]},
	})
	return nil
}

// byHand is Endpoints that somebody keeps: name [!]ip... [skip]; "!" before one that is not ready.
func byHand(w *controllertest.World, args []string) error {
	e := &corev1.Endpoints{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: args[0], UID: types.UID("uid-" + args[0])}} //nolint:staticcheck // still what some write
	subset := corev1.EndpointSubset{Ports: []corev1.EndpointPort{{Port: 8000, Protocol: corev1.ProtocolTCP}}}                    //nolint:staticcheck // see above
	for _, arg := range args[1:] {
		ip, notReady := strings.CutPrefix(arg, "!")
		switch {
		case arg == "skip":
			e.Labels = map[string]string{discoveryv1.LabelSkipMirror: "true"}
		case notReady:
			subset.NotReadyAddresses = append(subset.NotReadyAddresses, corev1.EndpointAddress{IP: ip})
		default:
			subset.Addresses = append(subset.Addresses, corev1.EndpointAddress{IP: ip})
		}
	}
	e.Subsets = append(e.Subsets, subset)
	w.Put(e)
	return nil
}

// slice is one that somebody else keeps: name service ip port
func slice(w *controllertest.World, args []string) error {
	n, err := strconv.ParseInt(args[3], 10, 32)
	if err != nil {
		return err
	}
	number, name := int32(n), ""
	w.Put(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: args[0], Labels: map[string]string{discoveryv1.LabelServiceName: args[1]}},
		AddressType: discoveryv1.AddressTypeIPv4, Ports: []discoveryv1.EndpointPort{{Name: &name, Port: &number}}, Endpoints: []discoveryv1.Endpoint{{Addresses: []string{args[2]}}},
	})
	return nil
}

func table(w *controllertest.World) []string {
	t := endpoints.Table(w.Snapshot())
	var lines []string
	for _, s := range t.Services {
		lines = append(lines, fmt.Sprintf("%s/%s %s %s:%d affinity=%v -> %s", s.Namespace, s.Name, s.Protocol, s.ClusterIP, s.Port, s.Affinity, strings.Join(s.Endpoints, " ")))
	}
	for _, n := range t.Names {
		line := fmt.Sprintf("%s/%s %s->", n.Namespace, n.Name, n.External)
		for _, h := range n.Hosts {
			line += fmt.Sprintf(" %s(%s)%v", h.IP, h.Name, h.Ports)
		}
		lines = append(lines, line)
	}
	for _, n := range t.Nodes {
		lines = append(lines, fmt.Sprintf("node %s at %s has %s", n.Node, n.Address, n.PodCIDR))
	}
	return lines
}

// TestManyEndpoints: slices hold a hundred; one pod's end touches one slice, and what is left empty goes.
func TestManyEndpoints(t *testing.T) {
	w := controllertest.New()
	if err := service(w, []string{"web", "selector=web", "port=:80:8080"}); err != nil {
		t.Fatal(err)
	}
	for i := range 250 {
		if err := pod(w, []string{fmt.Sprintf("p%03d", i), "web", "n1", fmt.Sprintf("10.42.%d.%d", i/200, i%200)}); err != nil {
			t.Fatal(err)
		}
	}
	settle(t, w)
	if got := sizes(w); !slices.Equal(got, []int{50, 100, 100}) {
		t.Fatalf("slices of %v, want 50, 100 and 100", got)
	}
	w.Remove(w.Pod("p007"))
	changes, _ := endpoints.Plan(w.Snapshot(), w.Now)
	if len(changes) != 2 { // one slice and the legacy object
		t.Errorf("%d writes for one pod's end, want 2", len(changes))
	}
	w.Perform(changes)
	for i := range 249 {
		if p := w.Pod(fmt.Sprintf("p%03d", i)); p != nil {
			w.Remove(p)
		}
	}
	settle(t, w)
	if got := sizes(w); !slices.Equal(got, []int{1}) {
		t.Errorf("slices of %v after all but one pod ended, want one of 1", got)
	}
}

func settle(t *testing.T, w *controllertest.World) {
	t.Helper()
	if _, _, err := w.Rounds([]controller.Plan{endpoints.Plan}, 3); err != nil {
		t.Fatal(err)
	}
}

func sizes(w *controllertest.World) []int {
	var sizes []int
	for _, s := range w.Snapshot().EndpointSlices {
		sizes = append(sizes, len(s.Endpoints))
	}
	slices.Sort(sizes)
	return sizes
}
