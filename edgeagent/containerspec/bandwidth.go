package containerspec

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Annotations that limit a pod's traffic, in bits per second: those of pkg/util/bandwidth of Kubernetes, with its bounds.
const (
	IngressBandwidth = "kubernetes.io/ingress-bandwidth"
	EgressBandwidth  = "kubernetes.io/egress-bandwidth"

	minBandwidth = 1_000
	maxBandwidth = 1_000_000_000_000_000
)

// Bandwidth returns the limits of what comes to a pod and what leaves it in bits per second; zero is none.
func Bandwidth(p *corev1.Pod) (ingress, egress uint64, err error) {
	if ingress, err = bandwidth(p, IngressBandwidth); err != nil {
		return 0, 0, err
	}
	egress, err = bandwidth(p, EgressBandwidth)
	return ingress, egress, err
}

func bandwidth(p *corev1.Pod, annotation string) (uint64, error) {
	text, ok := p.Annotations[annotation]
	if !ok {
		return 0, nil
	}
	rate, err := resource.ParseQuantity(text)
	switch {
	case err != nil:
		return 0, fmt.Errorf("annotation %s %.40q: %w", annotation, text, err)
	case rate.Value() < minBandwidth:
		return 0, fmt.Errorf("annotation %s: resource is unreasonably small (< 1kbit)", annotation)
	case rate.Value() > maxBandwidth:
		return 0, fmt.Errorf("annotation %s: resource is unreasonably large (> 1Pbit)", annotation)
	}
	return uint64(rate.Value()), nil //nolint:gosec // between the bounds
}
