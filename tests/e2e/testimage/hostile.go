package main

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// forks makes copies of this process that stay, as many as it can, and goes on trying. A copy does nothing that needs Go's runtime.
func forks() {
	refused := 0
	for {
		pid, _, errno := syscall.RawSyscall6(syscall.SYS_CLONE, uintptr(syscall.SIGCHLD), 0, 0, 0, 0, 0)
		for pid == 0 && errno == 0 {
			_, _, _ = syscall.RawSyscall6(syscall.SYS_PPOLL, 0, 0, 0, 0, 0, 0) // until it is killed
		}
		if errno != 0 {
			if refused++; refused == 1 {
				fmt.Println("refused:", errno)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// fill writes as much as it is told, or until it may not, and says why.
func fill(args []string) error {
	block, limit := bytes.Repeat([]byte("x"), 1<<20), math.MaxInt
	if len(args) > 1 {
		var err error
		if limit, err = strconv.Atoi(args[1]); err != nil {
			return err
		}
	}
	for i := range limit {
		f, err := os.Create(filepath.Join(args[0], fmt.Sprint(i)))
		if err == nil {
			_, err = f.Write(block)
		}
		if err != nil {
			return fmt.Errorf("after %d MiB: %w", i, err)
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

var held []byte // for as long as the process lives

func hold(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil {
		return err
	}
	held = make([]byte, n<<20)
	for i := 0; i < len(held); i += os.Getpagesize() {
		held[i] = 1
	}
	fmt.Println("holding", len(held), "bytes")
	return nil
}

func flood() {
	line := append(bytes.Repeat([]byte("x"), 1000), 10)
	for {
		if _, err := os.Stdout.Write(line); err != nil {
			return
		}
	}
}

// overwrite looks, again and again, for a process that is still its runtime's program, and tries to write to it.
func overwrite() {
	for {
		files, _ := filepath.Glob("/proc/[0-9]*/exe") // the pattern is right
		for _, name := range append(files, "/proc/self/exe") {
			target, err := os.Readlink(name)
			if err != nil || target == "/testimage" {
				continue
			}
			f, err := os.OpenFile(name, os.O_WRONLY, 0)
			if err != nil {
				continue
			}
			_, err = f.WriteString("#!/bin/false\n")
			fmt.Println("wrote to", target, err)
		}
		time.Sleep(time.Millisecond)
	}
}

// open opens a device for writing, which changes nothing.
func open(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	fmt.Println("opened", path)
	return f.Close()
}

// node makes a device that this container was not given.
func node(args []string) error {
	major, err1 := strconv.Atoi(args[1])
	minor, err2 := strconv.Atoi(args[2])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if err := syscall.Mknod(args[0], syscall.S_IFCHR|0o666, major<<8|minor); err != nil {
		return fmt.Errorf("mknod: %w", err)
	}
	return open(args[0])
}
