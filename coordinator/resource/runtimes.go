package resource

import nodev1 "k8s.io/api/node/v1"

func runtimes() []*Resource {
	return []*Resource{kind[nodev1.RuntimeClass, nodev1.RuntimeClassList](nodev1.SchemeGroupVersion.WithKind("RuntimeClass"), "runtimeclasses", Resource{})}
}
