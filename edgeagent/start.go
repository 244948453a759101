package edgeagent

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/edgeagent/containerspec"
	"skerry.dev/skerry/edgeagent/image"
	"skerry.dev/skerry/edgeagent/keeper"
	"skerry.dev/skerry/edgeagent/pod"
	"skerry.dev/skerry/edgeagent/volume"
)

func (j *job) pull(ctx context.Context) pod.Result {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { // ends with the pull
		select {
		case <-j.leaving:
			cancel()
		case <-ctx.Done():
		}
	}()
	secrets, err := j.pullSecrets()
	if err != nil {
		return pod.Result{Err: err}
	}
	if !j.node.pulls.enter(ctx.Done()) {
		return pod.Result{Err: ctx.Err()}
	}
	defer j.node.pulls.leave()
	policy := j.container.ImagePullPolicy
	image, err := j.node.images.Pull(ctx, j.container.Image, policy, secrets)
	j.image = image
	return pod.Result{Err: err, ImageID: image.ID}
}

// pullSecrets opens the pod's pull secrets. As in the kubelet, a missing one is no error yet.
func (j *job) pullSecrets() ([][]byte, error) {
	var out [][]byte
	optional := true
	for _, ref := range j.want.Pod.Spec.ImagePullSecrets {
		data, err := j.refs.Secret(ref.Name, &optional)
		if err != nil {
			return nil, err
		}
		for _, key := range []string{corev1.DockerConfigJsonKey, corev1.DockerConfigKey} {
			if data[key] != nil {
				out = append(out, data[key])
			}
		}
	}
	return out, nil
}

// start makes and starts an instance. Repeating it after it was cut off at any point gives one running instance.
func (j *job) start(ctx context.Context) pod.Result {
	id := containerspec.ID(j.worker.uid, j.container.Name, j.action.Attempt)
	if err := keeper.ValidateID(id); err != nil {
		return pod.Result{Err: &pod.Failure{Reason: "CreateContainerConfigError", Err: err}}
	}
	started, err := j.launch(ctx, id)
	if err == nil {
		err = j.postStart(ctx, id)
	}
	return pod.Result{ID: id, Started: started, ImageID: j.image.ID, Err: err}
}

// launch is start without the hook, which may take its time and must not keep others from starting.
func (j *job) launch(ctx context.Context, id string) (time.Time, error) {
	if !j.node.setup.enter(ctx.Done()) {
		return time.Time{}, ctx.Err()
	}
	defer j.node.setup.leave()
	return j.startAs(ctx, id)
}

func (j *job) startAs(ctx context.Context, id string) (time.Time, error) {
	rootfs, err := j.node.images.Mount(ctx, id, j.image.ID, image.Users{Path: j.sandbox.UserNS, FirstID: j.sandbox.IDs.First})
	if err != nil {
		return time.Time{}, fmt.Errorf("mount image: %w", err)
	}
	spec, err := j.spec(ctx, rootfs)
	if err == nil {
		err = j.create(ctx, spec)
	}
	if err != nil {
		err = errors.Join(err, j.node.images.Unmount(context.WithoutCancel(ctx), id))
		if errors.Is(err, keeper.ErrNoCommand) {
			err = &pod.Failure{Reason: "StartError", Started: true, Err: err}
		}
		return time.Time{}, err
	}
	if err := j.deadline(ctx, id); err != nil {
		return time.Time{}, err // the instance has not started: the next try makes it again
	}
	started := time.Now()
	err = j.node.keeper.Start(ctx, id)
	switch {
	case err == nil:
		return started, nil
	case errors.Is(err, keeper.ErrUnavailable) || ctx.Err() != nil:
		return time.Time{}, err // it may run: the next try finds out
	default:
		return time.Time{}, &pod.Failure{Reason: "StartError", Started: true, Err: err}
	}
}

// create makes the instance, or finds the one that an earlier try has made. One that has ended is made again.
func (j *job) create(ctx context.Context, spec keeper.Spec) error {
	err := j.node.keeper.Create(ctx, spec)
	if !errors.Is(err, keeper.ErrExists) {
		return err
	}
	list, err := j.node.keeper.List(ctx)
	if err != nil {
		return err
	}
	for _, c := range list {
		if c.ID == spec.ID && c.State == keeper.Running {
			return nil
		}
	}
	if err := j.node.keeper.Delete(ctx, spec.ID); err != nil {
		return err
	}
	return j.node.keeper.Create(ctx, spec)
}

