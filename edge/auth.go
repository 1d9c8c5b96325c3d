package edge

import (
	"bytes"
	"slices"
	"time"

	"caliperedge/edge/tokenmap"

	"github.com/valyala/fasthttp"
)

// errand is what a request wants of the endpoint.
type errand int

const (
	beRefused errand = iota
	takeEvents
	tellConfiguration
	tellPreflight
	tellAlive
)

// admission is the outcome of checks 1 to 3, which need the header alone.
type admission struct {
	errand    errand
	refusal   refusal             // where errand is beRefused
	principal *tokenmap.Principal // where a token was asked for and known
	tokenSent bool                // where the refusal is unauthorized
}

// Tokens finds the principal of a token. The bytes are only read during the
// call. It is called concurrently, several times for a request.
type Tokens interface {
	Lookup(token []byte) (*tokenmap.Principal, bool)
}

// admit makes checks 1 to 3 (contract, section 1.1). A panic in them becomes
// a refusal here: most calls come from hooks of the server, where nothing else
// would keep it from ending the process.
func (e *Endpoint) admit(h *fasthttp.RequestHeader) (a admission) {
	defer func() {
		if cause := recover(); cause != nil {
			e.panicked(cause)
			a = admission{refusal: unexpected}
		}
	}()
	if string(h.Method()) == malformedMark {
		return admission{refusal: malformedHTTP}
	}
	path := pathOf(h.RequestURI())
	if !slices.ContainsFunc(e.cfg.Paths, func(p string) bool { return string(path) == p }) {
		if string(path) == "/livez" && (h.IsGet() || h.IsHead()) {
			return admission{errand: tellAlive}
		}
		return admission{refusal: unknownPath}
	}
	errand := takeEvents
	switch {
	case h.IsPost():
	case h.IsGet(), h.IsHead():
		errand = tellConfiguration
	case h.IsOptions() && len(e.cfg.CORSOrigins) > 0:
		return admission{errand: tellPreflight}
	default:
		return admission{refusal: wrongMethod}
	}
	token, sent := bearer(h, e.cfg.AcceptBareTokens)
	principal, known := e.tokens.Lookup(token)
	if !known {
		return admission{refusal: unauthorized, tokenSent: sent}
	}
	return admission{errand: errand, principal: principal}
}

// pathOf returns the path of a request target, which may come in the absolute
// form that proxies use (RFC 9112, section 3.2.2).
func pathOf(target []byte) []byte {
	path, _, _ := bytes.Cut(target, []byte{'?'})
	if len(path) > 0 && path[0] == '/' {
		return path
	}
	_, rest, absolute := bytes.Cut(path, []byte("://"))
	if i := bytes.IndexByte(rest, '/'); absolute && i >= 0 {
		return rest[i:]
	}
	return path
}

// bearer returns the token of the one Authorization header (RFC 6750, section
// 2.1): nothing where there is none, several, or one of another form. sent
// tells whether a token was sent that can be called invalid; other schemes
// send none (section 3.1).
func bearer(h *fasthttp.RequestHeader, bare bool) (token []byte, sent bool) {
	all := h.PeekAll(fasthttp.HeaderAuthorization)
	if len(all) == 0 {
		return nil, false
	}
	scheme, rest, spaced := bytes.Cut(all[0], []byte{' '})
	isBearer := bytes.EqualFold(scheme, []byte("Bearer"))
	switch {
	case len(all) > 1:
		return nil, true
	case isBearer:
		token = bytes.Trim(rest, " ")
		return token, len(token) > 0
	case spaced || len(scheme) == 0:
		return nil, false
	case bare:
		return scheme, true
	}
	return nil, true
}

// headerReceived is called with each header before the body is read. Where the
// header decides, the body is none of our business: it stays unread, and the
// connection ends with the answer.
func (e *Endpoint) headerReceived(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if !isStrict(h) {
		h.SetMethod(malformedMark)
		h.SetContentLength(0)
		h.SetConnectionClose()
	} else if e.admit(h).errand != takeEvents && h.ContentLength() != 0 && h.ContentLength() != noBody {
		h.SetContentLength(0)
		h.SetConnectionClose()
	}
	return fasthttp.RequestConfig{ReadTimeout: e.cfg.BodyTimeout}
}

// Values of RequestHeader.ContentLength that are no length.
const (
	chunkedBody = -1
	noBody      = -2
)

// expect answers Expect: 100-continue: with the final status if the header
// decides, else by the request to go on.
func (e *Endpoint) expect(ctx *fasthttp.RequestCtx) int {
	h := &ctx.Request.Header
	if a := e.admit(h); a.errand == takeEvents && e.checkHeader(h).refusal == accepted &&
		e.limitsOf(a.principal.Tool).wait(time.Now(), false) == 0 {
		return fasthttp.StatusContinue
	}
	e.handle(ctx)
	return ctx.Response.StatusCode()
}

// checkHeader makes what of checks 5 to 7 the header decides.
func (e *Endpoint) checkHeader(h *fasthttp.RequestHeader) refused {
	if !isJSON(h.ContentType()) {
		return refused{refusal: wrongType}
	}
	if encodingOf(h) == encodingUnknown {
		return refused{refusal: wrongEncoding}
	}
	if h.ContentLength() > e.cfg.MaxBodyBytes {
		return refused{refusal: bodyTooLarge, limit: int64(e.cfg.MaxBodyBytes)}
	}
	return refused{}
}

// isJSON tells whether a Content-Type names application/json, in any case and
// with any parameters.
func isJSON(contentType []byte) bool {
	media, _, _ := bytes.Cut(contentType, []byte{';'})
	return bytes.EqualFold(bytes.TrimSpace(media), []byte(contentTypeJSON))
}

// contentEncoding is a Content-Encoding that we unpack.
type contentEncoding int

const (
	encodingNone contentEncoding = iota
	encodingGzip
	encodingZstd
	encodingUnknown // and several at once
)

func encodingOf(h *fasthttp.RequestHeader) contentEncoding {
	all := h.PeekAll(fasthttp.HeaderContentEncoding)
	if len(all) == 0 {
		return encodingNone
	}
	name := bytes.TrimSpace(all[0])
	switch {
	case len(all) > 1:
		return encodingUnknown
	case len(name) == 0, bytes.EqualFold(name, []byte("identity")):
		return encodingNone
	case bytes.EqualFold(name, []byte("gzip")):
		return encodingGzip
	case bytes.EqualFold(name, []byte("zstd")):
		return encodingZstd
	}
	return encodingUnknown
}

// debugAsked reports whether the request carries X-DEBUG with any value but
// false and 0, so that a typing error never stores (contract, section 1.4).
func debugAsked(h *fasthttp.RequestHeader) bool {
	for _, v := range h.PeekAll("X-Debug") {
		if v = bytes.TrimSpace(v); !bytes.EqualFold(v, []byte("false")) && string(v) != "0" {
			return true
		}
	}
	return false
}
