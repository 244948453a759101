package checkpoint

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
)

// A file is: magic, version, crc32c of the rest, JSON.
const (
	magic      = "SKCP"
	version    = 1
	headerSize = len(magic) + 1 + 4
)

// ErrDamaged means that a file of the checkpoint does not hold what was once written to it.
var ErrDamaged = errors.New("checkpoint file is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func encode(v any) ([]byte, error) {
	body, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	out := make([]byte, headerSize, headerSize+len(body))
	copy(out, magic)
	out[len(magic)] = version
	binary.BigEndian.PutUint32(out[len(magic)+1:], crc32.Checksum(body, castagnoli))
	return append(out, body...), nil
}

func decode(data []byte, v any) error {
	if len(data) < headerSize || string(data[:len(magic)]) != magic {
		return fmt.Errorf("%w: no header", ErrDamaged)
	}
	if got := data[len(magic)]; got != version {
		return fmt.Errorf("checkpoint of version %d, this agent reads version %d: install the agent that wrote it, or a newer one", got, version)
	}
	body := data[headerSize:]
	if crc32.Checksum(body, castagnoli) != binary.BigEndian.Uint32(data[len(magic)+1:]) {
		return fmt.Errorf("%w: checksum does not match", ErrDamaged)
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return nil
}
