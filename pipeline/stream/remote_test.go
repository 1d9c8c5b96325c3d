package stream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"caliperedge/internal/natstest"
	"caliperedge/pipeline"
)

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// reaches demands that publisher and commands get through with s, and fails that
// neither does.
func reaches(t *testing.T, s Server) {
	t.Helper()
	p, err := OpenRemote(deadline(t), RemoteConfig{Server: s, Layout: testLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	publish(t, p, message("standard", "1", "{}"))
	nc, js, err := ConnectServer(deadline(t), s)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	if list, err := List(deadline(t), js, testLayout()); err != nil || list[0].Messages == 0 {
		t.Errorf("a command sees %+v, %v", list, err)
	}
}

// fails demands an error with want, also where the server may be away: it is
// there, and somebody has to mend something.
func fails(t *testing.T, s Server, want string) {
	t.Helper()
	for _, mayBeAway := range []bool{false, true} {
		p, err := OpenRemote(deadline(t), RemoteConfig{Server: s, Layout: testLayout(), MayBeAway: mayBeAway, Logger: quiet()})
		if err == nil {
			p.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%+v: %v, want an error with %q", s, err, want)
		}
	}
	if nc, _, err := ConnectServer(deadline(t), s); err == nil {
		nc.Close()
		t.Errorf("%+v: a command gets through", s)
	}
}

func TestNKey(t *testing.T) {
	user, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	srv := natstest.Start(t, natstest.Options{Config: "authorization { users: [ { nkey: " + public + " } ] }"})
	reaches(t, Server{URL: srv.URL(), NKey: write(t, "user.nk", seed)})
	other, _ := nkeys.CreateUser()
	wrong, _ := other.Seed()
	fails(t, Server{URL: srv.URL(), NKey: write(t, "other.nk", wrong)}, "Authorization")
	fails(t, Server{URL: srv.URL()}, "Authorization")
	fails(t, Server{URL: srv.URL(), NKey: "missing.nk"}, "missing.nk")
	fails(t, Server{URL: srv.URL(), NKey: write(t, "no.nk", []byte("hush"))}, "no.nk")
}

func TestCredentialsFile(t *testing.T) {
	operator, _ := nkeys.CreateOperator()
	account, _ := nkeys.CreateAccount()
	system, _ := nkeys.CreateAccount()
	user, _ := nkeys.CreateUser()
	key := func(p nkeys.KeyPair) string { s, _ := p.PublicKey(); return s }
	encode := func(c jwt.Claims, by nkeys.KeyPair) string {
		t.Helper()
		text, err := c.Encode(by)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	ac := jwt.NewAccountClaims(key(account))
	ac.Limits.DiskStorage, ac.Limits.Streams, ac.Limits.Consumer = -1, -1, -1
	srv := natstest.Start(t, natstest.Options{Config: fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload { %s: %s, %s: %s }\n",
		encode(jwt.NewOperatorClaims(key(operator)), operator), key(system),
		key(system), encode(jwt.NewAccountClaims(key(system)), operator), key(account), encode(ac, operator))})
	seed, _ := user.Seed()
	creds, err := jwt.FormatUserConfig(encode(jwt.NewUserClaims(key(user)), account), seed)
	if err != nil {
		t.Fatal(err)
	}
	reaches(t, Server{URL: srv.URL(), Creds: write(t, "edge.creds", creds)})
	fails(t, Server{URL: srv.URL()}, "Authorization")
	fails(t, Server{URL: srv.URL(), Creds: "missing.creds"}, "missing.creds")
}

// authority signs certificates for 127.0.0.1.
type authority struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
	path string // of the certificate
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{}
	a.key, a.cert = sign(t, nil)
	a.path = write(t, "ca.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
	return a
}

// issue writes a certificate and its key.
func (a *authority) issue(t *testing.T) (cert, key string) {
	t.Helper()
	k, c := sign(t, a)
	der, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, "cert.pem", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})),
		write(t, "key.pem", pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}))
}

func sign(t *testing.T, by *authority) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test " + serial.String()},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: by == nil,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := template, key
	if by == nil {
		template.KeyUsage |= x509.KeyUsageCertSign
	} else {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

func TestTLSWithAnOwnCA(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	srv := natstest.Start(t, natstest.Options{Config: fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }", cert, key, ca.path)})
	mine, mineKey := ca.issue(t)
	good := Server{URL: "tls://" + srv.Addr(), CA: ca.path, Cert: mine, Key: mineKey}
	reaches(t, good)
	plain := good
	plain.URL = srv.URL() // a CA alone demands TLS
	reaches(t, plain)
	unknown := good
	unknown.CA = newAuthority(t).path
	fails(t, unknown, "certificate")
	stranger := good
	stranger.Cert, stranger.Key = newAuthority(t).issue(t)
	if p, err := OpenRemote(deadline(t), RemoteConfig{Server: stranger, Layout: testLayout(), Logger: quiet()}); err == nil {
		p.Close()
		t.Error("a client certificate of another authority gets through")
	}
	open := natstest.Start(t, natstest.Options{})
	fails(t, Server{URL: open.URL(), CA: ca.path}, "secure connection not available")
	fails(t, Server{URL: open.URL(), CA: "missing.pem"}, "missing.pem")
	fails(t, Server{URL: open.URL(), Cert: mine, Key: "missing.pem"}, "missing.pem")
}

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
