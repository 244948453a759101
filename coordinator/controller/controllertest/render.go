package controllertest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"skerry.dev/skerry/coordinator/controller"
)

func title(o controller.Object) string {
	kind := strings.ToLower(Kind(o).Kind)
	if ns := o.GetNamespace(); ns != "" && ns != "default" {
		return kind + " " + ns + "/" + o.GetName()
	}
	return kind + " " + o.GetName()
}

// name replaces the names of created pods by their aliases.
func (w *World) name(line string) string {
	pairs := make([]string, 0, 2*len(w.aliases))
	for _, long := range slices.Sorted(maps.Keys(w.aliases)) {
		pairs = append(pairs, long, w.aliases[long])
	}
	return strings.NewReplacer(pairs...).Replace(line)
}

func details(o controller.Object) string {
	switch o := o.(type) {
	case *corev1.Pod:
		if o.Spec.NodeName != "" {
			return " on " + o.Spec.NodeName
		}
	case *discoveryv1.EndpointSlice:
		return whole(leaves(o), "endpoints") + whole(leaves(o), "ports")
	}
	return ""
}

func deleteDetails(c controller.Change, old controller.Object) string {
	text := details(old)
	if c.Grace != nil {
		text += fmt.Sprintf(" grace %d", *c.Grace)
	}
	if c.Propagation != "" {
		text += " " + string(c.Propagation)
	}
	return text
}

// ignored fields differ in every write.
var ignored = map[string]bool{"metadata.resourceVersion": true, "metadata.generation": true}

// difference lists the leaves that differ between two objects, and elements of lists that came or went as one line each.
func difference(old, changed controller.Object) string {
	a, b := leaves(old), leaves(changed)
	var lines []string
	said := map[string]bool{}
	for _, path := range slices.Sorted(maps.Keys(union(a, b))) {
		if a[path] == b[path] || ignored[path] {
			continue
		}
		line := change(path, a[path], b[path])
		switch element := elementOf(path); {
		case element != "" && !has(a, element):
			path, line = element, "+ "+element+whole(b, element)
		case element != "" && !has(b, element):
			path, line = element, "- "+element
		}
		if !said[path] {
			said[path] = true
			lines = append(lines, "\n    "+line)
		}
	}
	return strings.Join(lines, "")
}

// elementOf is the path of the list element that the leaf is in, empty when it is in none.
func elementOf(path string) string { return path[:strings.LastIndex(path, "]")+1] }

func has(leaves map[string]string, element string) bool {
	for path := range leaves {
		if strings.HasPrefix(path, element) {
			return true
		}
	}
	return false
}

// whole prints an element's leaves, without times and what its label says.
func whole(leaves map[string]string, element string) string {
	var text strings.Builder
	for _, path := range slices.Sorted(maps.Keys(leaves)) {
		name, inside := strings.CutPrefix(path, element)
		name = strings.TrimPrefix(name, ".")
		if !inside || name == "type" || name == "key" || name == "effect" || strings.HasSuffix(name, "Time") || strings.HasPrefix(name, "time") {
			continue
		}
		if name == "" {
			return " " + leaves[path]
		}
		fmt.Fprintf(&text, " %s=%q", name, leaves[path])
	}
	return text.String()
}

func change(path, from, to string) string {
	switch {
	case from == "":
		return fmt.Sprintf("+ %s: %s", path, to)
	case to == "":
		return fmt.Sprintf("- %s: %s", path, from)
	}
	return fmt.Sprintf("~ %s: %s -> %s", path, from, to)
}

func union(a, b map[string]string) map[string]bool {
	all := make(map[string]bool, len(a)+len(b))
	for k := range a {
		all[k] = true
	}
	for k := range b {
		all[k] = true
	}
	return all
}

func leaves(o controller.Object) map[string]string {
	raw, err := json.Marshal(o)
	if err != nil {
		panic(err) // every API object marshals
	}
	var tree any
	if err := json.Unmarshal(raw, &tree); err != nil {
		panic(err)
	}
	flat := map[string]string{}
	flatten("", tree, flat)
	return flat
}

func flatten(path string, v any, into map[string]string) {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			flatten(join(path, k), x, into)
		}
	case []any:
		for i, x := range v {
			flatten(fmt.Sprintf("%s[%s]", path, label(x, i)), x, into)
		}
	case string:
		into[path] = v
	default:
		text, err := json.Marshal(v)
		if err != nil {
			panic(err)
		}
		into[path] = string(text)
	}
}

// label names a list's element by what the API merges it by, so that an inserted element does not move the others.
func label(x any, i int) string {
	m, ok := x.(map[string]any)
	if !ok {
		return fmt.Sprint(i)
	}
	parts := []string{}
	for _, k := range []string{"type", "key", "effect", "name", "uid"} {
		if s, ok := m[k].(string); ok {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return fmt.Sprint(i)
	}
	return strings.Join(parts, ",")
}

func join(path, k string) string {
	if path == "" {
		return k
	}
	return path + "." + k
}

// Table prints the pods: name, node, phase, and what makes them special, sorted by alias.
func (w *World) Table() []string {
	var lines []string
	for _, o := range w.objects {
		if pod, ok := o.(*corev1.Pod); ok {
			lines = append(lines, w.name(row(pod)))
		}
	}
	sort.Strings(lines)
	return lines
}

func row(pod *corev1.Pod) string {
	node := pod.Spec.NodeName
	if node == "" {
		node = "-"
	}
	text := fmt.Sprintf("%s on %s %s", pod.Name, node, pod.Status.Phase)
	if controller.PodReady(pod) {
		text += " ready"
	}
	if pod.DeletionTimestamp != nil {
		text += " terminating"
	}
	return text
}

// Aliases replaces the names of created pods in lines, in place, and returns them.
func (w *World) Aliases(lines []string) []string {
	for i := range lines {
		lines[i] = w.name(lines[i])
	}
	return lines
}
