package stream

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

var (
	// askAttempt is how long a server may take for an answer before it is asked
	// again, and askPause what passes before that.
	askAttempt = 4 * time.Second
	askPause   = 200 * time.Millisecond
)

const (
	// askLimit bounds the repetitions of one request.
	askLimit = 30 * time.Second
	// deniedEvery is how often it is looked whether a request was not permitted.
	deniedEvery = 50 * time.Millisecond
	// leaderless is how a cluster without a leader refuses, and peerless how one
	// does whose servers have not all found each other.
	leaderless jetstream.ErrorCode = 10008
	peerless   jetstream.ErrorCode = 10005
)

// ask repeats a request about a stream that can be repeated until it is answered,
// for half a minute or until ctx is done: while a cluster comes up, or elects its
// leaders, requests get lost or are refused. One that is not permitted is lost as well;
// its error comes at once and says what to permit.
func ask(ctx context.Context, js jetstream.JetStream, stream string, request func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, askLimit)
	defer cancel()
	for {
		err, lost, denial := askOnce(ctx, js, stream, request)
		var api *jetstream.APIError
		refused := errors.As(err, &api) && (api.ErrorCode == leaderless || api.ErrorCode == peerless)
		if err == nil || !lost && !refused {
			return err
		}
		if lost && denial != nil {
			return denial
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(askPause):
		}
	}
}

// askOnce makes one attempt, which ends early where it is not permitted; denial says
// so. lost tells whether it had no answer.
func askOnce(ctx context.Context, js jetstream.JetStream, stream string, request func(context.Context) error) (err error, lost bool, denial error) {
	ctx, cancel := context.WithTimeout(ctx, askAttempt)
	defer cancel()
	before := js.Conn().LastError()
	go func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(deniedEvery):
			}
			if denied(js.Conn(), stream, before) != nil {
				cancel()
			}
		}
	}()
	err = request(ctx)
	return err, ctx.Err() != nil, denied(js.Conn(), stream, before)
}

// notPermitted finds what a server did not permit in what it says of that.
var notPermitted = regexp.MustCompile(`(Publish|Subscription) to "([^"]+)"`)

// denied returns an error where the last that the server said is that it does not
// permit a request about stream, or to hear the answer to any. What it had said
// before the request was of another, or is permitted by now; but the answers are
// subscribed to once.
func denied(nc *nats.Conn, stream string, before error) error {
	err := nc.LastError()
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return nil
	}
	m := notPermitted.FindStringSubmatch(err.Error())
	switch {
	case m == nil:
		return nil
	case m[1] == "Publish" && err != before && strings.Contains(m[2]+".", "."+stream+"."):
		return &permanentError{fmt.Errorf("%w: permit the user of this connection to publish on %s", err, m[2])}
	case m[1] == "Subscription" && strings.HasPrefix(m[2], nats.InboxPrefix):
		return &permanentError{fmt.Errorf("%w: permit the user of this connection to subscribe to %s>", err, nats.InboxPrefix)}
	}
	return nil
}
