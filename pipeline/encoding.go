package pipeline

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// A Packer packs the records of one message after the other. It keeps its room
// between them, some MiB with zstd, and is for one goroutine at a time.
type Packer struct {
	encoding string
	zstd     *zstd.Encoder
	buf      []byte
}

// ParseEncoding returns the encoding of a name as people write it: none, snappy
// or zstd.
func ParseEncoding(name string) (encoding string, err error) {
	switch name {
	case "none":
		return EncodingNone, nil
	case EncodingSnappy, EncodingZstd:
		return name, nil
	}
	return "", fmt.Errorf("%q, expected none, %s or %s", name, EncodingSnappy, EncodingZstd)
}

func checkEncoding(encoding string) error {
	switch encoding {
	case EncodingNone, EncodingSnappy, EncodingZstd:
		return nil
	}
	return fmt.Errorf("pipeline: unknown content encoding %q, expected \"\", %q or %q", encoding, EncodingSnappy, EncodingZstd)
}

// NewPacker returns a Packer for EncodingNone, EncodingSnappy or EncodingZstd.
func NewPacker(encoding string) (*Packer, error) {
	if err := checkEncoding(encoding); err != nil {
		return nil, err
	}
	p := &Packer{encoding: encoding}
	if encoding == EncodingZstd {
		var err error
		p.zstd, err = zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), // a larger one finds no more in messages of such a size
			zstd.WithAllLitEntropyCompression(true), // where nothing is found twice its letters may still be few, as in hexadecimal digits
			zstd.WithEncoderCRC(false),              // JetStream has a sum of each message
			zstd.WithSingleSegment(true))            // so that the frame carries its content size
		if err != nil {
			return nil, fmt.Errorf("pipeline: zstd encoder: %w", err)
		}
	}
	return p, nil
}

// Pack returns records as a message has them, and the Content-Encoding that it
// used: none, and records themselves, where packing does not make them smaller.
// body is valid until the next Pack.
func (p *Packer) Pack(records []byte) (body []byte, used string) {
	switch p.encoding {
	case EncodingSnappy:
		p.buf = s2.EncodeSnappy(p.buf[:cap(p.buf)], records)
	case EncodingZstd:
		p.buf = p.zstd.EncodeAll(records, p.buf[:0])
	default:
		return records, EncodingNone
	}
	if len(p.buf) >= len(records) {
		return records, EncodingNone
	}
	return p.buf, p.encoding
}
