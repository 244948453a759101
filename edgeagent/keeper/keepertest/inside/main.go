// Command inside is what the contract suite runs in containers, and, as "agent", an agent that can be killed.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"skerry.dev/skerry/edgeagent/keeper"
)

func main() {
	if len(os.Args) < 2 {
		os.Exit(64)
	}
	do, ok := map[string]func([]string) error{
		"exit": exit, "sleep": sleep, "trap": trap, "print": print, "lines": lines, "cat": cat, "write": write, "echo": echo,
		"eat": eat, "spawn": spawn, "orphan": orphan, "privileges": privileges, "bind": bind, "agent": agent, "whoami": whoami, "hostname": hostname,
		"syscalls": syscalls, "reopen": reopen, "size": size, "says": says, "when": when,
	}[os.Args[1]]
	if !ok {
		os.Exit(64)
	}
	if err := do(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func atoi(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		panic(err)
	}
	return n
}

func exit(args []string) error {
	os.Exit(atoi(args[0]))
	return nil
}

// sleep runs until it is killed.
func sleep([]string) error {
	for {
		time.Sleep(time.Hour)
	}
}

// trap prints "ready", and ends with the given code at SIGTERM.
func trap(args []string) error {
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	<-c
	os.Exit(atoi(args[0]))
	return nil
}

func print(args []string) error {
	fmt.Println(args[0])
	if len(args) > 1 {
		fmt.Fprintln(os.Stderr, args[1])
	}
	return nil
}

// lines prints n numbered lines of about size bytes.
func lines(args []string) error {
	fill := strings.Repeat("x", atoi(args[1]))
	for i := range atoi(args[0]) {
		fmt.Printf("%d %s\n", i, fill)
	}
	if len(args) > 2 {
		return sleep(nil)
	}
	return nil
}

// cat prints files, or says why it cannot.
func cat(args []string) error {
	for _, name := range args {
		data, err := os.ReadFile(name)
		fmt.Printf("%s: %q %v\n", name, data, err)
	}
	return nil
}

func write(args []string) error { return os.WriteFile(args[0], []byte("x"), 0o600) }

// reopen opens standard output by its name, as many images' logs are linked to it.
func reopen([]string) error {
	f, err := os.OpenFile("/dev/stdout", os.O_WRONLY|os.O_APPEND, 0)
	if err == nil {
		_, err = fmt.Fprintln(f, "again")
	}
	return err
}

// echo copies standard input to output until it ends.
func echo([]string) error {
	_, err := io.Copy(os.Stdout, os.Stdin)
	return err
}

// when does the rest once a file is there.
func when(args []string) error {
	for {
		if _, err := os.Stat(args[0]); err == nil {
			return syscall.Exec("/inside", append([]string{"/inside"}, args[1:]...), os.Environ())
		}
		time.Sleep(time.Millisecond)
	}
}

// says prints its code and ends with it.
func says(args []string) error {
	fmt.Println("says", args[0])
	return exit(args)
}

// size prints its terminal's width and height, now and whenever they change.
func size([]string) error {
	changed := make(chan os.Signal, 1)
	signal.Notify(changed, syscall.SIGWINCH)
	for {
		ws, err := unix.IoctlGetWinsize(0, unix.TIOCGWINSZ)
		if err != nil {
			return err
		}
		fmt.Println(ws.Col, ws.Row)
		<-changed
	}
}

// eat touches memory, in MiB, and keeps it.
func eat(args []string) error {
	var kept [][]byte
	for range atoi(args[0]) {
		block := make([]byte, 1<<20)
		for i := 0; i < len(block); i += 4096 {
			block[i] = 1
		}
		kept = append(kept, block)
	}
	fmt.Println("ate", len(kept))
	if len(args) > 1 {
		return sleep(nil)
	}
	return nil
}

// spawn starts n sleepers and prints how many started.
func spawn(args []string) error {
	started := 0
	for range atoi(args[0]) {
		if err := exec.Command("/proc/self/exe", "sleep").Start(); err == nil {
			started++
		}
	}
	fmt.Println("started", started)
	if len(args) > 1 {
		return sleep(nil)
	}
	return nil
}

// orphan leaves a sleeper behind that holds standard output open, and ends.
func orphan([]string) error {
	cmd := exec.Command("/proc/self/exe", "sleep")
	cmd.Stdout = os.Stdout
	return cmd.Start()
}

// privileges prints what this process may do.
func privileges([]string) error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "Cap") || strings.HasPrefix(line, "NoNewPrivs") {
			fmt.Print(line)
		}
	}
	return nil
}

func whoami([]string) error {
	groups, err := os.Getgroups()
	cwd, _ := os.Getwd()
	fmt.Println(os.Getuid(), os.Getgid(), groups, cwd, os.Getpid(), os.Getenv("GREETING"))
	return err
}

func hostname([]string) error {
	name, err := os.Hostname()
	fmt.Println(name)
	return err
}

// bind tries to mount, which needs a capability that containers lack.
func bind([]string) error { return syscall.Mount("/", "/", "", syscall.MS_BIND, "") }

// agent does the first of the steps create, start, exec with the spec on standard input, prints "done" and waits to be killed.
func agent(args []string) error {
	var spec keeper.Spec
	if err := json.NewDecoder(os.Stdin).Decode(&spec); err != nil {
		return err
	}
	ctx := context.Background()
	c, err := keeper.Dial(ctx, args[0])
	if err != nil {
		return err
	}
	steps := []func() error{
		func() error { return c.Create(ctx, spec) },
		func() error { return c.Start(ctx, spec.ID) },
		func() error {
			_, err := c.ExecStream(ctx, spec.ID, keeper.ExecSpec{Args: []string{"/inside", "sleep"}}, keeper.Streams{})
			return err
		},
		func() error {
			in, out, err := os.Pipe()
			if err == nil {
				_, err = c.Attach(ctx, spec.ID, keeper.Streams{Stdin: in, Stdout: out})
			}
			return err
		},
		func() error { return c.Deadline(ctx, spec.ID, 1<<62) },
		func() error { return c.Kill(ctx, spec.ID, syscall.SIGTERM, false) },
	}
	for _, step := range steps[:atoi(args[1])] {
		if err := step(); err != nil {
			return err
		}
	}
	fmt.Println("done")
	return sleep(nil)
}
