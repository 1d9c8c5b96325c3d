package pipeline

import (
	"errors"
	"testing"
	"testing/synctest"
)

// A store of which somebody else has found out that it does not work is tripped
// without a batch, and comes back with a probe.
func TestSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pub := newScript()
		p := newPipeline(t, Config{}, pub)
		p.Suspect(errors.New("the disk stands still"))
		p.Suspect(errors.New("the disk stands still")) // told again before the probe
		if err := p.Ready(); !errors.Is(err, ErrUnavailable) {
			t.Errorf("Ready says %v", err)
		}
		refused, _ := send(t, p, eventOf("a", ""))
		want(t, refused, ErrUnavailable)
		(<-pub.probes) <- nil
		synctest.Wait()
		if err := p.Ready(); err != nil {
			t.Errorf("Ready says %v after a good probe", err)
		}
		done, _ := send(t, p, eventOf("b", ""))
		(<-pub.calls).reply <- ok(1)
		want(t, done, nil)
		drain(t, p)
	})
}
