package web_test

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"skerry.dev/skerry/messaging"
)

type object = map[string]any

// create posts an object with its status and returns its UID.
func (s *site) create(path string, o object) string {
	s.Helper()
	resp := s.do("POST", path, adminToken, o)
	data, err := io.ReadAll(resp.body)
	if err != nil || resp.code >= 300 {
		s.Fatalf("POST %s: %d: %s (%v)", path, resp.code, data, err)
	}
	var made struct{ Metadata struct{ Name, UID string } }
	if err := json.Unmarshal(data, &made); err != nil {
		s.Fatal(err)
	}
	if status, ok := o["status"]; ok {
		s.patch(path+"/"+made.Metadata.Name+"/status", object{"status": status})
	}
	return made.Metadata.UID
}

func (s *site) patch(path string, o object) {
	s.Helper()
	s.must("PATCH", path, o, "Content-Type", "application/merge-patch+json")
}

func ago(d time.Duration) string { return time.Now().Add(-d).UTC().Format(time.RFC3339) }

// node makes a node with the hardware of a board that hwprobe is tested with.
func (s *site) node(name, board, address string, ready string, more object) {
	s.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "hwprobe", "testdata", board+".json"))
	if err != nil {
		s.Fatal(err)
	}
	var found struct {
		Labels, Capacity map[string]string
		Inventory        json.RawMessage
	}
	if err := json.Unmarshal(data, &found); err != nil {
		s.Fatal(err)
	}
	condition := func(kind, status, reason, message string) object {
		return object{"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(7 * time.Minute)}
	}
	s.create("/api/v1/nodes", object{
		"metadata": object{"name": name, "labels": found.Labels}, "spec": more,
		"status": object{
			"capacity": found.Capacity, "allocatable": found.Capacity,
			"addresses": []object{{"type": "InternalIP", "address": address}},
			"conditions": []object{
				condition("MemoryPressure", "False", "KubeletHasSufficientMemory", "the node has enough memory available"),
				condition("Ready", ready, "KubeletReady", "the agent is ready to run pods"),
			},
		},
	})
	s.create("/apis/fleet.skerry.dev/v1alpha1/nodeinventories", object{"metadata": object{"name": name}, "inventory": found.Inventory})
}

func (s *site) load(node string, cores float64, memory, disk float64) {
	const gib = 1 << 30
	s.loads.set(node, messaging.Load{
		CPUMillis: int64(cores * 1000), MemoryBytes: int64(memory * gib), MemoryTotalBytes: int64(memory * 3 * gib), DiskBytes: int64(disk * gib), DiskTotalBytes: 64 * gib,
	})
}

// deployment makes a deployment and its replica set, whose UID it returns.
func (s *site) deployment(name, image string, replicas, available int) string {
	s.Helper()
	template := object{
		"metadata": object{"labels": object{"app": name}},
		"spec":     object{"containers": []object{{"name": name, "image": image, "resources": object{"requests": object{"cpu": "250m", "memory": "256Mi"}}}}},
	}
	selector := object{"matchLabels": object{"app": name}}
	uid := s.create("/apis/apps/v1/namespaces/default/deployments", object{
		"metadata": object{"name": name}, "spec": object{"replicas": replicas, "selector": selector, "template": template},
		"status": object{"observedGeneration": 1, "replicas": replicas, "updatedReplicas": replicas, "availableReplicas": available, "readyReplicas": available},
	})
	return s.create("/apis/apps/v1/namespaces/default/replicasets", object{
		"metadata": object{"name": name + "-7c9d", "ownerReferences": owner("apps/v1", "Deployment", name, uid)},
		"spec":     object{"replicas": replicas, "selector": selector, "template": template},
	})
}

func owner(version, kind, name, uid string) []object {
	return []object{{"apiVersion": version, "kind": kind, "name": name, "uid": uid, "controller": true}}
}

