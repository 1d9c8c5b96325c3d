package edge

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"

	"github.com/valyala/fasthttp"
)

// newServer sets every limit of the server on purpose.
func (e *Endpoint) newServer() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:        e.handle,
		HeaderReceived: e.headerReceived,
		ExpectHandler:  e.expect,
		ErrorHandler:   e.failed,
		ConnState:      stateChanged,
		Name:           "caliper-edge",

		Concurrency:    e.cfg.MaxConnections,
		ReadBufferSize: 8 << 10, // the largest header
		ReadTimeout:    e.cfg.HeaderTimeout,
		IdleTimeout:    e.cfg.IdleTimeout,

		// The handler reads the body itself: after the checks that need only
		// the header, and after its bytes were taken from the budget.
		StreamRequestBody:            true,
		MaxRequestBodySize:           e.cfg.MaxBodyBytes,
		DisablePreParseMultipartForm: true,

		LazyRequestTime:       true, // we read the clock ourselves
		NoDefaultContentType:  true,
		SecureErrorLogMessage: true,
		Logger:                serverLog{e.log},
	}
}

// serverLog takes what fasthttp says. Only of accepting are the arguments
// passed on: an error of one connection may quote its header, with the token
// in it. Those are counted as refusals.
type serverLog struct{ log *slog.Logger }

func (l serverLog) Printf(format string, args ...any) {
	for _, about := range []string{"Timeout error when accepting", "Permanent error when accepting", "The incoming connection cannot be served"} {
		if strings.HasPrefix(format, about) {
			l.log.Warn("http server: "+about, "message", fmt.Sprintf(format, args...))
		}
	}
}

// failed answers a request that is no HTTP, too slow, or with too large a
// header.
func (e *Endpoint) failed(ctx *fasthttp.RequestCtx, err error) {
	r := malformedHTTP
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.As(err, &small):
		r = headerTooLarge
	case errors.As(err, &timeout) && timeout.Timeout():
		r = tooSlow
	}
	ctx.Response.Reset()
	e.refuse(ctx, refused{refusal: r})
	e.metrics.answered(refusals[r].status)
}

// Serve accepts connections from ln, which it owns, until Drain. With a
// tlsConfig they are TLS. It is called once.
func (e *Endpoint) Serve(ln *net.TCPListener, tlsConfig *tls.Config) error {
	l := newListener(ln, e.cfg.HeaderTimeout, e.log)
	l.open.Add(1) // until the last connection was accepted, Drain waits for it
	defer l.open.Done()
	e.listener.Store(l)
	var accept net.Listener = l
	if tlsConfig != nil {
		tlsConfig = tlsConfig.Clone()
		tlsConfig.NextProtos = []string{"http/1.1"} // what we speak, and nothing else
		accept = tls.NewListener(accept, tlsConfig)
	}
	return e.server.Serve(accept)
}

// StartDrain makes every further answer carry Connection: close, while
// connections are still accepted.
func (e *Endpoint) StartDrain() { e.closing.Store(true) }

// Draining tells whether StartDrain was called.
func (e *Endpoint) Draining() bool { return e.closing.Load() }

// Drain ends the endpoint: connections that the kernel has taken are still
// served, the listener closes, every request that has arrived gets its answer.
// It returns ctx's error where that takes longer.
func (e *Endpoint) Drain(ctx context.Context) error {
	e.StartDrain()
	l := e.listener.Load()
	if l == nil {
		return nil
	}
	l.drain()
	idle := make(chan struct{})
	go func() {
		l.open.Wait()
		close(idle)
	}()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("edge: %d connections are still open: %w", l.count(), ctx.Err())
	}
}

// configurationDocument is the answer to GET (Caliper 1.2, Configuration
// Information; contract, section 1.6), each member under both of the names
// that sensors read.
func configurationDocument(cfg Config) ([]byte, error) {
	versions := []string{"http://purl.imsglobal.org/ctx/caliper/v1p1", "http://purl.imsglobal.org/ctx/caliper/v1p2"}
	extensions := map[string]string{"endpoint_name": "caliper-edge", "endpoint_version": cfg.Version}
	kilobytes := cfg.MaxBodyBytes / 1024
	return json.Marshal(map[string]any{
		"caliperSupportedVersions":     versions,
		"caliper_supported_versions":   versions,
		"caliperMaximumPayloadSize":    kilobytes,
		"caliper_maximum_payload_size": kilobytes,
		"caliperSupportedExtensions":   extensions,
		"caliper_supported_extensions": extensions,
	})
}

// allowOrigin sets the CORS headers for a page of an allowed origin, on errors
// too.
func (e *Endpoint) allowOrigin(ctx *fasthttp.RequestCtx) {
	if len(e.cfg.CORSOrigins) == 0 {
		return
	}
	h := &ctx.Response.Header
	h.Add(fasthttp.HeaderVary, fasthttp.HeaderOrigin)
	origin := string(ctx.Request.Header.Peek(fasthttp.HeaderOrigin))
	if origin == "" || !slices.Contains(e.cfg.CORSOrigins, origin) && !slices.Contains(e.cfg.CORSOrigins, "*") {
		return
	}
	h.Set(fasthttp.HeaderAccessControlAllowOrigin, origin)
	h.Set(fasthttp.HeaderAccessControlExposeHeaders, "Caliper-Durability, Retry-After")
}

// preflight answers OPTIONS (Fetch standard, CORS protocol).
func (e *Endpoint) preflight(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	ctx.SetStatusCode(fasthttp.StatusNoContent)
	h.Set(fasthttp.HeaderAccessControlAllowMethods, "GET, HEAD, POST")
	h.Set(fasthttp.HeaderAccessControlAllowHeaders, strings.Join([]string{
		fasthttp.HeaderAuthorization, fasthttp.HeaderContentType, fasthttp.HeaderContentEncoding, "X-Debug"}, ", "))
	h.Set(fasthttp.HeaderAccessControlMaxAge, "7200")
}

// bufferPool keeps the buffers of small answers.
type bufferPool struct{ pool sync.Pool }

type buffer struct{ b []byte }

func (p *bufferPool) get() *buffer {
	if b, ok := p.pool.Get().(*buffer); ok {
		b.b = b.b[:0]
		return b
	}
	return new(buffer)
}

func (p *bufferPool) put(b *buffer) {
	if cap(b.b) <= 64<<10 {
		p.pool.Put(b)
	}
}
