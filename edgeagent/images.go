package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/pod"
)

// maxListed is how many images a node's status names, as in the kubelet.
const maxListed = 50

// imageStore is image.Store as workers see it.
type imageStore struct {
	store *image.Store

	mu     sync.Mutex
	pulled map[string]image.Image // by the id that pods' statuses show
}

var _ Images = (*imageStore)(nil)

// Pull implements Images.
func (s *imageStore) Pull(ctx context.Context, ref string, policy corev1.PullPolicy, secrets [][]byte) (containerspec.Image, error) {
	credentials, err := image.CredentialsFor(ref, secrets...)
	if err != nil {
		return containerspec.Image{}, &pod.Failure{Reason: image.Reason(err), Err: err}
	}
	img, err := s.store.Pull(ctx, ref, policy, credentials)
	if err != nil {
		return containerspec.Image{}, &pod.Failure{Reason: image.Reason(err), Err: err}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pulled[img.RepoDigest] = img
	c := img.Config.Config
	return containerspec.Image{
		ID: img.RepoDigest, Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, User: c.User, WorkingDir: c.WorkingDir,
		StopSignal: c.StopSignal,
	}, nil
}

// Mount implements Images.
func (s *imageStore) Mount(ctx context.Context, id, imageID string, users image.Users) (string, error) {
	s.mu.Lock()
	img, ok := s.pulled[imageID]
	s.mu.Unlock()
	if !ok {
		return "", fmt.Errorf("image %s was not pulled by this agent", imageID)
	}
	return s.store.Rootfs(ctx, id, img, users)
}

// Unmount implements Images.
func (s *imageStore) Unmount(_ context.Context, id string) error { return s.store.RemoveRootfs(id) }

// Mounted implements Images.
func (s *imageStore) Mounted() ([]string, error) { return s.store.List() }

// List implements Images.
func (s *imageStore) List() ([]corev1.ContainerImage, error) {
	var out []corev1.ContainerImage
	for _, l := range s.store.Images() {
		if len(out) == maxListed {
			break
		}
		out = append(out, corev1.ContainerImage{Names: l.Names, SizeBytes: l.SizeBytes})
	}
	return out, nil
}

// collect removes images that nothing uses, when the disk is full enough. used are ids as Pull returns them.
func (s *imageStore) collect(ctx context.Context, used map[string]bool, p image.Policy) error {
	digests := map[string]bool{}
	s.mu.Lock()
	for id, img := range s.pulled {
		if used[id] {
			digests[img.Digest] = true
		} else {
			delete(s.pulled, id)
		}
	}
	s.mu.Unlock()
	_, err := s.store.Collect(ctx, digests, p, time.Now())
	if errors.Is(err, image.ErrStillFull) {
		return fmt.Errorf("%w: remove files below the state folder's disk, or give it a larger one", err)
	}
	return err
}
