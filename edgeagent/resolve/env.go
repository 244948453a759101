package resolve

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/messaging"
)

// Env returns a container's environment, sorted, as KEY=value: what the spec names, in the kubelet's order of precedence
// (env over envFrom over services), with $(NAME) expanded. The image's own environment comes below all of it and is the
// caller's. A missing config map or secret is a *MissingError.
func (r Refs) Env(c *corev1.Container) ([]string, error) {
	services := r.serviceEnv()
	env := map[string]string{}
	for _, from := range c.EnvFrom {
		if err := r.addAll(env, from); err != nil {
			return nil, err
		}
	}
	for _, v := range c.Env {
		value, ok, err := r.value(v, c, env, services)
		if err != nil {
			return nil, fmt.Errorf("environment variable %s: %w", v.Name, err)
		}
		if ok {
			env[v.Name] = value
		}
	}
	for key, value := range services {
		if _, taken := env[key]; !taken {
			env[key] = value
		}
	}
	return lines(env), nil
}

func lines(env map[string]string) []string {
	out := make([]string, 0, len(env))
	for _, key := range slices.Sorted(maps.Keys(env)) {
		out = append(out, key+"="+env[key])
	}
	return out
}

func (r Refs) addAll(env map[string]string, from corev1.EnvFromSource) error {
	var data map[string][]byte
	var err error
	switch {
	case from.ConfigMapRef != nil:
		data, err = r.ConfigMap(from.ConfigMapRef.Name, from.ConfigMapRef.Optional)
	case from.SecretRef != nil:
		data, err = r.Secret(from.SecretRef.Name, from.SecretRef.Optional)
	}
	if err != nil {
		return err
	}
	for key, value := range data {
		if name := from.Prefix + key; validName(name) {
			env[name] = string(value)
		}
	}
	return nil
}

// validName leaves out what no process could read: the same keys that a kubelet skips.
func validName(name string) bool { return name != "" && !strings.ContainsAny(name, "=\x00") }

func (r Refs) value(v corev1.EnvVar, c *corev1.Container, env, services map[string]string) (string, bool, error) {
	from := v.ValueFrom
	switch {
	case from == nil:
		return Expand(v.Value, func(name string) (string, bool) {
			if value, ok := env[name]; ok {
				return value, true
			}
			value, ok := services[name]
			return value, ok
		}), true, nil
	case from.FieldRef != nil:
		value, err := r.Field(from.FieldRef.FieldPath)
		return value, true, err
	case from.ResourceFieldRef != nil:
		value, err := r.ResourceField(from.ResourceFieldRef, c)
		return value, true, err
	case from.ConfigMapKeyRef != nil:
		return r.configMapKey(from.ConfigMapKeyRef)
	case from.SecretKeyRef != nil:
		return r.secretKey(from.SecretKeyRef)
	default:
		return "", false, fmt.Errorf("source %v is not supported", from)
	}
}

// serviceEnv names the API, and the services of the pod's namespace as Docker links did if the pod wants that.
func (r Refs) serviceEnv() map[string]string {
	env := map[string]string{}
	links := r.Pod.Spec.EnableServiceLinks == nil || *r.Pod.Spec.EnableServiceLinks
	ownName := false // a service of the pod's own namespace takes the API's name
	for _, s := range r.Services {
		if s.Namespace == r.Pod.Namespace && s.ClusterIP != "" && links && !s.IsAPI() {
			addService(env, s)
			ownName = ownName || s.Name == "kubernetes"
		}
	}
	for _, s := range r.Services {
		if s.IsAPI() && !ownName {
			addService(env, s)
		}
	}
	return env
}

func addService(env map[string]string, s messaging.ServicePort) {
	name := strings.ToUpper(strings.ReplaceAll(s.Name, "-", "_"))
	port, protocol := strconv.Itoa(int(s.Port)), strings.ToLower(s.Protocol)
	if _, known := env[name+"_SERVICE_HOST"]; !known {
		env[name+"_SERVICE_HOST"] = s.ClusterIP
		env[name+"_SERVICE_PORT"] = port
		env[name+"_PORT"] = protocol + "://" + s.ClusterIP + ":" + port
	}
	if s.PortName != "" {
		env[name+"_SERVICE_PORT_"+strings.ToUpper(strings.ReplaceAll(s.PortName, "-", "_"))] = port
	}
	prefix := name + "_PORT_" + port + "_" + strings.ToUpper(s.Protocol)
	env[prefix] = protocol + "://" + s.ClusterIP + ":" + port
	env[prefix+"_PROTO"], env[prefix+"_PORT"], env[prefix+"_ADDR"] = protocol, port, s.ClusterIP
}

// Expand replaces $(NAME) by what lookup knows; an unknown name stays as it is, and $$ is a single $. It is the rule of
// k8s.io/kubernetes/third_party/forked/golang/expansion.
func Expand(s string, lookup func(name string) (string, bool)) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '$' || i+1 == len(s) {
			b.WriteByte(s[i])
			continue
		}
		text, used := reference(s[i:], lookup)
		b.WriteString(text)
		i += used - 1
	}
	return b.String()
}

// reference reads what follows a "$", which s begins with and which is not its last byte.
func reference(s string, lookup func(string) (string, bool)) (text string, used int) {
	switch s[1] {
	case '$':
		return "$", 2
	case '(':
		end := strings.IndexByte(s, ')')
		if end < 0 {
			return "$(", 2
		}
		if value, ok := lookup(s[2:end]); ok {
			return value, end + 1
		}
		return s[:end+1], end + 1
	default:
		return s[:2], 2
	}
}
