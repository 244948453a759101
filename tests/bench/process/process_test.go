package process

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestUsage(t *testing.T) {
	self := os.Getpid()
	before, err := CPU(self)
	if err != nil {
		t.Fatal(err)
	}
	work := 0
	for began := time.Now(); time.Since(began) < 30*time.Millisecond; {
		work++
	}
	after, err := CPU(self)
	if err != nil || after <= before {
		t.Errorf("CPU time went from %s to %s in %d turns, %v", before, after, work, err)
	}
	if n, err := ResidentBytes(self); err != nil || n < 1<<20 {
		t.Errorf("resident %d, %v", n, err)
	}
	if n, err := WrittenBytes(self); err != nil || n < 0 {
		t.Errorf("written %d, %v", n, err)
	}
	if _, _, err := NetworkBytes(self); err != nil {
		t.Error(err)
	}
	if _, err := ResidentBytes(1 << 30); err == nil {
		t.Error("a process that does not exist has memory")
	}
}

func TestProcess(t *testing.T) {
	dir := t.TempDir()
	p, err := Start(dir, "/bin/sleep", "60")
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Alive(); err != nil {
		t.Error(err)
	}
	for range 2 {
		if err := p.Stop(); err != nil {
			t.Error(err)
		}
	}
	p, err = Start(dir, "/bin/sh", "-c", "echo no settings; exit 3")
	if err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if err := p.Alive(); err == nil || !strings.Contains(err.Error(), "no settings") || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("it says: %v", err)
	}
	if _, err := Start(dir, "/does/not/exist"); err == nil {
		t.Error("a program that does not exist was started")
	}
}
