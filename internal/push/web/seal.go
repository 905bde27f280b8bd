package web

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"

	"github.com/parleychat/parley/internal/chat"
	"github.com/parleychat/parley/internal/push"
)

// The sizes of what is encrypted (RFC 8188), in bytes: there is one record.
const (
	recordSize = 4096
	saltSize   = 16
	pointSize  = 65
	headerSize = saltSize + 4 + 1 + pointSize
	overhead   = 1 + 16 // what ends the text, and what proves that it is whole
)

// seal encrypts a text for the browser of the subscription. key and salt are used
// once and never again.
func seal(text []byte, s *chat.WebSubscription, key *ecdh.PrivateKey, salt []byte) ([]byte, error) {
	point, err := base64.RawURLEncoding.DecodeString(s.P256dh)
	if err != nil {
		return nil, push.ErrToken
	}
	auth, err := base64.RawURLEncoding.DecodeString(s.Auth)
	if err != nil {
		return nil, push.ErrToken
	}
	browser, err := ecdh.P256().NewPublicKey(point)
	if err != nil {
		return nil, push.ErrToken
	}
	shared, err := key.ECDH(browser)
	if err != nil {
		return nil, err
	}
	ours := key.PublicKey().Bytes()
	// RFC 8291, 3.4: the shared secret is mixed with the one that the browser has given.
	secret, err := hkdf.Key(sha256.New, shared, auth, "WebPush: info\x00"+string(point)+string(ours), 32)
	if err != nil {
		return nil, err
	}
	// RFC 8188, 2.2 and 2.3.
	mixed, err := hkdf.Extract(sha256.New, secret, salt)
	if err != nil {
		return nil, err
	}
	content, err := hkdf.Expand(sha256.New, mixed, "Content-Encoding: aes128gcm\x00", 16)
	if err != nil {
		return nil, err
	}
	nonce, err := hkdf.Expand(sha256.New, mixed, "Content-Encoding: nonce\x00", 12)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(content)
	if err != nil {
		return nil, err
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, headerSize+len(text)+overhead)
	out = append(out, salt...)
	out = binary.BigEndian.AppendUint32(out, recordSize)
	out = append(append(out, pointSize), ours...)
	out = append(append(out, text...), 2) // which ends the last record
	return gcm.Seal(out[:headerSize], nonce, out[headerSize:], nil), nil
}
