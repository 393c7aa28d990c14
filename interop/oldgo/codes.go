// Codes of resets and closes: go-libp2p 0.32 could neither send nor show them.
package main

import "github.com/libp2p/go-libp2p/core/network"

var can = []string{"reset", "both roles", "same port", "perf"}

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
