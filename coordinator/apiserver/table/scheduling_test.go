package table_test

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	schedulingv1 "k8s.io/api/scheduling/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"skerry.dev/skerry/coordinator/apiserver/table"
)

func TestPriorityClassRow(t *testing.T) {
	layout := table.For(schema.GroupKind{Group: "scheduling.k8s.io", Kind: "PriorityClass"})
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	never := corev1.PreemptNever
	class := &schedulingv1.PriorityClass{
		ObjectMeta: metav1.ObjectMeta{Name: "urgent", CreationTimestamp: metav1.NewTime(now.Add(-time.Hour))}, Value: 1000, PreemptionPolicy: &never,
	}
	if got, want := fmt.Sprint(layout.Row(class, now).Cells), "[urgent 1000 false 60m Never]"; got != want || len(layout.Columns()) != 5 {
		t.Errorf("%s in %d columns, want %s in 5", got, len(layout.Columns()), want)
	}
}
