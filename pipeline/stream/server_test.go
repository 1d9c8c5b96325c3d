package stream

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"caliperedge/internal/journal"
	"caliperedge/internal/loopback"
	"caliperedge/internal/natstest"
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
	notStarted(t, s, want)
	nc, _, err := ConnectServer(deadline(t), s)
	if err == nil {
		nc.Close()
	}
	if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hush") {
		t.Errorf("%+v: a command gets %v, want an error with %q", s, err, want)
	}
}

// notStarted demands it of the publisher alone: a command finds out later.
func notStarted(t *testing.T, s Server, want string) {
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
}

// What cannot be the address of a NATS server is refused at the start, and
// nothing of it is shown that may be a password.
func TestAddressesThatAreNone(t *testing.T) {
	for url, want := range map[string]string{
		"http://joe:hush@127.0.0.1:4222":            "begins with http://, expected nats://, tls://, ws:// or wss://",
		"nats://127.0.0.1:4222, mqtt://127.0.0.1:1": "number 2 of 2 begins with mqtt://",
		"nats://joe:hush@127.0.0.1,ws://127.0.0.1":  "some are of WebSocket",
		"nats://joe:hush/word@127.0.0.1:4222":       "malformed",
		"nats://joe:1/hush@127.0.0.1:4222":          "malformed", // host joe, port 1
		"nats://joe:1?hush@127.0.0.1:4222":          "malformed",
		"nats://joe:1#hush@127.0.0.1:4222":          "malformed",
		"nats://joe:hush%@127.0.0.1:4222":           "malformed",
		"nats://joe:hush,word@127.0.0.1:4222":       "number 1 of 2 is malformed",
		"nats://joe:hush@":                          "malformed",
		"nats://127.0.0.1:":                         "malformed",
		"nats://":                                   "malformed",
		"nats://127.0.0.1:70000":                    "expected 1 to 65535",
		"nats://127.0.0.1:4222,":                    "number 2 of 2 is empty",
		"":                                          "is empty",
	} {
		fails(t, Server{URL: url}, want)
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
	path := write(t, "other.nk", wrong)
	fails(t, Server{URL: srv.URL(), NKey: path}, "refuses the NKey of "+path+": nats: Authorization")
	fails(t, Server{URL: srv.URL()}, "Authorization")
	fails(t, Server{URL: srv.URL(), NKey: "missing.nk"}, "missing.nk")
	fails(t, Server{URL: srv.URL(), NKey: write(t, "no.nk", []byte("hush"))}, "no.nk")
}

func TestCredentialsFile(t *testing.T) {
	operator, _ := nkeys.CreateOperator()
	account, _ := nkeys.CreateAccount()
	plain, _ := nkeys.CreateAccount() // without JetStream
	system, _ := nkeys.CreateAccount()
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
	srv := natstest.Start(t, natstest.Options{Config: fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload { %s: %s, %s: %s, %s: %s }\n",
		encode(jwt.NewOperatorClaims(key(operator)), operator), key(system),
		key(system), encode(jwt.NewAccountClaims(key(system)), operator), key(account), encode(ac, operator),
		key(plain), encode(jwt.NewAccountClaims(key(plain)), operator))})
	user := func(of nkeys.KeyPair, change func(c *jwt.UserClaims)) []byte {
		t.Helper()
		u, _ := nkeys.CreateUser()
		seed, _ := u.Seed()
		c := jwt.NewUserClaims(key(u))
		change(c)
		creds, err := jwt.FormatUserConfig(encode(c, of), seed)
		if err != nil {
			t.Fatal(err)
		}
		return creds
	}
	nothing := func(*jwt.UserClaims) {}
	good := user(account, nothing)
	reaches(t, Server{URL: srv.URL(), Creds: write(t, "edge.creds", good)})
	creds := write(t, "replaced.creds", good)
	p, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: srv.URL(), Creds: creds}, Layout: testLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for _, content := range [][]byte{nil, user(plain, nothing), []byte("hush")} {
		srv.Kill()
		if err := os.WriteFile(creds, content, 0o600); err != nil {
			t.Fatal(err)
		}
		srv.Restart()
		eventually(t, "it cannot be used", func() bool { return probeFails(p) })
		if err := os.WriteFile(creds, user(account, nothing), 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a good one is taken up", func() bool { return probeWorks(p) })
	}
	publish(t, p, message("standard", "replaced", "{}"))
	fails(t, Server{URL: srv.URL()}, "refuses a client without a credential: nats: Authorization")

	refused := func(name string, content []byte, want ...string) {
		t.Helper()
		path := write(t, name, content)
		for _, w := range append(want, path) {
			fails(t, Server{URL: srv.URL(), Creds: path}, w)
		}
	}
	fails(t, Server{URL: srv.URL(), Creds: "missing.creds"}, "missing.creds")
	refused("empty.creds", nil, "no JWT in credentials file")
	refused("text.creds", []byte("hush"), "no JWT in credentials file")
	withoutSeed, _, _ := bytes.Cut(good, []byte("-----BEGIN USER NKEY SEED"))
	refused("half.creds", withoutSeed, "no nkey seed found")
	// A seed in place of a credentials file would be sent to the server as a JWT.
	seed, _ := system.Seed()
	refused("seed.creds", seed, "no JWT in credentials file")
	refused("stranger.creds", user(plain, func(c *jwt.UserClaims) { c.IssuerAccount = key(account) }), "refuses the credentials of")
	refused("old.creds", user(account, func(c *jwt.UserClaims) { c.Expires = time.Now().Add(-time.Hour).Unix() }), "which have expired at 2")
	path := write(t, "plain.creds", user(plain, nothing))
	notStarted(t, Server{URL: srv.URL(), Creds: path}, "JetStream not enabled for account")
	path = write(t, "denied.creds", user(account, func(c *jwt.UserClaims) { c.Pub.Deny.Add("$JS.API.STREAM.>") }))
	notStarted(t, Server{URL: srv.URL(), Creds: path}, "permissions violation")
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
	for range 5 { // the connection may be closed before it is read why
		fails(t, stranger, "refuses the client certificate "+stranger.Cert)
	}
	fails(t, Server{URL: good.URL, CA: ca.path}, "refuses a client without a certificate")
	garbage := write(t, "garbage.pem", []byte("hush"))
	fails(t, Server{URL: good.URL, CA: garbage}, garbage)
	fails(t, Server{URL: good.URL, Cert: garbage, Key: mineKey}, garbage)
	fails(t, Server{URL: good.URL, Cert: mine, Key: key}, "client certificate "+mine+" with key "+key)
	open := natstest.Start(t, natstest.Options{})
	fails(t, Server{URL: open.URL(), CA: ca.path}, "secure connection not available")
	fails(t, Server{URL: open.URL(), CA: "missing.pem"}, "missing.pem")
	fails(t, Server{URL: open.URL(), Cert: mine, Key: "missing.pem"}, "missing.pem")
}

