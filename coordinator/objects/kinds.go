package objects

import (
	appsv1 "k8s.io/api/apps/v1"
	autoscalingv2 "k8s.io/api/autoscaling/v2"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	nodev1 "k8s.io/api/node/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
	"skerry.dev/skerry/coordinator/resource"
)

// The kinds that this package treats by name.
var (
	namespaces   = resource.ForObject((*corev1.Namespace)(nil))
	nodes        = resource.ForObject((*corev1.Node)(nil))
	pods         = resource.ForObject((*corev1.Pod)(nil))
	services     = resource.ForObject((*corev1.Service)(nil))
	deployments  = resource.ForObject((*appsv1.Deployment)(nil))
	replicaSets  = resource.ForObject((*appsv1.ReplicaSet)(nil))
	daemonSets   = resource.ForObject((*appsv1.DaemonSet)(nil))
	statefulSets = resource.ForObject((*appsv1.StatefulSet)(nil))
	jobs         = resource.ForObject((*batchv1.Job)(nil))
	budgets      = resource.ForObject((*policyv1.PodDisruptionBudget)(nil))
	cronJobs     = resource.ForObject((*batchv1.CronJob)(nil))
	autoscalers  = resource.ForObject((*autoscalingv2.HorizontalPodAutoscaler)(nil))

	volumes        = resource.ForObject((*corev1.PersistentVolume)(nil))
	claims         = resource.ForObject((*corev1.PersistentVolumeClaim)(nil))
	storageClasses = resource.ForObject((*storagev1.StorageClass)(nil))

	runtimeClasses = resource.ForObject((*nodev1.RuntimeClass)(nil))

	ingresses       = resource.ForObject((*networkingv1.Ingress)(nil))
	ingressClasses  = resource.ForObject((*networkingv1.IngressClass)(nil))
	networkPolicies = resource.ForObject((*networkingv1.NetworkPolicy)(nil))

	roles               = resource.ForObject((*rbacv1.Role)(nil))
	roleBindings        = resource.ForObject((*rbacv1.RoleBinding)(nil))
	clusterRoles        = resource.ForObject((*rbacv1.ClusterRole)(nil))
	clusterRoleBindings = resource.ForObject((*rbacv1.ClusterRoleBinding)(nil))
)

// allStrategies binds strategies to kinds. A kind without an entry follows the default rules.
func (s *Store) allStrategies() map[*resource.Resource]*strategy {
	core := func(kind string) *resource.Resource {
		return resource.ForKind(corev1.SchemeGroupVersion.WithKind(kind))
	}
	fleet := func(kind string) *resource.Resource {
		return resource.ForKind(api.SchemeGroupVersion.WithKind(kind))
	}
	return map[*resource.Resource]*strategy{
		namespaces:                    namespaceStrategy(),
		nodes:                         s.nodeStrategy(),
		pods:                          s.podStrategy(),
		services:                      s.serviceStrategy(),
		deployments:                   deploymentStrategy(),
		replicaSets:                   replicaSetStrategy(),
		daemonSets:                    daemonSetStrategy(),
		core("ReplicationController"): replicationControllerStrategy(),
		core("PodTemplate"):           podTemplateStrategy(),
		statefulSets:                  statefulSetStrategy(),
		jobs:                          jobStrategy(),
		cronJobs:                      cronJobStrategy(),
		autoscalers:                   autoscalerStrategy(),
		resourceQuotas:                resourceQuotaStrategy(),
		limitRanges:                   {createOnUpdate: true},
		budgets:                       budgetStrategy(),
		core("Endpoints"):             {createOnUpdate: true},
		core("Event"):                 {createOnUpdate: true},
		core("Secret"):                {create: one(foldStringData), update: two(updateSecret)},
		core("ServiceAccount"):        {},
		resource.ForObject((*discoveryv1.EndpointSlice)(nil)):                                                 endpointSliceStrategy(),
		resource.ForKind(schema.GroupVersionKind{Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"}): {createOnUpdate: true, needVersion: true},
		priorityClasses:         s.priorityClassStrategy(),
		volumes:                 s.volumeStrategy(),
		claims:                  s.claimStrategy(),
		storageClasses:          storageClassStrategy(),
		ingresses:               s.ingressStrategy(),
		ingressClasses:          ingressClassStrategy(),
		networkPolicies:         networkPolicyStrategy(),
		roles:                   {createOnUpdate: true},
		roleBindings:            {createOnUpdate: true},
		clusterRoles:            {createOnUpdate: true},
		clusterRoleBindings:     {createOnUpdate: true},
		fleet("EnrolmentToken"): tokenStrategy(),
		fleet("NodeCredential"): credentialStrategy(),
		fleet("MovePlan"):       moveStrategy(),
	}
}

// foldStringData makes data of what people write as text; the text wins, as upstream's conversion has it.
func foldStringData(s *corev1.Secret) {
	if len(s.StringData) > 0 && s.Data == nil {
		s.Data = make(map[string][]byte, len(s.StringData))
	}
	for key, text := range s.StringData {
		s.Data[key] = []byte(text)
	}
	s.StringData = nil
}

func updateSecret(secret, old *corev1.Secret) {
	foldStringData(secret)
	if secret.Type == "" {
		secret.Type = old.Type
	}
}

func endpointSliceStrategy() *strategy {
	return &strategy{
		create: one(func(e *discoveryv1.EndpointSlice) { e.Generation = 1 }),
		update: two(func(e, old *discoveryv1.EndpointSlice) {
			if e.AddressType != old.AddressType || !equality.Semantic.DeepEqual(e.Endpoints, old.Endpoints) ||
				!equality.Semantic.DeepEqual(e.Ports, old.Ports) || !equality.Semantic.DeepEqual(e.Labels, old.Labels) {
				e.Generation = old.Generation + 1
			}
		}),
	}
}
