package pipeline

// Headers and values of a stored message, format version 1. A reader
// acknowledges and skips a message without HeaderRecord, and stops with an
// error on a version that it does not know.
const (
	HeaderMsgID    = "Nats-Msg-Id"
	HeaderRecord   = "Caliper-Record"
	HeaderEvents   = "Caliper-Events"
	HeaderBytes    = "Caliper-Bytes"
	HeaderType     = "Content-Type"
	HeaderEncoding = "Content-Encoding"

	RecordVersion = "1"
	ContentType   = "application/x-ndjson"

	EncodingNone   = ""
	EncodingSnappy = "snappy" // block format
	EncodingZstd   = "zstd"   // one frame with its content size

	DefaultEncoding = EncodingZstd // of a setting; a Config has none
)
