package table

import (
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/api"
)

// layouts is the table of all kinds with columns of their own.
var layouts = map[schema.GroupKind]Layout{
	{Kind: "Pod"}:                                           podLayout,
	{Kind: "Node"}:                                          nodeLayout,
	{Kind: "Namespace"}:                                     namespaceLayout,
	{Kind: "ConfigMap"}:                                     configMapLayout,
	{Kind: "Secret"}:                                        secretLayout,
	{Kind: "Event"}:                                         eventLayout,
	{Kind: "Service"}:                                       serviceLayout,
	{Kind: "Endpoints"}:                                     endpointsLayout,
	{Kind: "ResourceQuota"}:                                 resourceQuotaLayout,
	{Kind: "PodTemplate"}:                                   podTemplateLayout,
	{Kind: "LimitRange"}:                                    dated,
	{Kind: "ReplicationController"}:                         replicationControllerLayout,
	{Kind: "PersistentVolume"}:                              volumeLayout,
	{Kind: "PersistentVolumeClaim"}:                         claimLayout,
	{Group: "storage.k8s.io", Kind: "StorageClass"}:         storageClassLayout,
	{Group: "apps", Kind: "Deployment"}:                     deploymentLayout,
	{Group: "apps", Kind: "ReplicaSet"}:                     replicaSetLayout,
	{Group: "apps", Kind: "StatefulSet"}:                    statefulSetLayout,
	{Group: "apps", Kind: "DaemonSet"}:                      daemonSetLayout,
	{Group: "apps", Kind: "ControllerRevision"}:             controllerRevisionLayout,
	{Group: "autoscaling", Kind: "HorizontalPodAutoscaler"}: autoscalerLayout,
	{Group: "batch", Kind: "CronJob"}:                       cronJobLayout,
	{Group: "batch", Kind: "Job"}:                           jobLayout,
	{Group: "coordination.k8s.io", Kind: "Lease"}:           leaseLayout,
	{Group: "scheduling.k8s.io", Kind: "PriorityClass"}:     priorityClassLayout,
	{Group: "policy", Kind: "PodDisruptionBudget"}:          budgetLayout,
	{Group: "discovery.k8s.io", Kind: "EndpointSlice"}:      endpointSliceLayout,
	{Group: "node.k8s.io", Kind: "RuntimeClass"}:            runtimeClassLayout,
	{Group: networking, Kind: "Ingress"}:                    ingressLayout,
	{Group: networking, Kind: "IngressClass"}:               ingressClassLayout,
	{Group: networking, Kind: "NetworkPolicy"}:              networkPolicyLayout,
	{Group: rbac, Kind: "Role"}:                             dated,
	{Group: rbac, Kind: "ClusterRole"}:                      dated,
	{Group: rbac, Kind: "RoleBinding"}:                      roleBindingLayout,
	{Group: rbac, Kind: "ClusterRoleBinding"}:               clusterRoleBindingLayout,
	{Group: api.Group, Kind: "NodeInventory"}:               nodeInventoryLayout,
	{Group: api.Group, Kind: "MovePlan"}:                    movePlanLayout,
	{Group: api.Group, Kind: "EnrolmentToken"}:              enrolmentTokenLayout,
	{Group: api.Group, Kind: "NodeCredential"}:              nodeCredentialLayout,
}
