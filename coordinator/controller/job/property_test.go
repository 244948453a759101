package job_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/coordinator/controller"
	"skerry.dev/skerry/coordinator/controller/controllertest"
	"skerry.dev/skerry/coordinator/controller/job"
)

// TestCountsSurviveCrashes runs Jobs in a world where any part of a plan's changes may be lost (the coordinator dies, the
// store refuses), pods end and vanish at any time. What the Job's status says in the end must be what happened.
func TestCountsSurviveCrashes(t *testing.T) {
	for seed := range uint64(300) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			f := &fate{T: t, random: rand.New(rand.NewPCG(seed, 1)), w: controllertest.New(), ends: map[types.UID]corev1.PodPhase{}}
			f.run()
		})
	}
}

type fate struct {
	*testing.T
	random *rand.Rand
	w      *controllertest.World
	ends   map[types.UID]corev1.PodPhase // how pods ended
}

func (f *fate) run() {
	j := newJob("work")
	completions, parallelism, backoff := int32(1+f.random.IntN(5)), int32(1+f.random.IntN(4)), int32(1000)
	j.Spec.Completions, j.Spec.Parallelism, j.Spec.BackoffLimit = &completions, &parallelism, &backoff
	indexed := f.random.IntN(2) == 0
	if indexed {
		mode := batchv1.IndexedCompletion
		j.Spec.CompletionMode = &mode
	}
	f.w.Put(j)
	for range 400 {
		f.pass()
		f.happen()
		f.check(parallelism)
		if f.job().Status.CompletionTime != nil {
			break
		}
	}
	f.verify(completions, indexed)
}

func (f *fate) job() *batchv1.Job {
	j, ok := f.w.Get(named("work")).(*batchv1.Job)
	if !ok {
		f.Fatal("the Job is gone")
	}
	return j
}

// pass performs the plan's changes, each with a chance to be lost.
func (f *fate) pass() {
	changes, _ := job.Plan(f.w.Snapshot(), f.w.Now)
	for _, c := range changes {
		if f.random.IntN(4) > 0 {
			f.w.Perform([]controller.Change{c})
		}
	}
}

// happen lets time pass, and one pod end, be deleted or be gone.
func (f *fate) happen() {
	f.w.Now = f.w.Now.Add(time.Duration(f.random.IntN(900)) * time.Second)
	place(f.w)
	pods := f.w.Snapshot().Pods
	if len(pods) == 0 {
		return
	}
	pod := pods[f.random.IntN(len(pods))]
	switch f.random.IntN(4) {
	case 0:
		f.end(pod, corev1.PodSucceeded)
	case 1:
		f.end(pod, corev1.PodFailed)
	case 2:
		if pod.DeletionTimestamp == nil && f.random.IntN(3) == 0 {
			f.w.Perform([]controller.Change{{Verb: controller.Delete, Object: pod}})
		}
	case 3:
		if pod.DeletionTimestamp != nil {
			f.w.Stop(pod)
		}
	}
}

func (f *fate) end(pod *corev1.Pod, phase corev1.PodPhase) {
	if controller.PodFinished(pod) || pod.DeletionTimestamp != nil {
		return
	}
	pod = pod.DeepCopy()
	pod.Status.Phase = phase
	f.ends[pod.UID] = phase
	f.w.Put(pod)
}

func (f *fate) check(parallelism int32) {
	active := int32(0)
	for _, pod := range f.w.Snapshot().Pods {
		if controller.PodActive(pod) {
			active++
		}
	}
	if active > parallelism {
		f.Fatalf("%d pods at work, at most %d were wanted", active, parallelism)
	}
}

func (f *fate) verify(completions int32, indexed bool) {
	f.w.Now = f.w.Now.Add(time.Hour)
	for range 20 { // what still runs is let go
		for _, pod := range f.w.Snapshot().Pods {
			if pod.DeletionTimestamp != nil {
				f.w.Stop(pod)
			}
		}
		if changes, _ := job.Plan(f.w.Snapshot(), f.w.Now); len(changes) > 0 {
			f.w.Perform(changes)
		}
	}
	s := f.job().Status
	if !indexed {
		succeeded := int32(0)
		for _, phase := range f.ends {
			if phase == corev1.PodSucceeded {
				succeeded++
			}
		}
		if s.Succeeded != succeeded {
			f.Errorf("succeeded %d, want %d", s.Succeeded, succeeded)
		}
	}
	if s.CompletionTime == nil {
		return // bad luck all the time
	}
	if s.Succeeded < completions || indexed && s.Succeeded != completions {
		f.Errorf("complete with %d of %d", s.Succeeded, completions)
	}
	for _, pod := range f.w.Snapshot().Pods {
		if len(pod.Finalizers) > 0 {
			f.Errorf("pod %s is held though the Job is over", pod.Name)
		}
	}
}
