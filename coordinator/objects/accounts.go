package objects

import (
	"context"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"skerry.dev/skerry/coordinator/resource"
)

// What every namespace has.
const (
	// DefaultAccount is the ServiceAccount of pods that name none.
	DefaultAccount = "default"
	// RootCA is the ConfigMap with the certificate authority of the API.
	RootCA = "kube-root-ca.crt"
)

// The volume that a pod's containers find their account's token in.
const (
	accessVolume   = "kube-api-access-"
	accessPath     = "/var/run/secrets/kubernetes.io/serviceaccount"
	accessSeconds  = 60*60 + 7 // upstream's, by which the token is known as one that may be read only once
	accessFileMode = 0o644
)

var accounts = resource.ForObject((*corev1.ServiceAccount)(nil))

// Furnishings are what a namespace is given: its default ServiceAccount and the certificate authority, in PEM.
func Furnishings(namespace string, rootCA []byte) []runtime.Object {
	return []runtime.Object{
		&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: DefaultAccount}},
		&corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: RootCA, Annotations: map[string]string{
				"kubernetes.io/description": "Contains a CA bundle that can be used to verify the API server: pods find it in their service account's folder.",
			}},
			Data: map[string]string{"ca.crt": string(rootCA)},
		},
	}
}

// furnish gives a new namespace what it needs before its first pod. What fails is made up for by the controller.
func (s *Store) furnish(ctx context.Context, obj runtime.Object, w write) {
	ns, ok := obj.(*corev1.Namespace)
	if !ok || s.rootCA == nil || w.DryRun {
		return
	}
	for _, o := range Furnishings(ns.Name, s.rootCA) {
		if _, err := s.Create(ctx, o, WriteOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			s.log.Warn("namespace not furnished yet", "namespace", ns.Name, "object", metaOf(o).GetName(), "err", err)
		}
	}
}

// account finds the pod's ServiceAccount.
func (s *Store) account(pod *corev1.Pod) *corev1.ServiceAccount {
	item, ok := s.view.Get(accounts, pod.Namespace, pod.Spec.ServiceAccountName)
	if !ok {
		return nil
	}
	a, _ := item.Object.(*corev1.ServiceAccount)
	return a
}

// admitAccount is upstream's ServiceAccount admission: the pod runs as an account, has its pull secrets unless it names
// others, and finds its token in each container unless it or the account asks not to.
func (s *Store) admitAccount(pod *corev1.Pod) {
	if pod.Spec.ServiceAccountName == "" {
		pod.Spec.ServiceAccountName, pod.Spec.DeprecatedServiceAccount = DefaultAccount, DefaultAccount
	}
	account := s.account(pod)
	if s.rootCA == nil || account == nil {
		return
	}
	if automounts(account, pod) {
		mountAccess(pod)
	}
	if len(pod.Spec.ImagePullSecrets) == 0 {
		pod.Spec.ImagePullSecrets = append(pod.Spec.ImagePullSecrets, account.ImagePullSecrets...)
	}
}

// refuseAccount refuses a pod whose account is not there.
func (s *Store) refuseAccount(pod *corev1.Pod) error {
	if s.rootCA == nil || s.account(pod) != nil {
		return nil
	}
	name := pod.Spec.ServiceAccountName
	return apierrors.NewForbidden(pods.GroupResource(), pod.Name, fmt.Errorf("error looking up service account %s/%s: %w",
		pod.Namespace, name, apierrors.NewNotFound(corev1.Resource("serviceaccount"), name)))
}

func automounts(account *corev1.ServiceAccount, pod *corev1.Pod) bool {
	for _, said := range []*bool{pod.Spec.AutomountServiceAccountToken, account.AutomountServiceAccountToken} {
		if said != nil {
			return *said
		}
	}
	return true
}

// mountAccess mounts the volume into every container that has nothing else there.
func mountAccess(pod *corev1.Pod) {
	name := ""
	for i := range pod.Spec.Volumes {
		if strings.HasPrefix(pod.Spec.Volumes[i].Name, accessVolume) {
			name = pod.Spec.Volumes[i].Name
			break
		}
	}
	there := name != ""
	if !there {
		name = generateName(accessVolume)
	}
	needed := mountInto(pod.Spec.InitContainers, name)
	if mountInto(pod.Spec.Containers, name) {
		needed = true
	}
	if needed && !there {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{Projected: access()}})
	}
}

func mountInto(containers []corev1.Container, volume string) (mounted bool) {
	for i := range containers {
		taken := false
		for _, m := range containers[i].VolumeMounts {
			taken = taken || m.MountPath == accessPath
		}
		if !taken {
			containers[i].VolumeMounts = append(containers[i].VolumeMounts, corev1.VolumeMount{Name: volume, ReadOnly: true, MountPath: accessPath})
			mounted = true
		}
	}
	return mounted
}

func access() *corev1.ProjectedVolumeSource {
	mode, seconds := int32(accessFileMode), int64(accessSeconds)
	return &corev1.ProjectedVolumeSource{DefaultMode: &mode, Sources: []corev1.VolumeProjection{
		{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token", ExpirationSeconds: &seconds}},
		{ConfigMap: &corev1.ConfigMapProjection{
			LocalObjectReference: corev1.LocalObjectReference{Name: RootCA}, Items: []corev1.KeyToPath{{Key: "ca.crt", Path: "ca.crt"}},
		}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "namespace", FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "metadata.namespace"}},
		}}},
	}}
}
