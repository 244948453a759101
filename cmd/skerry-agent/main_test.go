package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"skerry.dev/skerry/api"
)

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRefuses: bad input gets an error that says what and where.
func TestRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no command":      {nil, "no command given"},
		"unknown command": {[]string{"rnu"}, `unknown command "rnu"; known are run, init, probe, version`},
		"unknown flag":    {[]string{"run", "--stat-dir", "x"}, "unknown flag: --stat-dir"},
		"stray argument":  {[]string{"run", "now"}, `unexpected argument "now"`},
		"no file":         {[]string{"run", "--config", "/nonexistent/agent.yaml"}, "/nonexistent/agent.yaml: no such file"},
		"misspelt key":    {[]string{"run", "--config", write(t, "sevrers: [x]\n")}, `unknown key "sevrers"`},
		"many faults":     {[]string{"run", "--config", write(t, "pods: {max: 0}\n"), "--state-dir", "x"}, "pods.max: 0 is less than 1"},
		"init, no server": {[]string{"init", "--state-dir", "/s"}, "servers: none given"},
		"output":          {[]string{"probe", "-o", "xml"}, `output "xml" is not one of table, json, yaml`},
	} {
		t.Run(name, func(t *testing.T) {
			err := run(t.Context(), c.args, &strings.Builder{})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestCheckMachine(t *testing.T) {
	cgroups := t.TempDir()
	if err := checkMachine(0, cgroups); err == nil || !strings.Contains(err.Error(), "no control groups are mounted at "+cgroups) {
		t.Errorf("no cgroups: %v", err)
	}
	if err := os.Mkdir(filepath.Join(cgroups, "memory"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := checkMachine(0, cgroups); err != nil {
		t.Errorf("version 1: %v", err)
	}
	if err := checkMachine(1000, cgroups); err == nil || !strings.Contains(err.Error(), "user id 1000 is not root") {
		t.Errorf("not root: %v", err)
	}
}

func TestHelp(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"run", "--help"}, {"init", "-h"}, {"probe", "--help"}} {
		var out strings.Builder
		if err := run(t.Context(), args, &out); err != nil || !strings.Contains(out.String(), "skerry-agent") {
			t.Errorf("%v: %v, %q", args, err, out.String())
		}
	}
}

// TestProbe: the three formats say the same of this machine.
func TestProbe(t *testing.T) {
	outputs := map[string]string{}
	for _, format := range []string{"json", "yaml", "table"} {
		var out strings.Builder
		if err := run(t.Context(), []string{"probe", "-o", format}, &out); err != nil {
			t.Fatal(err)
		}
		outputs[format] = out.String()
	}
	var inv api.Inventory
	if err := json.Unmarshal([]byte(outputs["json"]), &inv); err != nil || inv.CPU.Threads < 1 || inv.Memory.TotalBytes == 0 {
		t.Errorf("json: %v, %+v", err, inv)
	}
	var a, b any
	if err := json.Unmarshal([]byte(outputs["json"]), &a); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(outputs["yaml"]), &b); err != nil {
		t.Fatal(err)
	}
	keys := func(v any) (out []string) {
		m, _ := v.(map[string]any)
		for _, k := range []string{"cpu", "kernel", "links", "memory", "mounts", "system"} {
			if _, ok := m[k]; ok {
				out = append(out, k)
			}
		}
		return out
	}
	if diff := cmp.Diff(keys(a), keys(b)); diff != "" || len(keys(a)) < 4 {
		t.Errorf("json has %v, yaml %v", keys(a), keys(b))
	}
	for _, want := range []string{"CLASS", "cpu", "memory", "GiB"} {
		if !strings.Contains(outputs["table"], want) {
			t.Errorf("table lacks %q:\n%s", want, outputs["table"])
		}
	}
}
