package keepertest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"skerry.dev/skerry/edgeagent/keeper"
)

// agentKilled: whatever an agent had done when it was killed, the next one finds it and hears of its exit.
func agentKilled(w *world) {
	const last = 6 // the agent of package inside has so many, the last of which ends the container
	for steps := 1; steps <= last; steps++ {
		spec := w.spec("c"+strconv.Itoa(steps), "trap", "5")
		spec.Stdin = true
		w.killedAgent(spec, steps)
		if steps == last {
			w.endedFor(spec.ID)
			continue
		}
		c := w.get(spec.ID)
		want := keeper.Running
		if steps == 1 {
			want = keeper.Created
		}
		if c == nil || c.State != want || c.Labels["container"] != spec.ID {
			w.t.Fatalf("after %d steps: got %+v, want %s", steps, c, want)
		}
		must(w.t, w.client.Start(w.t.Context(), spec.ID))
		w.output(spec.ID, "ready")
		w.only(spec.ID, 1) // an exec ends with its agent
		must(w.t, w.client.Kill(w.t.Context(), spec.ID, syscall.SIGTERM, false))
		if got := w.exit(spec.ID); got.Code != 5 || got.Unknown {
			w.t.Errorf("after %d steps: got %+v", steps, got)
		}
	}
}

// endedFor checks the end of a container that a killed agent has sent SIGTERM, perhaps before it listened: then it gets another.
func (w *world) endedFor(id string) {
	w.t.Helper()
	w.output(id, "ready")
	must(w.t, w.client.Kill(w.t.Context(), id, syscall.SIGTERM, false))
	if e := w.exit(id); e.Unknown || e.Code != 5 {
		w.t.Errorf("ended by a killed agent: %+v", e)
	}
}

// killedAgent runs an agent in a process of its own for some steps and kills it.
func (w *world) killedAgent(spec keeper.Spec, steps int) {
	w.t.Helper()
	input, err := json.Marshal(spec)
	must(w.t, err)
	cmd := exec.Command(w.inside, "agent", w.dirs.Socket, strconv.Itoa(steps))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(input), os.Stderr
	out, err := cmd.StdoutPipe()
	must(w.t, err)
	must(w.t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil || line != "done\n" {
		w.t.Errorf("agent said %q, %v", line, err)
	}
	must(w.t, cmd.Process.Kill())
	_ = cmd.Wait() // it was killed
}

func keeperKilled(w *world) {
	ctx := w.t.Context()
	w.run(w.spec("c", "trap", "6"))
	w.output("c", "ready")
	before := w.get("c")
	exited := w.finish(w.spec("done", "exit", "4"))
	w.crash()
	after := w.get("c")
	if after == nil || after.State != keeper.Running || after.PID != before.PID || !after.StartedAt.Equal(before.StartedAt) || after.Labels["container"] != "c" {
		w.t.Fatalf("adopted: got %+v, want %+v", after, before)
	}
	if c := w.get("done"); c == nil || c.Exit == nil || c.Exit.Seq != exited.Seq || c.Exit.Code != 4 {
		w.t.Errorf("exited before: got %+v", c)
	}
	if got := w.exec("c", keeper.ExecSpec{}, "print", "still here"); string(got.Output) != "still here\n" {
		w.t.Errorf("exec: got %+v", got)
	}
	if all, err := w.client.Stats(ctx, "c"); err != nil || len(all) != 1 {
		w.t.Errorf("stats: got %v, %v", all, err)
	}
	must(w.t, w.client.Kill(ctx, "c", syscall.SIGTERM, false))
	// An old kernel does not tell the exit code of a process that is no longer the keeper's child.
	if got := w.exit("c"); (got.Code != 6 || got.Unknown) && (got.Code != 137 || !got.Unknown || got.Cause != keeper.CauseUnknown) {
		w.t.Errorf("exit: got %+v", got)
	}
	must(w.t, w.client.Delete(ctx, "c"))
	w.crash()
	if c := w.get("c"); c != nil {
		w.t.Errorf("deleted, then crashed: got %+v", c)
	}
}

func keeperKilledCreated(w *world) {
	must(w.t, w.client.Create(w.t.Context(), w.spec("c", "print", "started")))
	w.crash()
	c := w.get("c")
	if c == nil || c.State != keeper.Created {
		w.t.Fatalf("adopted: got %+v", c)
	}
	must(w.t, w.client.Start(w.t.Context(), "c"))
	w.exit("c")
	w.output("c", "stdout F started")
}

// keeperKilledOutput: what is printed while no keeper runs is in the log afterwards.
func keeperKilledOutput(w *world) {
	spec := w.spec("c", "lines", "2000", "50", "stay") // more than a pipe holds
	must(w.t, w.client.Create(w.t.Context(), spec))
	must(w.t, w.client.Start(w.t.Context(), "c"))
	w.crash()
	w.output("c", "F 1999 x")
	w.run(w.spec("again", "lines", "100", "50", "stay"))
	w.output("again", "F 99 x")
}

func endedWithoutKeeper(w *world) {
	w.run(w.spec("c", "sleep"))
	pid := w.get("c").PID
	w.keeper.Kill(w.t)
	must(w.t, syscall.Kill(pid, syscall.SIGKILL))
	eventually(w.t, "process is reaped", func() error {
		if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "exe")); err == nil {
			return os.ErrExist
		}
		return nil
	})
	w.boot()
	got := w.exit("c")
	if got.Code != 137 || !got.Unknown || got.Cause != keeper.CauseUnknown || got.PID != pid {
		w.t.Errorf("got %+v", got)
	}
	w.crash()
	if again := w.exit("c"); again.Seq != got.Seq || w.get("c").State != keeper.Exited {
		w.t.Errorf("a second exit: got %+v, was %+v", again, got)
	}
}

func deadlineWithoutKeeper(w *world) {
	w.run(w.spec("c", "sleep"))
	must(w.t, w.client.Deadline(w.t.Context(), "c", bootTime(w.t)+200*time.Millisecond))
	w.crash()
	if got := w.exit("c"); got.Cause != keeper.CauseDeadline {
		w.t.Errorf("got %+v", got)
	}
}

// reboot: the keeper finds a boot identity that is not this boot's.
func reboot(w *world) {
	w.run(w.spec("c", "sleep"))
	done := w.finish(w.spec("done", "exit", "2"))
	boot := w.client.Boot()
	w.keeper.Kill(w.t)
	must(w.t, os.WriteFile(filepath.Join(w.dirs.State, "boot"), []byte("an earlier boot"), 0o600))
	w.boot()
	if all, err := w.client.List(w.t.Context()); err != nil || len(all) != 0 {
		w.t.Errorf("list: got %+v, %v", all, err)
	}
	if got := w.exit("c"); got.Cause != keeper.CauseReboot || !got.Unknown || got.Labels["container"] != "c" {
		w.t.Errorf("got %+v", got)
	}
	if got := w.exit("done"); got.Seq != done.Seq {
		w.t.Errorf("earlier exit: got %+v, want %+v", got, done)
	}
	if w.client.Boot() != boot {
		w.t.Errorf("boot: got %q, want %q", w.client.Boot(), boot)
	}
}
