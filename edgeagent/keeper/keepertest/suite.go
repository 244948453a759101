package keepertest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

// Suite checks everything a keeper promises. Each case has a keeper of its own.
func Suite(t *testing.T, start Start) {
	inside := buildInside(t)
	for _, c := range []struct {
		name string
		test func(*world)
	}{
		{"exit codes", exitCodes},
		{"signals", signals},
		{"states and refusals", states},
		{"repeated requests", repeated},
		{"deleted while created", deleteCreated},
		{"deleted at once", deletedAtOnce},
		{"command not there", noCommand},
		{"fifty at once", many},
		{"deadline", deadline},
		{"deadline renewed", deadlineRenewed},
		{"host processes", hostProcesses},
		{"clean all", cleanAll},
		{"exec", execOutput},
		{"exec timeout", execTimeout},
		{"exec cancelled", execCancelled},
		{"exec stream", execStream},
		{"exec terminal", execTerminal},
		{"attach", attach},
		{"attach once", attachOnce},
		{"attach terminal", attachTerminal},
		{"privileges", privileges},
		{"file system", fileSystem},
		{"identity", identity},
		{"privileged", privileged},
		{"default seccomp profile", seccompDefault},
		{"seccomp profiles of the node", seccompLocalhost},
		{"user namespace", userNamespace},
		{"out of memory", outOfMemory},
		{"limits", limits},
		{"stats", stats},
		{"logs", logs},
		{"log rotation", logRotation},
		{"terminal container", terminalContainer},
		{"agent killed", agentKilled},
		{"keeper killed", keeperKilled},
		{"keeper killed between create and start", keeperKilledCreated},
		{"keeper killed, output kept", keeperKilledOutput},
		{"ended without a keeper", endedWithoutKeeper},
		{"keeper replaced", replaced},
		{"keeper replaced under load", replacedUnderLoad},
		{"deadline without a keeper", deadlineWithoutKeeper},
		{"reboot", reboot},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(newWorld(t, start, inside)) })
	}
}

func exitCodes(w *world) {
	for _, code := range []int{0, 1, 42, 255} {
		id := fmt.Sprint("code", code)
		got := w.finish(w.spec(id, "exit", fmt.Sprint(code)))
		if got.Code != code || got.Signal != 0 || got.Unknown || got.Cause != keeper.CauseExit || got.Labels["container"] != id {
			w.t.Errorf("exit %d: got %+v", code, got)
		}
		if c := w.get(id); c == nil || c.State != keeper.Exited || c.Exit == nil || c.Exit.Seq != got.Seq || c.PID != 0 {
			w.t.Errorf("list after exit %d: got %+v", code, c)
		}
	}
}

func signals(w *world) {
	w.run(w.spec("trap", "trap", "7"))
	w.output("trap", "ready")
	must(w.t, w.client.Kill(w.t.Context(), "trap", syscall.SIGTERM, false))
	if got := w.exit("trap"); got.Code != 7 || got.Signal != 0 {
		w.t.Errorf("handled SIGTERM: got %+v", got)
	}
	w.run(w.spec("kill", "sleep"))
	must(w.t, w.client.Kill(w.t.Context(), "kill", syscall.SIGKILL, true))
	if got := w.exit("kill"); got.Code != 137 || got.Signal != 9 || got.Unknown || got.OOMKilled {
		w.t.Errorf("SIGKILL: got %+v", got)
	}
	if err := w.client.Kill(w.t.Context(), "kill", 99, false); !errors.Is(err, keeper.ErrInvalid) {
		w.t.Errorf("signal 99: got %v", err)
	}
}

