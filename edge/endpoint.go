// Package edge is the HTTP side of caliper-edge: it authenticates a post, reads
// and checks it, hands it to the pipeline, waits until it is stored and tells
// the sensor what became of it (contract, section 1).
//
// receive is the table of contents. Everything of a request happens on its
// connection's goroutine, from the first byte to the answer.
package edge

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"caliperedge/edge/tokenmap"
	"caliperedge/pipeline"
	"caliperedge/validate"

	"github.com/VictoriaMetrics/metrics"
	"github.com/valyala/fasthttp"
)

// Config is what may be tuned of an Endpoint. The zero value of every field is
// ready to use.
type Config struct {
	// Paths are where events are taken. Nil means "/" and "/caliper-endpoint".
	Paths []string
	// MaxBodyBytes bounds a body, as sent and unpacked. Zero means 4 MiB.
	MaxBodyBytes int
	// RequestTimeout is how long after its body was read and unpacked an answer
	// may take. Zero means 5 s; sensors give up at 10.
	RequestTimeout time.Duration
	// HeaderTimeout and BodyTimeout bound how long a header and a body may
	// take to arrive. Zero means 10 s and 30 s. A peer has HeaderTimeout to take
	// an answer, too.
	HeaderTimeout, BodyTimeout time.Duration
	// IdleTimeout is how long a connection may wait for its next request. Zero
	// means 75 s, longer than the idle timeouts of usual balancers.
	IdleTimeout time.Duration
	// MaxConnections bounds the connections. Zero means 65,536.
	MaxConnections int
	// Terse answers debug requests in the common style.
	Terse bool
	// CORSOrigins are the origins whose pages may post; "*" means all. None
	// means that preflights are refused.
	CORSOrigins []string
	// AcceptBareTokens takes a token without the scheme Bearer.
	AcceptBareTokens bool
	// Rate bounds what each tool may send. Zero means no bound.
	Rate Rate
	// Rates are those of single tools, in place of Rate.
	Rates map[string]Rate
	// KeepRejected tells of which tools is kept, in the topic for it, what they
	// send and we refuse. Nil means of none. It is called concurrently.
	KeepRejected func(tool string) bool
	// Validate are the options of the rules.
	Validate validate.Options
	// Vocabularies are what tools are granted beyond Caliper's vocabulary, by
	// their names. The map is never written.
	Vocabularies map[string]*validate.Vocabulary
	// Version is told in the configuration document.
	Version string
	// Metrics takes the numbers. Nil means a set of the endpoint's own.
	Metrics *metrics.Set
}

// Bounds of a Config.
const (
	// MinRequestTimeout leaves room for a sync and its answer.
	MinRequestTimeout = 500 * time.Millisecond
	// MinBodyBytes leaves room for an envelope with one event.
	MinBodyBytes = 1 << 10
)

func (c Config) withDefaults() Config {
	if c.Paths == nil {
		c.Paths = []string{"/", "/caliper-endpoint"}
	}
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.RequestTimeout, 5*time.Second)
	def(&c.HeaderTimeout, 10*time.Second)
	def(&c.BodyTimeout, 30*time.Second)
	def(&c.IdleTimeout, 75*time.Second)
	if c.MaxBodyBytes == 0 {
		c.MaxBodyBytes = 4 << 20
	}
	if c.MaxConnections == 0 {
		c.MaxConnections = 1 << 16
	}
	if c.Validate.MaxItems == 0 {
		c.Validate.MaxItems = validate.DefaultMaxItems
	}
	if c.Metrics == nil {
		c.Metrics = metrics.NewSet()
	}
	return c
}

// MinBudgetBytes is the least budget for bodies of at most so many bytes.
func MinBudgetBytes(maxBodyBytes int) int64 { return int64(maxBodyBytes+blockBytes) * 10 }

func (c Config) check(p *pipeline.Pipeline) error {
	var errs []error
	if c.RequestTimeout < MinRequestTimeout {
		errs = append(errs, fmt.Errorf("edge: request timeout %v, expected at least %v", c.RequestTimeout, MinRequestTimeout))
	}
	if c.MaxBodyBytes < MinBodyBytes {
		errs = append(errs, fmt.Errorf("edge: body limit of %d bytes, expected at least %d", c.MaxBodyBytes, MinBodyBytes))
	}
	if need := MinBudgetBytes(c.MaxBodyBytes); p.Budget().Limit() < need {
		errs = append(errs, fmt.Errorf("edge: budget of %d bytes, expected at least %d: half of it, which a tool may hold, for a body of %d bytes and records of four times that",
			p.Budget().Limit(), need, c.MaxBodyBytes))
	}
	return errors.Join(errs...)
}

