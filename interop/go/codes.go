// Codes of resets and closes: sending them, and finding them in errors.
package main

import (
	"errors"

	"github.com/libp2p/go-libp2p/core/network"
)

var can = []string{"reset", "reset code", "close code", "both roles", "same port", "perf", "post-quantum"}

// abandon gives up both directions of a stream.
func abandon(s network.Stream, code network.StreamErrorCode) error {
	return s.ResetWithError(code)
}

// end closes a connection.
func end(c network.Conn, code network.ConnErrorCode) error {
	return c.CloseWithError(code)
}

// codeOf finds the code that came with the end of a stream or of its connection.
func codeOf(err error) any {
	var ofStream *network.StreamError
	if errors.As(err, &ofStream) {
		return ofStream.ErrorCode
	}
	var ofConnection *network.ConnError
	if errors.As(err, &ofConnection) {
		return ofConnection.ErrorCode
	}
	return nil
}
