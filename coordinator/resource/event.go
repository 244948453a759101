package resource

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// eventToCore converts an events.k8s.io/v1 Event to the stored core one, field by field as upstream's conversion does.
func eventToCore(obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*eventsv1.Event)
	if !ok {
		return nil, fmt.Errorf("convert %T to a core event: not an events.k8s.io/v1 Event", obj)
	}
	out := &corev1.Event{
		ObjectMeta:          *in.ObjectMeta.DeepCopy(),
		InvolvedObject:      in.Regarding,
		Related:             in.Related.DeepCopy(),
		Reason:              in.Reason,
		Message:             in.Note,
		Type:                in.Type,
		Action:              in.Action,
		EventTime:           *in.EventTime.DeepCopy(),
		ReportingController: in.ReportingController,
		ReportingInstance:   in.ReportingInstance,
		Source:              in.DeprecatedSource,
		FirstTimestamp:      *in.DeprecatedFirstTimestamp.DeepCopy(),
		LastTimestamp:       *in.DeprecatedLastTimestamp.DeepCopy(),
		Count:               in.DeprecatedCount,
	}
	if in.Series != nil {
		out.Series = &corev1.EventSeries{Count: in.Series.Count, LastObservedTime: *in.Series.LastObservedTime.DeepCopy()}
	}
	out.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Event"))
	return out, nil
}

// eventFromCore undoes eventToCore.
func eventFromCore(obj runtime.Object) (runtime.Object, error) {
	in, ok := obj.(*corev1.Event)
	if !ok {
		return nil, fmt.Errorf("convert %T to an events.k8s.io/v1 Event: not a core Event", obj)
	}
	out := &eventsv1.Event{
		ObjectMeta:               *in.ObjectMeta.DeepCopy(),
		Regarding:                in.InvolvedObject,
		Related:                  in.Related.DeepCopy(),
		Reason:                   in.Reason,
		Note:                     in.Message,
		Type:                     in.Type,
		Action:                   in.Action,
		EventTime:                *in.EventTime.DeepCopy(),
		ReportingController:      in.ReportingController,
		ReportingInstance:        in.ReportingInstance,
		DeprecatedSource:         in.Source,
		DeprecatedFirstTimestamp: *in.FirstTimestamp.DeepCopy(),
		DeprecatedLastTimestamp:  *in.LastTimestamp.DeepCopy(),
		DeprecatedCount:          in.Count,
	}
	if in.Series != nil {
		out.Series = &eventsv1.EventSeries{Count: in.Series.Count, LastObservedTime: *in.Series.LastObservedTime.DeepCopy()}
	}
	out.SetGroupVersionKind(eventsv1.SchemeGroupVersion.WithKind("Event"))
	return out, nil
}