// Endpoint serves sensors. All methods may be called concurrently.
type Endpoint struct {
	cfg           Config
	tokens        Tokens
	pipeline      *pipeline.Pipeline
	log           *slog.Logger
	server        *fasthttp.Server
	listener      atomic.Pointer[listener]
	closing       atomic.Bool
	metrics       *edgeMetrics
	bodies        *bodies
	answers       bufferPool
	limits        sync.Map // tool → *limits
	configuration []byte
}

// New returns an Endpoint that knows its senders by tokens and stores through
// p.
func New(cfg Config, tokens Tokens, p *pipeline.Pipeline, log *slog.Logger) (*Endpoint, error) {
	cfg = cfg.withDefaults()
	if err := cfg.check(p); err != nil {
		return nil, err
	}
	e := &Endpoint{cfg: cfg, tokens: tokens, pipeline: p, log: log}
	var err error
	if e.bodies, err = newBodies(); err != nil {
		return nil, err
	}
	if e.configuration, err = configurationDocument(cfg); err != nil {
		return nil, err
	}
	e.metrics = newEdgeMetrics(cfg.Metrics, p.Budget())
	e.server = e.newServer()
	return e, nil
}

// handle answers one request, whatever happens.
func (e *Endpoint) handle(ctx *fasthttp.RequestCtx) {
	defer func() {
		if cause := recover(); cause != nil {
			e.panicked(cause)
			ctx.Response.Reset()
			e.turnAway(ctx, admission{refusal: unexpected})
		}
		e.allowOrigin(ctx)
		if e.Draining() {
			ctx.SetConnectionClose()
		}
		// Has the server write this answer now. Else it would keep it where more
		// has arrived, until the answer to that.
		ctx.SetWriteDeadline(time.Time{})
		e.metrics.answered(ctx.Response.StatusCode())
	}()
	a := e.admit(&ctx.Request.Header)
	switch a.errand {
	case takeEvents:
		e.receive(ctx, a.principal)
	case tellConfiguration:
		a.principal.Touch(time.Now())
		ctx.SetContentType(contentTypeJSON)
		ctx.SetBody(e.configuration)
	case tellPreflight:
		e.preflight(ctx)
	case tellAlive:
		ctx.SetContentType("text/plain; charset=utf-8")
		ctx.SetBodyString("ok\n")
	case beRefused:
		e.turnAway(ctx, a)
	}
}

// panicked counts and reports a panic that was recovered from.
func (e *Endpoint) panicked(cause any) {
	e.metrics.panics.Inc()
	e.log.Error("a handler panicked", "panic", pipeline.PanicText(cause), "stack", string(debug.Stack()))
}

// turnAway answers a request that failed checks 1 to 3, or of which nobody
// knows what is left of it.
func (e *Endpoint) turnAway(ctx *fasthttp.RequestCtx, a admission) {
	e.refuse(ctx, refused{refusal: a.refusal})
	switch a.refusal {
	case unexpected:
		ctx.SetConnectionClose()
	case wrongMethod:
		allow := "GET, HEAD, POST"
		if len(e.cfg.CORSOrigins) > 0 {
			allow += ", OPTIONS"
		}
		ctx.Response.Header.Set(fasthttp.HeaderAllow, allow)
	case unauthorized:
		challenge := "Bearer"
		if a.tokenSent {
			challenge = `Bearer error="invalid_token"`
		}
		ctx.Response.Header.Set(fasthttp.HeaderWWWAuthenticate, challenge)
	}
}

