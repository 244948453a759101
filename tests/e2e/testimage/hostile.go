package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
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

// fill writes until it may not, and says why.
func fill(folder string) error {
	block := bytes.Repeat([]byte("x"), 1<<20)
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(folder, fmt.Sprint(i)))
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
