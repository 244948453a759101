// Package clients holds programs as people write them against Kubernetes: client-go's shared informers and a manager of
// controller-runtime. The end-to-end tests run it against their cluster; KUBECONFIG says which, and COORDINATOR is the
// id of the process that one of the tests kills.
package clients

import (
	"context"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	metav1ac "k8s.io/client-go/applyconfigurations/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

const patience = 90 * time.Second

func connect(t *testing.T) (*rest.Config, *kubernetes.Clientset) {
	t.Helper()
	path := os.Getenv("KUBECONFIG")
	if path == "" {
		t.Skip("no KUBECONFIG: `go test ./tests/e2e -run TestClients` brings a cluster")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		t.Fatal(err)
	}
	set, err := kubernetes.NewForConfig(config)
	if err != nil {
		t.Fatal(err)
	}
	return config, set
}

// space makes a namespace that goes with the test.
func space(t *testing.T, set *kubernetes.Clientset, name string) string {
	t.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}}
	made, err := set.CoreV1().Namespaces().Create(t.Context(), namespace, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := set.CoreV1().Namespaces().Delete(context.Background(), made.Name, metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	})
	return made.Name
}

func until(t *testing.T, what string, ok func(ctx context.Context) bool) {
	t.Helper()
	err := wait.PollUntilContextTimeout(t.Context(), 50*time.Millisecond, patience, true, func(ctx context.Context) (bool, error) { return ok(ctx), nil })
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

func configMap(name string) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"clients": "yes"}}, Data: map[string]string{"colour": "green"}}
}

// TestInformer: the cache follows, resyncs, and goes on behind the death of the coordinator.
func TestInformer(t *testing.T) {
	_, set := connect(t)
	namespace := space(t, set, "informer")
	factory := informers.NewSharedInformerFactoryWithOptions(set, time.Second, informers.WithNamespace(namespace))
	informer := factory.Core().V1().ConfigMaps()
	var resyncs atomic.Int64
	_, err := informer.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{UpdateFunc: func(before, after any) {
		b, okB := before.(*corev1.ConfigMap)
		a, okA := after.(*corev1.ConfigMap)
		if okA && okB && a.ResourceVersion == b.ResourceVersion {
			resyncs.Add(1)
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(t.Context().Done())
	factory.WaitForCacheSync(t.Context().Done())
	has := func(name string) func(context.Context) bool {
		return func(context.Context) bool {
			_, err := informer.Lister().ConfigMaps(namespace).Get(name)
			return err == nil
		}
	}
	maps := set.CoreV1().ConfigMaps(namespace)
	if _, err := maps.Create(t.Context(), configMap("before"), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the first is in the cache", has("before"))
	until(t, "a resync", func(context.Context) bool { return resyncs.Load() > 0 })
	killCoordinator(t)
	until(t, "the API takes a write again", func(ctx context.Context) bool {
		_, err := maps.Create(ctx, configMap("after"), metav1.CreateOptions{})
		return err == nil || apierrors.IsAlreadyExists(err)
	})
	until(t, "the second is in the cache", has("after"))
	if err := maps.Delete(t.Context(), "before", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the first is gone from the cache", func(ctx context.Context) bool { return !has("before")(ctx) })
}

func killCoordinator(t *testing.T) {
	t.Helper()
	pid, err := strconv.Atoi(os.Getenv("COORDINATOR"))
	if err != nil || pid <= 1 {
		t.Fatalf("COORDINATOR=%q is no process id", os.Getenv("COORDINATOR"))
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// keeper keeps a Secret beside each ConfigMap that is labelled, with the same colour.
type keeper struct{ client.Client }

func (k keeper) Reconcile(ctx context.Context, req ctrl.Request) (ctrl.Result, error) {
	var owner corev1.ConfigMap
	if err := k.Get(ctx, req.NamespacedName, &owner); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if owner.DeletionTimestamp != nil {
		return ctrl.Result{}, nil
	}
	reference := metav1ac.OwnerReference().WithAPIVersion("v1").WithKind("ConfigMap").WithName(owner.Name).WithUID(owner.UID).WithController(true)
	secret := corev1ac.Secret(owner.Name, owner.Namespace).WithOwnerReferences(reference).WithStringData(map[string]string{"colour": owner.Data["colour"]})
	return ctrl.Result{}, k.Apply(ctx, secret, client.FieldOwner("clients"), client.ForceOwnership)
}

// TestManager: leader election, Owns, and server-side apply of controller-runtime.
func TestManager(t *testing.T) {
	config, set := connect(t)
	namespace := space(t, set, "manager")
	m, err := ctrl.NewManager(config, manager.Options{
		LeaderElection: true, LeaderElectionID: "clients", LeaderElectionNamespace: namespace, Metrics: server.Options{BindAddress: "0"},
	})
	if err != nil {
		t.Fatal(err)
	}
	labelled := predicate.NewPredicateFuncs(func(o client.Object) bool { return o.GetLabels()["clients"] == "yes" && o.GetNamespace() == namespace })
	if err := ctrl.NewControllerManagedBy(m).For(&corev1.ConfigMap{}, builder.WithPredicates(labelled)).Owns(&corev1.Secret{}).Complete(keeper{m.GetClient()}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1) // one word
	go func() { ended <- m.Start(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	follow(t, set, namespace)
}

func follow(t *testing.T, set *kubernetes.Clientset, namespace string) {
	maps, secrets := set.CoreV1().ConfigMaps(namespace), set.CoreV1().Secrets(namespace)
	owner, err := maps.Create(t.Context(), configMap("owner"), metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	colour := func(ctx context.Context) string {
		s, err := secrets.Get(ctx, "owner", metav1.GetOptions{})
		if err != nil {
			return ""
		}
		return string(s.Data["colour"])
	}
	until(t, "the secret is applied", func(ctx context.Context) bool { return colour(ctx) == "green" })
	if lease, err := set.CoordinationV1().Leases(namespace).Get(t.Context(), "clients", metav1.GetOptions{}); err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		t.Errorf("the manager works without a lease: %v, %v", lease, err)
	}
	s, err := secrets.Get(t.Context(), "owner", metav1.GetOptions{})
	if err != nil || len(s.ManagedFields) != 1 || s.ManagedFields[0].Manager != "clients" || s.ManagedFields[0].Operation != metav1.ManagedFieldsOperationApply {
		t.Errorf("managed fields %v: %v", s.ManagedFields, err)
	}
	owner.Data["colour"] = "red"
	if _, err := maps.Update(t.Context(), owner, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the secret follows", func(ctx context.Context) bool { return colour(ctx) == "red" })
	if err := secrets.Delete(t.Context(), "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the secret is made again", func(ctx context.Context) bool { return colour(ctx) == "red" })
	if err := maps.Delete(t.Context(), "owner", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "the secret goes with its owner", func(ctx context.Context) bool {
		_, err := secrets.Get(ctx, "owner", metav1.GetOptions{})
		return apierrors.IsNotFound(err)
	})
}
