// Command skerry-keeper is the parent of every container of a node: see package edgeagent/keeper/server.
//
// Its settings are few and it runs again for each start of a container, so they are plain flags with SKERRY_KEEPER_* environment variables as
// defaults: a configuration library would add its initialisation to every start and its memory to every node.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper/server"
)

// release is set by the linker. That of package api would bring Kubernetes' types into every start of a container.
var release = "dev"

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "skerry-keeper:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	var cfg server.Config
	var level slog.Level
	flags := flag.NewFlagSet("skerry-keeper", flag.ContinueOnError)
	flags.StringVar(&cfg.StateDir, "state-dir", setting("STATE_DIR", "/var/lib/skerry/keeper"), "folder for the exit log, on a disk")
	flags.StringVar(&cfg.RunDir, "run-dir", setting("RUN_DIR", ""), "folder for what a reboot may lose, best on tmpfs (default: run in the state folder)")
	flags.StringVar(&cfg.Socket, "socket", setting("SOCKET", ""), "socket for the agent (default: keeper.sock in the run folder)")
	flags.StringVar(&cfg.CgroupParent, "cgroup-parent", setting("CGROUP_PARENT", "/skerry"), "cgroup below which containers run")
	flags.StringVar(&cfg.SeccompDir, "seccomp-dir", setting("SECCOMP_DIR", ""), "folder of the seccomp profiles that pods name as Localhost (default: seccomp in the state folder)")
	if err := level.UnmarshalText([]byte(setting("LOG_LEVEL", "INFO"))); err != nil {
		return fmt.Errorf("SKERRY_KEEPER_LOG_LEVEL: %w", err)
	}
	flags.TextVar(&level, "log-level", level, "debug, info, warn or error")
	about := flags.Bool("about", false, "print what this program is, for the keeper that it is to replace, and end")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	}
	if *about {
		return server.About(os.Stdout, release)
	}
	if uid := os.Geteuid(); uid != 0 {
		return fmt.Errorf("user id %d is not root: containers need it; run with sudo or from a system service", uid)
	}
	return serve(cfg, slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level})))
}

// gcPercent trades processor time, of which an idle keeper uses none, for memory.
const gcPercent = 25

// serve is a keeper, and another one in its place after SIGHUP: the program that is then in this one's file, with this process's children.
func serve(cfg server.Config, log *slog.Logger) error {
	debug.SetGCPercent(gcPercent)
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	replace := make(chan os.Signal, 1) // one is enough: it is a wish, not a count
	signal.Notify(replace, unix.SIGHUP)
	image, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	cfg.Ready, cfg.Release, cfg.Replace, cfg.Image = notifyReady, release, replace, image
	if cfg.Handover, err = server.ReadHandover(); err != nil {
		return err
	}
	for {
		s, err := server.New(cfg, log)
		if err != nil {
			return err
		}
		if cfg.Handover, err = s.Run(ctx); err != nil || cfg.Handover == nil {
			return err
		}
		log.Error("keeper not replaced, this one goes on", "error", cfg.Handover.Exec(image))
		signal.Notify(replace, unix.SIGHUP)
	}
}

// setting reads SKERRY_KEEPER_<name>.
func setting(name, otherwise string) string {
	if v, ok := os.LookupEnv("SKERRY_KEEPER_" + name); ok {
		return v
	}
	return otherwise
}

// notifyReady tells a service manager that agents can connect: sd_notify(3). Without one it does nothing.
func notifyReady() error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	err = unix.Sendto(fd, []byte("READY=1"), unix.MSG_NOSIGNAL, &unix.SockaddrUnix{Name: path})
	return errors.Join(os.NewSyscallError("sendto", err), unix.Close(fd))
}
