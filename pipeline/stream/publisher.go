// Package stream keeps topics in NATS JetStream: one stream per topic, one
// message per sealed batch.
//
// A Publisher stores messages, either in a server of its own inside this
// process (OpenEmbedded) or in an external one (OpenRemote). The embedded
// server syncs every message to disk before it acknowledges it. It is also the
// server from which readers fetch: Connect is how the program's own commands
// reach it, and AddReader makes a durable consumer together with a credential
// that can do nothing but read it. Decoder and Tail turn messages back into
// records.
//
// What the package promises: an acknowledged message is in the stream and stays
// there until its age has passed; the same message ID is stored once within the
// stream's duplicate window, also over a restart; a full topic says so within
// milliseconds; no existing stream is changed but by Apply.
package stream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"caliperedge/pipeline"
)

// Error codes of JetStream, as in errors.json of nats-server, that tell for
// certain that a message was not stored.
const (
	codeAccountLimit   jetstream.ErrorCode = 10002
	codeNoResources    jetstream.ErrorCode = 10023
	codeMessageSize    jetstream.ErrorCode = 10054
	codeStoreFailed    jetstream.ErrorCode = 10077 // the description tells why
	codeHeaderSize     jetstream.ErrorCode = 10097
	codeSealed         jetstream.ErrorCode = 10109
	textMaxBytes                           = "maximum bytes exceeded"
	textMaxMessages                        = "maximum messages exceeded"
	textMaxPerSubject                      = "maximum messages per subject exceeded"
	textMessageTooLong                     = "message too large"
)

var (
	errNotOpen      = errors.New("stream: store is not open at the moment")
	errNotConnected = errors.New("stream: no connection to the NATS server at the moment")
	errLost         = errors.New("connection to the NATS server lost before it answered")
	errUnarranged   = errors.New("stream: the streams of the NATS server have not been looked at yet")
	errClosed       = errors.New("stream: publisher is closed")
)

// Publisher stores messages in JetStream. It implements pipeline.Publisher;
// all its methods may be called concurrently.
type Publisher struct {
	layout Layout
	routes map[string]*route
	store  store
	diffs  atomic.Pointer[[]Difference]
	// unarranged is true while the streams of an external server that was away at
	// the start have not been seen to be in order.
	unarranged atomic.Bool
	// busy is true where something was stored since Watch last looked.
	busy atomic.Bool
	// link is nil while the embedded store is shut or being opened again. A
	// Publish that loaded a link keeps it to its end: it fails when that link
	// is closed under it, and can never reach a store opened later.
	link atomic.Pointer[link]
}

// route is where a topic goes.
type route struct {
	subject, stream string
	replicas        atomic.Int32 // as last read from the stream
}

// link is one connection to a server.
type link struct {
	nc *nats.Conn
	js jetstream.JetStream
	// since is when it was made.
	since time.Time
	// down is true from the loss of the connection until it stands again. Asking
	// nc would block as long as an attempt to connect does.
	down atomic.Bool
	// standing ends with the connection that stands now.
	standing atomic.Pointer[standing]
}

// standing is the time from one connect to the loss of that connection.
type standing struct {
	ctx context.Context
	end context.CancelFunc
}

// up and lost note that the connection came to stand, and that it was lost.
func (l *link) up() {
	s := new(standing)
	s.ctx, s.end = context.WithCancel(context.Background())
	if before := l.standing.Swap(s); before != nil {
		before.end()
	}
	l.down.Store(false)
}

func (l *link) lost() {
	l.down.Store(true)
	if s := l.standing.Load(); s != nil {
		s.end()
	}
}

// store is what differs between the embedded and an external server.
type store interface {
	// probe tries to get the store back and returns nil when it answers.
	probe(ctx context.Context) error
	// level is what an acknowledgement survives, given the stream's replicas.
	level(replicas int) pipeline.Level
	// settle returns when a message that the server has acknowledged to a stream
	// survives what the level says.
	settle(stream string) error
	// frozen reports whether a stream takes nothing more until a probe.
	frozen(stream string) bool
	// addr is the address on which readers connect, or empty.
	addr() string
	close() error
}

