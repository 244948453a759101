package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

func serve(t *testing.T, h http.HandlerFunc) (Target, intstr.IntOrString) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = &http.Protocols{}
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	host, port, err := net.SplitHostPort(s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		t.Fatal(err)
	}
	c := &corev1.Container{Name: "app", Ports: []corev1.ContainerPort{{Name: "web", ContainerPort: int32(number)}}}
	return Target{Container: c, PodIP: host}, intstr.FromInt(number)
}

func TestHTTP(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://192.0.2.1:1")
	target, port := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/ok":
			if r.Host != "shop.example" || r.URL.RawQuery != "deep=1" || r.Header.Get("X-A") != "b" {
				http.Error(w, fmt.Sprint(r.Host, r.URL.RawQuery, r.Header), http.StatusTeapot)
			}
		case "/bad":
			http.Error(w, "database is away\nmore", http.StatusServiceUnavailable)
		case "/here":
			http.Redirect(w, r, "/bad", http.StatusFound)
		case "/elsewhere":
			http.Redirect(w, r, "http://192.0.2.1:1/", http.StatusFound)
		case "/slow":
			<-r.Context().Done()
		}
	})
	get := func(path string) corev1.Probe {
		return corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: port,
			HTTPHeaders: []corev1.HTTPHeader{{Name: "host", Value: "shop.example"}, {Name: "x-a", Value: "b"}},
		}}}
	}
	named := get("/ok?deep=1")
	named.HTTPGet.Port = intstr.FromString("web")
	unknown := get("/ok")
	unknown.HTTPGet.Port = intstr.FromString("admin")
	for name, c := range map[string]struct {
		probe corev1.Probe
		want  string // empty for passed
	}{
		"ok":                       {get("/ok?deep=1"), ""},
		"named port":               {named, ""},
		"unknown port":             {unknown, `container app has no port "admin"`},
		"bad status":               {get("/bad"), "HTTP probe failed with statuscode: 503 (database is away)"},
		"redirect is followed":     {get("/here"), "statuscode: 503"},
		"redirect to another host": {get("/elsewhere"), ""},
		"too slow":                 {get("/slow"), "context deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) { check(t, c.probe, target, c.want) })
	}
}

func check(t *testing.T, spec corev1.Probe, target Target, want string) {
	t.Helper()
	got, err := Run(t.Context(), &spec, target)
	if err != nil {
		t.Fatal(err)
	}
	if got.Passed != (want == "") || !strings.Contains(got.Output, want) {
		t.Errorf("got %+v, want output %q", got, want)
	}
}

func TestTCP(t *testing.T) {
	target, port := serve(t, func(http.ResponseWriter, *http.Request) {})
	check(t, corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: port}}}, target, "")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := intstr.FromInt(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	check(t, corev1.Probe{ProbeHandler: corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: closed}}}, target, "connection refused")
}

func TestExec(t *testing.T) {
	spec := corev1.Probe{TimeoutSeconds: 3, ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"check"}}}}
	for name, c := range map[string]struct {
		code     int
		output   string
		timedOut bool
		want     string
	}{
		"passes":    {0, "fine", false, ""},
		"fails":     {3, "no such table", false, "no such table"},
		"times out": {137, "", true, `command timed out: ["check"] timed out after 3s`},
	} {
		t.Run(name, func(t *testing.T) {
			exec := func(_ context.Context, args []string, timeout time.Duration) (int, []byte, bool, error) {
				if len(args) != 1 || timeout != 3*time.Second {
					t.Errorf("asked to run %q for %s", args, timeout)
				}
				return c.code, []byte(c.output), c.timedOut, nil
			}
			check(t, spec, Target{Exec: exec}, c.want)
		})
	}
	away := errors.New("keeper is away")
	_, err := Run(t.Context(), &spec, Target{Exec: func(context.Context, []string, time.Duration) (int, []byte, bool, error) {
		return 0, nil, false, away
	}})
	if !errors.Is(err, away) {
		t.Errorf("error %v, want %v: it must not count against the container", err, away)
	}
}

func TestGRPC(t *testing.T) {
	status := byte(1)
	target, port := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ProtoMajor != 2 || r.URL.Path != "/grpc.health.v1.Health/Check" || string(body[5:]) != "\x0a\x02db" {
			t.Errorf("request %s %q %v", r.URL, body, err)
		}
		w.Header().Set("Content-Type", "application/grpc")
		w.Header().Set("Trailer", "Grpc-Status")
		if status != 0 {
			_, err = w.Write(frame([]byte{8, status}))
		}
		w.Header().Set("Grpc-Status", map[bool]string{true: "0", false: "12"}[status != 0])
		if err != nil {
			t.Error(err)
		}
	})
	service := "db"
	spec := corev1.Probe{ProbeHandler: corev1.ProbeHandler{GRPC: &corev1.GRPCAction{Port: port.IntVal, Service: &service}}}
	check(t, spec, target, "")
	status = 2
	check(t, spec, target, "service unhealthy (responded with 2)")
	status = 0
	check(t, spec, target, `grpc status "12"`)
}

func TestCallerGivesUp(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	target, port := serve(t, func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	spec := corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Port: port}}}
	if res, err := Run(ctx, &spec, target); !errors.Is(err, context.Canceled) {
		t.Errorf("got %+v, %v: a probe that was given up says nothing about the container", res, err)
	}
	if _, err := Run(t.Context(), &corev1.Probe{}, target); !errors.Is(err, ErrNoHandler) {
		t.Errorf("no handler: %v", err)
	}
}

func FuzzParseHealth(f *testing.F) {
	f.Add(frame([]byte{8, 1}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if status, err := parseHealth(body); err != nil && status != 0 {
			t.Errorf("status %d with error %v", status, err)
		}
	})
}
