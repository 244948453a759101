package store

import (
	"fmt"
	"strings"

	"skerry.dev/skerry/messaging"
)

// Key names an object. Kind is the resource with its group, as in "pods" or "deployments.apps"; Namespace is empty for
// cluster-scoped objects.
type Key struct{ Kind, Namespace, Name string }

// String is kind/namespace/name, for messages.
func (k Key) String() string {
	if k.Namespace == "" {
		return k.Kind + "/" + k.Name
	}
	return k.Kind + "/" + k.Namespace + "/" + k.Name
}

const subjectPrefix = "$KV.state."

// epochSubject has one token less than an object's subject, so that it can never be one.
const epochSubject = subjectPrefix + "leases.epoch"

func (k Key) subject() string {
	return subjectPrefix + messaging.Token(k.Kind) + "." + messaging.Token(k.Namespace) + "." + messaging.Token(k.Name)
}

func (k Key) validate() error {
	if k.Kind == "" || k.Name == "" {
		return fmt.Errorf("key %q has no kind or no name", k.String())
	}
	return nil
}

// parseSubject undoes subject.
func parseSubject(subject string) (Key, error) {
	rest, ok := strings.CutPrefix(subject, subjectPrefix)
	tokens := strings.Split(rest, ".")
	if !ok || len(tokens) != 3 {
		return Key{}, fmt.Errorf("subject %q is not an object's", subject)
	}
	var texts [3]string
	for i, token := range tokens {
		text, err := messaging.ParseToken(token)
		if err != nil {
			return Key{}, fmt.Errorf("subject %q: %w", subject, err)
		}
		texts[i] = text
	}
	key := Key{Kind: texts[0], Namespace: texts[1], Name: texts[2]}
	return key, key.validate()
}
