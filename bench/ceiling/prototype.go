//go:build linux

package main

import (
	"context"
	"errors"
	"io"
	"unsafe"

	"caliperedge/bench/corpus"

	"github.com/bytedance/sonic"
	"github.com/valyala/fasthttp"
)

// prototypeCommand, a folder and an encoding make this program the prototype instead.
const prototypeCommand = "serve-prototype"

// prototypeBatch is the room of a batch of the prototype, and as much as it may hold: JetStream takes no larger message.
const prototypeBatch = 1 << 20

// prototypeEnvelope is what the prototype's first pass finds, and prototypeEvent what the second finds in each event.
type (
	prototypeEnvelope struct {
		Sensor      sonic.NoCopyRawMessage   `json:"sensor"`
		SendTime    sonic.NoCopyRawMessage   `json:"sendTime"`
		DataVersion sonic.NoCopyRawMessage   `json:"dataVersion"`
		Data        []sonic.NoCopyRawMessage `json:"data"`
	}
	prototypeEvent struct {
		Context   sonic.NoCopyRawMessage `json:"@context"`
		ID        sonic.NoCopyRawMessage `json:"id"`
		Type      sonic.NoCopyRawMessage `json:"type"`
		Actor     sonic.NoCopyRawMessage `json:"actor"`
		Action    sonic.NoCopyRawMessage `json:"action"`
		EventTime sonic.NoCopyRawMessage `json:"eventTime"`
		EdApp     sonic.NoCopyRawMessage `json:"edApp"`
	}
)

// prototypeJSON takes raw members, and skips others, without a look at what is in them. That the prototype did so is told by its
// figures: on its machine two passes that look took 3.1 us per event, and it took 3.3 us of both processors with all else and wrk.
var prototypeJSON = sonic.Config{NoValidateJSONSkip: true}.Froze()

// prototypeRows are those of -prototype. First its own conditions: one body of Engage, again and again, from wrk, for which
// an endpoint with a window would store nothing. Then those of an ordinary run.
func prototypeRows() []row {
	subjects := []subject{ceiling, floor, prototype, noWindow}
	var rows []row
	for _, s := range closedShapes {
		rows = append(rows, row{load{corpus.Engage, s.items}, s.connections, wrkRepeated, subjects})
	}
	for _, kind := range []corpus.Kind{corpus.Mix, corpus.Engage} {
		for _, s := range closedShapes {
			rows = append(rows, row{load{kind, s.items}, s.connections, s.generator, append(subjects[:4:4], embedded)})
		}
	}
	return rows
}

// servePrototype is the naive endpoint from which the bars were derived, until ctx ends: sonic takes each body apart into raw
// members, and then each event; one mutex guards a batch of events as they came, which has a new buffer each time; no timer ends a batch,
// and one publish is under way; a batch is packed as encoding says, where the prototype had Snappy, and is one message in the embedded
// JetStream, which syncs it before its acknowledgement, for which the answer waits. The runtime is as it comes.
func servePrototype(ctx context.Context, dir, encoding string, out io.Writer) error {
	packer, err := newPacker(encoding)
	if err != nil {
		return err
	}
	store, err := openStore(ctx, dir)
	if err != nil {
		return err
	}
	js, subject := store.JetStream(), ownLayout.Subject(ownTopic)
	publish := func(events []byte) error {
		packed, _ := packer.Pack(events)
		_, err := js.Publish(ctx, subject, packed)
		return err
	}
	q := &groups{most: prototypeBatch, fresh: prototypeBatch, wake: make(chan struct{}, 1)}
	handle := func(c *fasthttp.RequestCtx) {
		body := c.PostBody()
		var envelope prototypeEnvelope
		if err := prototypeJSON.UnmarshalFromString(asText(body), &envelope); err != nil || len(envelope.Data) == 0 {
			c.SetStatusCode(fasthttp.StatusBadRequest)
			return
		}
		for _, raw := range envelope.Data {
			var event prototypeEvent
			if err := prototypeJSON.UnmarshalFromString(asText(raw), &event); err != nil || len(event.ID) == 0 {
				c.SetStatusCode(fasthttp.StatusBadRequest)
				return
			}
		}
		q.mu.Lock()
		g := q.room(len(body))
		for _, raw := range envelope.Data {
			g.bodies = append(append(g.bodies, raw...), '\n')
		}
		q.mu.Unlock()
		g.answer(c)
	}
	return errors.Join(q.serve(ctx, handle, publish, out), store.Close())
}

// asText is b as a string, of which sonic would make a copy otherwise.
func asText(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
