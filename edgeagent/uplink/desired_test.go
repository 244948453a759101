package uplink

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"skerry.dev/skerry/messaging"
)

type signer struct {
	*messaging.Signer
	public string
}

func newSigner(t *testing.T) signer {
	t.Helper()
	seed, err := messaging.NewSeed()
	must(t, err)
	s, err := messaging.NewSigner(seed)
	must(t, err)
	public, err := s.PublicKey()
	must(t, err)
	return signer{s, public}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// assigned signs v as a part of a node's keys.
func (s signer) assigned(t *testing.T, node, part string, revision uint64, v any) messaging.Assigned {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	a := messaging.Assigned{Node: node, Part: part, Revision: revision, Data: data}
	a.Signature, err = s.Sign(a.Subject(), data)
	must(t, err)
	return a
}

func (s signer) pod(t *testing.T, node, uid string, revision uint64) messaging.Assigned {
	t.Helper()
	pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "p-" + uid, Namespace: "default", UID: types.UID(uid)}}
	raw, err := pod.Marshal()
	must(t, err)
	return s.assigned(t, node, messaging.PodPart(uid), revision, messaging.Assignment{Pod: raw})
}

func TestJudge(t *testing.T) {
	us, stranger := newSigner(t), newSigner(t)
	trust := Trust{Node: "n1", Cluster: "c1", SigningKey: us.public}
	held := Desired{Manifest: messaging.Assigned{Revision: 100}, Epoch: 5, Generation: 7}
	manifest := func(epoch, generation uint64) messaging.Manifest {
		return messaging.Manifest{Cluster: "c1", Epoch: epoch, Generation: generation}
	}
	foreign := manifest(9, 1)
	foreign.Cluster = "c2"
	replayed := us.assigned(t, "n2", messaging.ManifestPart, 200, manifest(9, 1))
	moved := replayed
	moved.Node = "n1"
	for name, c := range map[string]struct {
		a    messaging.Assigned
		held Desired
		want error
	}{
		"newer epoch, lower generation": {us.assigned(t, "n1", "manifest", 3, manifest(6, 1)), held, nil},
		"next generation":               {us.assigned(t, "n1", "manifest", 101, manifest(5, 8)), held, nil},
		"the one held":                  {us.assigned(t, "n1", "manifest", 100, manifest(5, 7)), held, errSame},
		"older generation":              {us.assigned(t, "n1", "manifest", 99, manifest(5, 6)), held, ErrRefused},
		"older epoch":                   {us.assigned(t, "n1", "manifest", 300, manifest(4, 99)), held, ErrRefused},
		"first ever":                    {us.assigned(t, "n1", "manifest", 1, manifest(1, 1)), Desired{}, nil},
		"other cluster":                 {us.assigned(t, "n1", "manifest", 300, foreign), held, ErrRefused},
		"other signer":                  {stranger.assigned(t, "n1", "manifest", 300, manifest(9, 1)), held, ErrRefused},
		"another node's":                {replayed, held, ErrRefused},
		"another node's, renamed":       {moved, held, ErrRefused},
		"another part":                  {us.assigned(t, "n1", "pod.x", 300, manifest(9, 1)), held, ErrRefused},
		"no manifest":                   {us.assigned(t, "n1", "manifest", 300, "x"), held, ErrRefused},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := judge(c.held, c.a, trust); !errors.Is(err, c.want) {
				t.Errorf("judge: %v, want %v", err, c.want)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	us := newSigner(t)
	m := us.assigned(t, "n1", "manifest", 9, messaging.Manifest{Cluster: "c1", Epoch: 2, Generation: 3, Pods: []messaging.PodRef{
		{UID: "a", Revision: 1}, {UID: "b", Revision: 2}, {UID: "c", Revision: 3},
	}})
	swapped := us.pod(t, "n1", "b", 3)
	d, err := Decode(m, map[string]messaging.Assigned{"a": us.pod(t, "n1", "a", 1), "c": swapped})
	if err == nil || !strings.Contains(err.Error(), "pod b of manifest 9 is missing") || !strings.Contains(err.Error(), "holds pod b") {
		t.Errorf("error %v, want both faults", err)
	}
	if len(d.Pods) != 1 || d.Pods["a"].Pod.Name != "p-a" || d.Epoch != 2 || d.Generation != 3 {
		t.Errorf("decoded %+v", d)
	}
	if d, err := Decode(messaging.Assigned{}, nil); err != nil || d.Manifest.Revision != 0 {
		t.Errorf("nothing held: %+v, %v", d, err)
	}
}

func TestSessionsOpenOnce(t *testing.T) {
	var s sessions
	now := time.Unix(100, 0)
	if !s.first("a", now) || s.first("a", now) || s.first("", now) {
		t.Error("a session must open once, an empty one never")
	}
	if !s.first("b", now.Add(2*sessionMemory)) || len(s.seen) != 1 {
		t.Errorf("%d sessions remembered, want old ones forgotten", len(s.seen))
	}
}

func TestStored(t *testing.T) {
	for data, ok := range map[string]bool{
		`{"stream":"UP","seq":4}`:                                     true,
		`{"stream":"UP","seq":4,"duplicate":true}`:                    true,
		`{"error":{"code":503,"err_code":10077,"description":"max"}}`: false,
		`{}`:    false,
		`hello`: false,
	} {
		if err := stored([]byte(data)); (err == nil) != ok {
			t.Errorf("%s: %v", data, err)
		}
	}
}
