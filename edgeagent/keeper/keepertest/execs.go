package keepertest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

func (w *world) exec(id string, spec keeper.ExecSpec, args ...string) keeper.ExecResult {
	w.t.Helper()
	spec.Args = append([]string{"/inside"}, args...)
	res, err := w.client.Exec(w.t.Context(), id, spec)
	must(w.t, err)
	return res
}

func execOutput(w *world) {
	spec := w.spec("c", "sleep")
	spec.Env = append(spec.Env, "GREETING=hello")
	w.run(spec)
	if got := w.exec("c", keeper.ExecSpec{}, "exit", "9"); got.ExitCode != 9 || len(got.Output) != 0 {
		w.t.Errorf("exit code: got %+v", got)
	}
	if got := w.exec("c", keeper.ExecSpec{}, "print", "out", "err"); string(got.Output) != "out\nerr\n" || got.Truncated {
		w.t.Errorf("output: got %+v", got)
	}
	if got := w.exec("c", keeper.ExecSpec{MaxOutput: 10}, "lines", "1000", "100"); len(got.Output) != 10 || !got.Truncated || got.ExitCode != 0 {
		w.t.Errorf("capped output: got %d bytes, %v, code %d", len(got.Output), got.Truncated, got.ExitCode)
	}
	if got := w.exec("c", keeper.ExecSpec{}, "whoami"); !strings.Contains(string(got.Output), "0 0 [] / ") || !strings.Contains(string(got.Output), "hello") {
		w.t.Errorf("container's user and environment: got %q", got.Output)
	}
	own := keeper.ExecSpec{User: &keeper.User{UID: 5, GID: 6, AdditionalGIDs: []uint32{7}}, Cwd: "/tmp", Env: []string{"GREETING=ciao"}}
	if got := w.exec("c", own, "whoami"); !strings.HasPrefix(string(got.Output), "5 6 [7] /tmp ") || !strings.Contains(string(got.Output), "ciao") {
		w.t.Errorf("own user and environment: got %q", got.Output)
	}
	if got := w.exec("c", keeper.ExecSpec{}, "orphan"); got.ExitCode != 0 {
		w.t.Errorf("something left in the background: got %+v", got)
	}
}

func execTimeout(w *world) {
	w.run(w.spec("c", "sleep"))
	if got := w.exec("c", keeper.ExecSpec{Timeout: 100 * time.Millisecond}, "lines", "1", "1", "stay"); !got.TimedOut || got.ExitCode != 137 || len(got.Output) == 0 {
		w.t.Errorf("got %+v", got)
	}
	w.only("c", 1)
}

// only waits until a container has n processes.
func (w *world) only(id string, n uint64) {
	w.t.Helper()
	eventually(w.t, "processes of "+id, func() error {
		all, err := w.client.Stats(w.t.Context(), id)
		must(w.t, err)
		pids := strings.Fields(w.read(id, "memory", "cgroup.procs", "cgroup.procs"))
		if len(all) != 1 || uint64(len(pids)) != n {
			return errors.New("there are " + strings.Join(pids, " "))
		}
		return nil
	})
}

// execCancelled: when the caller goes, so does what it started.
func execCancelled(w *world) {
	w.run(w.spec("c", "sleep"))
	ctx, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := w.client.Exec(ctx, "c", keeper.ExecSpec{Args: []string{"/inside", "sleep"}})
		ended <- err
	}()
	w.only("c", 2)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		w.t.Errorf("got %v", err)
	}
	w.only("c", 1)
}

func execStream(w *world) {
	w.run(w.spec("c", "sleep"))
	inR, inW, err := os.Pipe()
	must(w.t, err)
	outR, outW, err := os.Pipe()
	must(w.t, err)
	s, err := w.client.ExecStream(w.t.Context(), "c", keeper.ExecSpec{Args: []string{"/inside", "echo"}}, keeper.Streams{Stdin: inR, Stdout: outW})
	must(w.t, err)
	must(w.t, errors.Join(inR.Close(), outW.Close()))
	_, err = inW.WriteString("there and back\n")
	must(w.t, err)
	line, err := bufio.NewReader(outR).ReadString('\n')
	if err != nil || line != "there and back\n" {
		w.t.Errorf("echo: got %q, %v", line, err)
	}
	must(w.t, inW.Close())
	code, err := s.Wait(w.t.Context())
	if err != nil || code != 0 {
		w.t.Errorf("wait: got %d, %v", code, err)
	}
	if rest, err := io.ReadAll(outR); err != nil || len(rest) != 0 {
		w.t.Errorf("rest: got %q, %v", rest, err)
	}
	must(w.t, errors.Join(s.Close(), outR.Close()))
	s, err = w.client.ExecStream(w.t.Context(), "c", keeper.ExecSpec{Args: []string{"/inside", "sleep"}}, keeper.Streams{})
	must(w.t, err)
	w.only("c", 2)
	must(w.t, s.Close())
	w.only("c", 1)
}

func execTerminal(w *world) {
	w.run(w.spec("c", "sleep"))
	spec := keeper.ExecSpec{Args: []string{"/inside", "echo"}, Terminal: true, Width: 91, Height: 17}
	s, err := w.client.ExecStream(w.t.Context(), "c", spec, keeper.Streams{})
	must(w.t, err)
	if s.Terminal == nil {
		w.t.Fatal("no terminal")
	}
	raw, err := s.Terminal.SyscallConn()
	must(w.t, err)
	must(w.t, raw.Control(func(fd uintptr) {
		size, err := unix.IoctlGetWinsize(int(fd), unix.TIOCGWINSZ)
		if err != nil || size.Col != 91 || size.Row != 17 {
			w.t.Errorf("size: got %+v, %v", size, err)
		}
	}))
	_, err = s.Terminal.WriteString("hi\n\x04") // a line, and the end of input
	must(w.t, err)
	code, err := s.Wait(w.t.Context())
	if err != nil || code != 0 {
		w.t.Errorf("wait: got %d, %v", code, err)
	}
	buf := make([]byte, 64)
	n, err := s.Terminal.Read(buf)
	if !strings.HasPrefix(string(buf[:n]), "hi\r\n") {
		w.t.Errorf("terminal: got %q, %v", buf[:n], err)
	}
	must(w.t, errors.Join(s.Terminal.Close(), s.Close()))
}
