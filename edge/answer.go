package edge

import (
	"errors"
	"strconv"
	"strings"

	"caliperedge/pipeline"
	"caliperedge/validate"

	"github.com/valyala/fasthttp"
)

// refusal is one way of not taking an envelope.
type refusal int

const (
	accepted refusal = iota // no refusal
	malformedHTTP
	notEnvelope
	badEnvelope
	noConformantItem
	unauthorized
	unknownPath
	wrongMethod
	tooSlow
	bodyTooLarge
	recordTooLarge
	recordsTooLarge
	tooManyItems
	wrongType     // Content-Type
	wrongEncoding // Content-Encoding
	damagedBody   // not unpackable
	malformedJSON
	badDataVersion
	tooManyRequests
	headerTooLarge
	unexpected
	unavailable
	storeFull
	shuttingDown
	tooMuchInFlight
)

// refusals is the one table of status codes and texts (contract, sections 1.1
// and 1.2). In a message, N stands for a limit and I for an index.
var refusals = [...]struct {
	status  int
	phrase  string
	message string
	// reason is the label under which metrics count it, and the code of the
	// detail in debug answers.
	reason string
	retry  bool // worth sending again later: carries Retry-After
}{
	malformedHTTP:    {400, "Bad Request", "Malformed HTTP request.", "http", false},
	notEnvelope:      {400, "Bad Request", "Body is not a Caliper envelope.", "not-envelope", false},
	badEnvelope:      {400, "Bad Request", "Caliper envelope is non-conformant.", "envelope", false},
	noConformantItem: {400, "Bad Request", "No event in the Caliper envelope is conformant.", "no-conformant-event", false},
	unauthorized:     {401, "Unauthorized", "Bearer token missing or not recognized", "unauthorized", false},
	unknownPath:      {404, "Not Found", "No endpoint at this path.", "path", false},
	wrongMethod:      {405, "Method Not Allowed", "Events are sent by POST.", "method", false},
	tooSlow:          {408, "Request Timeout", "Request timed out.", "timeout", false},
	bodyTooLarge:     {413, "Content Too Large", "Body exceeds N bytes.", "body-size", false},
	recordTooLarge:   {413, "Content Too Large", "Event at index I exceeds N bytes.", "record-size", false},
	recordsTooLarge:  {413, "Content Too Large", "Records of this envelope exceed N bytes.", "records-size", false},
	tooManyItems:     {413, "Content Too Large", "Envelope exceeds N items.", "items", false},
	wrongType:        {415, "Unsupported Media Type", "application/json payload expected.", "content-type", false},
	wrongEncoding:    {415, "Unsupported Media Type", "application/json payload expected.", "content-encoding", false},
	damagedBody:      {415, "Unsupported Media Type", "application/json payload expected.", "content-damaged", false},
	malformedJSON:    {415, "Unsupported Media Type", "application/json payload expected.", "json", false},
	badDataVersion:   {422, "Unprocessable Content", "Caliper envelope dataVersion is non-conformant.", "dataVersion", false},
	tooManyRequests:  {429, "Too Many Requests", "Rate limit of this tool exceeded.", "rate", true},
	headerTooLarge:   {431, "Request Header Fields Too Large", "Request header too large.", "header-size", false},
	unexpected:       {500, "Internal Server Error", "Unexpected error.", "defect", false},
	unavailable:      {503, "Service Unavailable", "Events cannot be stored now.", "unavailable", true},
	storeFull:        {503, "Service Unavailable", "Store is full.", "full", true},
	shuttingDown:     {503, "Service Unavailable", "Shutting down.", "draining", true},
	tooMuchInFlight:  {503, "Service Unavailable", "Too much in flight.", "busy", true},
}

// retryAfter is the Retry-After, in seconds, of a refusal worth another try
// that does not know better: about the time in which the store is probed and
// gathered batches leave.
const retryAfter = 2

// envelopeRefusals and storeRefusals map the errors of validate and pipeline.
var (
	envelopeRefusals = map[error]refusal{
		validate.ErrNotEnvelope:  notEnvelope,
		validate.ErrDataVersion:  badDataVersion,
		validate.ErrEnvelope:     badEnvelope,
		validate.ErrTooManyItems: tooManyItems,
		validate.ErrNoItem:       noConformantItem,
	}
	storeRefusals = map[error]refusal{
		pipeline.ErrStoreFull:      storeFull,
		pipeline.ErrRefused:        unavailable,
		pipeline.ErrUnavailable:    unavailable,
		pipeline.ErrUnacknowledged: unavailable,
		pipeline.ErrFrozen:         unavailable,
		pipeline.ErrBusy:           tooMuchInFlight,
		pipeline.ErrClosed:         shuttingDown,
	}
)

// refusalOf returns the refusal for an error of validate.Envelope.Err, Route,
// Submit or Wait.
func refusalOf(err error) refusal {
	if err == nil {
		return accepted
	}
	if r, ok := envelopeRefusals[err]; ok {
		return r
	}
	var large *pipeline.TooLargeError
	if errors.As(err, &large) {
		if large.Index < 0 {
			return recordsTooLarge
		}
		return recordTooLarge
	}
	for sentinel, r := range storeRefusals {
		if errors.Is(err, sentinel) {
			return r
		}
	}
	return unexpected
}

// refused is a refusal with the numbers of its message.
type refused struct {
	refusal
	limit      int64
	index      int
	retryAfter int             // seconds; 0 means the constant of that name
	kept       []pipeline.Part // where what was refused is kept
}

