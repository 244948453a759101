package configs

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type sample struct {
	Listen string        `mapstructure:"listen"`
	Beat   time.Duration `mapstructure:"beat"`
	API    struct {
		Port int      `mapstructure:"port"`
		SANs []string `mapstructure:"sans"`
	} `mapstructure:"api"`
	Labels map[string]string `mapstructure:"labels"`
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoadOrder(t *testing.T) {
	file := write(t, "listen: file\nbeat: 3s\napi:\n  port: 1\n  sans: [a, b]\nlabels:\n  site: north\n")
	t.Setenv("SKERRY_API_PORT", "2")
	t.Setenv("SKERRY_BEAT", "4s")
	flags := pflag.NewFlagSet("x", pflag.ContinueOnError)
	flags.Duration("beat", 0, "")
	flags.String("listen", "unset", "")
	if err := flags.Parse([]string{"--beat=5s"}); err != nil {
		t.Fatal(err)
	}
	got := sample{Listen: "default"}
	if err := Load(&got, file, flags); err != nil {
		t.Fatal(err)
	}
	want := sample{Listen: "file", Beat: 5 * time.Second, Labels: map[string]string{"site": "north"}}
	want.API.Port, want.API.SANs = 2, []string{"a", "b"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestLoadKeepsDefaults(t *testing.T) {
	got := sample{Listen: "default", Beat: time.Minute}
	if err := Load(&got, "", nil); err != nil {
		t.Fatal(err)
	}
	if got.Listen != "default" || got.Beat != time.Minute {
		t.Errorf("got %+v, want the defaults", got)
	}
}

func TestLoadRefuses(t *testing.T) {
	for name, c := range map[string]struct{ text, want string }{
		"misspelt key":        {"lisen: x\n", `unknown key "lisen"`},
		"misspelt nested key": {"api:\n  prot: 1\n", `unknown key "api.prot"`},
		"wrong type":          {"api:\n  port: many\n", "port"},
		"no yaml":             {"listen: [\n", "config "},
	} {
		t.Run(name, func(t *testing.T) {
			err := Load(&sample{}, write(t, c.text), nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if err := Load(&sample{}, "/nonexistent/c.yaml", nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Errorf("missing file: %v", err)
	}
}
