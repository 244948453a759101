package objects_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
)

func TestClusterIP(t *testing.T) {
	e := newEnv(t)
	if api := get(t, e, &corev1.Service{}, "default", "kubernetes"); api.Spec.ClusterIP != "10.43.0.1" {
		t.Errorf("kubernetes service at %s", api.Spec.ClusterIP)
	}
	svc := create(t, e, clusterService("a", ""))
	ip, err := netip.ParseAddr(svc.Spec.ClusterIP)
	if err != nil || !netip.MustParsePrefix("10.43.0.0/16").Contains(ip) || svc.Spec.ClusterIPs[0] != svc.Spec.ClusterIP {
		t.Fatalf("addresses %v", svc.Spec)
	}
	if svc.Spec.IPFamilies[0] != corev1.IPv4Protocol || *svc.Spec.IPFamilyPolicy != corev1.IPFamilyPolicySingleStack || *svc.Spec.InternalTrafficPolicy != corev1.ServiceInternalTrafficPolicyCluster {
		t.Errorf("spec %+v", svc.Spec)
	}
	put := clusterService("a", "") // a client that does not know its address
	put.Spec.Ports[0].Port = 81
	if out := update(t, e, put); out.Spec.ClusterIP != svc.Spec.ClusterIP || out.Spec.Ports[0].Port != 81 {
		t.Errorf("after update: %+v", out.Spec)
	}
	_, err = e.Create(t.Context(), clusterService("b", svc.Spec.ClusterIP), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "failed to allocate IP "+svc.Spec.ClusterIP+": provided IP is already allocated")
	_, err = e.Create(t.Context(), clusterService("b", "10.9.9.9"), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "failed to allocate IP 10.9.9.9: the provided network does not match the current range")
	remove(t, e, svc, "a", metav1.DeleteOptions{})
	if out := create(t, e, clusterService("b", svc.Spec.ClusterIP)); out.Spec.ClusterIP != svc.Spec.ClusterIP {
		t.Errorf("a freed address was not given: %s", out.Spec.ClusterIP)
	}
}

func TestServiceTypes(t *testing.T) {
	e := newEnv(t)
	headless := create(t, e, clusterService("headless", "None"))
	if headless.Spec.ClusterIP != "None" || headless.Spec.ClusterIPs[0] != "None" || len(headless.Spec.IPFamilies) != 1 {
		t.Errorf("headless: %+v", headless.Spec)
	}
	svc := create(t, e, clusterService("a", ""))
	freed := svc.Spec.ClusterIP
	svc.Spec.Type, svc.Spec.ExternalName = corev1.ServiceTypeExternalName, "example.com"
	svc = update(t, e, svc)
	if svc.Spec.ClusterIP != "" || svc.Spec.ClusterIPs != nil || svc.Spec.IPFamilies != nil || svc.Spec.IPFamilyPolicy != nil {
		t.Errorf("as external name: %+v", svc.Spec)
	}
	create(t, e, clusterService("b", freed))
	svc.Spec.Type, svc.Spec.ExternalName = corev1.ServiceTypeClusterIP, ""
	if svc = update(t, e, svc); svc.Spec.ClusterIP == "" || svc.Spec.ClusterIP == freed {
		t.Errorf("back again: %+v", svc.Spec)
	}
	six := clusterService("six", "")
	six.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	_, err := e.Create(t.Context(), six, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, `spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster`)
}

