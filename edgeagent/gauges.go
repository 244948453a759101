package edgeagent

import (
	"context"
	"errors"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"skerry.dev/skerry/edgeagent/eviction"
	"skerry.dev/skerry/edgeagent/gauge"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/logs"
	"skerry.dev/skerry/edgeagent/volume"
)

// gauges measure this node.
type gauges struct {
	node    gauge.Node
	images  *image.Store
	volumes *volume.Volumes
	logs    *logs.Folder
	free    func(ctx context.Context) error
}

var _ Gauges = (*gauges)(nil)

func (a *Agent) newGauges(images *imageStore, volumes *volume.Volumes) *gauges {
	c := a.options.Config
	reserved := resource.MustParse(c.Reserved.Memory) // Validate has parsed it
	return &gauges{
		node:   gauge.Node{Dir: c.StateDir, Images: filepath.Join(c.StateDir, "images"), Group: c.CgroupParent, ReservedBytes: reserved.Value()},
		images: images.store, volumes: volumes, logs: logs.NewFolder(filepath.Join(c.StateDir, "logs")),
		free: func(ctx context.Context) error { return a.collectNow(ctx, images, true) },
	}
}

// Signals implements Gauges.
func (g *gauges) Signals(ctx context.Context) (map[eviction.Signal]eviction.Amount, error) {
	return g.node.Read(ctx)
}

// FreeImages implements Gauges.
func (g *gauges) FreeImages(ctx context.Context) error { return g.free(ctx) }

// Disk implements Gauges.
func (g *gauges) Disk(ctx context.Context, p *corev1.Pod, instances map[string]string) (map[string]eviction.Use, map[string]eviction.Disk, error) {
	var errs []error
	tree := func(path string) eviction.Disk {
		d, err := gauge.Tree(ctx, path)
		errs = append(errs, err)
		return d
	}
	containers := map[string]eviction.Use{}
	for name, id := range instances {
		containers[name] = eviction.Use{Rootfs: tree(g.images.Written(id)), Logs: tree(g.logs.Container(string(p.UID), name))}
	}
	volumes := map[string]eviction.Disk{}
	local, err := g.volumes.Local(p)
	for name, path := range local {
		volumes[name] = tree(path)
	}
	return containers, volumes, errors.Join(append(errs, err)...)
}
