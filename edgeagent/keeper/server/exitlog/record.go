package exitlog

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"strconv"

	"skerry.dev/skerry/edgeagent/keeper"
)

// MaxRecordBytes bounds one line of the log: labels are bounded by keeper.MaxLabelBytes, JSON may escape each byte as six.
const MaxRecordBytes = 64 << 10

// Record is one line: an exit, and which instance of the ID it belongs to, so that a container made again under an old ID is told apart.
type Record struct {
	keeper.Exit
	Instance string `json:"instance"`
}

// crcBytes is the length of the checksum at the start of a line, in hexadecimal.
const crcBytes = 8

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var errRecord = errors.New("not a record")

// encode makes a line: checksum, space, JSON, newline.
func encode(r Record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode exit of %s: %w", r.ID, err)
	}
	if len(body)+crcBytes+2 > MaxRecordBytes {
		return nil, fmt.Errorf("encode exit of %s: %d bytes, want at most %d", r.ID, len(body), MaxRecordBytes)
	}
	line := fmt.Appendf(nil, "%08x ", crc32.Checksum(body, castagnoli))
	return append(append(line, body...), '\n'), nil
}

// decode reads a line without its newline.
func decode(line []byte) (Record, error) {
	if len(line) > MaxRecordBytes || len(line) < crcBytes+2 || line[crcBytes] != ' ' {
		return Record{}, errRecord
	}
	sum, err := strconv.ParseUint(string(line[:crcBytes]), 16, 32)
	if err != nil {
		return Record{}, errRecord
	}
	body := line[crcBytes+1:]
	if crc32.Checksum(body, castagnoli) != uint32(sum) {
		return Record{}, errRecord
	}
	var r Record
	if err := json.Unmarshal(body, &r); err != nil {
		return Record{}, fmt.Errorf("%w: %w", errRecord, err)
	}
	if r.Seq == 0 {
		return Record{}, errRecord
	}
	return r, nil
}

// scan calls each with every good record of data in order and the offset of its line. It returns where the last good line ends and how many
// bad lines lie before that: rot, not a torn write. Records whose sequence number does not grow count as bad.
func scan(data []byte, each func(r Record, at int64)) (end int64, bad int) {
	var last uint64
	badSince := 0
	for at := 0; at < len(data); {
		length := bytes.IndexByte(data[at:], '\n')
		if length < 0 {
			break
		}
		r, err := decode(data[at : at+length])
		if err != nil || r.Seq <= last {
			badSince++
		} else {
			last, bad, badSince = r.Seq, bad+badSince, 0
			end = int64(at + length + 1)
			each(r, int64(at))
		}
		at += length + 1
	}
	return end, bad
}