// pod makes a pod of a deployment on a node, in a state: ready, starting, crashing, or pending when it has no node.
func (s *site) pod(app, set, suffix, node, state string) {
	s.Helper()
	name := app + "-7c9d-" + suffix
	container := object{"name": app, "image": "registry.skerry/" + app + ":1", "imageID": "", "ready": state == "ready", "restartCount": 0}
	condition := func(kind string, is bool, message string) object {
		status := "False"
		if is {
			status = "True"
		}
		return object{"type": kind, "status": status, "message": message, "lastTransitionTime": ago(5 * time.Minute)}
	}
	status := object{"phase": "Running", "podIP": "10.42.1.7", "qosClass": "Burstable"}
	placed := condition("PodScheduled", node != "", "")
	switch state {
	case "ready":
		container["state"] = object{"running": object{"startedAt": ago(5 * time.Minute)}}
	case "starting":
		status["phase"] = "Pending"
		container["state"] = object{"waiting": object{"reason": "ContainerCreating"}}
	case "crashing":
		container["restartCount"] = 14
		container["state"] = object{"waiting": object{"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}
		container["lastState"] = object{"terminated": object{"exitCode": 137, "reason": "OOMKilled", "startedAt": ago(3 * time.Minute), "finishedAt": ago(2 * time.Minute)}}
	case "pending":
		status["phase"] = "Pending"
		placed = condition("PodScheduled", false, "0/6 nodes are available: 1 node(s) were unschedulable, 1 node(s) had untolerated taint {node.kubernetes.io/unreachable: }, 4 Insufficient memory.")
	}
	if node != "" {
		status["containerStatuses"] = []object{container}
	}
	status["conditions"] = []object{placed, condition("Ready", state == "ready", "")}
	spec := object{"containers": []object{{"name": app, "image": "registry.skerry/" + app + ":1", "resources": object{"requests": object{"cpu": "250m", "memory": "256Mi"}}}}}
	annotations := object{}
	if node != "" {
		spec["nodeName"] = node
		annotations["skerry.dev/placement"] = fmt.Sprintf("%s: best of 4 fitting nodes out of 6, score 612 (free 81, balance 92, spread 100)", node)
	}
	s.create("/api/v1/namespaces/default/pods", object{
		"metadata": object{"name": name, "labels": object{"app": app}, "annotations": annotations, "ownerReferences": owner("apps/v1", "ReplicaSet", app+"-7c9d", set)},
		"spec":     spec, "status": status,
	})
}

func (s *site) event(kind, name, tone, reason, message string, age time.Duration) {
	s.Helper()
	s.create("/api/v1/namespaces/default/events", object{
		"metadata": object{"generateName": "event-"}, "involvedObject": object{"kind": kind, "name": name, "namespace": "default"},
		"type": tone, "reason": reason, "message": message, "firstTimestamp": ago(age), "lastTimestamp": ago(age), "count": 1,
	})
}

// fleet makes six machines with work on them, and some trouble.
func (s *site) fleet() {
	s.Helper()
	s.node("rack-1", "server", "10.0.0.11", "True", object{})
	s.node("desk-7", "laptop", "10.0.0.37", "True", object{})
	s.node("garden", "raspberry-pi-4", "10.0.2.4", "True", object{})
	s.node("gate", "beaglebone-black", "10.0.2.9", "True", object{"unschedulable": true, "taints": []object{{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}}})
	s.node("harbour", "nanopi-r4s", "10.0.3.2", "Unknown", object{"taints": []object{{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": ago(7 * time.Minute)}}})
	s.node("vm-2", "qemu", "10.0.0.52", "True", object{})
	for i := range 40 { // a history for the lines
		s.load("rack-1", 9+float64(i%7), 61, 18)
		_ = i
	}
	s.load("desk-7", 1.4, 9, 22)
	s.load("garden", 0.7, 1.9, 11)
	s.load("gate", 0.1, 0.2, 2)
	s.load("vm-2", 2.9, 3.1, 9)
	web := s.deployment("web", "registry.skerry/web:1", 6, 5)
	for i, node := range []string{"rack-1", "rack-1", "desk-7", "garden", "vm-2"} {
		s.pod("web", web, fmt.Sprintf("a%dx2k", i), node, "ready")
	}
	s.pod("web", web, "f7q8z", "harbour", "ready")
	sensor := s.deployment("sensor-collector", "registry.skerry/sensor-collector:14", 3, 1)
	s.pod("sensor-collector", sensor, "b2m4x", "garden", "crashing")
	s.pod("sensor-collector", sensor, "c8n1p", "rack-1", "ready")
	s.pod("sensor-collector", sensor, "d5v6w", "vm-2", "starting")
	s.pod("trainer", s.deployment("trainer", "registry.skerry/trainer:3", 1, 0), "e1r2t", "", "pending")
	s.create("/api/v1/namespaces/default/services", object{"metadata": object{"name": "web"}, "spec": object{"ports": []object{{"port": 80}}, "selector": object{"app": "web"}}})
	s.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", object{
		"metadata": object{"name": "web-x", "labels": object{"kubernetes.io/service-name": "web"}}, "addressType": "IPv4", "ports": []object{{"port": 8080}},
		"endpoints": []object{{"addresses": []string{"10.42.1.7"}, "nodeName": "rack-1", "conditions": object{"ready": true}}, {"addresses": []string{"10.42.2.7"}, "nodeName": "garden", "conditions": object{"ready": true}}},
	})
	s.create("/apis/fleet.skerry.dev/v1alpha1/moveplans", object{
		"metadata": object{"name": "move-web-1"}, "status": object{"phase": "Starting", "message": "waiting for web-7c9d-k9 to be ready"},
		"spec": object{"pod": object{"kind": "Pod", "namespace": "default", "name": "web-7c9d-a0x2k"}, "from": "rack-1", "to": "desk-7", "gain": 0.084, "cost": 0.01, "reason": "rack-1 asks for 61 % of its CPU, desk-7 for 12 %"},
	})
	s.event("Node", "harbour", "Warning", "NodeNotReady", "harbour was last heard 7m ago; its pods are replaced as their tolerations end", 7*time.Minute)
	s.event("Pod", "sensor-collector-7c9d-b2m4x", "Warning", "BackOff", "Back-off restarting failed container sensor-collector", time.Minute)
	s.event("Pod", "web-7c9d-a0x2k", "Normal", "Scheduled", "Successfully assigned default/web-7c9d-a0x2k to rack-1", 4*time.Minute)
	s.event("Deployment", "web", "Normal", "ScalingReplicaSet", "Scaled up replica set web-7c9d from 0 to 6", 5*time.Minute)
}
