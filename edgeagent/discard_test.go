package edgeagent

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/uplink"
	"skerry.dev/skerry/messaging"
)

const withClaim = `
terminationGracePeriodSeconds: 1
containers: [{name: app, image: web, volumeMounts: [{name: v, mountPath: /v}]}]
volumes: [{name: v, persistentVolumeClaim: {claimName: data}}]
`

// order is a complete set with claims' volumes, and volumes that are to go.
func (w *world) order(discard []string, pods ...*corev1.Pod) {
	w.t.Helper()
	w.claims = map[string]messaging.Claim{"data": {Volume: "pvc-1"}}
	d := w.set(pods...)
	var m messaging.Manifest
	must(w.t, json.Unmarshal(d.Manifest.Data, &m))
	m.Discard = discard
	data, err := json.Marshal(m)
	must(w.t, err)
	d.Manifest.Data = data
	sources := map[string]messaging.Assigned{}
	for uid, p := range d.Pods {
		sources[uid] = p.Source
	}
	d, err = uplink.Decode(d.Manifest, sources)
	must(w.t, err)
	must(w.t, w.loop.setDesired(w.t.Context(), d))
	w.settle(0)
}

func (w *world) kept() bool {
	_, err := os.Stat(filepath.Join(w.dir, "persistent", "pvc-1"))
	return err == nil
}

// Only the coordinator's order removes a volume: not the end of its pod, nor a manifest that does not name it, nor a
// reboot. It waits for the pod that has the volume, and is told again until it is taken back.
func TestVolumesGoByOrderOnly(t *testing.T) {
	bubble(t, func(t *testing.T, w *world) {
		w.boot()
		w.order(nil, aPod(t, "u1", withClaim))
		w.check("running", w.keeper.running(), []string{"u1-app-0"})
		w.order(nil)
		w.settle(time.Minute)
		w.check("after its pod", w.kept(), true)
		w.kill()
		w.boot()
		w.settle(time.Minute)
		w.check("after a reboot", w.kept(), true)

		w.order(nil, aPod(t, "u2", withClaim))
		w.order([]string{"pvc-1"}, aPod(t, "u2", withClaim))
		w.settle(time.Minute)
		w.check("while a pod has it", w.kept(), true)
		w.order([]string{"pvc-1"})
		w.settle(time.Minute)
		w.check("after the order", w.kept(), false)
		w.check("reported", w.reports.discarded(), []string{"pvc-1"})

		w.kill()
		w.boot()
		w.settle(time.Minute) // the order still stands, and so does the answer
		w.check("reported again", w.reports.discarded(), []string{"pvc-1", "pvc-1"})
		w.order(nil)
		w.settle(time.Minute)
		w.check("reported once more", w.reports.discarded(), []string{"pvc-1", "pvc-1"})
	})
}
