// Package yardstick is the least that reading an envelope can cost: one strict pass of sonic over the body, into raw
// members that nobody looks at. The benchmarks and the ceiling hold caliper-edge against it.
package yardstick

import (
	"unsafe"

	"github.com/bytedance/sonic"
	"github.com/bytedance/sonic/decoder"
)

// Pass keeps its memory from one body to the next, as validate.Parse does. It is not safe for concurrent use.
type Pass struct {
	dec decoder.Decoder
	e   envelope
}

type envelope struct {
	Sensor      sonic.NoCopyRawMessage `json:"sensor"`
	SendTime    sonic.NoCopyRawMessage `json:"sendTime"`
	DataVersion sonic.NoCopyRawMessage `json:"dataVersion"`
	Data        []struct {
		Context   sonic.NoCopyRawMessage `json:"@context"`
		ID        sonic.NoCopyRawMessage `json:"id"`
		Type      sonic.NoCopyRawMessage `json:"type"`
		Actor     sonic.NoCopyRawMessage `json:"actor"`
		Action    sonic.NoCopyRawMessage `json:"action"`
		EventTime sonic.NoCopyRawMessage `json:"eventTime"`
		EdApp     sonic.NoCopyRawMessage `json:"edApp"`
	} `json:"data"`
}

// New returns a Pass.
func New() *Pass {
	p := new(Pass)
	p.dec.SetOptions(decoder.OptionCaseSensitive | decoder.OptionValidateString)
	return p
}

// Items makes the pass over body, which is only read and kept until the next one, and returns how many items it has.
func (p *Pass) Items(body []byte) (int, error) {
	clear(p.e.Data)
	p.e.Data = p.e.Data[:0]
	p.dec.Reset(unsafe.String(unsafe.SliceData(body), len(body)))
	err := p.dec.Decode(&p.e)
	return len(p.e.Data), err
}
