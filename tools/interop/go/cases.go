// The dialer's side of each case of tools/interop/README.md. Each adds its facts to the answer, or
// returns an error.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-msgio/pbio"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"
)

// more is for the case many only: the listeners after the first one.
var cases = map[string]func(h host.Host, to peer.AddrInfo, said facts, more ...peer.AddrInfo) error{
	"handshake": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		said["remote"] = h.Network().ConnsToPeer(to.ID)[0].RemotePeer().String()
		return pingRounds(h, to.ID, 1)
	},
	"ping": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		said["rounds"] = 100
		return pingRounds(h, to.ID, 100)
	},
	"identify": identifies,
	"echo": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		s, err := open(h, to.ID, echo)
		if err != nil {
			return err
		}
		said["bytes"] = 1 << 20
		said["same"], err = isEchoed(s, 1<<20)
		return err
	},
	"streams": streams,
	"bulk":    bulk,
	"reset":   resets,
	"close":   closesBoth,
	"load":    load,
	"slow": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) (err error) {
		said["bytes"] = 16 << 20
		said["down"], err = isSourced(h, to.ID, 16<<20, 2*time.Second)
		return err
	},
	"note": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		s, err := open(h, to.ID, note)
		if err != nil {
			return err
		}
		n, err := s.Write(make([]byte, 65_536))
		if err != nil {
			return err
		}
		said["bytes"] = n
		if err := s.Close(); err != nil {
			return err
		}
		defer time.Sleep(time.Second)
		return pingRounds(h, to.ID, 1)
	},
	"stop": stops,
	"early": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		for range 10 {
			if err := h.Network().ClosePeer(to.ID); err != nil {
				return err
			}
			if _, err := h.Network().DialPeer(context.Background(), to.ID); err != nil {
				return err
			}
		}
		said["rounds"] = 10
		return pingRounds(h, to.ID, 1)
	},
	"many": many,
	"back": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		// The host answers the listener's ping concurrently.
		_, came, ended, err := provoke(h, to.ID, back)
		if len(came) > 0 {
			said["answer"] = came[0]
		}
		return errors.Join(err, ended)
	},
	"listening": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		said["addrs"] = h.Network().ListenAddresses()
		return identifies(h, to, said)
	},
	"perf": performs,
	"idle": func(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
		if err := pingRounds(h, to.ID, 1); err != nil {
			return err
		}
		time.Sleep(35 * time.Second)
		said["seconds"] = 35
		return pingRounds(h, to.ID, 1)
	},
	"restart": restart,
}

func open(h host.Host, to peer.ID, id protocol.ID) (network.Stream, error) {
	return h.NewStream(context.Background(), to, id)
}

func pingRounds(h host.Host, to peer.ID, rounds int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	answers := ping.Ping(ctx, h, to)
	for range rounds {
		if answer := <-answers; answer.Error != nil {
			return answer.Error
		}
	}
	return nil
}

func identifies(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	s, err := open(h, to.ID, identify.ID)
	if err != nil {
		return err
	}
	defer s.Close()
	var answer pb.Identify
	if err := pbio.NewDelimitedReader(s, 1<<16).ReadMsg(&answer); err != nil {
		return err
	}
	observed, err := ma.NewMultiaddrBytes(answer.GetObservedAddr())
	if err != nil {
		return err
	}
	said["agent"], said["protocols"], said["observed"] = answer.GetAgentVersion(), answer.GetProtocols(), observed.String()
	return nil
}

// isEchoed writes random bytes, finishes, and concurrently reads the answer to its end.
func isEchoed(s network.Stream, size int) (bool, error) {
	defer s.Close()
	data := make([]byte, size)
	rand.Read(data)
	var both errgroup.Group
	both.Go(func() error {
		if _, err := s.Write(data); err != nil {
			return err
		}
		return s.CloseWrite()
	})
	back, err := io.ReadAll(s)
	if err == nil {
		err = both.Wait()
	}
	return bytes.Equal(data, back), err
}

func streams(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	// All of them are open before the first one is used.
	opened := make([]network.Stream, 100)
	for i := range opened {
		var err error
		if opened[i], err = open(h, to.ID, echo); err != nil {
			return err
		}
	}
	var same atomic.Int32
	var all errgroup.Group
	for _, s := range opened {
		all.Go(func() error {
			is, err := isEchoed(s, 1024)
			if is {
				same.Add(1)
			}
			return err
		})
	}
	err := all.Wait()
	said["streams"], said["same"] = len(opened), same.Load()
	return err
}

func bulk(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	const size = 64 << 20
	up, err := open(h, to.ID, sink)
	if err != nil {
		return err
	}
	defer up.Close()
	sent, err := pump(up, size)
	if err != nil {
		return err
	}
	if err := up.CloseWrite(); err != nil {
		return err
	}
	heard, err := io.ReadAll(up)
	if err != nil {
		return err
	}
	said["bytes"], said["up"] = size, bytes.Equal(sent, heard)
	said["down"], err = isSourced(h, to.ID, size, 0)
	return err
}

// isSourced returns whether the bytes of source match their SHA-256. It reads nothing during pause.
func isSourced(h host.Host, to peer.ID, size uint64, pause time.Duration) (bool, error) {
	s, err := open(h, to, source)
	if err != nil {
		return false, err
	}
	defer s.Close()
	if err := binary.Write(s, binary.BigEndian, size); err != nil {
		return false, err
	}
	if err := s.CloseWrite(); err != nil {
		return false, err
	}
	time.Sleep(pause)
	digest := sha256.New()
	if _, err := io.CopyN(digest, s, int64(size)); err != nil {
		return false, err
	}
	promised, err := io.ReadAll(s)
	return bytes.Equal(digest.Sum(nil), promised), err
}

