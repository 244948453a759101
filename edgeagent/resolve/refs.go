package resolve

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/messaging"
)

// Refs is everything that a pod may refer to.
type Refs struct {
	Pod        *corev1.Pod
	PodIPs     []string                     // empty before the sandbox exists
	HostIPs    []string                     // of the node
	ConfigMaps map[string]map[string][]byte // by name
	Secrets    map[string]map[string][]byte // by name, sealed
	Claims     map[string]messaging.Claim   // by name, those that have a volume
	// Open unseals a secret's value.
	Open func(sealed []byte) ([]byte, error)
	// Allocatable is what a container without a limit may use, for resource fields.
	Allocatable corev1.ResourceList
	// Services become environment variables, those of the pod's namespace.
	Services []messaging.ServicePort
}

// MissingError says that something the pod needs is not there.
type MissingError struct {
	Kind string // configmap, secret or bound persistentvolumeclaim
	Name string
	Key  string // empty when the object itself is missing
	Pod  *corev1.Pod
}

func (e *MissingError) Error() string {
	if e.Key == "" {
		return fmt.Sprintf("%s %q not found", e.Kind, e.Name)
	}
	kind := map[string]string{"configmap": "ConfigMap", "secret": "Secret"}[e.Kind]
	return fmt.Sprintf("couldn't find key %s in %s %s/%s", e.Key, kind, e.Pod.Namespace, e.Name)
}

// ConfigMap returns a config map's data; nil and no error when it is missing and optional.
func (r Refs) ConfigMap(name string, optional *bool) (map[string][]byte, error) {
	data, ok := r.ConfigMaps[name]
	if !ok && !isTrue(optional) {
		return nil, &MissingError{Kind: "configmap", Name: name, Pod: r.Pod}
	}
	return data, nil
}

// Claim returns the volume behind a claim.
func (r Refs) Claim(name string) (messaging.Claim, error) {
	claim, ok := r.Claims[name]
	if !ok {
		return messaging.Claim{}, &MissingError{Kind: "bound persistentvolumeclaim", Name: name, Pod: r.Pod}
	}
	return claim, nil
}

// Secret returns a secret's data, opened; nil and no error when it is missing and optional.
func (r Refs) Secret(name string, optional *bool) (map[string][]byte, error) {
	sealed, ok := r.Secrets[name]
	if !ok {
		if isTrue(optional) {
			return nil, nil
		}
		return nil, &MissingError{Kind: "secret", Name: name, Pod: r.Pod}
	}
	data := make(map[string][]byte, len(sealed))
	for key, value := range sealed {
		plain, err := r.Open(value)
		if err != nil {
			return nil, fmt.Errorf("open secret %q, key %s: %w", name, key, err)
		}
		data[key] = plain
	}
	return data, nil
}

// Token returns the service account token that a projected volume asks for.
func (r Refs) Token(s *corev1.ServiceAccountTokenProjection) ([]byte, error) {
	seconds := int64(0)
	if s.ExpirationSeconds != nil {
		seconds = *s.ExpirationSeconds
	}
	sealed, ok := r.Secrets[messaging.TokenSecret(s.Audience, seconds)][messaging.TokenKey]
	if !ok {
		return nil, fmt.Errorf("no token of service account %q for audience %q", r.Pod.Spec.ServiceAccountName, s.Audience)
	}
	token, err := r.Open(sealed)
	if err != nil {
		return nil, fmt.Errorf("open service account token: %w", err)
	}
	return token, nil
}

// secretKey opens one key only.
func (r Refs) secretKey(s *corev1.SecretKeySelector) (string, bool, error) {
	sealed, ok := r.Secrets[s.Name]
	if !ok {
		return "", false, unless(s.Optional, &MissingError{Kind: "secret", Name: s.Name, Pod: r.Pod})
	}
	value, ok := sealed[s.Key]
	if !ok {
		return "", false, unless(s.Optional, &MissingError{Kind: "secret", Name: s.Name, Key: s.Key, Pod: r.Pod})
	}
	plain, err := r.Open(value)
	if err != nil {
		return "", false, fmt.Errorf("open secret %q, key %s: %w", s.Name, s.Key, err)
	}
	return string(plain), true, nil
}

func (r Refs) configMapKey(s *corev1.ConfigMapKeySelector) (string, bool, error) {
	data, ok := r.ConfigMaps[s.Name]
	if !ok {
		return "", false, unless(s.Optional, &MissingError{Kind: "configmap", Name: s.Name, Pod: r.Pod})
	}
	value, ok := data[s.Key]
	if !ok {
		return "", false, unless(s.Optional, &MissingError{Kind: "configmap", Name: s.Name, Key: s.Key, Pod: r.Pod})
	}
	return string(value), true, nil
}

func unless(optional *bool, err error) error {
	if isTrue(optional) {
		return nil
	}
	return err
}

func isTrue(b *bool) bool { return b != nil && *b }
