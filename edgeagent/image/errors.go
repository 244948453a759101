package image

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"syscall"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"skerry.dev/skerry/packaging/oci"
)

// What can be wrong with a pull. Errors of Pull wrap one of these, or are of the disk or the context.
var (
	// ErrInvalidName means that the reference cannot be read.
	ErrInvalidName = errors.New("invalid image name")
	// ErrNeverPull means that the image is not here and the policy forbids to fetch it.
	ErrNeverPull = errors.New("image is not present with pull policy of Never")
	// ErrNotFound means that the registry does not have it.
	ErrNotFound = errors.New("not found in the registry")
	// ErrUnauthorized means that the registry wants other credentials.
	ErrUnauthorized = errors.New("the registry refused the credentials")
	// ErrNoPlatform means that the image is not made for this machine.
	ErrNoPlatform = errors.New("no image for this platform")
	// ErrUnavailable means that the registry cannot be reached, or that it is in trouble. Trying again helps.
	ErrUnavailable = errors.New("the registry is not available")
	// ErrCorrupt means that what came is not what was asked for.
	ErrCorrupt = oci.ErrCorrupt
	// ErrNoSpace means that the disk is full.
	ErrNoSpace = errors.New("no space left for images")
)

// Reason is the waiting reason that the Kubernetes API uses for an error of Pull; empty for nil.
func Reason(err error) string {
	switch {
	case err == nil:
		return ""
	case errors.Is(err, ErrInvalidName):
		return "InvalidImageName"
	case errors.Is(err, ErrNeverPull):
		return "ErrImageNeverPull"
	case errors.Is(err, ErrUnavailable):
		return "RegistryUnavailable"
	}
	return "ErrImagePull"
}

// remoteError marks an error of the registry's client with what it means.
func remoteError(err error) error {
	var answer *transport.Error
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer):
		return fmt.Errorf("%w: %w", meaningOf(answer.StatusCode), err)
	}
	return fmt.Errorf("%w: %w", ErrUnavailable, err)
}

func meaningOf(status int) error {
	switch status {
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		return ErrUnauthorized
	}
	return ErrUnavailable
}

// diskError marks a full disk.
func diskError(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}

// lasting says that trying again at once cannot help.
func lasting(err error) bool {
	for _, e := range []error{ErrNotFound, ErrUnauthorized, ErrNoPlatform, ErrNoSpace, context.Canceled} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
