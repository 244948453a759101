package api

import "k8s.io/apimachinery/pkg/runtime/schema"

// Group and Version name the API group of Skerry's own kinds.
const (
	Group   = "fleet.skerry.dev"
	Version = "v1alpha1"
)

// SchemeGroupVersion is the group and version of the kinds in this package.
var SchemeGroupVersion = schema.GroupVersion{Group: Group, Version: Version}

// AnnotationSkippedRun on a CronJob holds which run did not start at its time and why, so that it is told once.
const AnnotationSkippedRun = "skerry.dev/skipped-run"

// LocalProvisioner is the provisioner of StorageClasses whose volumes are folders that the nodes' agents keep.
const LocalProvisioner = "skerry.dev/local"

// FinalizerLocalData on a PersistentVolume of LocalProvisioner stays until its node has said that the folder is gone.
const FinalizerLocalData = "skerry.dev/local-data"

// LocalVolumes is the folder that volumes of LocalProvisioner are in, as their spec.local.path says it. The agent has it
// below its state folder, wherever that is, and goes by the volume's name alone.
const LocalVolumes = "/var/lib/skerry/persistent"

// Annotations of upstream's about storage.
const (
	// AnnotationDefaultClass set to "true" on a StorageClass gives it to claims that name none.
	AnnotationDefaultClass = "storageclass.kubernetes.io/is-default-class"
	// AnnotationSelectedNode on a claim is the node where its first pod goes: its volume must be there.
	AnnotationSelectedNode = "volume.kubernetes.io/selected-node"
	// AnnotationProvisionedBy on a volume names the provisioner that made it.
	AnnotationProvisionedBy = "pv.kubernetes.io/provisioned-by"
)

// Annotations on pods.
const (
	// AnnotationReplaces holds the UID of the pod that this one was started to replace (start before stop). Such a pod
	// is not counted as a replica while the pod it names lives and is not being deleted.
	AnnotationReplaces = "skerry.dev/replaces"
	// AnnotationSingleton set to "true" asks that the pod never runs twice at once.
	AnnotationSingleton = "skerry.dev/singleton"
	// AnnotationStopAfter is how long a cut-off node keeps the pod running, as a Go duration. Empty means for ever.
	AnnotationStopAfter = "skerry.dev/stop-after"
	// AnnotationReconcile names who wins when a cut-off node returns: best, original, replacement or longest-running.
	AnnotationReconcile = "skerry.dev/reconcile"
	// AnnotationPinned set to "true" keeps the rebalancer's hands off the pod.
	AnnotationPinned = "skerry.dev/pinned"
	// AnnotationRuntime is the handler of the pod's RuntimeClass, as it was when the pod was made.
	AnnotationRuntime = "skerry.dev/runtime"
	// AnnotationPlacement holds why the scheduler chose the pod's node, one sentence for people.
	AnnotationPlacement = "skerry.dev/placement"
)

// Node object metadata.
const (
	// AnnotationNodeAddress is the address other nodes route to for this node's pods.
	AnnotationNodeAddress = "skerry.dev/address"
	// AnnotationSealKey is the node's public curve key (nkeys "X..."), to which secrets for it are sealed.
	AnnotationSealKey = "skerry.dev/seal-key"
)

// Controllers and components as they appear in events and status.
const (
	ComponentScheduler   = "skerry-scheduler"
	ComponentController  = "skerry-controller"
	ComponentAgent       = "skerry-agent"
	ComponentCoordinator = "skerry-coordinator"
)

// RuntimeHandler is the handler of RuntimeClasses that nodes have: the keeper's containers, as without a class.
const RuntimeHandler = "skerry"

// ClusterDomain ends the names that DNS gives to services and pods. As in most clusters, and in many manifests.
const ClusterDomain = "cluster.local"

// RegistryHost is the name under which image references address the coordinator's own registry. Nodes reach it over
// their NATS connection, so it needs no DNS entry and no open port.
const RegistryHost = "registry.skerry"

// Files below a coordinator's state folder that others read.
const (
	AdminKubeconfig = "admin.kubeconfig"
	AdminTokenFile  = "keys/admin.token"
)
