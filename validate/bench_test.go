package validate

import (
	"fmt"
	"strings"
	"testing"
	"unsafe"

	"github.com/bytedance/sonic/decoder"
)

// engageEvent is what a reading tool sends for a page turn: about 1.1 KB with its envelope.
const engageEvent = `{"@context":"http://purl.imsglobal.org/ctx/caliper/v1p1","id":"urn:uuid:9a73685d-25b0-4f26-aef8-%012d",` +
	`"action":"NavigatedTo","actor":{"id":"urn:reader:example:customer:prod:user:176","type":"Person"},` +
	`"eventTime":"2018-10-03T18:21:08.897Z","federatedSession":{"id":"urn:session-id-localized:None","type":"LtiSession",` +
	`"user":{"id":"urn:reader:example:customer:prod:user:176","type":"Person"}},"group":{"academicSession":"BIO",` +
	`"courseNumber":"101","id":"urn:reader:example:customer:prod:term:11:course:63:section:79","subOrganizationOf":` +
	`{"courseNumber":"BIO 101","id":"urn:reader:example:customer:prod:term:11:course:63","type":"CourseOffering"},` +
	`"type":"CourseSection"},"object":{"dateCreated":"2018-08-23T10:48:18.002Z","id":"urn:reader:example:customer:prod:` +
	`term:11:course:63:section:79:class_material:1470:page:19","isPartOf":{"id":"urn:reader:example:customer:prod:term:11:` +
	`course:63:section:79:class_material:1470","name":"Introduction to Biology","type":"Document"},"name":"Page 19",` +
	`"type":"Page"},"type":"NavigationEvent"}`

func engageEnvelope(events int) []byte {
	items := make([]string, events)
	for i := range items {
		items[i] = fmt.Sprintf(engageEvent, i)
	}
	return envelopeOf(items...)
}

// envelopeOf puts items into an envelope that is in order.
func envelopeOf(items ...string) []byte {
	return []byte(`{"sensor":"https://reader.example.edu/sensor","sendTime":"2018-10-03T18:21:09.001Z",` +
		`"dataVersion":"http://purl.imsglobal.org/ctx/caliper/v1p1","data":[` + strings.Join(items, ",") + `]}`)
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{1, 100, 2000} {
		body := engageEnvelope(n)
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				e, err := Parse(body, Options{})
				if err != nil || e.Err() != nil {
					b.Fatal(err, e.Err())
				}
				e.Release()
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
		})
	}
}

// BenchmarkSonic is one pass of sonic over the same bytes with strings checked, into the same raw members,
// judging nothing.
func BenchmarkSonic(b *testing.B) {
	for _, n := range []int{1, 100, 2000} {
		body := engageEnvelope(n)
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var dec decoder.Decoder
			dec.SetOptions(decoder.OptionCaseSensitive | decoder.OptionValidateString)
			var envelope outerMembers
			for b.Loop() {
				clear(envelope.Data)
				envelope.Data = envelope.Data[:0]
				dec.Reset(unsafe.String(unsafe.SliceData(body), len(body)))
				if err := dec.Decode(&envelope); err != nil || len(envelope.Data) != n {
					b.Fatal(err, len(envelope.Data))
				}
			}
		})
	}
}

func BenchmarkScan(b *testing.B) {
	for _, n := range []int{1, 100, 2000} {
		body := engageEnvelope(n)
		b.Run(fmt.Sprintf("events=%d", n), func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			var f facts
			for b.Loop() {
				f = facts{spans: f.spans[:0]}
				if fault := f.scan(body); fault != nil {
					b.Fatal(fault)
				}
			}
		})
	}
}
