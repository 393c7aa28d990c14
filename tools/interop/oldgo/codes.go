// Codes of resets and closes: go-libp2p 0.32 could neither send nor show them. Nor did it let
// a program choose when to send a Retry packet.
package main

import (
	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
)

var can = []string{"reset", "both roles", "same port", "perf"}

// alwaysRetry is never asked for: "can" lacks its word.
func alwaysRetry() libp2p.Option {
	return libp2p.ChainOptions()
}

// abandon gives up both directions of a stream.
func abandon(s network.Stream, _ uint32) error {
	return s.Reset()
}

// end closes a connection.
func end(c network.Conn, _ uint32) error {
	return c.Close()
}

// codeOf would find the code that came with the end of a stream or of its connection.
func codeOf(error) any {
	return nil
}
