package keeper

import (
	"errors"
	"fmt"

	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// Errors of a keeper. They are found with errors.Is.
var (
	ErrInvalid     = errors.New("invalid")
	ErrNotFound    = errors.New("no such container")
	ErrExists      = errors.New("container exists")
	ErrConflict    = errors.New("container is in another state")
	ErrUnsupported = errors.New("not supported by this keeper")
	// ErrNoCommand means that the command of a container or an exec is not there or cannot be executed.
	ErrNoCommand = errors.New("command cannot be run")
	// ErrTruncated means that the exits asked for are no longer in the log: List tells what is left of them.
	ErrTruncated = errors.New("exit log no longer reaches back that far")
	// ErrVersion means that agent and keeper speak different protocol versions; the error says which of them is too old.
	ErrVersion = errors.New("agent and keeper do not fit together")
	// ErrUnavailable means that no keeper answered, or that it went away in the middle: ask again, or List to see what was done.
	ErrUnavailable = errors.New("keeper unavailable")
	// ErrInternal means that the keeper tried and the machine refused; the message says what.
	ErrInternal = errors.New("keeper error")
)

// codes pairs what travels with what callers see.
var codes = map[string]error{
	wire.CodeInvalid:     ErrInvalid,
	wire.CodeNotFound:    ErrNotFound,
	wire.CodeExists:      ErrExists,
	wire.CodeConflict:    ErrConflict,
	wire.CodeUnsupported: ErrUnsupported,
	wire.CodeNoCommand:   ErrNoCommand,
	wire.CodeTruncated:   ErrTruncated,
	wire.CodeVersion:     ErrVersion,
	wire.CodeInternal:    ErrInternal,
}

// refusal is a keeper's no: its message is the keeper's, its kind one of the errors above.
type refusal struct {
	kind    error
	message string
}

func (r *refusal) Error() string { return r.message }
func (r *refusal) Unwrap() error { return r.kind }

// refused makes the error of a reply with a code.
func refused(f wire.Frame) error {
	kind, ok := codes[f.Code]
	if !ok {
		kind = ErrInternal
	}
	if f.Error == "" {
		return fmt.Errorf("keeper refused %s: %w", f.Op, kind)
	}
	return &refusal{kind: kind, message: f.Error}
}

// Code returns the wire code of err, internal when it is none of the errors above. For the server side.
func Code(err error) string {
	// Unsupported and missing commands come wrapped as invalid requests: the narrower kind wins.
	for _, code := range []string{
		wire.CodeUnsupported, wire.CodeNoCommand, wire.CodeNotFound, wire.CodeExists, wire.CodeConflict, wire.CodeTruncated,
		wire.CodeVersion, wire.CodeInvalid,
	} {
		if errors.Is(err, codes[code]) {
			return code
		}
	}
	return wire.CodeInternal
}