// Many services at once, in a network that they fill: no address twice, none wasted, and a clear error after that.
func TestClusterIPsUnderConcurrency(t *testing.T) {
	e := newEnvWith(t, objects.Options{ServiceCIDR: netip.MustParsePrefix("10.43.0.0/26")})
	const free = 62 - 1 // all but the first and last address, and the kubernetes Service
	var all sync.WaitGroup
	errs := make(chan error, free+5)
	for n := range free + 5 {
		all.Go(func() {
			_, err := e.Create(t.Context(), clusterService(fmt.Sprintf("s%d", n), ""), objects.WriteOptions{})
			errs <- err
		})
	}
	all.Wait()
	close(errs)
	refused := 0
	for err := range errs {
		if err != nil {
			wantStatus(t, err, metav1.StatusReasonInvalid, "failed to allocate a serviceIP: range 10.43.0.0/26 is full")
			refused++
		}
	}
	if refused != 5 {
		t.Errorf("%d refused, want 5", refused)
	}
	items, _ := e.view.List(servicesOf(t), "")
	owners := map[string]string{}
	for _, i := range items {
		svc := must(t, &corev1.Service{})(i.Object, nil)
		if other := owners[svc.Spec.ClusterIP]; other != "" {
			t.Errorf("%s belongs to %s and %s", svc.Spec.ClusterIP, other, svc.Name)
		}
		owners[svc.Spec.ClusterIP] = svc.Name
	}
}

// One name, many creators: one wins, and the addresses of the others are free again.
func TestLosersGiveAddressesBack(t *testing.T) {
	e := newEnvWith(t, objects.Options{ServiceCIDR: netip.MustParsePrefix("10.43.0.0/28")})
	const free = 14 - 1
	for range 3 {
		var all sync.WaitGroup
		for range free {
			all.Go(func() {
				_, err := e.Create(t.Context(), clusterService("same", ""), objects.WriteOptions{})
				if err != nil && !apierrors.IsAlreadyExists(err) {
					t.Error(err)
				}
			})
		}
		all.Wait()
	}
	for n := range free - 1 {
		create(t, e, clusterService(fmt.Sprintf("s%d", n), ""))
	}
}

func node(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }

func TestPodCIDR(t *testing.T) {
	e := newEnvWith(t, objects.Options{PodCIDR: netip.MustParsePrefix("10.42.0.0/22")})
	for n := range 4 {
		out := create(t, e, node(fmt.Sprintf("n%d", n)))
		if want := fmt.Sprintf("10.42.%d.0/24", n); out.Spec.PodCIDR != want || out.Spec.PodCIDRs[0] != want {
			t.Errorf("node %d has %v, want %s", n, out.Spec, want)
		}
	}
	_, err := e.Create(t.Context(), node("n4"), objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "all 4 shares of the pod network 10.42.0.0/22 are taken")

	bare := node("n1") // an agent that registers again
	bare.Labels = map[string]string{"a": "b"}
	if out := update(t, e, bare); out.Spec.PodCIDR != "10.42.1.0/24" || out.Labels["a"] != "b" {
		t.Errorf("after update: %+v", out)
	}
	moved := get(t, e, bare, "", "n1")
	moved.Spec.PodCIDR, moved.Spec.PodCIDRs = "10.42.9.0/24", []string{"10.42.9.0/24"}
	_, _, err = e.Update(t.Context(), moved, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, "podCIDR")

	if _, _, err := e.Delete(t.Context(), resource.ForObject(bare), "", "n2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	asked := node("back")
	asked.Spec.PodCIDR = "10.42.3.0/24"
	_, err = e.Create(t.Context(), asked, objects.WriteOptions{})
	wantStatus(t, err, metav1.StatusReasonInvalid, `spec.podCIDR: Invalid value: "10.42.3.0/24": is another node's`)
	asked.Spec.PodCIDR = "10.42.2.0/24"
	create(t, e, asked)
}

func TestNewRefusesNetworks(t *testing.T) {
	for _, o := range []objects.Options{
		{ServiceCIDR: netip.MustParsePrefix("fd00::/112")},
		{ServiceCIDR: netip.MustParsePrefix("10.43.0.0/30")},
		{PodCIDR: netip.MustParsePrefix("10.42.0.0/24"), NodeBits: 24},
	} {
		if _, err := objects.New(nil, nil, o); err == nil {
			t.Errorf("accepted %+v", o)
		}
	}
}
