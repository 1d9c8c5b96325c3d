package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"

	"caliperedge/bench/corpus"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// parcel is a request ready to be sent but for the ids of its events.
type parcel struct {
	env   corpus.Envelope // Body is the end of wire
	wire  []byte          // head and body
	shelf *shelf
}

// clone returns a copy with bytes of its own.
func (p *parcel) clone() *parcel {
	c := *p
	c.wire = slices.Clone(p.wire)
	c.env.Body = c.wire[len(c.wire)-len(p.env.Body):]
	return &c
}

// shelf holds the parcels of one size. A sender has a parcel to itself only while it writes it, so that memory grows with
// the writes under way, not with the connections, and the bodies stay in the processor's cache. Parcels come in
// turn, so that what was sent lately is not soon sent again: a store that compresses would find it.
type shelf struct {
	mu    sync.Mutex
	ring  []*parcel
	first int
	n     int
}

func (s *shelf) take() *parcel {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.ring[s.first]
	if s.n == 1 { // the last one stays, as a model
		return p.clone()
	}
	s.first = (s.first + 1) % len(s.ring)
	s.n--
	return p
}

func (s *shelf) put(p *parcel) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.n == len(s.ring) {
		ring := append(slices.Clone(s.ring[s.first:]), s.ring[:s.first]...)
		s.ring, s.first = append(ring, make([]*parcel, len(ring))...), 0
	}
	s.ring[(s.first+s.n)%len(s.ring)] = p
	s.n++
}

// mix gives out parcels of all sizes as they are weighted. Safe for concurrent use.
type mix struct {
	shelves []*shelf
	upTo    []float64 // sums of the weights, the last is 1
	packers packers
}

// minParcels is how many parcels a shelf has at least, for senders that write at the same time.
const minParcels = 16

func newMix(cfg *config) (*mix, error) {
	m := &mix{}
	generator := corpus.New(cfg.kind, cfg.seed)
	head := requestHead(cfg, "")
	var sum, total float64
	for _, p := range cfg.items {
		total += p.weight
	}
	for _, p := range cfg.items {
		sum += p.weight / total
		m.upTo = append(m.upTo, sum)
		s := &shelf{}
		distinct := max(1, cfg.distinct/p.items)
		for i := range max(distinct, minParcels) {
			if i >= distinct {
				s.ring = append(s.ring, s.ring[i%distinct].clone())
				continue
			}
			env := generator.Envelope(p.items, cfg.faulty)
			wire := strconv.AppendInt(bytes.Clone(head), int64(len(env.Body)), 10)
			wire = append(append(wire, "\r\n\r\n"...), env.Body...)
			env.Body = wire[len(wire)-len(env.Body):]
			s.ring = append(s.ring, &parcel{env, wire, s})
		}
		s.n = len(s.ring)
		m.shelves = append(m.shelves, s)
	}
	m.upTo[len(m.upTo)-1] = 1 // whatever rounding made of it
	return m, m.packers.init(cfg)
}

// take chooses a size and returns a parcel of it. It belongs to the caller until put.
func (m *mix) take(random *rand.Rand) *parcel {
	if len(m.shelves) == 1 {
		return m.shelves[0].take()
	}
	x := random.Float64()
	for i, upTo := range m.upTo {
		if x < upTo {
			return m.shelves[i].take()
		}
	}
	panic("loadtest: weights do not add up to 1")
}

// requestHead is a request up to the value of Content-Length.
func requestHead(cfg *config, encoding string) []byte {
	h := fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\n",
		cfg.url.RequestURI(), cfg.url.Host, cfg.token)
	if encoding != "" {
		h = append(h, "Content-Encoding: "+encoding+"\r\n"...)
	}
	return append(h, "Content-Length: "...)
}

// packers pack bodies. They are packed when they are sent, as only then their ids are known.
type packers struct {
	gzip, zstd         float64 // shares of requests
	gzipHead, zstdHead []byte
	zstdEncoder        *zstd.Encoder
	buffers            sync.Pool // of *packing
}

type packing struct {
	body bytes.Buffer
	wire []byte
	gzip *gzip.Writer
}

func (p *packers) init(cfg *config) (err error) {
	p.gzip, p.zstd = cfg.gzip, cfg.zstd
	p.gzipHead, p.zstdHead = requestHead(cfg, "gzip"), requestHead(cfg, "zstd")
	if p.zstd > 0 {
		p.zstdEncoder, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(runtime.GOMAXPROCS(0)))
	}
	return err
}

// pack returns the request to send for a parcel: as it is, or packed. free must be called when it was written.
func (p *packers) pack(parcel *parcel, random *rand.Rand) (wire []byte, free func(), err error) {
	if p.gzip+p.zstd == 0 {
		return parcel.wire, func() {}, nil
	}
	x := random.Float64()
	if x >= p.gzip+p.zstd {
		return parcel.wire, func() {}, nil
	}
	b, _ := p.buffers.Get().(*packing)
	if b == nil {
		b = &packing{}
	}
	b.body.Reset()
	head := p.gzipHead
	if x < p.gzip {
		err = b.packGzip(parcel.env.Body)
	} else {
		head = p.zstdHead
		b.body.Write(p.zstdEncoder.EncodeAll(parcel.env.Body, b.body.AvailableBuffer()))
	}
	b.wire = strconv.AppendInt(append(b.wire[:0], head...), int64(b.body.Len()), 10)
	b.wire = append(append(b.wire, "\r\n\r\n"...), b.body.Bytes()...)
	return b.wire, func() { p.buffers.Put(b) }, err
}

func (b *packing) packGzip(body []byte) (err error) {
	if b.gzip == nil {
		if b.gzip, err = gzip.NewWriterLevel(&b.body, gzip.BestSpeed); err != nil {
			return err
		}
	}
	b.gzip.Reset(&b.body)
	if _, err = b.gzip.Write(body); err != nil {
		return err
	}
	return b.gzip.Close()
}
