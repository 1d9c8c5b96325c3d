package stream

import (
	"strings"
	"testing"

	"caliperedge/internal/natstest"
	"caliperedge/pipeline"
)

// One address of several is enough, whichever it is.
func TestSeveralURLs(t *testing.T) {
	a, b := natstest.Start(t, natstest.Options{}), natstest.Start(t, natstest.Options{})
	b.Kill()
	for _, urls := range []string{a.URL() + "," + b.URL(), b.URL() + "," + a.URL()} {
		reaches(t, Server{URL: urls})
	}
	a.Kill()
	_, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: "nats://joe:hush@" + a.Addr() + ",nats://joe:hush@" + b.Addr()}, Layout: testLayout(), Logger: quiet()})
	if err == nil || !strings.Contains(err.Error(), a.Addr()) || !strings.Contains(err.Error(), b.Addr()) || strings.Contains(err.Error(), "hush") {
		t.Errorf("OpenRemote: %v, want an error with both addresses and no password", err)
	}
}

// A credential that the server refuses for a while, as between two steps of an
// operator, is not the end of the connection.
func TestRefusedForAWhile(t *testing.T) {
	const right, wrong = `authorization { user: edge, password: hush }`, `authorization { user: edge, password: other }`
	srv := natstest.Start(t, natstest.Options{Config: right})
	url := "nats://edge:hush@" + srv.Addr()
	fails(t, Server{URL: "nats://edge:wrong@" + srv.Addr()}, "Authorization")
	p, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: url}, Layout: testLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	srv.Kill()
	srv.SetConfig(right, wrong)
	refused := func() int { return strings.Count(srv.Log(), "authentication error") }
	before := refused()
	srv.Restart()
	eventually(t, "the credential is refused several times", func() bool { return refused() > before+5 })
	srv.Kill()
	srv.SetConfig(wrong, right)
	srv.Restart()
	eventually(t, "probe succeeds again", func() bool { return probeWorks(p) })
	publish(t, p, message("standard", "1", "{}"))
}

// The level follows the stream, and the edge finds the others of a cluster when
// the server it is connected to stalls.
func TestReplicated(t *testing.T) {
	nodes := natstest.Cluster(t, 3, natstest.Options{})
	layout := testLayout()
	layout.Replicas = 3
	p, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: nodes[0].URL()}, Layout: layout, Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if ack := publish(t, p, message("standard", "1", "{}")); ack.Level != pipeline.LevelReplicated {
		t.Errorf("level %s, want replicated", ack.Level)
	}
	nodes[0].Pause()
	if !probeFails(p) {
		t.Error("probe succeeds with a server that is stopped")
	}
	eventually(t, "the others answer", func() bool { return probeWorks(p) })
	eventually(t, "a message is stored", func() bool {
		_, err := p.Publish(deadline(t), message("standard", "2", "{}"))
		return err == nil
	})
	nodes[0].Continue()
	// An operator reduces the copies.
	one := layout
	one.Replicas = 1
	js := natstest.JetStream(t, natstest.URLs(nodes))
	eventually(t, "the copies are reduced", func() bool { return Apply(deadline(t), js, one) == nil })
	eventually(t, "the level follows", func() bool { return probeWorks(p) && p.Level("standard") == pipeline.LevelStored })
}
