package apiserver_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"
	"k8s.io/client-go/metadata/metadatainformer"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/retry"
)

func (c *cluster) rest(contentType string) *rest.Config {
	return &rest.Config{
		Host: c.url, BearerToken: adminToken, TLSClientConfig: rest.TLSClientConfig{CAData: c.ca.pem},
		QPS: -1, ContentConfig: rest.ContentConfig{ContentType: contentType, AcceptContentTypes: contentType + ",application/json"},
	}
}

var contentTypes = map[string]string{"json": runtime.ContentTypeJSON, "protobuf": runtime.ContentTypeProtobuf}

// recorder turns an informer's callbacks into lines.
func recorder(t *testing.T, informer cache.SharedInformer) <-chan string {
	t.Helper()
	lines := make(chan string, 100) // more than any test makes
	line := func(verb string, obj any) {
		if m, ok := obj.(metav1.Object); ok {
			lines <- verb + " " + m.GetName()
		}
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { line("add", obj) },
		UpdateFunc: func(_, obj any) { line("update", obj) },
		DeleteFunc: func(obj any) { line("delete", obj) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func wantLines(t *testing.T, lines <-chan string, want ...string) {
	t.Helper()
	for _, w := range want {
		select {
		case got := <-lines:
			if got != w {
				t.Fatalf("got %q, want %q", got, w)
			}
		case <-time.After(patience):
			t.Fatalf("waited in vain for %q", w)
		}
	}
}

func TestClientGoInformers(t *testing.T) {
	for name, contentType := range contentTypes {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			c.configMap("before", "1")
			client, err := kubernetes.NewForConfig(c.rest(contentType))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			factory := informers.NewSharedInformerFactory(client, 0)
			lines := recorder(t, factory.Core().V1().ConfigMaps().Informer())
			factory.Start(ctx.Done())
			defer factory.Shutdown()
			defer cancel()
			for kind, ok := range factory.WaitForCacheSync(ctx.Done()) {
				if !ok {
					t.Fatalf("%s not synced", kind)
				}
			}
			wantLines(t, lines, "add before")
			maps := client.CoreV1().ConfigMaps("default")
			made, err := maps.Create(ctx, &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			made.Data = map[string]string{"x": "y"}
			if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			if _, err := maps.Update(ctx, made, metav1.UpdateOptions{}); err != nil && !apierrors.IsConflict(err) {
				t.Errorf("update of an old revision: %v", err)
			}
			if err := maps.Delete(ctx, "a", metav1.DeleteOptions{PropagationPolicy: new(metav1.DeletePropagationBackground)}); err != nil {
				t.Fatal(err)
			}
			wantLines(t, lines, "add a", "update a", "delete a")
		})
	}
}

func TestClientGoErrors(t *testing.T) {
	for name, contentType := range contentTypes {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			client, err := kubernetes.NewForConfig(c.rest(contentType))
			if err != nil {
				t.Fatal(err)
			}
			maps := client.CoreV1().ConfigMaps("default")
			if _, err := maps.Get(t.Context(), "nope", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("get: %v", err)
			}
			object := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
			made, err := maps.Create(t.Context(), object, metav1.CreateOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := maps.Create(t.Context(), object, metav1.CreateOptions{}); !apierrors.IsAlreadyExists(err) {
				t.Errorf("create: %v", err)
			}
			made.Data = map[string]string{"x": "1"}
			if _, err := maps.Update(t.Context(), made, metav1.UpdateOptions{}); err != nil {
				t.Fatal(err)
			}
			made.Data["x"] = "2"
			if _, err := maps.Update(t.Context(), made, metav1.UpdateOptions{}); !apierrors.IsConflict(err) {
				t.Errorf("update: %v", err)
			}
			if _, err := client.CoreV1().Pods("default").Create(t.Context(), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}}, metav1.CreateOptions{}); !apierrors.IsInvalid(err) {
				t.Errorf("invalid pod: %v", err)
			}
			if _, err := client.StorageV1().VolumeAttachments().List(t.Context(), metav1.ListOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("kind not served: %v", err)
			}
		})
	}
}

