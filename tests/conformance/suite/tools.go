//go:build tools

// Package suite pins what is built from other projects to run the conformance suite, and kube-scheduler's benchmark. It has no code of its own.
package suite

import (
	_ "github.com/onsi/ginkgo/v2/ginkgo"
	_ "k8s.io/kubernetes/test/e2e"
	_ "k8s.io/kubernetes/test/images/agnhost"
	_ "k8s.io/kubernetes/test/images/nonewprivs"
	_ "k8s.io/kubernetes/test/integration/scheduler_perf"
)