func newPublisher(layout Layout) *Publisher {
	p := &Publisher{layout: layout, routes: make(map[string]*route, len(layout.Topics))}
	for _, t := range layout.Topics {
		p.routes[t.Name] = &route{subject: layout.Subject(t.Name), stream: layout.Stream(t.Name)}
	}
	return p
}

// Publish stores m as one message and waits for the acknowledgement; see
// pipeline.Publisher for errors and ownership. ErrRefused is returned for an
// unknown topic and a message above the size limit. A ctx without a deadline
// gets one of five seconds. Publish may return up to one second after ctx is
// done when the server accepts a connection but does not read from it.
func (p *Publisher) Publish(ctx context.Context, m *pipeline.Message) (pipeline.Ack, error) {
	r := p.routes[m.Topic]
	if r == nil {
		return pipeline.Ack{}, fmt.Errorf("%w: there is no topic %q", pipeline.ErrRefused, m.Topic)
	}
	return p.publish(ctx, r, header(m), m.Body)
}

func (p *Publisher) publish(ctx context.Context, r *route, header nats.Header, body []byte) (pipeline.Ack, error) {
	l, err := p.open()
	if err != nil {
		return pipeline.Ack{}, err
	}
	// The answer to a request is lost with the connection it was sent on.
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(l.standing.Load().ctx, func() { cancel(errLost) })()
	msg := nats.Msg{Subject: r.subject, Header: header, Data: body}
	// Repeating is for the caller, who knows the deadline of the request.
	ack, err := l.js.PublishMsg(ctx, &msg, jetstream.WithRetryAttempts(0))
	if err != nil && context.Cause(ctx) == errLost {
		err = errLost
	}
	if err != nil {
		err = publishError(r.stream, err)
		if p.store.frozen(r.stream) {
			err = fmt.Errorf("%w: %w", pipeline.ErrFrozen, err)
		}
		return pipeline.Ack{}, err
	}
	if ack.Stream != r.stream {
		return pipeline.Ack{}, fmt.Errorf("stream: message for %s was stored by stream %s, which binds the same subject", r.stream, ack.Stream)
	}
	if err := p.store.settle(r.stream); err != nil {
		return pipeline.Ack{}, err
	}
	p.busy.Store(true)
	return pipeline.Ack{Sequence: ack.Sequence, Duplicate: ack.Duplicate, Level: p.store.level(int(r.replicas.Load()))}, nil
}

// Ready returns an error where it is known, without asking anybody, that nothing
// can be stored at the moment.
func (p *Publisher) Ready() error {
	_, err := p.open()
	return err
}

// open returns the link if it can be used now.
func (p *Publisher) open() (*link, error) {
	switch l := p.link.Load(); {
	case l == nil:
		return nil, errNotOpen
	case l.down.Load():
		return nil, errNotConnected
	case p.unarranged.Load():
		return nil, errUnarranged
	default:
		return l, nil
	}
}

// header makes the headers of contract section 4.
func header(m *pipeline.Message) nats.Header {
	h := nats.Header{
		pipeline.HeaderMsgID:  {m.ID},
		pipeline.HeaderRecord: {pipeline.RecordVersion},
		pipeline.HeaderEvents: {strconv.Itoa(m.Records)},
		pipeline.HeaderBytes:  {strconv.Itoa(m.Bytes)},
		pipeline.HeaderType:   {pipeline.ContentType},
	}
	if m.Encoding != pipeline.EncodingNone {
		h[pipeline.HeaderEncoding] = []string{m.Encoding}
	}
	return h
}

// publishError sorts err into full, refused and unknown. Unknown is whatever
// is not certain: a timeout, a lost connection, no responder (a cluster without
// a leader, a stream being restored), too many requests, a failed write.
func publishError(stream string, err error) error {
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w: stream %s: %v", pipeline.ErrRefused, stream, err)
	}
	var api *jetstream.APIError
	if !errors.As(err, &api) {
		return fmt.Errorf("stream: publish to %s: %w", stream, err)
	}
	kind := error(nil)
	switch api.ErrorCode {
	case codeAccountLimit, codeNoResources:
		kind = pipeline.ErrStoreFull
	case codeMessageSize, codeHeaderSize, codeSealed:
		kind = pipeline.ErrRefused
	case codeStoreFailed:
		switch api.Description {
		case textMaxBytes, textMaxMessages, textMaxPerSubject:
			kind = pipeline.ErrStoreFull
		case textMessageTooLong:
			kind = pipeline.ErrRefused
		}
	}
	if kind == nil {
		return fmt.Errorf("stream: publish to %s: %w", stream, err)
	}
	return fmt.Errorf("%w: stream %s: %s (%d)", kind, stream, api.Description, api.ErrorCode)
}

