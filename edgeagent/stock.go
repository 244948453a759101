package edgeagent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/uplink"
)

// takeStock waits for the keeper and learns what runs. Without its word nothing is started or stopped.
func (l *loop) takeStock(ctx context.Context) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		list, err := l.node.keeper.List(ctx)
		if err == nil {
			l.sort(list)
			l.sweep(ctx, list)
			l.keeperLost.Store(false)
			close(l.ready)
			return nil
		}
		l.log.Warn("keeper not reached, will retry", "err", err)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// sweep removes the root file systems of instances that the keeper does not have: an agent died before it asked for them.
func (l *loop) sweep(ctx context.Context, list []keeper.Container) {
	ids, err := l.node.images.Mounted()
	if err != nil {
		l.log.Warn("root file systems not listed", "err", err)
	}
	for _, id := range ids {
		if slices.ContainsFunc(list, func(c keeper.Container) bool { return c.ID == id }) {
			continue
		}
		if err := l.node.images.Unmount(ctx, id); err != nil {
			l.log.Warn("root file system not removed", "id", id, "err", err)
		}
	}
}

// imagesInUse are the images of all pods on the node.
func (l *loop) imagesInUse(ctx context.Context) (map[string]bool, error) {
	used := map[string]bool{}
	for _, w := range l.all() {
		w.call(ctx, func() {
			for _, i := range w.images {
				used[i.ID] = true
			}
			for _, c := range w.obs.Containers {
				used[c.ImageID] = true
			}
		})
	}
	return used, ctx.Err()
}

// all returns the workers, for goroutines other than the loop's.
func (l *loop) all() []*worker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Collect(maps.Values(l.byUID))
}

func (l *loop) sort(list []keeper.Container) {
	for _, c := range list {
		uid := c.Labels[containerspec.LabelUID]
		if uid == "" {
			l.log.Warn("container without a pod left alone", "id", c.ID)
			continue
		}
		l.found[uid] = append(l.found[uid], c)
	}
}

func anyRunning(list []keeper.Container) bool {
	return slices.ContainsFunc(list, func(c keeper.Container) bool { return c.State == keeper.Running })
}

// removeOrphans takes off the node what belongs to no wanted pod: containers, volumes and sandboxes that a manifest which
// came later than they did does not name.
func (l *loop) removeOrphans(ctx context.Context) {
	for uid, containers := range l.found {
		l.log.Info("pod is no longer wanted", "uid", uid, "containers", len(containers))
		l.launchOrphan(ctx, orphan(uid, containers))
	}
	volumes, err1 := l.node.volumes.Pods()
	sandboxes, err2 := l.node.sandboxes.List()
	owners, err3 := l.node.users.Owners()
	logged, err4 := l.node.logs.Pods()
	if err := errors.Join(err1, err2, err3, err4); err != nil {
		l.log.Warn("left-overs of pods not listed", "err", err)
	}
	if l.node.devices != nil {
		volumes = append(volumes, l.node.devices.Owners()...)
	}
	for uid := range l.memories {
		volumes = append(volumes, uid)
	}
	for _, uid := range slices.Concat(volumes, sandboxes, owners, logged) {
		_, wanted := l.desired.Pods[uid]
		if l.workers[uid] == nil && !wanted {
			l.launchOrphan(ctx, orphan(uid, nil))
		}
	}
}

func (l *loop) launchOrphan(ctx context.Context, p uplink.Pod) {
	uid := string(p.Pod.UID)
	l.launch(ctx, uid, p)
	w := l.workers[uid]
	w.do(ctx, func() { w.stop(time.Now()) })
}

// worker returns the worker of a pod, for goroutines other than the loop's.
func (l *loop) worker(uid string) *worker {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byUID[uid]
}
