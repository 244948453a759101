package eviction

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestScripts plays every script of testdata. Lines set thresholds, pods, and what is measured; "at" decides at that time,
// and once more when the plan asks to reclaim first. The golden file has the plans.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { checkScript(t, file) })
	}
}

func checkScript(t *testing.T, file string) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	s := &script{T: t, config: Config{Transition: 5 * time.Minute}, snapshot: Snapshot{Signals: map[Signal]Amount{}}}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			s.play(strings.Fields(line))
		}
	}
	golden := strings.TrimSuffix(file, ".txt") + ".golden"
	if *update {
		if err := os.WriteFile(golden, []byte(s.out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatalf("%v (run with -update to make it)", err)
	}
	if diff := cmp.Diff(string(want), s.out.String()); diff != "" {
		t.Errorf("%s (-want +got; run with -update when the new result is right):\n%s", golden, diff)
	}
}

type script struct {
	*testing.T
	settings Settings
	config   Config
	state    State
	snapshot Snapshot
	out      strings.Builder
}

func (s *script) play(f []string) {
	switch f[0] {
	case "hard":
		s.settings.Hard = f[1]
	case "soft":
		s.settings.Soft, s.settings.SoftGracePeriod = f[1], f[2]
	case "reclaim":
		s.settings.MinimumReclaim = f[1]
	case "max-grace":
		s.config.MaxGrace = s.duration(f[1])
	case "signal":
		left, all, _ := strings.Cut(f[2], "/")
		s.snapshot.Signals[Signal(f[1])] = Amount{s.number(left), s.number(all)}
	case "pod":
		s.snapshot.Pods = append(s.snapshot.Pods, s.pod(f))
	case "use":
		s.use(s.find(f[1]), f[2:])
	case "ending":
		s.find(f[1]).Ending = true
	case "gone":
		s.snapshot.Pods = slices.DeleteFunc(s.snapshot.Pods, func(p Pod) bool { return p.Name == f[1] })
	case "at":
		s.decide(s.duration(f[1]))
	default:
		s.Fatalf("no command %q", f[0])
	}
}

func (s *script) find(name string) *Pod {
	i := slices.IndexFunc(s.snapshot.Pods, func(p Pod) bool { return p.Name == name })
	if i < 0 {
		s.Fatalf("no pod %s", name)
	}
	return &s.snapshot.Pods[i]
}

// pod NAME [priority=N] [REQUEST=quantity] [limit.storage=quantity] [emptyDir=quantity] has one container, c.
func (s *script) pod(f []string) Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: f[1], UID: types.UID(f[1])}}
	c := corev1.Container{Name: "c", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}}
	for _, pair := range f[2:] {
		key, value, _ := strings.Cut(pair, "=")
		switch key {
		case "priority":
			n := int32(s.number(value))
			p.Spec.Priority = &n
		case "grace":
			n := s.number(value)
			p.Spec.TerminationGracePeriodSeconds = &n
		case "limit.storage":
			c.Resources.Limits[corev1.ResourceEphemeralStorage] = resource.MustParse(value)
		case "emptyDir":
			q := resource.MustParse(value)
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: &q}}}}
		default:
			c.Resources.Requests[corev1.ResourceName(key)] = resource.MustParse(value)
		}
	}
	p.Spec.Containers = []corev1.Container{c}
	return Pod{Pod: p, Containers: map[string]Use{}, Volumes: map[string]Disk{}}
}

func (s *script) use(p *Pod, pairs []string) {
	c := p.Containers["c"]
	for _, pair := range pairs {
		key, value, _ := strings.Cut(pair, "=")
		n := s.number(value)
		switch key {
		case "memory":
			c.MemoryBytes = n
		case "pids":
			c.Pids = n
		case "rootfs":
			c.Rootfs.Bytes, p.Measured = n, true
		case "inodes":
			c.Rootfs.Inodes, p.Measured = n, true
		case "logs":
			c.Logs.Bytes, p.Measured = n, true
		case "volume":
			p.Volumes["v"], p.Measured = Disk{Bytes: n}, true
		default:
			s.Fatalf("no use %q", key)
		}
	}
	p.Containers["c"] = c
}

