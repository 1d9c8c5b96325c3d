package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// selfSigned makes a certificate for 127.0.0.1 and a pool that trusts it.
func selfSigned(t *testing.T) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, pool
}

// The program's own commands know the server by its certificate, whatever name
// that is for, and give the password to no other.
func TestConnectPinsTheCertificate(t *testing.T) {
	cert, _ := selfSigned(t)
	dir := t.TempDir()
	open := func(cert tls.Certificate, listen string) *Publisher {
		p, err := OpenEmbedded(deadline(t), EmbeddedConfig{Dir: dir, Listen: listen, Layout: testLayout(), Logger: quiet(),
			TLS: &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := open(cert, "127.0.0.1:0")
	nc, _, err := Connect(deadline(t), dir)
	if err != nil {
		t.Fatal(err)
	}
	nc.Close()
	stale, err := readAccess(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Fatal(err)
	}

	other, _ := selfSigned(t)
	p = open(other, "127.0.0.1:0")
	defer p.Close()
	if nc, _, err := Connect(deadline(t), dir); err != nil {
		t.Errorf("after a change of certificate: %v", err)
	} else {
		nc.Close()
	}
	stale.URL = clientURL(p.Addr(), true)
	if err := writeJSON(filepath.Join(dir, accessName), stale); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Connect(deadline(t), dir); err == nil || !strings.Contains(err.Error(), "another certificate") {
		t.Errorf("with another certificate than the one named: %v", err)
	}
}
