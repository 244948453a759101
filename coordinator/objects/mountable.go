package objects

import (
	"fmt"
	"slices"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// enforceMountable is the annotation of a ServiceAccount whose pods may use those Secrets only that it names. Upstream calls
// it deprecated, and honours it.
const enforceMountable = "kubernetes.io/enforce-mountable-secrets"

// mountable are the Secrets that pods of an account may use; nil for one whose pods may use any.
func mountable(account *corev1.ServiceAccount) func(name string) bool {
	if account == nil {
		return nil
	}
	if only, err := strconv.ParseBool(account.Annotations[enforceMountable]); err != nil || !only {
		return nil
	}
	return func(name string) bool {
		return slices.ContainsFunc(account.Secrets, func(s corev1.ObjectReference) bool { return s.Name == name })
	}
}

// refuseSecrets refuses a pod that uses a Secret which its account does not name.
func (s *Store) refuseSecrets(pod *corev1.Pod) error {
	account := s.account(pod)
	may := mountable(account)
	if may == nil {
		return nil
	}
	return forbidSecrets(pod, firstOf(
		volumeSecrets(pod, account, may),
		containerSecrets("init container", pod.Spec.InitContainers, account, may),
		containerSecrets("container", pod.Spec.Containers, account, may),
		pullSecrets(pod, account),
	))
}

// refuseEphemeralSecrets is refuseSecrets for the containers that are added to a running pod.
func (s *Store) refuseEphemeralSecrets(pod *corev1.Pod) error {
	account := s.account(pod)
	may := mountable(account)
	if may == nil {
		return nil
	}
	var added []corev1.Container
	for i := range pod.Spec.EphemeralContainers {
		added = append(added, corev1.Container(pod.Spec.EphemeralContainers[i].EphemeralContainerCommon))
	}
	return forbidSecrets(pod, containerSecrets("ephemeral container", added, account, may))
}

func forbidSecrets(pod *corev1.Pod, why error) error {
	if why == nil {
		return nil
	}
	return apierrors.NewForbidden(pods.GroupResource(), pod.Name, why)
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func volumeSecrets(pod *corev1.Pod, account *corev1.ServiceAccount, may func(string) bool) error {
	for i := range pod.Spec.Volumes {
		if source := pod.Spec.Volumes[i].Secret; source != nil && !may(source.SecretName) {
			return fmt.Errorf("volume with secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret", source.SecretName, account.Name)
		}
	}
	return nil
}

func containerSecrets(what string, containers []corev1.Container, account *corev1.ServiceAccount, may func(string) bool) error {
	for i := range containers {
		c := &containers[i]
		for _, env := range c.Env {
			if env.ValueFrom != nil && env.ValueFrom.SecretKeyRef != nil && !may(env.ValueFrom.SecretKeyRef.Name) {
				return fmt.Errorf("%s %s with envVar %s referencing secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret",
					what, c.Name, env.Name, env.ValueFrom.SecretKeyRef.Name, account.Name)
			}
		}
		for _, from := range c.EnvFrom {
			if from.SecretRef != nil && !may(from.SecretRef.Name) {
				return fmt.Errorf("%s %s with envFrom referencing secret.secretName=\"%s\" is not allowed because service account %s does not reference that secret",
					what, c.Name, from.SecretRef.Name, account.Name)
			}
		}
	}
	return nil
}

func pullSecrets(pod *corev1.Pod, account *corev1.ServiceAccount) error {
	for i, ref := range pod.Spec.ImagePullSecrets {
		if !slices.Contains(account.ImagePullSecrets, ref) {
			return fmt.Errorf("imagePullSecrets[%d].name=\"%s\" is not allowed because service account %s does not reference that imagePullSecret", i, ref.Name, account.Name)
		}
	}
	return nil
}