// Probe implements pipeline.Publisher. For the embedded server it shuts the
// server down and opens the store again, because a stream that met an I/O error
// stays frozen until then; a Publish under way fails with an unknown outcome. An
// external server is asked whether every topic's stream is there and has a
// leader; where it does not answer, the connection is made anew. When ctx ends first, reopening goes on and the next Probe waits for
// the same attempt.
func (p *Publisher) Probe(ctx context.Context) error { return p.store.probe(ctx) }

// Status returns the state of every topic in the order of the layout, by one
// short request each.
func (p *Publisher) Status(ctx context.Context) ([]TopicStatus, error) {
	l, err := p.open()
	if err != nil {
		return nil, err
	}
	return p.status(ctx, l)
}

func (p *Publisher) status(ctx context.Context, l *link) ([]TopicStatus, error) {
	list, err := List(ctx, l.js, p.layout)
	if err != nil {
		return nil, err
	}
	for _, st := range list {
		p.routes[st.Topic].replicas.Store(int32(st.Replicas))
	}
	return list, nil
}

// check returns an error unless every stream that must not lose anything is
// there and has a leader.
func (p *Publisher) check(ctx context.Context) error {
	list, err := p.Status(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for i, st := range list {
		switch {
		case p.layout.Topics[i].DiscardOld: // it holds nobody up
		case st.Missing:
			errs = append(errs, fmt.Errorf("stream: stream %s is missing", st.Stream))
		case st.Leaderless:
			errs = append(errs, fmt.Errorf("stream: stream %s has no leader", st.Stream))
		}
	}
	return errors.Join(errs...)
}

// answers returns an error unless the stream of topic is there and has a leader.
func (p *Publisher) answers(ctx context.Context, topic string) error {
	l, err := p.open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	s, err := l.js.Stream(ctx, p.routes[topic].stream)
	if err != nil {
		return fmt.Errorf("stream: ask for stream %s: %w", p.routes[topic].stream, err)
	}
	if c := s.CachedInfo().Cluster; c != nil && c.Leader == "" {
		return fmt.Errorf("stream: stream %s has no leader", p.routes[topic].stream)
	}
	return nil
}

// Level is what the acknowledgement of a message to topic survives. An unknown
// topic has none.
func (p *Publisher) Level(topic string) pipeline.Level {
	r := p.routes[topic]
	if r == nil {
		return ""
	}
	return p.store.level(int(r.replicas.Load()))
}

// MaxMessageBytes is the largest Body that fits, headers allowed for. It is the
// smaller of 1 MiB and the server's limit, less 1 KiB, and changes when an
// external server's limit does.
func (p *Publisher) MaxMessageBytes() int {
	limit := int64(pipeline.MaxMessageBytes)
	if l := p.link.Load(); l != nil {
		// Zero until a first connection stands.
		if n := l.nc.MaxPayload(); n > 0 {
			limit = min(limit, n)
		}
	}
	return max(int(limit)-pipeline.HeaderRoomBytes, 0)
}

// Differences are those that existing streams had to the layout when the
// publisher was opened, or its server was first reached. None of them has been
// changed.
func (p *Publisher) Differences() []Difference {
	if ds := p.diffs.Load(); ds != nil {
		return *ds
	}
	return nil
}

// Addr is the address on which the embedded server listens, with the real port,
// or empty.
func (p *Publisher) Addr() string { return p.store.addr() }

// JetStream is the connection in use, for requests beside publishing. It returns
// nil while the store is not open, and the result must not be kept: it is dead
// after the store was opened again.
func (p *Publisher) JetStream() jetstream.JetStream {
	if l := p.link.Load(); l != nil {
		return l.js
	}
	return nil
}

// Close ends the publisher. A Publish under way fails with an unknown outcome,
// so the caller first waits for its own. With the embedded server Close blocks
// until the server is shut down and the store closed.
func (p *Publisher) Close() error { return p.store.close() }
