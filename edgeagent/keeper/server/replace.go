package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"

	"skerry.dev/skerry/edgeagent/keeper/internal/wire"
)

// errReplace ends serving because another image takes over.
var errReplace = errors.New("the keeper is to be replaced")

// Image is what a keeper program says of itself when it is asked with -about.
type Image struct {
	Release  string `json:"release"`
	Protocol int    `json:"protocol"`
	Handover int    `json:"handover"`
}

// About writes what this image is.
func About(w io.Writer, release string) error {
	return json.NewEncoder(w).Encode(Image{Release: release, Protocol: wire.Version, Handover: HandoverFormat})
}

// aboutLimit bounds how long a new image may take to say what it is.
const aboutLimit = 30 * time.Second

// awaitReplacement returns errReplace when a new image was asked for and can take over. One that cannot is left alone.
func (s *Server) awaitReplacement(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.cfg.Replace:
		}
		image, err := s.ask(ctx)
		if err != nil {
			s.log.Error("keeper not replaced: the new image cannot take over; install another and ask again", "file", s.cfg.Image, "error", err)
			continue
		}
		s.log.Info("keeper will be replaced", "file", s.cfg.Image, "release", image.Release, "from", s.cfg.Release)
		return errReplace
	}
}

// ask runs the new image to see whether it starts at all, and reads what is left to it.
func (s *Server) ask(ctx context.Context) (image Image, err error) {
	ctx, cancel := context.WithTimeout(ctx, aboutLimit)
	defer cancel()
	s.orphans.births.RLock() // or it would be reaped as one
	out, err := exec.CommandContext(ctx, s.cfg.Image, "-about").Output()
	s.orphans.births.RUnlock()
	if err != nil {
		return image, fmt.Errorf("start it: %w", err)
	}
	if err := json.Unmarshal(out, &image); err != nil {
		return image, fmt.Errorf("it says %.100q of itself: %w", out, err)
	}
	if image.Handover != HandoverFormat {
		return image, fmt.Errorf("it takes over from keepers of handover format %d, this one is of %d (release %s)", image.Handover, HandoverFormat, s.cfg.Release)
	}
	return image, nil
}

// heir returns the listener that was handed over, or a new one.
func (s *Server) heir() (*listener, error) {
	if h := s.cfg.Handover; h != nil && h.Socket != 0 {
		return &listener{file: fileOf(&h.Socket, s.cfg.Socket), farewell: farewell}, nil
	}
	return listen(s.cfg.Socket)
}

// heirLock returns the lock that was handed over, or opens it.
func (s *Server) heirLock(path string) (*os.File, error) {
	if h := s.cfg.Handover; h != nil && h.Lock != 0 {
		return fileOf(&h.Lock, path), nil
	}
	return os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
}
