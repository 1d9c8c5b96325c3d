package edge

import (
	"bytes"

	"github.com/valyala/fasthttp"
)

// malformedMark stands for the method of a request that is no HTTP to us,
// although the library takes it. None has a blank for a method.
const malformedMark = " "

// isStrict tells whether a header leaves no room for another reading of where
// its request ends, by a proxy before us. The library is lenient with what RFC
// 9112 lets a server refuse: lines that end with a line feed alone (section
// 2.2) or go on in the next (5.2), blanks in names (5.1), other versions (2.3)
// and transfer codings (6.1).
func isStrict(h *fasthttp.RequestHeader) bool {
	if p := string(h.Protocol()); p != "HTTP/1.1" && p != "HTTP/1.0" {
		return false
	}
	for raw := h.RawHeaders(); len(raw) > 0; {
		end := bytes.IndexByte(raw, '\n')
		if end < 1 || raw[end-1] != '\r' {
			return false
		}
		line := raw[:end-1]
		raw = raw[end+1:]
		if len(line) == 0 { // the end of the header
			return len(raw) == 0
		}
		colon := bytes.IndexByte(line, ':')
		if colon < 1 {
			return false
		}
		name := line[:colon]
		for _, c := range name {
			if c <= ' ' || c >= 0x7f {
				return false
			}
		}
		if len(name) == len(fasthttp.HeaderTransferEncoding) && bytes.EqualFold(name, []byte(fasthttp.HeaderTransferEncoding)) &&
			!bytes.EqualFold(bytes.Trim(line[colon+1:], " \t"), []byte("chunked")) {
			return false
		}
	}
	return true
}
