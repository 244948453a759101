package resource

import (
	"cmp"
	"reflect"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	autoscalingv1 "k8s.io/api/autoscaling/v1"
	batchv1 "k8s.io/api/batch/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
)

// served is the one table. Everything else in this package is derived from it.
var served = index(core(), storage(), apps(), autoscalers(), batch(), discovery(), networking(), runtimes(), coordination(), scheduling(), policy(), events(), rbac(), fleet())

type table struct {
	all     []*Resource
	byPath  map[schema.GroupVersionResource]*Resource
	byKind  map[schema.GroupVersionKind]*Resource
	byType  map[reflect.Type]*Resource
	byStore map[string]*Resource
}

func core() []*Resource {
	v1 := corev1.SchemeGroupVersion
	pod := v1.WithKind("Pod")
	return []*Resource{
		kind[corev1.Namespace, corev1.NamespaceList](v1.WithKind("Namespace"), "namespaces", Resource{
			ShortNames: []string{"ns"}, Verbs: without(everything, "deletecollection"),
			Subresources: []Subresource{{"finalize", v1.WithKind("Namespace"), []string{"update"}}, status(v1.WithKind("Namespace"))},
		}),
		kind[corev1.Node, corev1.NodeList](v1.WithKind("Node"), "nodes", Resource{
			ShortNames: []string{"no"}, Subresources: []Subresource{{"proxy", v1.WithKind("NodeProxyOptions"), []string{"get"}}, status(v1.WithKind("Node"))},
		}),
		kind[corev1.Pod, corev1.PodList](pod, "pods", Resource{
			ShortNames: []string{"po"}, Categories: []string{"all"}, Namespaced: true, Subresources: podSubresources(pod),
		}),
		kind[corev1.PodTemplate, corev1.PodTemplateList](v1.WithKind("PodTemplate"), "podtemplates", Resource{Namespaced: true}),
		kind[corev1.LimitRange, corev1.LimitRangeList](v1.WithKind("LimitRange"), "limitranges", Resource{ShortNames: []string{"limits"}, Namespaced: true}),
		kind[corev1.ResourceQuota, corev1.ResourceQuotaList](v1.WithKind("ResourceQuota"), "resourcequotas", Resource{
			ShortNames: []string{"quota"}, Namespaced: true, Subresources: []Subresource{status(v1.WithKind("ResourceQuota"))},
		}),
		kind[corev1.ReplicationController, corev1.ReplicationControllerList](v1.WithKind("ReplicationController"), "replicationcontrollers", Resource{
			ShortNames: []string{"rc"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{scale(), status(v1.WithKind("ReplicationController"))},
		}),
		kind[corev1.Service, corev1.ServiceList](v1.WithKind("Service"), "services", Resource{
			ShortNames: []string{"svc"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{
				{"proxy", v1.WithKind("ServiceProxyOptions"), []string{"create", "delete", "get", "patch", "update"}}, status(v1.WithKind("Service")),
			},
		}),
		kind[corev1.Endpoints, corev1.EndpointsList](v1.WithKind("Endpoints"), "endpoints", Resource{ //nolint:staticcheck // deprecated upstream, still what older clients read
			Singular: "endpoints", ShortNames: []string{"ep"}, Namespaced: true,
		}),
		kind[corev1.ConfigMap, corev1.ConfigMapList](v1.WithKind("ConfigMap"), "configmaps", Resource{ShortNames: []string{"cm"}, Namespaced: true}),
		kind[corev1.Secret, corev1.SecretList](v1.WithKind("Secret"), "secrets", Resource{Namespaced: true}),
		kind[corev1.ServiceAccount, corev1.ServiceAccountList](v1.WithKind("ServiceAccount"), "serviceaccounts", Resource{
			ShortNames: []string{"sa"}, Namespaced: true,
			Subresources: []Subresource{{"token", authenticationv1.SchemeGroupVersion.WithKind("TokenRequest"), []string{"create"}}},
		}),
		kind[corev1.Event, corev1.EventList](v1.WithKind("Event"), "events", Resource{ShortNames: []string{"ev"}, Namespaced: true}),
	}
}

func podSubresources(pod schema.GroupVersionKind) []Subresource {
	v1 := pod.GroupVersion()
	connect := []string{"create", "get"}
	return []Subresource{
		{"attach", v1.WithKind("PodAttachOptions"), connect},
		{"binding", v1.WithKind("Binding"), []string{"create"}},
		{Ephemeral, pod, []string{"get", "patch", "update"}},
		{"eviction", policyv1.SchemeGroupVersion.WithKind("Eviction"), []string{"create"}},
		{"exec", v1.WithKind("PodExecOptions"), connect},
		{"log", pod, []string{"get"}},
		{"portforward", v1.WithKind("PodPortForwardOptions"), connect},
		{"proxy", v1.WithKind("PodProxyOptions"), []string{"create", "delete", "get", "patch", "update"}},
		status(pod),
	}
}

func apps() []*Resource {
	v1 := appsv1.SchemeGroupVersion
	deployment, set := v1.WithKind("Deployment"), v1.WithKind("ReplicaSet")
	daemon, stateful := v1.WithKind("DaemonSet"), v1.WithKind("StatefulSet")
	return []*Resource{
		kind[appsv1.Deployment, appsv1.DeploymentList](deployment, "deployments", Resource{
			ShortNames: []string{"deploy"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{scale(), status(deployment)},
		}),
		kind[appsv1.ReplicaSet, appsv1.ReplicaSetList](set, "replicasets", Resource{
			ShortNames: []string{"rs"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{scale(), status(set)},
		}),
		kind[appsv1.DaemonSet, appsv1.DaemonSetList](daemon, "daemonsets", Resource{
			ShortNames: []string{"ds"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{status(daemon)},
		}),
		kind[appsv1.StatefulSet, appsv1.StatefulSetList](stateful, "statefulsets", Resource{
			ShortNames: []string{"sts"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{scale(), status(stateful)},
		}),
		kind[appsv1.ControllerRevision, appsv1.ControllerRevisionList](v1.WithKind("ControllerRevision"), "controllerrevisions", Resource{Namespaced: true}),
	}
}

func batch() []*Resource {
	v1 := batchv1.SchemeGroupVersion
	job, cron := v1.WithKind("Job"), v1.WithKind("CronJob")
	return []*Resource{
		kind[batchv1.Job, batchv1.JobList](job, "jobs", Resource{
			Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{status(job)},
		}),
		kind[batchv1.CronJob, batchv1.CronJobList](cron, "cronjobs", Resource{
			ShortNames: []string{"cj"}, Categories: []string{"all"}, Namespaced: true, Subresources: []Subresource{status(cron)},
		}),
	}
}

func discovery() []*Resource {
	return []*Resource{kind[discoveryv1.EndpointSlice, discoveryv1.EndpointSliceList](
		discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), "endpointslices", Resource{Namespaced: true})}
}

func coordination() []*Resource {
	return []*Resource{kind[coordinationv1.Lease, coordinationv1.LeaseList](
		coordinationv1.SchemeGroupVersion.WithKind("Lease"), "leases", Resource{Namespaced: true})}
}

// events serves events.k8s.io/v1 as another view of the core Events.
func events() []*Resource {
	return []*Resource{kind[eventsv1.Event, eventsv1.EventList](eventsv1.SchemeGroupVersion.WithKind("Event"), "events", Resource{
		ShortNames: []string{"ev"}, Namespaced: true, ToStored: eventToCore, FromStored: eventFromCore,
		Stored: &Resource{GVK: corev1.SchemeGroupVersion.WithKind("Event"), Plural: "events"},
	})}
}

func fleet() []*Resource {
	gv := api.SchemeGroupVersion
	move := gv.WithKind("MovePlan")
	token := gv.WithKind("EnrolmentToken")
	return []*Resource{
		kind[api.NodeInventory, api.NodeInventoryList](gv.WithKind("NodeInventory"), "nodeinventories", Resource{ShortNames: []string{"inv"}}),
		kind[api.EnrolmentToken, api.EnrolmentTokenList](token, "enrolmenttokens", Resource{Subresources: []Subresource{status(token)}}),
		kind[api.NodeCredential, api.NodeCredentialList](gv.WithKind("NodeCredential"), "nodecredentials", Resource{}),
		kind[api.MovePlan, api.MovePlanList](move, "moveplans", Resource{ShortNames: []string{"move"}, Subresources: []Subresource{status(move)}}),
	}
}

var everything = []string{"create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"}

func without(verbs []string, verb string) []string {
	return slices.DeleteFunc(slices.Clone(verbs), func(v string) bool { return v == verb })
}

func status(of schema.GroupVersionKind) Subresource {
	return Subresource{Status, of, []string{"get", "patch", "update"}}
}

func scale() Subresource {
	return Subresource{Scale, autoscalingv1.SchemeGroupVersion.WithKind("Scale"), []string{"get", "patch", "update"}}
}

type object[T any] interface {
	*T
	runtime.Object
}

// kind completes an entry: types, and what follows from the kind's name unless given.
func kind[T, L any, PT object[T], PL object[L]](gvk schema.GroupVersionKind, plural string, r Resource) *Resource {
	r.GVK, r.Plural = gvk, plural
	r.Singular = cmp.Or(r.Singular, lower(gvk.Kind))
	if r.Verbs == nil {
		r.Verbs = everything
	}
	r.New = func() runtime.Object { return PT(new(T)) }
	r.NewList = func() runtime.Object { return PL(new(L)) }
	r.itemType, r.listType = reflect.TypeFor[PT](), reflect.TypeFor[PL]()
	return &r
}

func index(groups ...[]*Resource) table {
	t := table{
		byPath: map[schema.GroupVersionResource]*Resource{}, byKind: map[schema.GroupVersionKind]*Resource{},
		byType: map[reflect.Type]*Resource{}, byStore: map[string]*Resource{},
	}
	for _, r := range slices.Concat(groups...) {
		if r.Stored != nil { // named by kind in its entry; the real one is in an earlier group
			r.Stored = t.byKind[r.Stored.GVK]
		} else {
			t.byStore[r.StoreKind()] = r
		}
		t.all = append(t.all, r)
		t.byPath[r.GVR()], t.byKind[r.GVK], t.byType[r.itemType] = r, r, r
	}
	slices.SortStableFunc(t.all, func(a, b *Resource) int {
		return cmp.Or(cmp.Compare(a.GVK.Group, b.GVK.Group), cmp.Compare(a.Plural, b.Plural))
	})
	return t
}
