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
	"net"
	"net/http"
	"strings"
	"syscall"
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

// shown is the certificate that a port shows, by its public name, with the
// client's configuration.
func shown(address string, conf *tls.Config) (*tls.ConnectionState, error) {
	c, err := tls.Dial("tcp", address, conf)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	state := c.ConnectionState()
	return &state, nil
}

// TestCertificateIsReplaced: another pair comes into force on both ports without
// a restart, a bad one never does.
func TestCertificateIsReplaced(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_TLS_CERT=cert.pem", "CALIPER_TLS_KEY=key.pem", "CALIPER_NATS_LISTEN=0.0.0.0:0")
	first := h.certify("first.example.edu")
	s := h.serve()
	address := strings.TrimPrefix(s.url, "http://")
	if _, err := shown(address, first); err != nil {
		t.Fatal(err)
	}
	stays := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: first}}
	s.url, s.client = "https://"+address, stays
	s.stored(eventID("first"))

	second := h.certify("second.example.edu")
	eventually(t, "the second certificate is shown", func() bool {
		_, err := shown(address, second)
		return err == nil
	})
	s.stored(eventID("second")) // on the connection of before
	c := credential(t, h.must("consumer", "add", "loader", "standard"))
	eventually(t, "the readers' port shows it", func() bool {
		nc, err := nats.Connect(c["server"], nats.UserInfo(c["user"], c["password"]), nats.Secure(second))
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
	if ids := h.tail("standard"); len(ids) != 2 { // the program's own commands know it
		t.Errorf("tail found %v", ids)
	}

	h.write("cert.pem", "nonsense")
	eventually(t, "the bad pair is counted", func() bool { return s.metric("caliper_tls_certificate_failures_total") > 0 })
	s.signal(syscall.SIGHUP)
	if _, err := shown(address, second); err != nil {
		t.Errorf("after a bad certificate: %v", err)
	}
	third := h.certify("third.example.edu")
	s.signal(syscall.SIGHUP)
	eventually(t, "the third certificate is shown", func() bool {
		_, err := shown(address, third)
		return err == nil
	})
	if at := s.metric("caliper_tls_certificate_expiry_timestamp_seconds"); at < float64(time.Now().Unix()) {
		t.Errorf("it is said to expire at %v", at)
	}
	stays.CloseIdleConnections()
	s.stop()
}

// TestTLSVersions: old versions, weak suites and other protocols are refused.
func TestTLSVersions(t *testing.T) {
	t.Parallel()
	h := newHome(t, "CALIPER_TLS_CERT=cert.pem", "CALIPER_TLS_KEY=key.pem")
	trust := h.certify("edge.example.edu")
	s := h.serve()
	address := strings.TrimPrefix(s.url, "http://")
	for name, c := range map[string]struct {
		change func(*tls.Config)
		ok     bool
	}{
		"1.3": {func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, true},
		"1.2": {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, true},
		"1.1": {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, false},
		"1.2 with CBC": {func(c *tls.Config) {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA}
		}, false},
		"HTTP/2 or HTTP/1.1": {func(c *tls.Config) { c.NextProtos = []string{"h2", "http/1.1"} }, true},
		"HTTP/2 alone":       {func(c *tls.Config) { c.NextProtos = []string{"h2"} }, false},
	} {
		conf := trust.Clone()
		c.change(conf)
		state, err := shown(address, conf)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v, want success %v", name, err, c.ok)
		}
		if err == nil && len(conf.NextProtos) > 0 && state.NegotiatedProtocol != "http/1.1" {
			t.Errorf("%s: negotiated %q", name, state.NegotiatedProtocol)
		}
	}
	s.stop()
}

// TestPortsAreLoopback: what is not for sensors is out of reach of other hosts
// unless somebody says otherwise. So is what is for sensors.
func TestPortsAreLoopback(t *testing.T) {
	t.Parallel()
	h := newHome(t)
	h.env = h.env[:2] // no port is configured
	printed := h.must("config")
	for _, key := range []string{"listen", "admin_listen", "nats_listen"} {
		host, _, err := net.SplitHostPort(setting(printed, key))
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
			t.Errorf("%s is %q by default", key, setting(printed, key))
		}
	}
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
