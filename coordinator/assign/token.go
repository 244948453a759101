package assign

import (
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/messaging"
)

// Tokens makes tokens of ServiceAccounts: a *token.Issuer.
type Tokens interface {
	// ForPod makes the token of the pod's account for an audience, as if at issued.
	ForPod(pod *corev1.Pod, audience string, seconds int64, issued time.Time) (string, error)
	// AccountUID is the UID of an account, empty when there is none.
	AccountUID(namespace, name string) string
}

// need is a token that a pod's volume asks for. Equal needs are met by the same token: one is made anew when its time of
// issue moves on, which depends on the clock and the pod only, so that a restart makes no new ones.
type need struct {
	audience string
	seconds  int64
	issued   int64  // Unix time
	account  string // UID; empty when the account is gone
}

const (
	defaultLife = time.Hour
	// mountedSeconds is what the volume of every pod asks for; such tokens live for a year. See access/token.
	mountedSeconds = 60*60 + 7
	// longestPeriod is how long a token is used though it would live longer, as in the kubelet.
	longestPeriod = 24 * time.Hour
)

// period is how often a token of that life is made anew: well before it ends, for the node may be cut off just then.
func period(seconds int64) time.Duration {
	life := time.Duration(seconds) * time.Second
	switch {
	case seconds == 0:
		return defaultLife / 2
	case seconds == mountedSeconds, life/2 > longestPeriod:
		return longestPeriod
	}
	return life / 2
}

// issueTime is the start of the period that now is in, which is at another time for each pod.
func issueTime(pod *corev1.Pod, seconds int64, now time.Time) time.Time {
	h := fnv.New64a()
	h.Write([]byte(pod.UID))
	every := period(seconds)
	offset := time.Duration(h.Sum64() % uint64(every)) //nolint:gosec // a period is positive
	return now.Add(offset).Truncate(every).Add(-offset)
}

// projections are the token sources of a pod's volumes.
func projections(pod *corev1.Pod) (out []*corev1.ServiceAccountTokenProjection) {
	for i := range pod.Spec.Volumes {
		p := pod.Spec.Volumes[i].Projected
		if p == nil {
			continue
		}
		for j := range p.Sources {
			if t := p.Sources[j].ServiceAccountToken; t != nil {
				out = append(out, t)
			}
		}
	}
	return out
}

func seconds(t *corev1.ServiceAccountTokenProjection) int64 {
	if t.ExpirationSeconds == nil {
		return 0
	}
	return *t.ExpirationSeconds
}

func (p *Publisher) needs(pod *corev1.Pod, now time.Time) (out []need) {
	if p.Tokens == nil {
		return nil
	}
	for _, t := range projections(pod) {
		n := need{audience: t.Audience, seconds: seconds(t), issued: issueTime(pod, seconds(t), now).Unix()}
		n.account = p.Tokens.AccountUID(pod.Namespace, pod.Spec.ServiceAccountName)
		out = append(out, n)
	}
	return out
}

// orphaned reports whether a token is needed that cannot be made.
func orphaned(needs []need) bool {
	for _, n := range needs {
		if n.account == "" {
			return true
		}
	}
	return false
}

// describe is what the digest covers of tokens.
func describe(needs []need) (out []string) {
	for _, n := range needs {
		out = append(out, fmt.Sprintf("%s %d %d %s", n.audience, n.seconds, n.issued, n.account))
	}
	return out
}

// mint adds the tokens to what is sealed to the node.
func (p *Publisher) mint(pod *corev1.Pod, needs []need, secrets map[string]map[string][]byte) error {
	for _, n := range needs {
		if n.account == "" {
			continue // the node says that it has none
		}
		text, err := p.Tokens.ForPod(pod, n.audience, n.seconds, time.Unix(n.issued, 0))
		if err != nil {
			return err
		}
		secrets[messaging.TokenSecret(n.audience, n.seconds)] = map[string][]byte{messaging.TokenKey: []byte(text)}
	}
	return nil
}

// note remembers when the first of all tokens is to be made anew.
func (p *Publisher) note(pod *corev1.Pod, now time.Time) {
	if p.Tokens == nil {
		return
	}
	for _, t := range projections(pod) {
		next := issueTime(pod, seconds(t), now).Add(period(seconds(t)))
		if p.stale.IsZero() || next.Before(p.stale) {
			p.stale = next
		}
	}
}

// staleAfter gets a value when a token is to be made anew; nil when none ever is.
func (p *Publisher) staleAfter() <-chan time.Time {
	if p.stale.IsZero() {
		return nil
	}
	return time.After(time.Until(p.stale) + time.Second) // past the second in which the period ends
}
