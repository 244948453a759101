package edgeagent

import (
	"testing"

	"skerry.dev/skerry/edgeagent/pod"
)

// TestForbiddenSysctls: a pod with a kernel setting that the node does not allow ends before anything is made for it.
func TestForbiddenSysctls(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(aPod(t, "u1", `{securityContext: {sysctls: [{name: kernel.shmmax, value: "1"}]}, containers: [{name: app, image: web}]}`))
		var ruling pod.Ruling
		w.loop.worker("u1").call(t.Context(), func() { ruling = *w.loop.worker("u1").obs.Ruling })
		w.check("the node's word", ruling, pod.Ruling{Reason: "SysctlForbidden", Message: `Pod was rejected: forbidden sysctl: "kernel.shmmax" not allowlisted`})
		w.check("phase", w.phase("u1"), "Failed ContainerCreating 0")
		w.check("keeper", w.keeper.calls, []string(nil))
	})
}