// refuse counts a refusal and answers with it.
func (e *Endpoint) refuse(ctx *fasthttp.RequestCtx, r refused) {
	e.metrics.byRefusal[r.refusal].Inc()
	writeRefusal(ctx, r, nil)
}

// writeRefusal writes the common error body (contract, section 1.2). detail is
// JSON for the member of that name, and none where it is empty.
func writeRefusal(ctx *fasthttp.RequestCtx, r refused, detail []byte) {
	row := &refusals[r.refusal]
	ctx.Response.ResetBody()
	setStatus(ctx, row.status)
	if row.retry {
		seconds := r.retryAfter
		if seconds == 0 {
			seconds = retryAfter
		}
		ctx.Response.Header.Set(fasthttp.HeaderRetryAfter, strconv.Itoa(seconds))
	}
	message := row.message
	if r.limit != 0 {
		message = strings.NewReplacer(
			" N ", " "+strconv.FormatInt(r.limit, 10)+" ",
			" I ", " "+strconv.Itoa(r.index)+" ").Replace(message)
	}
	b := append([]byte(nil), `{"error":"`...)
	b = append(b, row.phrase...)
	b = append(b, `","message":"`...)
	b = append(b, message...)
	b = append(b, '"')
	if len(detail) > 0 {
		b = append(b, `,"detail":`...)
		b = append(b, detail...)
	}
	if len(r.kept) > 0 {
		b = append(b, `,"topics":{`...)
		b = append(appendParts(b, r.kept), '}')
	}
	b = append(b, '}')
	ctx.SetContentType(contentTypeJSON)
	ctx.SetBody(b)
}

// setStatus sets a status and its phrase: RFC 9110 has newer ones for two of
// them than the library.
func setStatus(ctx *fasthttp.RequestCtx, status int) {
	ctx.SetStatusCode(status)
	switch status {
	case fasthttp.StatusRequestEntityTooLarge:
		ctx.Response.Header.SetStatusMessage([]byte("Content Too Large"))
	case fasthttp.StatusUnprocessableEntity:
		ctx.Response.Header.SetStatusMessage([]byte("Unprocessable Content"))
	}
}

// headerDurability tells what the events of an answer survive (contract, section 3).
var headerDurability = []byte("Caliper-Durability")

const contentTypeJSON = "application/json"

// appendSuccess appends the success body of an envelope that was stored, or of
// one that would have been, where debug is set (contract, section 1.3). kept is
// where its rejected items are.
func appendSuccess(b []byte, n tally, r *pipeline.Receipt, kept []pipeline.Part, topics []string, debug bool) []byte {
	stored, rejected := n.conformant, n.items-n.conformant
	if debug {
		stored = 0
	}
	b = append(b, `{"accepted":`...)
	b = strconv.AppendInt(b, int64(stored), 10)
	b = append(b, `,"rejected":`...)
	b = strconv.AppendInt(b, int64(rejected), 10)
	if n := r.Duplicates(); n > 0 {
		b = append(b, `,"duplicates":`...)
		b = strconv.AppendInt(b, int64(n), 10)
	}
	b = append(b, `,"topics":{`...)
	b = appendParts(b, r.Parts())
	if len(kept) > 0 {
		b = append(b, ',')
		b = appendParts(b, kept)
	}
	b = append(b, '}')
	if !uniform(r.Routes()) {
		b = appendRoutes(b, r.Routes(), topics)
	}
	if debug {
		b = append(b, `,"debug":true`...)
	}
	return append(b, '}')
}

// appendParts appends a member for each topic: the messages that hold the parts,
// as far as their addresses are known.
func appendParts(b []byte, parts []pipeline.Part) []byte {
	last, addressed := "", false
	for _, part := range parts {
		if part.Topic != last {
			if last != "" {
				b = append(b, `",`...)
			}
			b = appendTopic(b, part.Topic)
			last, addressed = part.Topic, false
		}
		if part.Sequence == 0 {
			continue // spooled, it gets its address when it is forwarded; or forgotten
		}
		if addressed {
			b = append(b, ',')
		}
		b = append(b, part.Topic...)
		b = append(b, ':')
		b = strconv.AppendUint(b, part.Sequence, 10)
		addressed = true
	}
	if last != "" {
		b = append(b, '"')
	}
	return b
}

func appendTopic(b []byte, topic string) []byte {
	b = append(b, '"')
	b = append(b, topic...)
	return append(b, `":"`...)
}

// uniform reports whether all items were accepted and went to the same topics.
func uniform(routes []pipeline.TopicSet) bool {
	for _, set := range routes {
		if set == 0 || set != routes[0] {
			return false
		}
	}
	return true
}

func appendRoutes(b []byte, routes []pipeline.TopicSet, topics []string) []byte {
	b = append(b, `,"routes":[`...)
	for i, set := range routes {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendRoute(b, set, topics)
	}
	return append(b, ']')
}

// appendRoute appends null for a rejected item, the name of its topic, or an
// array where it went to several.
func appendRoute(b []byte, set pipeline.TopicSet, topics []string) []byte {
	if set == 0 {
		return append(b, "null"...)
	}
	several := set&(set-1) != 0
	if several {
		b = append(b, '[')
	}
	first := true
	for place := range set.All {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = append(b, '"')
		b = append(b, topics[place]...)
		b = append(b, '"')
	}
	if several {
		b = append(b, ']')
	}
	return b
}