// config is an error that is the pod's fault.
func config(err error) error { return &pod.Failure{Reason: "CreateContainerConfigError", Err: err} }

// spec gathers everything that the keeper needs. What is the pod's fault is CreateContainerConfigError.
func (j *job) spec(ctx context.Context, rootfs string) (keeper.Spec, error) {
	env, err := j.refs.Env(j.container)
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	user, err := containerspec.LookUpUser(j.want.Pod, j.container, j.image.User, rootfs)
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	mounts, err := j.mounts(env)
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	namespaces, err := j.namespaces(ctx)
	if err != nil {
		return keeper.Spec{}, err
	}
	devices, err := j.claim(user)
	if err != nil {
		return keeper.Spec{}, err
	}
	if err := j.node.logs.Prepare(j.worker.uid, j.container.Name, j.action.Attempt); err != nil {
		return keeper.Spec{}, err
	}
	spec, err := containerspec.Build(containerspec.Input{
		Pod: j.want.Pod, Container: j.container, Attempt: j.action.Attempt, Image: j.image, Env: env, User: user,
		Rootfs: rootfs, Namespaces: namespaces, IDs: j.sandbox.IDs, Mounts: append(mounts, devices.mounts...),
		Devices: devices.access, DeviceEnv: devices.env,
		LogPath:    j.node.logs.Path(j.worker.uid, j.container.Name, j.action.Attempt),
		CgroupRoot: j.node.cgroups, MemoryBytes: j.node.facts().MemoryBytes, PidsLimit: j.node.pids,
		LogMaxBytes: j.node.logMaxBytes, LogMaxFiles: j.node.logMaxFiles,
	})
	if err != nil {
		return keeper.Spec{}, config(err)
	}
	return spec, nil
}

func (j *job) mounts(env []string) ([]volume.Attachment, error) {
	etc, err := j.node.volumes.Etc(j.want.Pod, j.ips)
	if err != nil {
		return nil, err
	}
	last, err := j.node.volumes.Termination(j.want.Pod, j.container, j.action.Attempt)
	if err != nil {
		return nil, err
	}
	own, err := j.node.volumes.Attach(j.want.Pod, j.container, env)
	if err != nil {
		return nil, err
	}
	return append(append(etc, last), own...), nil
}

func (j *job) namespaces(ctx context.Context) (keeper.Namespaces, error) {
	orHost := func(path string) string {
		if path == "" {
			return keeper.Host
		}
		return path
	}
	ns := keeper.Namespaces{Net: orHost(j.sandbox.NetNS), IPC: orHost(j.sandbox.IPCNS), UTS: orHost(j.sandbox.UTSNS), User: j.sandbox.UserNS}
	if j.want.Pod.Spec.HostPID {
		ns.PID = keeper.Host
		return ns, nil
	}
	target := targetOf(j.want.Pod, j.container.Name)
	if target == "" {
		return ns, nil
	}
	var err error
	ns.PID, err = j.processesOf(ctx, target)
	return ns, err
}

// targetOf is the container whose processes an ephemeral container wants to see; empty for none.
func targetOf(p *corev1.Pod, name string) string {
	for i := range p.Spec.EphemeralContainers {
		if c := &p.Spec.EphemeralContainers[i]; c.Name == name {
			return c.TargetContainerName
		}
	}
	return ""
}

// processesOf is the path of the process namespace of a running container of the pod.
func (j *job) processesOf(ctx context.Context, container string) (string, error) {
	list, err := j.node.keeper.List(ctx)
	if err != nil {
		return "", err
	}
	for _, c := range list {
		if c.Labels[containerspec.LabelUID] == j.worker.uid && c.Labels[containerspec.LabelContainer] == container && c.State == keeper.Running {
			return fmt.Sprintf("/proc/%d/ns/pid", c.PID), nil
		}
	}
	return "", config(fmt.Errorf("unable to find target container %s", container)) // the kubelet's words
}
