package stream

import (
	"context"
	"fmt"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// CheckQuarantine asks for the stream of the topic quarantine and returns an error
// where records that move on after age cannot move as they should: nothing can be
// deleted there, or it would have deleted them before. A server that does not
// answer, and a stream that is not there, are none.
func (p *Publisher) CheckQuarantine(ctx context.Context, age time.Duration) error {
	js := p.JetStream()
	if js == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	c, err := streamConfig(ctx, js, p.layout.Stream(topicQuarantine))
	if err != nil {
		return nil
	}
	if err := checkDeletable(c); err != nil {
		return err
	}
	if c.MaxAge > 0 && c.MaxAge <= age {
		return fmt.Errorf("stream %s: maximum age is %v, want more than the %v of quarantine-age: records would be gone before they move", c.Name, c.MaxAge, age)
	}
	return nil
}

// checkDeletable returns an error about a stream from which what has moved cannot
// be deleted: it would move again whenever it is tried again.
func checkDeletable(c jetstream.StreamConfig) error {
	if c.DenyDelete {
		return fmt.Errorf("stream %s: deny_delete is true, want false: records that have moved could not be deleted there, and would move again", c.Name)
	}
	return nil
}
