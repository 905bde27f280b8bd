package pushtest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"slices"
	"time"
)

// NewServer makes an authority and a certificate for the names of this machine.
func NewServer() (*Server, error) {
	return newServer(Options{}.key(""), nil)
}

// OpenServer is NewServer with the authority of this seed, for these hosts besides.
// ca is what it had before, in PEM, which goes on being used where it can be, so
// that whoever trusts it still does.
func OpenServer(seed string, ca []byte, hosts ...string) (*Server, error) {
	key := Options{Seed: seed}.key("authority")
	if block, _ := pem.Decode(ca); block != nil {
		c, err := x509.ParseCertificate(block.Bytes)
		fits := err == nil && key.PublicKey.Equal(c.PublicKey) && time.Until(c.NotAfter) > 30*24*time.Hour &&
			!slices.ContainsFunc(hosts, func(h string) bool { return c.VerifyHostname(h) != nil })
		if fits {
			return serverOf(key, c.Raw), nil
		}
	}
	return newServer(key, hosts)
}

func newServer(key *ecdsa.PrivateKey, hosts []string) (*Server, error) {
	t := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "Simulated providers"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().AddDate(1, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true, IsCA: true,
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else {
			t.DNSNames = append(t.DNSNames, h)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return serverOf(key, der), nil
}

func serverOf(key *ecdsa.PrivateKey, der []byte) *Server {
	s := &Server{
		Roots: x509.NewCertPool(), CA: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key},
	}
	s.Roots.AppendCertsFromPEM(s.CA)
	return s
}
