package edgeagent

import (
	"strings"
	"testing"

	"skerry.dev/skerry/edgeagent/pod"
)

// TestIncapableNode: a pod that asks for what the node never gives ends before anything is made for it.
func TestIncapableNode(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.desire(
			aPod(t, "u1", `{securityContext: {sysctls: [{name: kernel.shmmax, value: "1"}]}, containers: [{name: app, image: web}]}`),
			aPod(t, "u2", `{securityContext: {appArmorProfile: {type: RuntimeDefault}}, containers: [{name: app, image: web}]}`),
		)
		for uid, want := range map[string]pod.Ruling{
			"u1": {Reason: "SysctlForbidden", Message: `Pod was rejected: forbidden sysctl: "kernel.shmmax" not allowlisted`},
			"u2": {Reason: "AppArmor", Message: "Pod was rejected: Cannot enforce AppArmor: "},
		} {
			var got pod.Ruling
			w.loop.worker(uid).call(t.Context(), func() { got = *w.loop.worker(uid).obs.Ruling })
			if got.Reason != want.Reason || !strings.HasPrefix(got.Message, want.Message) {
				t.Errorf("%s: %+v, want %+v", uid, got, want)
			}
			w.check("phase", w.phase(uid), "Failed ContainerCreating 0")
		}
		w.check("keeper", w.keeper.calls, []string(nil))
	})
}
