// What go-libp2p 0.32 lacks: codes of resets and closes, sent and found in errors, and a listener
// that always sends a Retry packet.
package main

import (
	"errors"
	"net"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	webtransport "github.com/quic-go/webtransport-go"
)

// can has the features by transport. Over WebTransport go-libp2p sends 0 instead of every code
// (p2p/transport/webtransport, CloseWithError and ResetWithError).
var can = map[string][]string{
	"quic-v1":      {"reset", "reset code", "close code", "both roles", "same port", "perf", "post-quantum", "retry"},
	"webtransport": {"reset", "both roles", "same port", "perf", "same certificate"},
}

// alwaysRetry makes a listener validate every address.
func alwaysRetry() libp2p.Option {
	return libp2p.QUICReuse(quicreuse.NewConnManager, quicreuse.VerifySourceAddress(func(net.Addr) bool { return true }))
}

// abandon resets both directions of a stream.
func abandon(s network.Stream, code network.StreamErrorCode) error {
	return s.ResetWithError(code)
}

// end closes a connection.
func end(c network.Conn, code network.ConnErrorCode) error {
	return c.CloseWithError(code)
}

// codeOf returns the code of the end of a stream or of its connection.
func codeOf(err error) any {
	var ofStream *network.StreamError
	var overWebTransport *webtransport.StreamError
	if errors.As(err, &ofStream) {
		if errors.As(err, &overWebTransport) {
			// go-libp2p reports 0 for every code.
			return nil
		}
		return ofStream.ErrorCode
	}
	var ofConnection *network.ConnError
	if errors.As(err, &ofConnection) {
		return ofConnection.ErrorCode
	}
	return nil
}
