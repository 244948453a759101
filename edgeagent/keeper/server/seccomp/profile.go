package seccomp

import (
	"encoding/json"
	"errors"
	"fmt"

	moby "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// Default returns the profile of Docker and containerd as it applies to a process with these capabilities ("CAP_CHOWN") on this machine.
func Default(capabilities []string) (*specs.LinuxSeccomp, error) {
	return moby.GetDefaultProfile(having(capabilities))
}

// Parse reads a profile in Docker's or the OCI's JSON form. Rules that depend on capabilities, the architecture or the kernel are resolved
// for a process with these capabilities on this machine. A profile that restricts nothing is refused: who wants none says so.
func Parse(text []byte, capabilities []string) (*specs.LinuxSeccomp, error) {
	var raw moby.Seccomp
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("decode profile: %w", err)
	}
	for i, rule := range raw.Syscalls {
		if rule == nil {
			return nil, fmt.Errorf("rule %d is empty", i)
		}
	}
	if raw.DefaultAction == "" {
		return nil, errors.New("it has no defaultAction")
	}
	return moby.LoadProfile(string(text), having(capabilities))
}

func having(capabilities []string) *specs.Spec {
	return &specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}}
}
