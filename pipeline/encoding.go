package pipeline

import (
	"fmt"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
)

// encoder packs the records of a message. One belongs to each batch being
// published, so it needs no lock.
type encoder struct {
	encoding string
	zstd     *zstd.Encoder
	buf      []byte
}

func checkEncoding(encoding string) error {
	switch encoding {
	case EncodingNone, EncodingSnappy, EncodingZstd:
		return nil
	}
	return fmt.Errorf("pipeline: unknown content encoding %q, expected \"\", %q or %q", encoding, EncodingSnappy, EncodingZstd)
}

func newEncoder(encoding string) (*encoder, error) {
	e := &encoder{encoding: encoding}
	if encoding == EncodingZstd {
		var err error
		e.zstd, err = zstd.NewWriter(nil,
			zstd.WithEncoderConcurrency(1),
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true), // a larger one finds no more in messages of such a size
			zstd.WithEncoderCRC(false),   // JetStream has a sum of each message
			zstd.WithSingleSegment(true)) // so that the frame carries its content size
		if err != nil {
			return nil, fmt.Errorf("pipeline: zstd encoder: %w", err)
		}
	}
	return e, nil
}

// encode packs records and returns what to send and its Content-Encoding:
// records themselves where packing does not make them smaller. The result is
// valid until the next encode.
func (e *encoder) encode(records []byte) ([]byte, string) {
	switch e.encoding {
	case EncodingSnappy:
		e.buf = s2.EncodeSnappy(e.buf[:cap(e.buf)], records)
	case EncodingZstd:
		e.buf = e.zstd.EncodeAll(records, e.buf[:0])
	default:
		return records, EncodingNone
	}
	if len(e.buf) >= len(records) {
		return records, EncodingNone
	}
	return e.buf, e.encoding
}

// Pack packs records as a message of that encoding has them, and returns what
// was used of it: none where packing does not make them smaller. It is for who
// stores messages without a Pipeline.
func Pack(records []byte, encoding string) (body []byte, used string, err error) {
	if err := checkEncoding(encoding); err != nil {
		return nil, "", err
	}
	e, err := newEncoder(encoding)
	if err != nil {
		return nil, "", err
	}
	body, used = e.encode(records)
	return body, used, nil
}
