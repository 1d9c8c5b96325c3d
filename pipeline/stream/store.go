package stream

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

// Store stores m as Publish does, for the program's own commands: where the
// outcome is unknown again and again under the same ID, until a minute has
// passed. The Ack has no level: the directory of a new block file of an embedded
// server is synced with its own next message alone.
func Store(ctx context.Context, js jetstream.JetStream, layout Layout, m *pipeline.Message) (pipeline.Ack, error) {
	ctx, cancel := context.WithTimeout(ctx, duplicateWindow/2)
	defer cancel()
	for {
		attempt, done := context.WithTimeout(ctx, storeAttempt)
		ack, err := storeOnce(attempt, js, layout, m)
		done()
		if err == nil || errors.Is(err, pipeline.ErrStoreFull) || errors.Is(err, pipeline.ErrRefused) {
			return ack, err
		}
		select {
		case <-ctx.Done():
			return pipeline.Ack{}, err
		case <-time.After(storePause):
		}
	}
}

const (
	storeAttempt = 5 * time.Second
	storePause   = 200 * time.Millisecond
)

func storeOnce(ctx context.Context, js jetstream.JetStream, layout Layout, m *pipeline.Message) (pipeline.Ack, error) {
	name := layout.Stream(m.Topic)
	msg := nats.Msg{Subject: layout.Subject(m.Topic), Header: header(m), Data: m.Body}
	ack, err := js.PublishMsg(ctx, &msg, jetstream.WithRetryAttempts(0))
	if err != nil {
		return pipeline.Ack{}, publishError(name, err)
	}
	if ack.Stream != name {
		return pipeline.Ack{}, fmt.Errorf("stream: message for %s was stored by stream %s, which binds the same subject", name, ack.Stream)
	}
	return pipeline.Ack{Sequence: ack.Sequence, Duplicate: ack.Duplicate}, nil
}