func states(w *world) {
	ctx := w.t.Context()
	spec := w.spec("c", "sleep")
	must(w.t, w.client.Create(ctx, spec))
	if c := w.get("c"); c == nil || c.State != keeper.Created || c.PID == 0 || c.CreatedAt.IsZero() || !c.StartedAt.IsZero() {
		w.t.Errorf("created: got %+v", c)
	}
	if _, err := w.client.Exec(ctx, "c", keeper.ExecSpec{Args: []string{"/inside", "exit", "0"}}); !errors.Is(err, keeper.ErrConflict) {
		w.t.Errorf("exec in created: got %v", err)
	}
	must(w.t, w.client.Start(ctx, "c"))
	if c := w.get("c"); c == nil || c.State != keeper.Running || c.StartedAt.IsZero() {
		w.t.Errorf("running: got %+v", c)
	}
	if err := w.client.Delete(ctx, "c"); !errors.Is(err, keeper.ErrConflict) {
		w.t.Errorf("delete of running: got %v", err)
	}
	refusals(w)
}

func refusals(w *world) {
	ctx := w.t.Context()
	other := w.spec("other", "sleep")
	other.CgroupPath = w.spec("c").CgroupPath + "/inner"
	outside := w.spec("outside", "sleep")
	outside.CgroupPath = "/elsewhere/x"
	filtered := w.spec("filtered", "sleep")
	filtered.SeccompProfile = "strict"
	for _, c := range []struct {
		what string
		spec keeper.Spec
		want error
	}{
		{"same ID", w.spec("c", "sleep"), keeper.ErrExists},
		{"nested cgroup", other, keeper.ErrInvalid},
		{"cgroup outside", outside, keeper.ErrInvalid},
		{"no args", keeper.Spec{ID: "x", Rootfs: w.rootfs, CgroupPath: other.CgroupPath}, keeper.ErrInvalid},
		{"path as ID", w.spec("../x", "sleep"), keeper.ErrInvalid},
		{"seccomp", filtered, keeper.ErrInvalid},
	} {
		if err := w.client.Create(ctx, c.spec); !errors.Is(err, c.want) {
			w.t.Errorf("%s: got %v, want %v", c.what, err, c.want)
		}
	}
	if err := w.client.Start(ctx, "missing"); !errors.Is(err, keeper.ErrNotFound) {
		w.t.Errorf("start of missing: got %v", err)
	}
}

func repeated(w *world) {
	ctx := w.t.Context()
	spec := w.spec("c", "sleep")
	must(w.t, w.client.Create(ctx, spec))
	for range 2 {
		must(w.t, w.client.Start(ctx, "c"))
	}
	for range 2 {
		must(w.t, w.client.Kill(ctx, "c", syscall.SIGKILL, false))
		w.exit("c")
	}
	must(w.t, w.client.Start(ctx, "c"))
	for range 2 {
		must(w.t, w.client.Delete(ctx, "c"))
	}
	if c := w.get("c"); c != nil {
		w.t.Errorf("deleted: got %+v", c)
	}
	w.run(spec) // the name is free again
	if c := w.get("c"); c == nil || c.State != keeper.Running {
		w.t.Errorf("made again: got %+v", c)
	}
}

func deleteCreated(w *world) {
	must(w.t, w.client.Create(w.t.Context(), w.spec("c", "sleep")))
	pid := w.get("c").PID
	must(w.t, w.client.Delete(w.t.Context(), "c"))
	if !gone(pid) {
		w.t.Errorf("process %d lives on", pid)
	}
}

// deletedAtOnce: whoever hears of an exit may delete the container in the same moment and use its name again.
func deletedAtOnce(w *world) {
	const rounds = 60
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	again := make(chan struct{})
	go func() { // ends with the last round or with ctx
		defer close(again)
		err := w.client.Exits(ctx, 0, func(e keeper.Exit) error {
			if err := w.client.Delete(ctx, "c"); err != nil {
				return err
			}
			if e.Seq == rounds {
				return io.EOF
			}
			again <- struct{}{}
			return nil
		})
		if !errors.Is(err, io.EOF) {
			w.t.Errorf("delete: %v", err)
		}
	}()
	for more := true; more; _, more = <-again {
		w.run(w.spec("c", "exit", "0"))
	}
	if c := w.get("c"); c != nil {
		w.t.Errorf("deleted: got %+v", c)
	}
}

