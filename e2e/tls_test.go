package e2e_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
)

// certify writes a self-signed certificate for the name and its key, and
// returns who trusts it.
func (h *home) certify(name string) *tls.Config {
	h.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		h.t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		h.t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		h.t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	h.write("cert.pem", string(certificate))
	h.write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})))
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(certificate)
	return &tls.Config{RootCAs: pool, ServerName: name}
}

func TestTLS(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_TLS_CERT=cert.pem", "CALIPER_TLS_KEY=key.pem", "CALIPER_NATS_LISTEN=0.0.0.0:0")
	// As in life the certificate is for the public name, not for 127.0.0.1.
	trust := h.certify("edge.example.edu")
	s := h.serve()
	if !strings.Contains(s.stdout.String(), "https://") {
		t.Errorf("the printed line is not for https:\n%s", between(s.stdout.String(), "curl", "\\"))
	}
	s.url = strings.Replace(s.url, "http://", "https://", 1)
	s.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: trust}}
	defer s.client.CloseIdleConnections()
	s.stored(eventID("tls"))

	_, port, _ := strings.Cut(s.url, "//127.0.0.1:")
	plain := &server{process: s.process, url: "http://127.0.0.1:" + port, token: s.token, client: newClient(t)}
	if a, err := plain.tryPost(envelope("", eventID("plain"))); err == nil && a.status < 400 {
		t.Errorf("without TLS a post is answered %d", a.status)
	}

	if ids := h.tail("standard"); len(ids) != 1 {
		t.Errorf("tail found %v", ids)
	}
	c := credential(t, h.must("consumer", "add", "loader", "standard"))
	user := nats.UserInfo(c["user"], c["password"])
	if nc, err := nats.Connect(strings.Replace(c["server"], "tls://", "nats://", 1), user); err == nil {
		nc.Close()
		t.Error("a reader that does not know the certificate was let in")
	}
	eventually(t, "the reader is let in", func() bool {
		nc, err := nats.Connect(c["server"], user, nats.Secure(trust))
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	if got := fetch(t, natsClient(t, c["server"], user, nats.Secure(trust)), c, 5); got != 1 {
		t.Errorf("the reader fetched %d messages", got)
	}
	s.stop()
}

func TestAnOpenPortNeedsTLS(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", "[::]:0", ":0"} {
		h := newHome(t, "CALIPER_NATS_LISTEN="+listen)
		if r := h.run("serve", "--init"); r.code != 1 || !strings.Contains(r.stderr, "needs TLS") || !strings.Contains(r.stderr, listen) {
			t.Errorf("%s: exit %d, %s", listen, r.code, r.stderr)
		}
	}
	h := newHome(t, "CALIPER_NATS_LISTEN=")
	s := h.serve() // no port at all
	s.stored(eventID("closed"))
	if r := h.run("tail", "standard", "--no-follow"); r.code != 1 || !strings.Contains(r.stderr, "CALIPER_NATS_LISTEN") {
		t.Errorf("tail without a port: exit %d, %s", r.code, r.stderr)
	}
	h.env = append(h.env, "CALIPER_TLS_CERT=cert.pem")
	if r := h.run("config"); r.code != 2 || !strings.Contains(r.stderr, "tls-key is not") {
		t.Errorf("a certificate without its key: exit %d, %s", r.code, r.stderr)
	}
	h.env = append(h.env, "CALIPER_TLS_KEY=key.pem", "CALIPER_DATA_DIR=other")
	if r := h.run("serve", "--init"); r.code != 1 || !strings.Contains(r.stderr, "cert.pem") {
		t.Errorf("no certificate: exit %d, %s", r.code, r.stderr)
	}
}
