package pipeline

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"testing"
)

// TestPackedUnpacks packs records that are alike in long stretches, with few or many values between them that are not, up to the
// most that a message has unpacked.
func TestPackedUnpacks(t *testing.T) {
	for _, encoding := range []string{EncodingSnappy, EncodingZstd} {
		p, err := NewPacker(encoding)
		if err != nil {
			t.Fatal(err)
		}
		packed, sizes := 0, []int{40_000, 400_000, 8 << 20}
		for seed := range uint64(24) {
			t.Run(fmt.Sprintf("%s/seed=%d", encoding, seed), func(t *testing.T) {
				records := alikeRecords(rand.New(rand.NewPCG(seed, 0)), sizes[seed%3])
				body, used := p.Pack(records)
				if used != EncodingNone {
					packed++
				}
				if got := unpack(t, &Message{Encoding: used, Bytes: len(records), Body: body}); !bytes.Equal(got, records) {
					t.Errorf("%d bytes of records unpack to others", len(records))
				}
			})
		}
		if packed < 22 {
			t.Errorf("%s: %d of 24 were packed", encoding, packed)
		}
	}
}

// TestDigitsArePacked packs what has nothing in it twice, but few letters.
func TestDigitsArePacked(t *testing.T) {
	p, err := NewPacker(EncodingZstd)
	if err != nil {
		t.Fatal(err)
	}
	random := make([]byte, 10_000)
	rand.NewChaCha8([32]byte{}).Read(random)
	records := []byte(hex.EncodeToString(random))
	body, used := p.Pack(records)
	if used != EncodingZstd || len(body) > len(records)*6/10 {
		t.Errorf("%d hexadecimal digits have %d bytes as %q", len(records), len(body), used)
	}
	if got := unpack(t, &Message{Encoding: used, Bytes: len(records), Body: body}); !bytes.Equal(got, records) {
		t.Error("the digits unpack to others")
	}
}

// alikeRecords makes records of at least so many bytes: stretches of one record again and again, some of which, another share in
// each stretch, have a random value of letters that the stretch has to itself.
func alikeRecords(r *rand.Rand, atLeast int) []byte {
	alphabet := []byte("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ+/-_.,;:!?()*&%$#@~^|<>=' ")
	var records []byte
	for len(records) < atLeast {
		stretch := len(records) + 20_000 + r.IntN(200_000)
		letters := alphabet[:2+r.IntN(len(alphabet)-2)]
		few := 1 << r.IntN(12)
		for n := 0; len(records) < stretch; n++ {
			records = append(records, `{"type":"NavigationEvent","action":"NavigatedTo","object":"https://example.org/pages/`...)
			if n%few == 0 {
				for range 1 + r.IntN(30) {
					records = append(records, letters[r.IntN(len(letters))])
				}
			}
			records = append(records, "\"}\n"...)
		}
	}
	return records
}
