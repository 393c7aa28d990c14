// The peer of go-libp2p. It has the command line of tools/interop/README.md and uses a plain host of the
// project. This file has the arguments, the keys and the listener; cases.go has the dialer, codes.go the
// codes of resets and closes.
package main

import (
	"bytes"
	"context"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
)

const (
	echo   = protocol.ID("/libp2p-quic/echo/1.0.0")
	sink   = protocol.ID("/libp2p-quic/sink/1.0.0")
	source = protocol.ID("/libp2p-quic/source/1.0.0")
	reset  = protocol.ID("/libp2p-quic/reset/1.0.0")
	closes = protocol.ID("/libp2p-quic/close/1.0.0")
	watch  = protocol.ID("/libp2p-quic/watch/1.0.0")
	note   = protocol.ID("/libp2p-quic/note/1.0.0")
	stop   = protocol.ID("/libp2p-quic/stop/1.0.0")
	back   = protocol.ID("/libp2p-quic/back/1.0.0")
	perf   = protocol.ID("/perf/1.0.0")

	listenerCode = 42
	dialerCode   = 43
)

var keyTypes = map[string]int{
	"ed25519": crypto.Ed25519, "secp256k1": crypto.Secp256k1, "ecdsa": crypto.ECDSA, "rsa": crypto.RSA,
}

var curves = map[string]elliptic.Curve{"ecdsa-p384": elliptic.P384(), "ecdsa-p521": elliptic.P521()}

type facts map[string]any

// tell writes one line for the runner. A single write, so that lines do not mix.
func tell(said facts) {
	line, err := json.Marshal(said)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}

func makeKey(key, seed string) (private crypto.PrivKey, err error) {
	if curve, known := curves[key]; known {
		private, _, err = crypto.GenerateECDSAKeyPairWithCurve(curve, rand.Reader)
		return private, err
	}
	var random io.Reader = rand.Reader
	if seed != "" {
		bytesOfSeed, err := hex.DecodeString(seed)
		if err != nil {
			return nil, err
		}
		random = bytes.NewReader(bytesOfSeed)
	}
	keyType, known := keyTypes[key]
	if !known {
		return nil, fmt.Errorf("unknown key type %q", key)
	}
	private, _, err = crypto.GenerateKeyPairWithReader(keyType, 2048, random)
	return private, err
}

func makeHost(key, seed string, options libp2p.Option, listen ...string) (host.Host, error) {
	private, err := makeKey(key, seed)
	if err != nil {
		return nil, err
	}
	return libp2p.New(
		options,
		libp2p.Identity(private),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(webtransport.New),
		libp2p.ListenAddrStrings(listen...),
		libp2p.DisableRelay(),
		// The default limits would stop 100 streams, which is not a matter of QUIC.
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)
}

// pump writes size bytes that repeat with the prime 251 and returns their SHA-256.
func pump(to io.Writer, size uint64) ([]byte, error) {
	block := make([]byte, 251*256)
	for i := range block {
		block[i] = byte(i % 251)
	}
	digest := sha256.New()
	for size > 0 {
		data := block[:min(size, uint64(len(block)))]
		digest.Write(data)
		if _, err := to.Write(data); err != nil {
			return nil, err
		}
		size -= uint64(len(data))
	}
	return digest.Sum(nil), nil
}

// serve registers a handler whose failure resets the stream.
func serve(h host.Host, id protocol.ID, do func(network.Stream) error) {
	h.SetStreamHandler(id, func(s network.Stream) {
		if err := do(s); err != nil {
			fmt.Fprintln(os.Stderr, id, err)
			s.Reset()
		}
	})
}

func serveAll(h host.Host) {
	serve(h, echo, func(s network.Stream) error {
		if _, err := io.Copy(s, s); err != nil {
			return err
		}
		return s.Close()
	})
	serve(h, sink, func(s network.Stream) error {
		digest := sha256.New()
		if _, err := io.Copy(digest, s); err != nil {
			return err
		}
		if _, err := s.Write(digest.Sum(nil)); err != nil {
			return err
		}
		return s.Close()
	})
	serve(h, source, func(s network.Stream) error {
		var size [8]byte
		if _, err := io.ReadFull(s, size[:]); err != nil {
			return err
		}
		digest, err := pump(s, binary.BigEndian.Uint64(size[:]))
		if err != nil {
			return err
		}
		if _, err := s.Write(digest); err != nil {
			return err
		}
		return s.Close()
	})
	serve(h, reset, func(s network.Stream) error {
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			return err
		}
		return abandon(s, listenerCode)
	})
	serve(h, closes, func(s network.Stream) error {
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			return err
		}
		return end(s.Conn(), listenerCode)
	})
	serve(h, watch, func(s network.Stream) error {
		ended := facts{"event": "end", "peer": s.Conn().RemotePeer().String(), "how": "finished", "code": nil}
		if _, err := io.CopyN(s, s, 1); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, s); err != nil {
			ended["how"], ended["code"] = "cut", codeOf(err)
		}
		tell(ended)
		return s.Close()
	})
	serve(h, note, func(s network.Stream) error {
		size, err := io.Copy(io.Discard, s)
		if err != nil {
			return err
		}
		tell(facts{"event": "note", "peer": s.Conn().RemotePeer().String(), "bytes": size})
		return s.Close()
	})
	serve(h, stop, func(s network.Stream) error {
		if _, err := io.CopyN(s, s, 1); err != nil {
			return err
		}
		return s.Close()
	})
	serve(h, back, func(s network.Stream) error {
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			return err
		}
		if err := pingRounds(h, s.Conn().RemotePeer(), 1); err != nil {
			return err
		}
		if _, err := s.Write([]byte{1}); err != nil {
			return err
		}
		return s.Close()
	})
	// go-libp2p has this protocol only in its test programs.
	serve(h, perf, func(s network.Stream) error {
		var size [8]byte
		if _, err := io.ReadFull(s, size[:]); err != nil {
			return err
		}
		if _, err := io.Copy(io.Discard, s); err != nil {
			return err
		}
		if _, err := pump(s, binary.BigEndian.Uint64(size[:])); err != nil {
			return err
		}
		return s.Close()
	})
}

