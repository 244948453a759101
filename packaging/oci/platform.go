package oci

import (
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// ErrDynamic means that a binary needs a loader that the image does not hold.
var ErrDynamic = errors.New("binary is not static")

// program is what an ELF file says of itself.
type program struct {
	platform    v1.Platform
	interpreter string // of a dynamic binary
}

// machines are the ELF machines that Linux containers run on. big-endian variants share a number with little-endian ones.
var machines = map[elf.Machine]map[elf.Data]v1.Platform{
	elf.EM_X86_64:    {elf.ELFDATA2LSB: {OS: "linux", Architecture: "amd64"}},
	elf.EM_386:       {elf.ELFDATA2LSB: {OS: "linux", Architecture: "386"}},
	elf.EM_AARCH64:   {elf.ELFDATA2LSB: {OS: "linux", Architecture: "arm64"}},
	elf.EM_ARM:       {elf.ELFDATA2LSB: {OS: "linux", Architecture: "arm", Variant: "v7"}},
	elf.EM_RISCV:     {elf.ELFDATA2LSB: {OS: "linux", Architecture: "riscv64"}},
	elf.EM_PPC64:     {elf.ELFDATA2LSB: {OS: "linux", Architecture: "ppc64le"}},
	elf.EM_S390:      {elf.ELFDATA2MSB: {OS: "linux", Architecture: "s390x"}},
	elf.EM_LOONGARCH: {elf.ELFDATA2LSB: {OS: "linux", Architecture: "loong64"}},
}

// isELF looks at the first bytes.
func isELF(magic []byte) bool { return len(magic) >= 4 && string(magic[:4]) == elf.ELFMAG }

// readProgram reads the headers of an ELF file.
func readProgram(r io.ReaderAt) (program, error) {
	f, err := elf.NewFile(r)
	if err != nil {
		return program{}, fmt.Errorf("read ELF headers: %w", err)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return program{}, fmt.Errorf("ELF file of type %v is not a program", f.Type)
	}
	p := program{platform: machines[f.Machine][f.Data]}
	if p.platform.Architecture == "" {
		return program{}, fmt.Errorf("machine %v is not known", f.Machine)
	}
	for _, seg := range f.Progs {
		if seg.Type != elf.PT_INTERP {
			continue
		}
		data := make([]byte, min(seg.Filesz, 4096))
		if _, err := seg.ReadAt(data, 0); err != nil {
			return program{}, fmt.Errorf("read ELF interpreter: %w", err)
		}
		for len(data) > 0 && data[len(data)-1] == 0 {
			data = data[:len(data)-1]
		}
		p.interpreter = string(data)
	}
	return p, nil
}

// choosePlatform takes what was asked for, checks it against the program, and falls back in the order that
// BuildOptions.Platform promises.
func choosePlatform(file v1.ConfigFile, src *source, o BuildOptions) (v1.Platform, error) {
	asked, err := askedPlatform(o.Platform)
	if err != nil {
		return v1.Platform{}, err
	}
	found := src.program.platform
	if asked.Architecture != "" && found.Architecture != "" && asked.Architecture != found.Architecture {
		return v1.Platform{}, fmt.Errorf("platform %s was asked for, %s is made for %s", asked, src.programName(), found)
	}
	if has := file.Architecture; o.Base != nil && has != "" && found.Architecture != "" && has != found.Architecture {
		return v1.Platform{}, fmt.Errorf("%s is made for %s, the base image for %s/%s", src.programName(), found, file.OS, has)
	}
	for _, p := range []v1.Platform{asked, found, {OS: file.OS, Architecture: file.Architecture, Variant: file.Variant}} {
		if p.Architecture != "" {
			return p, nil
		}
	}
	return v1.Platform{OS: "linux", Architecture: runtime.GOARCH}, nil
}

func askedPlatform(s string) (v1.Platform, error) {
	if s == "" {
		return v1.Platform{}, nil
	}
	p, err := v1.ParsePlatform(s)
	if err != nil || p.OS != "linux" || p.Architecture == "" {
		return v1.Platform{}, fmt.Errorf("platform %q: want linux/ARCHITECTURE or linux/ARCHITECTURE/VARIANT, such as linux/arm64", s)
	}
	return *p, nil
}
