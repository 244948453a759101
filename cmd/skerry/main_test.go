package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"skerry.dev/skerry/cmd/skerry/kubectl"
)

// say runs the command line and returns what it printed.
func say(t *testing.T, args ...string) string {
	t.Helper()
	out, err := try(args...)
	if err != nil {
		t.Fatalf("skerry %s: %v", strings.Join(args, " "), err)
	}
	return out
}

func try(args ...string) (string, error) {
	var out bytes.Buffer
	root := command(append([]string{"skerry"}, args...), genericiooptions.IOStreams{In: strings.NewReader(""), Out: &out, ErrOut: &out})
	root.SetArgs(args)
	root.SilenceErrors = true
	err := root.Execute()
	return out.String(), err
}

func want(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		word, absent := strings.CutPrefix(part, "!")
		if strings.Contains(text, word) == absent {
			t.Errorf("want %q in\n%s", part, text)
		}
	}
}

func walk(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, below := range c.Commands() {
		walk(below, visit)
	}
}

// TestNamesDoNotClash: two commands of one name hide one another, and two flags of one letter panic when they are read.
func TestNamesDoNotClash(t *testing.T) {
	root := command([]string{"skerry"}, genericiooptions.NewTestIOStreamsDiscard())
	count := 0
	walk(root.Command, func(c *cobra.Command) {
		count++
		c.InheritedFlags() // panics at a clash
		c.InitDefaultHelpFlag()
		taken := map[string]string{}
		for _, below := range c.Commands() {
			for _, name := range append(below.Aliases, below.Name()) {
				if other := taken[name]; other != "" {
					t.Errorf("%s %s is both %s and %s", c.CommandPath(), name, other, below.Name())
				}
				taken[name] = below.Name()
			}
		}
	})
	if count < 100 {
		t.Errorf("%d commands: kubectl's are not all here", count)
	}
}

func TestHelpHasFleetVerbsFirst(t *testing.T) {
	out := say(t, "--help")
	last := -1
	for _, heading := range []string{"Fleet Commands:\n  token ", "Local Clusters:\n  up ", "Basic Commands:\n  create ", "Troubleshooting", "Settings Commands:", "Other Commands:"} {
		at := strings.Index(out, heading)
		if at <= last {
			t.Errorf("%q is at %d, want it after %d in\n%s", heading, at, last, out)
		}
		last = at
	}
	want(t, out, "!plugin", "kubectl has no words for", `Use "skerry options"`)
}

func TestHelpSaysOurName(t *testing.T) {
	want(t, say(t, "get", "--help"), "skerry get pods -o wide", "skerry api-resources", "!kubectl ")
	want(t, say(t, "rollout", "undo", "--help"), "skerry rollout undo deployment/abc", "!kubectl ")
	want(t, say(t, "exec", "--help"), "skerry exec mypod -- date", "!kubectl ")
	want(t, say(t, "options"), "--kubeconfig", "--as")
	want(t, say(t, "token", "--help"), "A join token lets one machine", "create  ")
	want(t, say(t, "token", "create", "--help"), "only the node of this name may use it", "!`")
	want(t, say(t, "user", "add", "--help"), "CANNOT BE REVOKED", "skerry create rolebinding deployers", "a group that the user is in", "--inbox-prefix _INBOX.ci")
}

func TestVersion(t *testing.T) {
	want(t, say(t, "version", "--client"), "Skerry Version: dev\nClient Version: ")
	want(t, say(t, "version", "--client", "-o", "json"), `"clientVersion": {`, "!Skerry")
	want(t, say(t, "--version"), "skerry version dev")
}

func TestUnknownCommand(t *testing.T) {
	_, err := try("imagine")
	if err == nil {
		t.Fatal("no error")
	}
	want(t, err.Error(), `unknown command "imagine" for "skerry"`, "image")
}

// TestPluginsAreOff: a kubectl-x on the path is no command of ours, and the programs beside ours are none either.
func TestPluginsAreOff(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"kubectl-zz", "skerry-zz"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\necho ran\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", dir)
	if out, err := try("zz"); err == nil {
		t.Errorf("ran a plugin:\n%s", out)
	}
	want(t, say(t, "__complete", "z"), "!zz")
}

func TestCompletion(t *testing.T) {
	want(t, say(t, "completion", "bash"), "__start_skerry", "!kubectl")
	want(t, say(t, "completion", "zsh"), "#compdef skerry")
	want(t, say(t, "__complete", ""), "token\t", "up\t", "get\t", "exec\t")
	want(t, say(t, "__complete", "tok"), "token\t", "!get\t")
	want(t, say(t, "__complete", "token", ""), "create\t", "ls\t")
	want(t, say(t, "__complete", "token", "ls", "-o", ""), "table", "json")
	want(t, say(t, "__complete", "rollout", ""), "restart\t", "undo\t")
	want(t, say(t, "__complete", "get", "--output", ""), "custom-columns", "jsonpath")
}

func TestNoCluster(t *testing.T) {
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	_, err := try("token", "ls")
	if err == nil {
		t.Fatal("no error")
	}
	want(t, err.Error(), "no cluster: give --kubeconfig")
}

func TestUseLocal(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, kubeconfig, pod, path, want string }{
		{"nothing else", "", "", path, path},
		{"their own", "/theirs", "", path, "/theirs"},
		{"in a pod", "", "10.43.0.1", path, ""},
		{"no local cluster", "", "", path + "-not-there", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("KUBECONFIG", c.kubeconfig)
			t.Setenv("KUBERNETES_SERVICE_HOST", c.pod)
			if err := kubectl.UseLocal(c.path, filepath.Join(t.TempDir(), "home")); err != nil {
				t.Fatal(err)
			}
			if got := os.Getenv("KUBECONFIG"); got != c.want {
				t.Errorf("KUBECONFIG=%q, want %q", got, c.want)
			}
		})
	}
	t.Run("a kubeconfig at home", func(t *testing.T) {
		t.Setenv("KUBECONFIG", "")
		t.Setenv("KUBERNETES_SERVICE_HOST", "")
		if err := kubectl.UseLocal(path, path); err != nil {
			t.Fatal(err)
		}
		if got := os.Getenv("KUBECONFIG"); got != "" {
			t.Errorf("KUBECONFIG=%q", got)
		}
	})
}