// A server is reached by WebSocket as well, also again after it was away.
func TestWebSocket(t *testing.T) {
	free, err := loopback.Free(1)
	if err != nil {
		t.Fatal(err)
	}
	addr := free[0]
	srv := natstest.Start(t, natstest.Options{Config: fmt.Sprintf("websocket { listen: %q, no_tls: true }", addr)})
	s := Server{URL: "ws://" + addr}
	reaches(t, s)
	p, err := OpenRemote(deadline(t), RemoteConfig{Server: s, Layout: testLayout(), Logger: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	srv.Kill()
	eventually(t, "the loss is noticed", func() bool { return probeFails(p) })
	srv.Restart()
	eventually(t, "probe succeeds again", func() bool { return probeWorks(p) })
	publish(t, p, message("standard", "2", "{}"))
}

// Who can read a secret of the connection is told at the start.
func TestOpenCredentialsAreTold(t *testing.T) {
	user, _ := nkeys.CreateUser()
	public, _ := user.PublicKey()
	seed, _ := user.Seed()
	srv := natstest.Start(t, natstest.Options{Config: "authorization { users: [ { nkey: " + public + " } ] }"})
	path := write(t, "user.nk", seed)
	var log bytes.Buffer
	start := func() {
		t.Helper()
		log.Reset()
		p, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: srv.URL(), NKey: path}, Layout: testLayout(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
	start()
	if strings.Contains(log.String(), "open to every user") {
		t.Errorf("a file for its owner: %s", log.String())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	start()
	if !strings.Contains(log.String(), "open to every user of this host") || !strings.Contains(log.String(), path) {
		t.Errorf("a file for everybody: %s", log.String())
	}
}

// Files that are replaced by bad ones while the program runs: it says why it cannot
// connect again, and does so with good ones.
func TestWhyItCannotConnectAgain(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue(t)
	srv := natstest.Start(t, natstest.Options{Config: fmt.Sprintf("tls { cert_file: %q, key_file: %q }", cert, key)})
	good, err := os.ReadFile(ca.path)
	if err != nil {
		t.Fatal(err)
	}
	stranger, err := os.ReadFile(newAuthority(t).path)
	if err != nil {
		t.Fatal(err)
	}
	path := write(t, "ca.pem", good)
	var log journal.Journal
	p, err := OpenRemote(deadline(t), RemoteConfig{Server: Server{URL: srv.URL(), CA: path}, Layout: testLayout(), Logger: log.Logger()})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for want, content := range map[string][]byte{"failed to parse root certificate": []byte("hush"), "unknown authority": stranger} {
		srv.Kill()
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		srv.Restart()
		eventually(t, "the log says "+want, func() bool { return strings.Contains(log.String(), want) })
		if err := os.WriteFile(path, good, 0o600); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a good one is taken up", func() bool { return probeWorks(p) })
	}
	publish(t, p, message("standard", "1", "{}"))
	if strings.Contains(log.String(), "hush") {
		t.Error("the log shows what is in a file")
	}
}
