// Package defaults fills in what a manifest leaves out, by upstream's own functions on the k8s.io/api types.
//
// It is one of the few places that import k8s.io/kubernetes; a release of that may change its functions, and the tests
// here show it. It decides nothing of its own.
package defaults

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	appsdefaults "k8s.io/kubernetes/pkg/apis/apps/v1"
	autoscalingdefaults "k8s.io/kubernetes/pkg/apis/autoscaling/v2"
	batchdefaults "k8s.io/kubernetes/pkg/apis/batch/v1"
	coordinationdefaults "k8s.io/kubernetes/pkg/apis/coordination/v1"
	coredefaults "k8s.io/kubernetes/pkg/apis/core/v1"
	"k8s.io/kubernetes/pkg/apis/core/v1/helper/qos"
	discoverydefaults "k8s.io/kubernetes/pkg/apis/discovery/v1"
	networkingdefaults "k8s.io/kubernetes/pkg/apis/networking/v1"
	rbacdefaults "k8s.io/kubernetes/pkg/apis/rbac/v1"
	schedulingdefaults "k8s.io/kubernetes/pkg/apis/scheduling/v1"
	storagedefaults "k8s.io/kubernetes/pkg/apis/storage/v1"
)

// Defaulter sets defaults. It is safe for concurrent use.
type Defaulter struct{ scheme *runtime.Scheme }

// New makes a Defaulter for the kinds of core, apps, batch, coordination and discovery.
func New() (*Defaulter, error) {
	d := &Defaulter{runtime.NewScheme()}
	for _, register := range []func(*runtime.Scheme) error{
		coredefaults.RegisterDefaults, appsdefaults.RegisterDefaults, batchdefaults.RegisterDefaults,
		schedulingdefaults.RegisterDefaults, coordinationdefaults.RegisterDefaults, discoverydefaults.RegisterDefaults, autoscalingdefaults.RegisterDefaults,
		rbacdefaults.RegisterDefaults, storagedefaults.RegisterDefaults, networkingdefaults.RegisterDefaults,
	} {
		if err := register(d.scheme); err != nil {
			return nil, fmt.Errorf("register defaults: %w", err)
		}
	}
	return d, nil
}

// Set fills in obj. Kinds without defaults stay as they are.
func (d *Defaulter) Set(obj runtime.Object) { d.scheme.Default(obj) }

// QOSClass is the pod's quality-of-service class as its requests and limits say.
func QOSClass(pod *corev1.Pod) corev1.PodQOSClass { return qos.ComputePodQOS(pod) }
