package job

import (
	"slices"
	"strconv"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"skerry.dev/skerry/coordinator/controller"
)

func indexed(job *batchv1.Job) bool {
	return job.Spec.CompletionMode != nil && *job.Spec.CompletionMode == batchv1.IndexedCompletion && job.Spec.Completions != nil
}

// indexOf is the pod's completion index, -1 when it has none.
func indexOf(pod *corev1.Pod) int {
	i, err := strconv.Atoi(pod.Annotations[batchv1.JobCompletionIndexAnnotation])
	if err != nil || i < 0 {
		return -1
	}
	return i
}

// tallyIndexes finds the indexes that have succeeded or are given up, and the pods whose end waits for a successor.
func (w *work) tallyIndexes() {
	completions := int(*w.job.Spec.Completions)
	w.completed = parseIntervals(w.job.Status.CompletedIndexes, completions)
	if w.job.Status.FailedIndexes != nil {
		w.abandoned = parseIntervals(*w.job.Status.FailedIndexes, completions)
	}
	for _, pod := range w.pods {
		if tracked(pod) && w.valid(pod) && pod.Status.Phase == corev1.PodSucceeded && !w.notedFailed(pod) {
			w.completed = w.completed.with(indexOf(pod))
		}
	}
	w.succeeded = int32(w.completed.total())
	if w.job.Spec.BackoffLimitPerIndex == nil {
		return
	}
	for _, pod := range w.pods {
		if tracked(pod) && w.valid(pod) && w.indexFailed(pod) && !w.completed.has(indexOf(pod)) {
			w.abandoned = w.abandoned.with(indexOf(pod))
		}
	}
	w.delay()
}

// indexFailed reports that the pod's failure was one too many for its index.
func (w *work) indexFailed(pod *corev1.Pod) bool {
	if !w.podFailed(pod) {
		return false
	}
	action, counts := w.judge(pod)
	return action == batchv1.PodFailurePolicyActionFailIndex || counts && failuresBefore(pod) >= *w.job.Spec.BackoffLimitPerIndex
}

// delay finds the last failed pod of each index that has no successor yet: it stays until there is one, which starts with
// its count of failures.
func (w *work) delay() {
	w.delayed = map[int]*corev1.Pod{}
	busy := indexesOf(w.active)
	for _, pod := range w.pods {
		i := indexOf(pod)
		if !tracked(pod) || !w.valid(pod) || !w.podFailed(pod) || w.completed.has(i) || w.abandoned.has(i) || busy.has(i) {
			continue
		}
		if last := w.delayed[i]; last == nil || later(pod, last) {
			w.delayed[i] = pod
		}
	}
}

func later(pod, than *corev1.Pod) bool {
	a, b := failuresBefore(pod)+ignoredBefore(pod), failuresBefore(than)+ignoredBefore(than)
	return a > b || a == b && controller.PodEnd(pod).After(controller.PodEnd(than))
}

func failuresBefore(pod *corev1.Pod) int32 {
	return annotated(pod, batchv1.JobIndexFailureCountAnnotation)
}

func ignoredBefore(pod *corev1.Pod) int32 {
	return annotated(pod, batchv1.JobIndexIgnoredFailureCountAnnotation)
}

func annotated(pod *corev1.Pod, name string) int32 {
	n, err := strconv.ParseInt(pod.Annotations[name], 10, 32)
	if err != nil || n < 0 {
		return 0
	}
	return int32(n)
}

// pending are the first count indexes for which nothing is done or under way.
func (w *work) pending(count int) []int {
	taken := w.completed.merge(w.abandoned).merge(indexesOf(w.active))
	if replaceFailedOnly(w.job) {
		taken = taken.merge(indexesOf(w.terminating))
	}
	var free []int
	next := 0
	for _, t := range append(taken, interval{int(*w.job.Spec.Completions), int(*w.job.Spec.Completions)}) {
		for ; next < t.first && next < int(*w.job.Spec.Completions) && len(free) < count; next++ {
			free = append(free, next)
		}
		next = max(next, t.last+1)
	}
	return free
}

func indexesOf(pods []*corev1.Pod) intervals {
	var found []int
	for _, pod := range pods {
		if i := indexOf(pod); i >= 0 {
			found = append(found, i)
		}
	}
	slices.Sort(found)
	var all intervals
	for _, i := range found {
		all = all.merge(intervals{{i, i}})
	}
	return all
}

// superfluous splits active pods of an Indexed Job: those with an index that it has not, or that another one has too, and
// the others.
func (w *work) superfluous(active []*corev1.Pod) (surplus, left []*corev1.Pod) {
	best := map[int]*corev1.Pod{}
	for _, pod := range controller.Weakest(active) {
		best[indexOf(pod)] = pod // the strongest comes last
	}
	for _, pod := range active {
		if w.valid(pod) && best[indexOf(pod)] == pod {
			left = append(left, pod)
		} else {
			surplus = append(surplus, pod)
		}
	}
	return surplus, left
}

// interval is a run of indexes, both ends included.
type interval struct{ first, last int }

// intervals are disjoint, apart by more than one, and ascending.
type intervals []interval

// parseIntervals reads what String writes. Indexes beyond completions and what is no number are left out.
func parseIntervals(text string, completions int) intervals {
	var all intervals
	for word := range strings.SplitSeq(text, ",") {
		a, b, isRange := strings.Cut(word, "-")
		first, err := strconv.Atoi(a)
		if err != nil || first < 0 || first >= completions {
			continue
		}
		last := first
		if isRange {
			if last, err = strconv.Atoi(b); err != nil || last < first {
				continue
			}
		}
		all = all.merge(intervals{{first, min(last, completions-1)}})
	}
	return all
}

func (v intervals) with(i int) intervals { return v.merge(intervals{{i, i}}) }

func (v intervals) merge(others intervals) intervals {
	var all intervals
	for len(v) > 0 || len(others) > 0 {
		var next interval
		if len(others) == 0 || len(v) > 0 && v[0].first <= others[0].first {
			next, v = v[0], v[1:]
		} else {
			next, others = others[0], others[1:]
		}
		if n := len(all); n > 0 && next.first <= all[n-1].last+1 {
			all[n-1].last = max(all[n-1].last, next.last)
		} else {
			all = append(all, next)
		}
	}
	return all
}

func (v intervals) total() int {
	n := 0
	for _, i := range v {
		n += i.last - i.first + 1
	}
	return n
}

func (v intervals) has(index int) bool {
	n, _ := slices.BinarySearchFunc(v, index, func(i interval, index int) int { return i.last - index })
	return n < len(v) && v[n].first <= index
}

// common is how many indexes both have.
func (v intervals) common(others intervals) int {
	n := 0
	for len(v) > 0 && len(others) > 0 {
		n += max(0, min(v[0].last, others[0].last)-max(v[0].first, others[0].first)+1)
		if v[0].last < others[0].last {
			v = v[1:]
		} else {
			others = others[1:]
		}
	}
	return n
}

// String is the form of a Job's status: "1,3-5"; two neighbours are "1,2".
func (v intervals) String() string {
	var words []string
	for _, i := range v {
		switch first := strconv.Itoa(i.first); i.last - i.first {
		case 0:
			words = append(words, first)
		case 1:
			words = append(words, first, strconv.Itoa(i.last))
		default:
			words = append(words, first+"-"+strconv.Itoa(i.last))
		}
	}
	return strings.Join(words, ",")
}
