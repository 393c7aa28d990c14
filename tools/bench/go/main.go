// The contender go-libp2p: its QUIC transport alone, without host and negotiation. It has the command
// line of tools/bench/README.md. This file has the arguments, the listener and the code of both ends;
// measures.go has the dialer.
package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	libp2pquic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/libp2p/go-libp2p/p2p/transport/quicreuse"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/quic-go/quic-go"
)

// piece is the number of bytes of one read and one write.
const piece = 64 << 10

var start = time.Now()

func now() uint64 { return uint64(time.Since(start)) }

// usage returns the nanoseconds of CPU time of all threads, and the resident bytes.
func usage() (cpu, memory uint64) {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	cpu = uint64(used.Utime.Nano() + used.Stime.Nano())
	said, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		panic(err)
	}
	pages, err := strconv.ParseUint(strings.Fields(string(said))[1], 10, 64)
	if err != nil {
		panic(err)
	}
	return cpu, pages * uint64(os.Getpagesize())
}

func tell(said any) {
	line, err := json.Marshal(said)
	if err != nil {
		panic(err)
	}
	os.Stdout.Write(append(line, '\n'))
}

func newTransport() (transport.Transport, peer.ID, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, "", err
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, "", err
	}
	manager, err := quicreuse.NewConnManager(quic.StatelessResetKey{}, quic.TokenGeneratorKey{})
	if err != nil {
		return nil, "", err
	}
	t, err := libp2pquic.NewTransport(key, manager, nil, nil, &network.NullResourceManager{})
	return t, id, err
}

func serve() error {
	t, id, err := newTransport()
	if err != nil {
		return err
	}
	listener, err := t.Listen(ma.StringCast("/ip4/127.0.0.1/udp/0/quic-v1"))
	if err != nil {
		return err
	}
	tell(map[string]string{"address": fmt.Sprintf("%s/p2p/%s", listener.Multiaddr(), id)})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	for {
		connection, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			for {
				stream, err := connection.AcceptStream()
				if err != nil {
					// The dialer closed it, as expected.
					return
				}
				go answer(stream)
			}
		}()
	}
}

// answer serves one stream: its first byte is the command. The dialer reports its own failures.
func answer(stream network.MuxedStream) {
	defer stream.Close()
	var what [1]byte
	if _, err := io.ReadFull(stream, what[:]); err != nil {
		return
	}
	switch what[0] {
	case 'u':
		if bytes, began, ended, err := drain(stream, math.MaxInt64); err == nil {
			writeNumbers(stream, bytes, began, ended)
		}
	case 'd':
		if asked, err := readNumbers(stream, 2); err == nil {
			fill(stream, asked[0], time.Duration(asked[1]))
		}
	case 'e':
		io.Copy(struct{ io.Writer }{stream}, struct{ io.Reader }{stream})
	default:
		cpu, memory := usage()
		writeNumbers(stream, cpu, memory)
	}
}

// drain reads to the end, or until limit, and returns the times of the first and the last bytes.
func drain(from io.Reader, limit time.Duration) (bytes, began, ended uint64, err error) {
	block := make([]byte, piece)
	for {
		n, err := from.Read(block)
		bytes, ended = bytes+uint64(n), now()
		if began == 0 {
			began = ended
		}
		if errors.Is(err, io.EOF) || ended-began > uint64(limit) {
			return bytes, began, ended, nil
		}
		if err != nil {
			return 0, 0, 0, err
		}
	}
}

// fill writes size bytes, or as many as it can until limit.
func fill(to io.Writer, size uint64, limit time.Duration) error {
	block := make([]byte, piece)
	for end := time.Now().Add(limit); size > 0 && time.Now().Before(end); {
		n := min(size, piece)
		if _, err := to.Write(block[:n]); err != nil {
			return err
		}
		size -= n
	}
	return nil
}

func writeNumbers(to io.Writer, numbers ...uint64) error {
	var bytes []byte
	for _, number := range numbers {
		bytes = binary.BigEndian.AppendUint64(bytes, number)
	}
	_, err := to.Write(bytes)
	return err
}

func readNumbers(from io.Reader, count int) ([]uint64, error) {
	numbers := make([]uint64, count)
	return numbers, binary.Read(from, binary.BigEndian, numbers)
}

func dial(address, what string, arguments []string) error {
	options := map[string]uint64{}
	for _, argument := range arguments {
		name, value, _ := strings.Cut(argument, "=")
		number, err := strconv.ParseUint(value, 10, 64)
		if err != nil {
			return err
		}
		options[name] = number
	}
	t, _, err := newTransport()
	if err != nil {
		return err
	}
	info, err := peer.AddrInfoFromString(address)
	if err != nil {
		return err
	}
	d := dialer{t, info.Addrs[0], info.ID, options}
	said, err := d.measure(context.Background(), what)
	if err == nil {
		tell(said)
	}
	return err
}

func main() {
	var err error
	switch arguments := os.Args[1:]; {
	case len(arguments) == 1 && arguments[0] == "serve":
		err = serve()
	case len(arguments) >= 3 && arguments[0] == "dial":
		err = dial(arguments[1], arguments[2], arguments[3:])
	default:
		err = errors.New("serve, or dial ADDRESS MEASURE name=value")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