// The subresources as controllers and drains use them, with protobuf bodies.
func TestClientGoSubresources(t *testing.T) {
	c := start(t)
	client, err := kubernetes.NewForConfig(c.rest(runtime.ContentTypeProtobuf))
	if err != nil {
		t.Fatal(err)
	}
	ctx, pods := t.Context(), client.CoreV1().Pods("default")
	spec := corev1.PodSpec{Containers: []corev1.Container{{Name: "c", Image: "i"}}}
	if _, err := pods.Create(ctx, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Spec: spec}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := pods.Bind(ctx, &corev1.Binding{ObjectMeta: metav1.ObjectMeta{Name: "p"}, Target: corev1.ObjectReference{Kind: "Node", Name: "n1"}}, metav1.CreateOptions{}); err != nil {
		t.Fatalf("bind: %v", err)
	}
	err = retry.RetryOnConflict(retry.DefaultRetry, func() error {
		p, err := pods.Get(ctx, "p", metav1.GetOptions{})
		if err != nil {
			return err
		}
		p.Status.Phase = corev1.PodRunning
		p.Labels = map[string]string{"not": "status"}
		_, err = pods.UpdateStatus(ctx, p, metav1.UpdateOptions{})
		return err
	})
	if err != nil {
		t.Fatalf("update status: %v", err)
	}
	p, err := pods.Patch(ctx, "p", types.StrategicMergePatchType, []byte(`{"status":{"message":"m"}}`), metav1.PatchOptions{}, "status")
	if err != nil || p.Status.Phase != corev1.PodRunning || p.Status.Message != "m" || p.Spec.NodeName != "n1" {
		t.Fatalf("patch status: %v, %+v", err, p)
	}
	if err := pods.EvictV1(ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: "p"}}); err != nil {
		t.Fatalf("evict: %v", err)
	}
	if p, err = pods.Get(ctx, "p", metav1.GetOptions{}); err != nil || p.DeletionTimestamp == nil {
		t.Errorf("evicted pod: %v, %+v", err, p)
	}
}

// What the garbage collector does: metadata only, in protobuf, of kinds found by discovery.
func TestClientGoMetadataInformer(t *testing.T) {
	c := start(t)
	client, err := metadata.NewForConfig(metadata.ConfigFor(c.rest(runtime.ContentTypeProtobuf)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	factory := metadatainformer.NewSharedInformerFactory(client, 0)
	informer := factory.ForResource(corev1.SchemeGroupVersion.WithResource("configmaps")).Informer()
	lines := recorder(t, informer)
	factory.Start(ctx.Done())
	defer factory.Shutdown()
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
		t.Fatal("not synced")
	}
	c.configMap("a", "1")
	c.must("DELETE", configMaps+"/a", "")
	wantLines(t, lines, "add a", "delete a")
}

func TestClientGoDiscoveryAndPager(t *testing.T) {
	c := start(t)
	d, err := discovery.NewDiscoveryClientForConfig(c.rest(runtime.ContentTypeJSON))
	if err != nil {
		t.Fatal(err)
	}
	if v, err := d.ServerVersion(); err != nil || v.Major != "1" {
		t.Errorf("version %v, %v", v, err)
	}
	_, lists, err := d.ServerGroupsAndResources()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, l := range lists {
		for _, r := range l.APIResources {
			found[l.GroupVersion+" "+r.Name] = true
		}
	}
	for _, want := range []string{"v1 pods", "v1 pods/status", "apps/v1 deployments", "apps/v1 deployments/scale", "fleet.skerry.dev/v1alpha1 nodeinventories"} {
		if !found[want] {
			t.Errorf("discovery lacks %s", want)
		}
	}
	if _, err := d.OpenAPISchema(); err != nil {
		t.Errorf("OpenAPI v2: %v", err)
	}
	if paths, err := d.OpenAPIV3().Paths(); err != nil || paths["apis/apps/v1"] == nil {
		t.Errorf("OpenAPI v3: %v, %v", paths, err)
	}
	client, err := kubernetes.NewForConfig(c.rest(runtime.ContentTypeProtobuf))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		c.configMap(fmt.Sprintf("m%d", i), "v")
	}
	n := 0
	for o := (metav1.ListOptions{Limit: 3}); ; {
		list, err := client.CoreV1().ConfigMaps("default").List(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		n += len(list.Items)
		if o.Continue = list.Continue; o.Continue == "" {
			break
		}
	}
	if n != 7 {
		t.Errorf("chunks held %d objects, want 7", n)
	}
}
