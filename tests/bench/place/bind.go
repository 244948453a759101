package place

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sync/errgroup"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"

	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/bench/server"
)

// writers make nodes at once.
const writers = 16

// bindLimit bounds the waiting for all pods, on a machine that is busy with other things.
const bindLimit = 5 * time.Minute

// bind measures a coordinator that knows many nodes, none of which exists: it decides and stores, and nobody runs anything.
func (s size) bind(ctx context.Context) (text string, err error) {
	// Each node takes a /24, and silence for three heartbeats would make it unreachable.
	c, err := server.Skerry("--network.pod-cidr", "10.128.0.0/9", "--nodes.heartbeat", "10m")
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, c.Stop()) }()
	if _, err := c.Start(ctx); err != nil {
		return "", err
	}
	if err := s.makeNodes(ctx, c); err != nil {
		return "", err
	}
	r, err := s.deploy(ctx, c)
	if err != nil {
		return "", err
	}
	theirs, err := s.peer(ctx)
	if err != nil {
		return "", err
	}
	return s.report(r, theirs), nil
}

func (s size) report(r result, theirs float64) string {
	pods := s.deployments * s.replica
	ours := float64(pods) / r.last.Seconds()
	section.AtLeast(s.goals, fmt.Sprintf("from a Deployment to durable bound pods, %d nodes", s.nodes), ours, 2000, perSecond)
	t := section.NewTable("", "time", "pods per second", "CPU for one pod", "RSS after it")
	per := r.cpu / time.Duration(pods)
	t.Row("first Deployment posted to last pod bound", section.Duration(r.last), section.Count(int64(ours)), section.Duration(per), section.Bytes(r.resident))
	return fmt.Sprintf("A coordinator with %s Node objects; %d Deployments of %d pods each are posted one after another. Bound means stored with its node,\n"+
		"synced to disk, and seen by a watcher; the assignment for the node, a second durable write, is made meanwhile. Half of the pods were\n"+
		"bound after %s.\n\n%s\n"+
		"kube-scheduler's own benchmark, unmodified (scheduler_perf's SchedulingBasic/%s, of kube-scheduler, kube-apiserver and etcd), run\n"+
		"after it on this machine, binds %s pods per second on average: Skerry's figure is %s of it.\n",
		section.Count(int64(s.nodes)), s.deployments, s.replica, section.Duration(r.half), t, s.peerCase, section.Count(int64(theirs)), section.Ratio(ours, theirs))
}

func (s size) makeNodes(ctx context.Context, c *server.Server) error {
	group, ctx := errgroup.WithContext(ctx)
	for w := range writers {
		client, err := c.Client(server.Protobuf, false)
		if err != nil {
			return err
		}
		defer client.Client.CloseIdleConnections()
		group.Go(func() error {
			for n := w; n < s.nodes; n += writers {
				if err := makeNode(ctx, client, node(n)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// makeNode creates a node and writes its status, as an agent's registration and first report do.
func makeNode(ctx context.Context, client *rest.RESTClient, n *corev1.Node) error {
	if err := write(ctx, client.Post().Resource("nodes"), n); err != nil {
		return fmt.Errorf("create node %s: %w", n.Name, err)
	}
	if err := write(ctx, client.Put().Resource("nodes").Name(n.Name).SubResource("status"), n); err != nil {
		return fmt.Errorf("write status of node %s: %w", n.Name, err)
	}
	return nil
}

func write(ctx context.Context, request *rest.Request, obj runtime.Object) error {
	body, err := server.Encode(server.Protobuf, obj)
	if err != nil {
		return err
	}
	return request.SetHeader("Content-Type", server.Protobuf).Body(body).Do(ctx).Error()
}

// result is one measurement.
type result struct {
	half, last time.Duration
	cpu        time.Duration
	resident   int64
}

func (s size) deploy(ctx context.Context, c *server.Server) (result, error) {
	client, err := c.Client(server.JSON, false)
	if err != nil {
		return result{}, err
	}
	defer client.Client.CloseIdleConnections()
	ctx, cancel := context.WithTimeoutCause(ctx, bindLimit, errors.New("not all pods are bound in time"))
	defer cancel()
	stream, err := client.Get().Namespace(metav1.NamespaceDefault).Resource("pods").Param("watch", "true").Stream(ctx)
	if err != nil {
		return result{}, err
	}
	defer stream.Close()
	before, err := c.CPU()
	if err != nil {
		return result{}, err
	}
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.post(groupCtx, c) })
	var r result
	group.Go(func() (err error) {
		r.half, r.last, err = count(stream, s.deployments*s.replica, began)
		return err
	})
	if err := group.Wait(); err != nil {
		return r, errors.Join(err, context.Cause(ctx))
	}
	after, err := c.CPU()
	if err != nil {
		return r, err
	}
	r.cpu = after.Since(before).API
	r.resident, _, err = c.Resident()
	return r, err
}

func (s size) post(ctx context.Context, c *server.Server) error {
	client, err := c.Client(server.Protobuf, false)
	if err != nil {
		return err
	}
	defer client.Client.CloseIdleConnections()
	for n := range s.deployments {
		d := s.deployment(n)
		request := client.Post().AbsPath("/apis/apps/v1/namespaces/default/deployments")
		if err := write(ctx, request, d); err != nil {
			return fmt.Errorf("create deployment %s: %w", d.Name, err)
		}
	}
	return nil
}

func (s size) deployment(n int) *appsv1.Deployment {
	name, replicas := fmt.Sprintf("app-%03d", n), int32(s.replica) //nolint:gosec // some hundred
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: metav1.NamespaceDefault},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pending(1, 1)[0].Spec},
		},
	}
}

// count reads a watch until that many pods have a node.
func count(stream io.Reader, pods int, began time.Time) (half, last time.Duration, err error) {
	bound := map[string]bool{}
	in := bufio.NewScanner(stream)
	in.Buffer(nil, 1<<20)
	for in.Scan() {
		var event struct {
			Type   string
			Object corev1.Pod
		}
		if !bytes.Contains(in.Bytes(), []byte(`"nodeName"`)) {
			continue
		}
		if err := json.Unmarshal(in.Bytes(), &event); err != nil {
			return 0, 0, err
		}
		if event.Type == "ERROR" || event.Object.Spec.NodeName == "" {
			return 0, 0, fmt.Errorf("watch pods: %s", in.Bytes())
		}
		bound[event.Object.Name] = true
		switch len(bound) {
		case pods / 2:
			half = time.Since(began)
		case pods:
			return half, time.Since(began), nil
		}
	}
	return 0, 0, fmt.Errorf("watch pods: ended with %d of %d bound: %w", len(bound), pods, in.Err())
}