// receive takes an envelope from an authenticated tool: checks 4 to 14 of the
// contract, in their order.
func (e *Endpoint) receive(ctx *fasthttp.RequestCtx, principal *tokenmap.Principal) {
	start := time.Now()
	principal.Touch(start)
	tool := principal.Tool
	m := e.metrics.tool(tool)
	debug := debugAsked(&ctx.Request.Header)

	limits := e.limitsOf(tool)
	if s := limits.wait(start, true); s > 0 { // 4
		m.refusedBody(tooManyRequests)
		e.refuseBody(ctx, refused{refusal: tooManyRequests, retryAfter: s}, nil, debug)
		return
	}
	if r := e.checkHeader(&ctx.Request.Header); r.refusal != accepted { // 5 to 7
		m.refusedBody(r.refusal)
		e.refuseBody(ctx, r, nil, debug)
		return
	}
	b := e.newBody(m.room)
	held := holding{e: e, body: b}
	defer held.free()
	if r := e.read(ctx, b); r.refusal != accepted { // 6, 7
		m.refusedBody(r.refusal)
		if r.refusal == tooSlow || r.refusal == malformedHTTP {
			ctx.SetConnectionClose()
		}
		e.refuseBody(ctx, r, nil, debug)
		return
	}
	received := time.Now()
	m.bytes.Add(len(b.buf))
	e.metrics.read.Update(received.Sub(start).Seconds())

	env, err := validate.Parse(b.buf, e.optionsOf(tool)) // 8
	if err != nil {
		m.refusedBody(malformedJSON)
		r := refused{refusal: malformedJSON}
		if !debug {
			kept := e.keepBody(b.buf, tool, received, err)
			held.free()
			r.kept = m.keep(kept)
		}
		e.refuseBody(ctx, r, err, debug)
		return
	}
	held.envelope = env
	n := tally{items: len(env.Items()), conformant: env.Conformant()}
	limits.charge(n.items)
	refusal := e.verdict(env) // 9 to 12
	var receipt *pipeline.Receipt
	if refusal.refusal == accepted {
		receipt, refusal = e.route(env, tool, received) // 13
		if receipt != nil {
			defer receipt.Release()
		}
	}
	parsed := time.Now()
	e.metrics.validate.Update(parsed.Sub(received).Seconds())
	account := m.examined(env, n)
	defer account.close()

	switch {
	case debug:
		account.debugged()
		e.explain(ctx, env, tool, receipt, refusal)
	case refusal.refusal != accepted:
		account.refusedEnvelope()
		if env.Err() != nil {
			kept := e.keepItems(env, b.buf, tool, received)
			held.free()
			refusal.kept = m.keep(kept)
		}
		e.refuse(ctx, refusal)
	default:
		m.late.observe(env, received)
		m.observeShapes(env, tool, e.log)
		m.mismatched.Add(receipt.Mismatches())
		err := e.pipeline.Submit(receipt, e.deadline(received))
		var kept *pipeline.Rejection
		if err == nil && n.conformant < n.items {
			kept = e.keepItems(env, b.buf, tool, received)
		}
		held.free() // what waits for the store are the receipts alone
		e.stored(ctx, &account, receipt, kept, err)
	}
	end := time.Now()
	if !debug && refusal.refusal == accepted {
		e.metrics.store.Update(end.Sub(parsed).Seconds())
	}
	e.metrics.total.Update(end.Sub(start).Seconds())
}

// optionsOf are the options of the rules for what a tool sends.
func (e *Endpoint) optionsOf(tool string) validate.Options {
	opt := e.cfg.Validate
	if len(e.cfg.Vocabularies) > 0 {
		opt.Vocabulary = e.cfg.Vocabularies[tool]
	}
	return opt
}

// holding is what a request holds until its records were submitted.
type holding struct {
	e        *Endpoint
	body     *body
	envelope *validate.Envelope // lies in body
}

// free gives everything back, once.
func (h *holding) free() {
	if h.envelope != nil {
		h.envelope.Release()
		h.envelope = nil
	}
	if h.body != nil {
		h.e.release(h.body)
		h.body = nil
	}
}

// tally counts the items of an envelope.
type tally struct{ items, conformant int }

// verdict is what checks 9 to 12 say of env.
func (e *Endpoint) verdict(env *validate.Envelope) refused {
	return refused{refusal: refusalOf(env.Err()), limit: int64(e.cfg.Validate.MaxItems)}
}

// route makes check 13.
func (e *Endpoint) route(env *validate.Envelope, tool string, received time.Time) (*pipeline.Receipt, refused) {
	receipt, err := e.pipeline.Route(env, tool, received)
	if err == nil {
		return receipt, refused{}
	}
	r := refused{refusal: refusalOf(err)}
	var large *pipeline.TooLargeError
	if errors.As(err, &large) {
		r.limit, r.index = large.Limit, large.Index
	}
	return nil, r
}

// stored makes check 14: it answers only after every event is durable, or after
// it is known that not all of them are. rejection are the others; err is
// Submit's.
func (e *Endpoint) stored(ctx *fasthttp.RequestCtx, account *account, receipt *pipeline.Receipt, rejection *pipeline.Rejection, err error) {
	unclear := false
	if err == nil {
		err = receipt.Wait()
		unclear = err != nil && receipt.Unclear()
	}
	kept := account.keep(rejection)
	if err != nil {
		r := refusalOf(err)
		account.notStored(unclear)
		account.turnedAway(r)
		e.log.Warn("events are refused: "+refusals[r].message,
			"in_flight_bytes", e.pipeline.Budget().Used(), "limit_bytes", e.pipeline.Budget().Limit(), "error", err)
		e.refuse(ctx, refused{refusal: r, kept: kept})
		return
	}
	account.stored(receipt.Duplicates(), receipt.Conflicts())
	n := account.tally
	if n.conformant < n.items {
		ctx.SetStatusCode(fasthttp.StatusAccepted)
	}
	if level := receipt.Level(); level != "" {
		// Set would look at each letter of the name.
		ctx.Response.Header.SetCanonical(headerDurability, []byte(level))
	}
	answer := e.answers.get()
	answer.b = appendSuccess(answer.b, n, receipt, kept, e.pipeline.Topics(), false)
	ctx.SetContentType(contentTypeJSON)
	ctx.SetBody(answer.b)
	e.answers.put(answer)
}

// answerTime is kept of the request's time for writing the answer.
const answerTime = 100 * time.Millisecond