// load runs short streams in sequence during a long one.
func load(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	var beside errgroup.Group
	beside.Go(func() error {
		s, err := open(h, to.ID, sink)
		if err != nil {
			return err
		}
		defer s.Close()
		sent, err := pump(s, 16<<20)
		if err != nil {
			return err
		}
		if err := s.CloseWrite(); err != nil {
			return err
		}
		heard, err := io.ReadAll(s)
		said["up"] = bytes.Equal(sent, heard)
		return err
	})
	same := 0
	for range 300 {
		s, err := open(h, to.ID, echo)
		if err != nil {
			return err
		}
		is, err := isEchoed(s, 1024)
		if err != nil {
			return err
		}
		if is {
			same++
		}
	}
	err := beside.Wait()
	said["streams"], said["same"] = 300, same
	return err
}

// stops opens streams whose listener reads a byte and ends both directions at once.
func stops(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	answered, closed := 0, 0
	for range 1100 {
		s, came, ended, err := provoke(h, to.ID, stop)
		if err != nil {
			return err
		}
		if ended == nil && string(came) == "x" {
			answered++
		}
		// The peer has stopped reading, so this write may fail.
		s.Write(make([]byte, 1024))
		if err := s.Close(); err != nil {
			return err
		}
		closed++
	}
	said["streams"], said["answered"], said["closed"] = 1100, answered, closed
	return pingRounds(h, to.ID, 1)
}

func many(h host.Host, to peer.AddrInfo, said facts, more ...peer.AddrInfo) error {
	var meet, use errgroup.Group
	for _, each := range more {
		meet.Go(func() error { return h.Connect(context.Background(), each) })
	}
	if err := meet.Wait(); err != nil {
		return err
	}
	said["remotes"] = h.Network().Peers()
	for _, each := range h.Network().Peers() {
		use.Go(func() error { return pingRounds(h, each, 1) })
	}
	return use.Wait()
}

func performs(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	const size = 8 << 20
	s, err := open(h, to.ID, perf)
	if err != nil {
		return err
	}
	defer s.Close()
	if err := binary.Write(s, binary.BigEndian, uint64(size)); err != nil {
		return err
	}
	if _, err := pump(s, size); err != nil {
		return err
	}
	if err := s.CloseWrite(); err != nil {
		return err
	}
	said["sent"] = size
	said["received"], err = io.Copy(io.Discard, s)
	return err
}

// watched opens a stream whose end the listener reports to the runner.
func watched(h host.Host, to peer.ID) (network.Stream, error) {
	s, err := open(h, to, watch)
	if err != nil {
		return nil, err
	}
	if _, err := s.Write([]byte("x")); err != nil {
		return nil, err
	}
	_, err = io.ReadFull(s, make([]byte, 1))
	return s, err
}

// provoke opens a stream, writes a byte, and returns the received bytes and the error that ended reading.
func provoke(h host.Host, to peer.ID, id protocol.ID) (s network.Stream, came []byte, ended, err error) {
	if s, err = open(h, to, id); err != nil {
		return
	}
	if _, err = s.Write([]byte("x")); err != nil {
		return
	}
	came, ended = io.ReadAll(s)
	return
}

func resets(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	s, _, ended, err := provoke(h, to.ID, reset)
	if err != nil {
		return err
	}
	said["cut"], said["read_code"] = ended != nil, codeOf(ended)
	// The listener sent STOP_SENDING, too, which may arrive after its reset.
	for err == nil {
		_, err = s.Write(make([]byte, 1024))
	}
	said["write_code"] = codeOf(err)
	s.Reset()
	if s, err = watched(h, to.ID); err != nil {
		return err
	}
	if err := abandon(s, dialerCode); err != nil {
		return err
	}
	// Shows that the connection outlives the reset.
	return pingRounds(h, to.ID, 1)
}

func closesBoth(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	_, _, ended, err := provoke(h, to.ID, closes)
	if err != nil {
		return err
	}
	said["cut"], said["code"] = ended != nil, codeOf(ended)
	if err := h.Network().ClosePeer(to.ID); err != nil {
		return err
	}
	if err := h.Connect(context.Background(), to); err != nil {
		return err
	}
	s, err := watched(h, to.ID)
	if err != nil {
		return err
	}
	return end(s.Conn(), dialerCode)
}

// restart waits for the runner, which kills the listener after "ready", starts it again and
// writes a line.
func restart(h host.Host, to peer.AddrInfo, said facts, _ ...peer.AddrInfo) error {
	if err := pingRounds(h, to.ID, 1); err != nil {
		return err
	}
	tell(facts{"event": "ready"})
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return err
	}
	began := time.Now()
	for tries := 1; ; tries++ {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		// Without this limit a swarm waits longer before each new dial.
		err := h.Connect(network.WithForceDirectDial(ctx, "restart"), to)
		if err == nil {
			if answer := <-ping.Ping(ctx, h, to.ID); answer.Error == nil {
				cancel()
				said["seconds"], said["tries"] = math.Round(10*time.Since(began).Seconds())/10, tries
				return nil
			}
		}
		cancel()
		fmt.Fprintln(os.Stderr, "restart:", err)
		time.Sleep(500 * time.Millisecond)
	}
}
