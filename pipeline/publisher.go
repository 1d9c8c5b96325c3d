package pipeline

import (
	"context"
	"errors"
)

// Publisher stores sealed batches durably. pipeline/stream has the one for
// JetStream, pipelinetest the one for memory and the test both must pass.
//
// All methods may be called concurrently.
type Publisher interface {
	// Publish stores m and returns where, or says why not. It blocks until the
	// store has answered or ctx is done. A nil error means that the store has
	// acknowledged m at the durability level of the Ack.
	//
	// Errors, told apart by errors.Is: ErrStoreFull and ErrRefused mean that m
	// is certainly not stored; any other error means that nobody knows, so the
	// caller repeats m under the same ID, which the store then counts once.
	//
	// m and its Body stay the caller's: Publish keeps neither after it returned.
	Publish(ctx context.Context, m *Message) (Ack, error)

	// Probe is called about once a second after a Publish failed for an unknown
	// reason, and tries to get the store back. It never adds a message to a
	// topic. A nil error lets the next batch decide.
	Probe(ctx context.Context) error
}

// Message is one sealed batch on its way to the store (contract: one JetStream
// message per batch, newline-delimited JSON, one record a line).
type Message struct {
	// Topic is the name of the topic, such as "standard".
	Topic string
	// ID becomes the Nats-Msg-Id. It stays the same over every repetition.
	ID string
	// Encoding is the Content-Encoding of Body: "", "snappy" or "zstd".
	Encoding string
	// Records is the number of records in Body.
	Records int
	// Bytes is the size of Body unpacked.
	Bytes int
	// Body is what is stored.
	Body []byte
}

// Ack tells where a Message was stored.
type Ack struct {
	// Sequence is the sequence number of the message in the topic's stream, 0
	// where it has none yet: at LevelSpooled.
	Sequence uint64
	// Duplicate is true where the store already held a message of that ID.
	Duplicate bool
	// Level is what the acknowledgement survives.
	Level Level
}

// Level is a durability level of the contract, as answered in
// Caliper-Durability.
type Level string

// The levels. A 2xx at LevelFsync survives kill -9 and power loss of this
// host; at LevelReplicated the loss of any one host; at LevelStored whatever
// the external server's settings make of it; at LevelSpooled kill -9 and power
// loss of this host, from which it is forwarded to the external server.
const (
	LevelFsync      Level = "fsync"
	LevelReplicated Level = "replicated"
	LevelStored     Level = "stored"
	LevelSpooled    Level = "spooled"
)

// Weaker returns the weaker of two levels, which is what both survive. Nothing
// is weaker than LevelStored, which promises nothing of its own; LevelSpooled is
// lost with this host, where LevelReplicated is not. LevelFsync never meets the
// others.
func (l Level) Weaker(other Level) Level {
	for _, level := range []Level{LevelStored, LevelSpooled, LevelFsync} {
		if l == level || other == level {
			return level
		}
	}
	return l
}

// Errors of a Publisher.
var (
	// ErrStoreFull: the topic has reached its byte limit. Nothing was stored.
	ErrStoreFull = errors.New("pipeline: store is full")
	// ErrFrozen: nobody knows whether the message is stored, and the store takes
	// nothing more for its topic until a Probe has opened it anew.
	ErrFrozen = errors.New("pipeline: store is frozen after an I/O error")
	// ErrRefused: the store refused the message for good. Nothing was stored.
	ErrRefused = errors.New("pipeline: store refused the message")
)
