// Package table renders objects as rows of a meta.k8s.io/v1 Table, the form in which kubectl asks for lists. Columns and
// wording follow the Kubernetes API server, so that people and scripts read what they are used to.
//
// It sits below coordinator/apiserver and is pure: the time is an argument, objects are only read.
package table

import (
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/duration"
)

// Placeholders that kubectl's users know from the Kubernetes API server.
const (
	none    = "<none>"
	unknown = "<unknown>"
	unset   = "<unset>"
)

// Layout is how objects of one kind become rows.
type Layout struct {
	columns []metav1.TableColumnDefinition
	cells   func(obj runtime.Object, now time.Time) []any
}

// For returns the layout of a kind. A kind that has none of its own gets name and age.
func For(kind schema.GroupKind) Layout {
	if l, ok := layouts[kind]; ok {
		return l
	}
	return generic
}

// Columns are the column definitions; those with a priority above zero show up in kubectl's wide output only. The slice
// is shared and must not be changed.
func (l Layout) Columns() []metav1.TableColumnDefinition { return l.columns }

// Row renders one object. The row has one cell per column, wide ones included; its Object is left empty.
func (l Layout) Row(obj runtime.Object, now time.Time) metav1.TableRow {
	row := metav1.TableRow{Cells: l.cells(obj, now)}
	if pod, ok := obj.(*corev1.Pod); ok {
		row.Conditions = podConditions(pod)
	}
	return row
}

// layout ties columns to a typed cell function. An object of another type is rendered by the generic layout's rules,
// padded to the columns: a mistake in the resource table must not take a whole list down.
func layout[T runtime.Object](cells func(T, time.Time) []any, columns ...metav1.TableColumnDefinition) Layout {
	return Layout{columns: columns, cells: func(obj runtime.Object, now time.Time) []any {
		typed, ok := obj.(T)
		if !ok {
			return append(genericCells(obj, now), make([]any, len(columns))...)[:len(columns)]
		}
		return cells(typed, now)
	}}
}

var generic = Layout{columns: []metav1.TableColumnDefinition{name, age}, cells: genericCells}

func genericCells(obj runtime.Object, now time.Time) []any {
	m, err := meta.Accessor(obj)
	if err != nil {
		return []any{unknown, unknown}
	}
	return []any{m.GetName(), since(m.GetCreationTimestamp(), now)}
}

var (
	name = metav1.TableColumnDefinition{Name: "Name", Type: "string", Format: "name", Description: metav1.ObjectMeta{}.SwaggerDoc()["name"]}
	age  = metav1.TableColumnDefinition{Name: "Age", Type: "string", Description: metav1.ObjectMeta{}.SwaggerDoc()["creationTimestamp"]}
)

func text(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "string", Description: description}
}

func number(name, description string) metav1.TableColumnDefinition {
	return metav1.TableColumnDefinition{Name: name, Type: "integer", Description: description}
}

// wide marks a column that only kubectl's wide output shows.
func wide(c metav1.TableColumnDefinition) metav1.TableColumnDefinition {
	c.Priority = 1
	return c
}

// since is how long ago t was, in kubectl's short form.
func since(t metav1.Time, now time.Time) string {
	if t.IsZero() {
		return unknown
	}
	return duration.HumanDuration(now.Sub(t.Time))
}

func sinceMicro(t metav1.MicroTime, now time.Time) string {
	return since(metav1.Time(t), now)
}

// or returns s, or other when s is empty.
func or(s, other string) string {
	if s == "" {
		return other
	}
	return s
}

func selector(s *metav1.LabelSelector) string { return metav1.FormatLabelSelector(s) }

// containers lists names and images of a pod template.
func containers(list []corev1.Container) (names, images string) {
	ns, is := make([]string, len(list)), make([]string, len(list))
	for i, c := range list {
		ns[i], is[i] = c.Name, c.Image
	}
	return strings.Join(ns, ","), strings.Join(is, ",")
}