func (s *script) decide(after time.Duration) {
	var err error
	if s.config.Thresholds, err = Parse(s.settings); err != nil {
		s.Fatal(err)
	}
	now := time.Unix(0, 0).Add(after)
	s.snapshot.Reclaimed = false
	var plan Plan
	s.state, plan = Decide(s.config, s.state, s.snapshot, now)
	s.print(after, plan, now)
	if plan.Reclaim {
		s.snapshot.Reclaimed = true
		s.state, plan = Decide(s.config, s.state, s.snapshot, now)
		s.print(after, plan, now)
	}
}

func (s *script) print(after time.Duration, p Plan, now time.Time) {
	fmt.Fprintf(&s.out, "at %s: conditions=%v short=%q reclaim=%v again in %s\n", after, p.Conditions, p.Resource, p.Reclaim, p.Wake.Sub(now))
	for _, v := range p.Evict {
		fmt.Fprintf(&s.out, "  evict %s grace=%s pressure=%v: %s\n", v.UID, v.Grace, v.Pressure, strings.TrimSpace(v.Message))
	}
}

func (s *script) number(text string) int64 {
	q, err := resource.ParseQuantity(text)
	if err != nil {
		s.Fatalf("%q: %v", text, err)
	}
	return q.Value()
}

func (s *script) duration(text string) time.Duration {
	d, err := time.ParseDuration(text)
	if err != nil {
		s.Fatal(err)
	}
	return d
}

// TestProperties of any snapshot: the order of pods and thresholds does not matter, nobody is evicted without need, nobody
// critical ever, and of those evicted for pressure there is one.
func TestProperties(t *testing.T) {
	thresholds, err := Parse(Settings{Hard: DefaultHard, Soft: "memory.available<300Mi", SoftGracePeriod: "memory.available=1m"})
	if err != nil {
		t.Fatal(err)
	}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 1))
		c := Config{Thresholds: slices.Clone(thresholds), Transition: time.Minute}
		s := randomSnapshot(r)
		_, plan := Decide(c, State{}, s, time.Unix(1000, 0))
		r.Shuffle(len(s.Pods), func(i, j int) { s.Pods[i], s.Pods[j] = s.Pods[j], s.Pods[i] })
		r.Shuffle(len(c.Thresholds), func(i, j int) { c.Thresholds[i], c.Thresholds[j] = c.Thresholds[j], c.Thresholds[i] })
		_, again := Decide(c, State{}, s, time.Unix(1000, 0))
		if diff := cmp.Diff(plan, again); diff != "" {
			t.Fatalf("seed %d: order matters:\n%s", seed, diff)
		}
		checkPlan(t, seed, s, plan)
	}
}

func checkPlan(t *testing.T, seed uint64, s Snapshot, plan Plan) {
	if len(plan.Evict) > 1 {
		t.Errorf("seed %d: %d pods evicted at once", seed, len(plan.Evict))
	}
	if len(plan.Evict) > 0 && (plan.Reclaim || len(plan.Conditions) == 0 || plan.Resource == "") {
		t.Errorf("seed %d: evicted without need: %+v", seed, plan)
	}
	for _, v := range plan.Evict {
		i := slices.IndexFunc(s.Pods, func(p Pod) bool { return string(p.UID) == v.UID })
		if i < 0 || Critical(s.Pods[i].Pod) || s.Pods[i].Ending {
			t.Errorf("seed %d: %s must not be evicted", seed, v.UID)
		}
	}
}