func noCommand(w *world) {
	spec := w.spec("c", "sleep")
	spec.Args = []string{"/missing"}
	if err := w.client.Create(w.t.Context(), spec); !errors.Is(err, keeper.ErrNoCommand) {
		w.t.Errorf("create: got %v", err)
	}
	if c := w.get("c"); c != nil {
		w.t.Errorf("left: %+v", c)
	}
	w.run(w.spec("c", "sleep"))
	_, err := w.client.Exec(w.t.Context(), "c", keeper.ExecSpec{Args: []string{"/missing"}})
	if !errors.Is(err, keeper.ErrNoCommand) {
		w.t.Errorf("exec: got %v", err)
	}
}

func many(w *world) {
	const n = 50
	var group sync.WaitGroup
	for i := range n {
		group.Go(func() {
			spec := w.spec(fmt.Sprint("c", i), "exit", fmt.Sprint(i))
			if err := errors.Join(w.client.Create(w.t.Context(), spec), w.client.Start(w.t.Context(), spec.ID)); err != nil {
				w.t.Error(err)
			}
		})
	}
	group.Wait()
	for i := range n {
		id := fmt.Sprint("c", i)
		if got := w.exit(id); got.Code != i {
			w.t.Errorf("%s: got %+v", id, got)
		}
		must(w.t, w.client.Delete(w.t.Context(), id))
	}
}

func bootTime(t *testing.T) time.Duration {
	t.Helper()
	var ts unix.Timespec
	must(t, unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts))
	return time.Duration(ts.Nano())
}

func deadline(w *world) {
	w.run(w.spec("c", "sleep"))
	must(w.t, w.client.Deadline(w.t.Context(), "c", bootTime(w.t)+50*time.Millisecond))
	if got := w.exit("c"); got.Code != 137 || got.Cause != keeper.CauseDeadline {
		w.t.Errorf("got %+v", got)
	}
	if err := w.client.Deadline(w.t.Context(), "missing", 1); !errors.Is(err, keeper.ErrNotFound) {
		w.t.Errorf("deadline of missing: got %v", err)
	}
}

// deadlineRenewed: a later deadline replaces an earlier one and zero removes it. A sentinel that expires after the replaced ones shows that
// their time has come and gone.
func deadlineRenewed(w *world) {
	ctx := w.t.Context()
	for _, id := range []string{"renewed", "removed", "sentinel"} {
		w.run(w.spec(id, "sleep"))
	}
	soon := bootTime(w.t) + 300*time.Millisecond
	for _, id := range []string{"renewed", "removed"} {
		must(w.t, w.client.Deadline(ctx, id, soon))
	}
	must(w.t, w.client.Deadline(ctx, "sentinel", soon+time.Millisecond))
	must(w.t, w.client.Deadline(ctx, "renewed", soon+time.Hour))
	must(w.t, w.client.Deadline(ctx, "removed", 0))
	w.exit("sentinel")
	for _, id := range []string{"renewed", "removed"} {
		if c := w.get(id); c == nil || c.State != keeper.Running {
			w.t.Errorf("%s: got %+v", id, c)
		}
	}
}

// hostProcesses: without a PID namespace of its own, everything in the group ends with the first process, and is reaped.
func hostProcesses(w *world) {
	spec := w.spec("c", "orphan")
	spec.Namespaces.PID = keeper.Host
	if got := w.finish(spec); got.Code != 0 {
		w.t.Errorf("got %+v", got)
	}
	must(w.t, w.client.Delete(w.t.Context(), "c"))
}

func cleanAll(w *world) {
	w.run(w.spec("running", "sleep"))
	must(w.t, w.client.Create(w.t.Context(), w.spec("created", "sleep")))
	w.finish(w.spec("exited", "exit", "3"))
	must(w.t, w.client.CleanAll(w.t.Context()))
	if all, err := w.client.List(w.t.Context()); err != nil || len(all) != 0 {
		w.t.Errorf("list: got %v, %v", all, err)
	}
	if !strings.HasPrefix(w.dirs.CgroupParent, "/skerry-test/") {
		w.t.Fatal("not our cgroup")
	}
}
