// Codes of resets and closes, which go-libp2p 0.32 can neither send nor report. It also has no option to
// always send a Retry packet.
package main

import (
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
)

var can = map[string][]string{
	"quic-v1":      {"reset", "both roles", "same port", "perf"},
	"webtransport": {"reset", "both roles", "same port", "perf", "same certificate"},
}

// alwaysRetry is never called: "can" lacks this feature.
func alwaysRetry() libp2p.Option {
	return libp2p.ChainOptions()
}

// abandon resets both directions of a stream.
func abandon(s network.Stream, _ uint32) error {
	return s.Reset()
}

// end closes a connection.
func end(c network.Conn, _ uint32) error {
	return c.Close()
}

// codeOf would return the code of the end of a stream or of its connection.
func codeOf(error) any {
	return nil
}
