package pipeline

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// Members are added to items in any order, while the envelope is routed or
// after, and a receipt that is used again has none of them.
func TestAnnotations(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	var a annotations
	for range 200 {
		items := 1 + random.IntN(5)
		want := make([]string, items)
		for n := range random.IntN(12) {
			i := random.IntN(items)
			member := fmt.Sprintf(`,"%d":%d`, n, i)
			a.add(i, items, []byte(member))
			want[i] += member
		}
		for i := range want {
			if got := string(a.of(i)); got != want[i] {
				t.Fatalf("item %d of %d has %s, want %s", i, items, got, want[i])
			}
		}
		a.reset()
	}
}

func TestAnnotationsAreStored(t *testing.T) {
	pub := newScript()
	p := newPipeline(t, Config{}, pub)
	defer drain(t, p)
	env := parse(t, envelopeOf(eventOf("urn:1", ""), eventOf("urn:2", ""), personDescribe))
	defer env.Release()
	plain, err := p.Route(env, "tool", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	before := plain.bytes
	plain.Release()
	r, err := p.Route(env, "tool", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.annotate(1, []byte(`,"conflict":true`))
	r.annotate(2, []byte(`,"keys":{}`))
	r.annotate(1, []byte(`,"keys":{}`))
	if got := r.bytes - before; got != int64(len(`,"conflict":true,"keys":{},"keys":{}`)) {
		t.Errorf("records were reckoned %d bytes larger", got)
	}
	if err := p.Submit(r, time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for range 2 { // topics
		c := <-pub.calls
		lines = append(lines, strings.Split(strings.TrimSuffix(string(unpack(t, &c.msg)), "\n"), "\n")...)
		c.reply <- reply{ack: Ack{Sequence: 1, Level: LevelFsync}}
	}
	if err := r.Wait(); err != nil {
		t.Fatal(err)
	}
	r.Release()
	for _, line := range lines {
		want := map[string]string{"urn:1": "", "urn:2": `,"conflict":true,"keys":{}`, "urn:p:1": `,"keys":{}`}[strings.Split(line, `"`)[3]]
		if !strings.Contains(line, `/v1p1"`+want+`,"event":{`) {
			t.Errorf("record is %s, want %s before its event", line, want)
		}
	}
	if len(lines) != 3 {
		t.Errorf("%d records, want 3", len(lines))
	}
}