func randomSnapshot(r *rand.Rand) Snapshot {
	s := Snapshot{Signals: map[Signal]Amount{}, Reclaimed: r.IntN(2) == 0}
	for _, signal := range []Signal{AllocatableMemory, ImageAvailable, ImageInodesFree, MemoryAvailable, NodeAvailable, NodeInodesFree, PIDAvailable} {
		if r.IntN(4) > 0 {
			s.Signals[signal] = Amount{r.Int64N(1 << 30), 1 << 30}
		}
	}
	for i := range r.IntN(8) {
		priority := []int32{0, 5, systemCritical}[r.IntN(3)]
		p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: strconv.Itoa(i), UID: types.UID(strconv.Itoa(i))}, Spec: corev1.PodSpec{
			Priority: &priority, Containers: []corev1.Container{{Name: "c"}},
		}}
		s.Pods = append(s.Pods, Pod{Pod: p, Ending: r.IntN(5) == 0, Measured: true, Containers: map[string]Use{
			"c": {MemoryBytes: r.Int64N(4), Pids: r.Int64N(3), Rootfs: Disk{r.Int64N(3), r.Int64N(3)}},
		}})
	}
	return s
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		settings Settings
		want     []string
	}{
		"signal":      {Settings{Hard: "memory.free<1Gi"}, []string{`hard: "memory.free" is not one of imagefs.available`}},
		"derived":     {Settings{Hard: "allocatableMemory.available<1Gi"}, []string{"is not one of"}},
		"sign":        {Settings{Hard: "memory.available>1Gi"}, []string{`is not like memory.available<100Mi`}},
		"quantity":    {Settings{Hard: "memory.available<lots"}, []string{`"lots" is not a positive quantity`}},
		"negative":    {Settings{Hard: "memory.available<-1"}, []string{"not a positive quantity"}},
		"percentage":  {Settings{Hard: "nodefs.available<101%"}, []string{"not a percentage"}},
		"nan":         {Settings{Hard: "nodefs.available<NaN%"}, []string{"not a percentage"}},
		"no grace":    {Settings{Soft: "memory.available<1Gi"}, []string{"must be specified for the soft threshold of memory.available"}},
		"grace":       {Settings{Soft: "memory.available<1Gi", SoftGracePeriod: "memory.available=soon"}, []string{"not a time like"}},
		"all at once": {Settings{Hard: "a<1", MinimumReclaim: "memory.available=x"}, []string{"hard:", "minimum-reclaim:"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Parse(c.settings)
			for _, want := range c.want {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("%v does not say %q", err, want)
				}
			}
		})
	}
	if none, err := Parse(Settings{Hard: "nodefs.available<0%, imagefs.available<100%"}); err != nil || len(none) != 0 {
		t.Errorf("0%% and 100%% are %v, %v", none, err)
	}
}

func TestRefuse(t *testing.T) {
	critical := int32(systemCritical)
	plain, tolerant, system := &corev1.Pod{}, &corev1.Pod{}, &corev1.Pod{Spec: corev1.PodSpec{Priority: &critical}}
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	memory, disk := []corev1.NodeConditionType{corev1.NodeMemoryPressure}, []corev1.NodeConditionType{corev1.NodeDiskPressure}
	for _, c := range []struct {
		pod        *corev1.Pod
		qos        corev1.PodQOSClass
		conditions []corev1.NodeConditionType
		want       string
	}{
		{plain, corev1.PodQOSBestEffort, nil, ""},
		{plain, corev1.PodQOSBestEffort, memory, "The node had condition: [MemoryPressure]. "},
		{plain, corev1.PodQOSBurstable, memory, ""},
		{tolerant, corev1.PodQOSBestEffort, memory, ""},
		{tolerant, corev1.PodQOSBestEffort, disk, "The node had condition: [DiskPressure]. "},
		{plain, corev1.PodQOSGuaranteed, append(disk, memory...), "The node had condition: [DiskPressure MemoryPressure]. "},
		{system, corev1.PodQOSBestEffort, disk, ""},
	} {
		if got := Refuse(c.pod, c.qos, c.conditions); got != c.want {
			t.Errorf("%v %v: %q, want %q", c.qos, c.conditions, got, c.want)
		}
	}
}