// lastParts end the addresses to listen on, by transport.
var lastParts = map[string]string{"quic-v1": "/quic-v1", "webtransport": "/quic-v1/webtransport"}

func listen(arguments []string) error {
	flags := flag.NewFlagSet("listen", flag.ExitOnError)
	transport := flags.String("transport", "quic-v1", "")
	key, seed := flags.String("key", "ed25519", ""), flags.String("seed", "", "")
	ip, port := flags.Int("ip", 4, ""), flags.Int("port", 0, "")
	retry := flags.String("retry", "", "")
	flags.Parse(arguments)
	address := "/ip4/127.0.0.1"
	if *ip == 6 {
		address = "/ip6/::1"
	}
	options := libp2p.ChainOptions()
	if *retry != "" {
		options = alwaysRetry()
	}
	h, err := makeHost(*key, *seed, options, fmt.Sprintf("%s/udp/%d%s", address, *port, lastParts[*transport]))
	if err != nil {
		return err
	}
	defer h.Close()
	serveAll(h)
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		tell(facts{"event": "connected", "peer": c.RemotePeer().String()})
	}})
	var addrs []string
	// The addresses of the sockets, because the host's own list may omit loopback.
	for _, each := range h.Network().ListenAddresses() {
		addrs = append(addrs, fmt.Sprintf("%s/p2p/%s", each, h.ID()))
	}
	tell(facts{"peer": h.ID().String(), "addrs": addrs})
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func dial(arguments []string) error {
	flags := flag.NewFlagSet("dial", flag.ExitOnError)
	key, seed := flags.String("key", "ed25519", ""), flags.String("seed", "", "")
	flags.Parse(arguments)
	do, known := cases[flags.Arg(1)]
	if !known {
		return fmt.Errorf("unknown case %q", flags.Arg(1))
	}
	var infos []peer.AddrInfo
	for _, each := range append([]string{flags.Arg(0)}, flags.Args()[2:]...) {
		info, err := peer.AddrInfoFromString(each)
		if err != nil {
			return err
		}
		infos = append(infos, *info)
	}
	var listen []string
	if flags.Arg(1) == "listening" {
		transport := "quic-v1"
		if strings.Contains(flags.Arg(0), "/webtransport") {
			transport = "webtransport"
		}
		listen = []string{"/ip4/127.0.0.1/udp/0" + lastParts[transport]}
	}
	h, err := makeHost(*key, *seed, libp2p.ChainOptions(), listen...)
	if err != nil {
		return err
	}
	defer h.Close()
	said := facts{"ok": true, "self": h.ID().String()}
	if err = h.Connect(context.Background(), infos[0]); err == nil {
		err = do(h, infos[0], said, infos[1:]...)
	}
	if err != nil {
		said["ok"], said["error"] = false, err.Error()
	}
	tell(said)
	return nil
}

func about(arguments []string) error {
	flags := flag.NewFlagSet("about", flag.ExitOnError)
	transport := flags.String("transport", "quic-v1", "")
	flags.Parse(arguments)
	versions := map[string]string{}
	if build, known := debug.ReadBuildInfo(); known {
		for _, module := range build.Deps {
			versions[module.Path] = strings.TrimPrefix(module.Version, "v")
		}
	}
	tell(facts{
		"program": "go-libp2p " + versions["github.com/libp2p/go-libp2p"],
		"stack":   "quic-go " + versions["github.com/quic-go/quic-go"],
		"keys":    []string{"ed25519", "secp256k1", "ecdsa", "ecdsa-p384", "ecdsa-p521", "rsa"},
		"can":     can[*transport],
	})
	return nil
}

// commands do what the runner asks. nat.go, which old versions of go-libp2p cannot compile, adds its own.
var commands = map[string]func(arguments []string) error{"about": about, "listen": listen, "dial": dial}

func main() {
	name := append(os.Args, "")[1]
	command, known := commands[name]
	if !known {
		command = unknown
	}
	if err := command(os.Args[min(2, len(os.Args)):]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func unknown([]string) error {
	var names []string
	for name := range commands {
		names = append(names, name)
	}
	slices.Sort(names)
	return fmt.Errorf("the first argument is one of %s", strings.Join(names, ", "))
}
