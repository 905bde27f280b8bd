package pushtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"math/big"
)

// secret is a text of 32 characters that nobody guesses. Each name has its own.
func (o Options) secret(name string) string {
	if o.Seed == "" {
		var b [16]byte
		_, _ = rand.Read(b[:])
		return hex.EncodeToString(b[:])
	}
	return hex.EncodeToString(o.bytes(name, 16))
}

// number is one of nine digits, as some providers number apps.
func (o Options) number(name string) int64 {
	var b [8]byte
	if o.Seed == "" {
		_, _ = rand.Read(b[:])
	} else {
		copy(b[:], o.bytes(name, 8))
	}
	return 100_000_000 + int64(binary.BigEndian.Uint64(b[:])%900_000_000)
}

// key is a private key of the curve P-256.
func (o Options) key(name string) *ecdsa.PrivateKey {
	if o.Seed == "" {
		k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic("pushtest: " + err.Error()) // it has nothing to fail of
		}
		return k
	}
	for i := uint32(0); ; i++ {
		// Almost every number of 32 bytes is a key.
		if k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), o.bytes(name+"\x00"+string(rune(i)), 32)); err == nil {
			return k
		}
	}
}

// rsaKey is a private RSA key of 2048 bits. The library makes none of a seed: its
// primes are looked for here, which takes a moment.
func (o Options) rsaKey(name string) *rsa.PrivateKey {
	if o.Seed == "" {
		k, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic("pushtest: " + err.Error()) // it has nothing to fail of
		}
		return k
	}
	const exponent = 65537
	one := big.NewInt(1)
	for attempt := uint64(0); ; attempt += 1 << 32 {
		p, q := o.prime(name+" p", attempt), o.prime(name+" q", attempt)
		phi := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
		d := new(big.Int).ModInverse(big.NewInt(exponent), phi)
		if d == nil || p.Cmp(q) == 0 {
			continue
		}
		k := &rsa.PrivateKey{
			PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: exponent},
			D:         d, Primes: []*big.Int{p, q},
		}
		k.Precompute()
		if k.Validate() == nil && k.N.BitLen() == 2048 {
			return k
		}
	}
}

func (o Options) prime(name string, from uint64) *big.Int {
	for i := from; ; i++ {
		b := o.bytes(name+"\x00"+string(binary.BigEndian.AppendUint64(nil, i)), 128)
		b[0] |= 0xc0 // so that two of them have 2048 bits
		b[127] |= 1
		if p := new(big.Int).SetBytes(b); p.ProbablyPrime(20) {
			return p
		}
	}
}

// bytes are n bytes made of the seed and the name.
func (o Options) bytes(name string, n int) []byte {
	var b []byte
	for i := uint32(0); len(b) < n; i++ {
		h := hmac.New(sha256.New, []byte(o.Seed))
		_ = binary.Write(h, binary.BigEndian, i)
		_, _ = h.Write([]byte(name))
		b = h.Sum(b)
	}
	return b[:n]
}
