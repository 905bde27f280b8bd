// Package websocket is the part of RFC 6455 that a chat server and its client
// need: framing, the opening handshake from both sides, and a small client
// connection.
//
// It is a leaf. The framing knows no sockets: a Parser is fed whatever bytes
// arrive, cut anywhere, and the Append functions build frames in the caller's
// buffers, so that a goroutine per connection and an event loop can drive the
// same code.
//
// Extensions, compression among them, are not negotiated.
package websocket
