package footprint

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/cmd/skerry/up"
	"skerry.dev/skerry/tests/bench/section"
	"skerry.dev/skerry/tests/cluster"
)

// crowd measures one node with many pods.
func (b *bench) crowd(ctx context.Context) error {
	state, err := b.cluster.State(ctx)
	if err != nil {
		return err
	}
	node := state.Nodes[0]
	empty, err := readNode(node)
	if err != nil {
		return err
	}
	took, err := b.fill(ctx, node.Name)
	if err != nil {
		return err
	}
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	full, err := readNode(node)
	if err != nil {
		return err
	}
	if err := pause(ctx, b.idle); err != nil {
		return err
	}
	later, err := readNode(node)
	if err != nil {
		return err
	}
	t := section.NewTable("", "RSS before", "RSS with them", "for one container", "CPU per minute", "written to disk per minute")
	minute := time.Minute.Seconds() / b.idle.Seconds()
	for i, name := range []string{"agent", "keeper"} {
		cpu := time.Duration(float64(later[i].cpu-full[i].cpu) * minute)
		written := int64(float64(later[i].written-full[i].written) * minute)
		t.Row(name, section.Bytes(empty[i].resident), section.Bytes(later[i].resident), section.Bytes((later[i].resident-empty[i].resident)/int64(b.pods)),
			section.Duration(cpu), section.Bytes(written))
	}
	coordinator, err := read(state.CoordinatorPID)
	if err != nil {
		return err
	}
	fmt.Fprintf(&b.out, "### %d pods on one node\n\nPosted at once, they all ran after %s; the table is of the minute that began %s later. The coordinator's RSS was then %s.\n\n%s\n",
		b.pods, section.Duration(took), b.idle, section.Bytes(coordinator.resident), t)
	return nil
}

// readNode is the agent's reading and the keeper's.
func readNode(n up.NodeState) ([2]reading, error) {
	var out [2]reading
	var err error
	if out[0], err = read(n.AgentPID); err != nil {
		return out, fmt.Errorf("agent: %w", err)
	}
	if out[1], err = read(n.KeeperPID); err != nil {
		return out, fmt.Errorf("keeper: %w", err)
	}
	return out, nil
}

// fill starts the pods and returns how long it took until all ran.
func (b *bench) fill(ctx context.Context, node string) (time.Duration, error) {
	pods, err := b.podClient()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(16)
	for n := range b.pods {
		group.Go(func() error {
			p := pod(fmt.Sprintf("crowd-%03d", n), false)
			p.Labels = map[string]string{"app": "crowd"}
			p.Spec.NodeSelector = map[string]string{corev1.LabelHostname: node}
			_, err := pods.Create(groupCtx, p, metav1.CreateOptions{})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return 0, err
	}
	err = cluster.Poll(ctx, limit, fmt.Sprintf("%d pods running", b.pods), func() (bool, error) {
		list, err := pods.List(ctx, metav1.ListOptions{LabelSelector: "app=crowd", FieldSelector: "status.phase=Running"})
		if err != nil {
			return false, err
		}
		return len(list.Items) == b.pods, fmt.Errorf("%d are running", len(list.Items))
	})
	return time.Since(began), err
}
