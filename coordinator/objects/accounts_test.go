package objects_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"skerry.dev/skerry/coordinator/objects"
	"skerry.dev/skerry/coordinator/resource"
	"skerry.dev/skerry/coordinator/view"
)

// furnished is a store that furnishes namespaces, with the namespace ns.
func furnished(t *testing.T) (*objects.Store, *view.View) {
	t.Helper()
	m := newMemory()
	v := view.New(m, slog.New(slog.DiscardHandler))
	s, err := objects.New(v, m, objects.Options{RootCA: []byte("CA")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1) // Run's word
	go func() { ended <- v.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	<-v.Synced()
	if _, err := s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "ns"}}, objects.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	return s, v
}

func accountedPod(name string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: name}, Spec: corev1.PodSpec{
		InitContainers: []corev1.Container{{Name: "i", Image: "i"}}, Containers: []corev1.Container{{Name: "c", Image: "i"}},
	}}
}

func TestNewNamespaceIsFurnished(t *testing.T) {
	s, v := furnished(t)
	for _, obj := range objects.Furnishings("ns", []byte("CA")) {
		m, _ := obj.(metav1.Object)
		if _, ok := v.Get(resource.ForObject(obj), "ns", m.GetName()); !ok {
			t.Errorf("no %T %s", obj, m.GetName())
		}
	}
	if _, err := s.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "dry"}}, objects.WriteOptions{DryRun: true}); err != nil {
		t.Error(err)
	}
}

func TestPodsRunAsAccounts(t *testing.T) {
	no := false
	silent := &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "silent"}, AutomountServiceAccountToken: &no,
		ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
	}
	tests := []struct {
		name    string
		edit    func(*corev1.Pod)
		account string
		mounts  int // containers with the volume
		pull    string
		refusal string
	}{
		{name: "plain", edit: func(*corev1.Pod) {}, account: "default", mounts: 2},
		{name: "asks not to", edit: func(p *corev1.Pod) { p.Spec.AutomountServiceAccountToken = &no }, account: "default"},
		{name: "the account asks not to", edit: func(p *corev1.Pod) { p.Spec.ServiceAccountName = "silent" }, account: "silent", pull: "pull"},
		{name: "own pull secret", edit: func(p *corev1.Pod) {
			p.Spec.ServiceAccountName, p.Spec.ImagePullSecrets = "silent", []corev1.LocalObjectReference{{Name: "mine"}}
		}, account: "silent", pull: "mine"},
		{name: "something else there", edit: func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/var/run/secrets/kubernetes.io/serviceaccount"}}
		}, account: "default", mounts: 1},
		{
			name: "no such account", edit: func(p *corev1.Pod) { p.Spec.ServiceAccountName = "nobody" },
			refusal: `pods "no-such-account" is forbidden: error looking up service account ns/nobody: serviceaccount "nobody" not found`,
		},
	}
	s, _ := furnished(t)
	if _, err := s.Create(t.Context(), silent, objects.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pod := accountedPod(strings.ReplaceAll(tt.name, " ", "-"))
			tt.edit(pod)
			out, err := s.Create(t.Context(), pod, objects.WriteOptions{})
			if tt.refusal != "" {
				if err == nil || err.Error() != tt.refusal {
					t.Errorf("error %v, want %s", err, tt.refusal)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			checkAccount(t, out.(*corev1.Pod), tt.account, tt.mounts, tt.pull)
		})
	}
}

func checkAccount(t *testing.T, pod *corev1.Pod, account string, mounts int, pull string) {
	t.Helper()
	if pod.Spec.ServiceAccountName != account {
		t.Errorf("runs as %q, want %q", pod.Spec.ServiceAccountName, account)
	}
	volume, mounted := "", 0
	for _, v := range pod.Spec.Volumes {
		if strings.HasPrefix(v.Name, "kube-api-access-") {
			volume = v.Name
		}
	}
	for _, c := range append(pod.Spec.InitContainers, pod.Spec.Containers...) {
		for _, m := range c.VolumeMounts {
			if m.Name == volume && m.ReadOnly {
				mounted++
			}
		}
	}
	if mounted != mounts || (volume == "") != (mounts == 0) {
		t.Errorf("volume %q is mounted %d times, want %d", volume, mounted, mounts)
	}
	got := ""
	for _, s := range pod.Spec.ImagePullSecrets {
		got += s.Name
	}
	if got != pull {
		t.Errorf("pull secrets %q, want %q", got, pull)
	}
}

func TestPodsOfAnAccountMayUseItsSecretsOnly(t *testing.T) {
	s, _ := furnished(t)
	strict := &corev1.ServiceAccount{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "strict", Annotations: map[string]string{"kubernetes.io/enforce-mountable-secrets": "true"}},
		Secrets:    []corev1.ObjectReference{{Name: "mine"}}, ImagePullSecrets: []corev1.LocalObjectReference{{Name: "pull"}},
	}
	if _, err := s.Create(t.Context(), strict, objects.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	volume := func(name string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name}}}}
		}
	}
	key := func(name string) []corev1.EnvVar {
		return []corev1.EnvVar{{Name: "E", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{Key: "k", LocalObjectReference: corev1.LocalObjectReference{Name: name}}}}}
	}
	const because = " is not allowed because service account strict does not reference that "
	for name, tt := range map[string]struct {
		change func(*corev1.Pod)
		want   string
	}{
		"plain":       {func(*corev1.Pod) {}, ""},
		"volume-mine": {volume("mine"), ""},
		"volume":      {volume("other"), `volume with secret.secretName="other"` + because + "secret"},
		"env-mine":    {func(p *corev1.Pod) { p.Spec.Containers[0].Env = key("mine") }, ""},
		"env":         {func(p *corev1.Pod) { p.Spec.Containers[0].Env = key("other") }, `container c with envVar E referencing secret.secretName="other"` + because + "secret"},
		"init":        {func(p *corev1.Pod) { p.Spec.InitContainers[0].Env = key("other") }, `init container i with envVar E referencing secret.secretName="other"` + because + "secret"},
		"from": {func(p *corev1.Pod) {
			p.Spec.Containers[0].EnvFrom = []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: corev1.LocalObjectReference{Name: "other"}}}}
		}, `container c with envFrom referencing secret.secretName="other"` + because + "secret"},
		"pull": {func(p *corev1.Pod) {
			p.Spec.ImagePullSecrets = []corev1.LocalObjectReference{{Name: "pull"}, {Name: "other"}}
		}, `imagePullSecrets[1].name="other"` + because + "imagePullSecret"},
		"other-user": {func(p *corev1.Pod) { volume("other")(p); p.Spec.ServiceAccountName = "default" }, ""},
	} {
		pod := accountedPod(name)
		pod.Spec.ServiceAccountName = "strict"
		tt.change(pod)
		_, err := s.Create(t.Context(), pod, objects.WriteOptions{})
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (!apierrors.IsForbidden(err) || !strings.HasSuffix(err.Error(), `pods "`+name+`" is forbidden: `+tt.want)):
			t.Errorf("%s: %v, want %s", name, err, tt.want)
		}
	}
	debugged := accountedPod("plain")
	debugged.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: "e", Image: "i", Env: key("other")}}}
	_, err := s.UpdateEphemeralContainers(t.Context(), debugged, objects.WriteOptions{})
	if want := `ephemeral container e with envVar E referencing secret.secretName="other"` + because + "secret"; !apierrors.IsForbidden(err) || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("ephemeral container: %v, want %s", err, want)
	}
}
