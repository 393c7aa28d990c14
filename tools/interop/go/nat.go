// What tools/nat asks of go-libp2p: a relay, and a home behind a router that listens or dials through
// it. Every fact is a line of JSON; the program ends with its standard input.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	"github.com/multiformats/go-multiaddr"
)

func init() {
	commands["relay"] = natRelay
	commands["home"] = natHome
}

func natHost(listen string, options ...libp2p.Option) (host.Host, error) {
	private, err := makeKey("ed25519", "")
	if err != nil {
		return nil, err
	}
	return libp2p.New(append(options,
		libp2p.Identity(private),
		libp2p.Transport(quic.NewTransport),
		libp2p.ListenAddrStrings(listen),
		libp2p.ResourceManager(&network.NullResourceManager{}),
	)...)
}

func natRelay(arguments []string) error {
	flags := flag.NewFlagSet("relay", flag.ExitOnError)
	listen := flags.String("listen", "", "")
	flags.Parse(arguments)
	h, err := natHost(*listen,
		libp2p.EnableRelayService(relay.WithInfiniteLimits()), libp2p.ForceReachabilityPublic())
	if err != nil {
		return err
	}
	defer h.Close()
	tell(facts{"event": "ready", "peer": h.ID().String()})
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func isRelayed(c network.Conn) bool {
	_, err := c.RemoteMultiaddr().ValueForProtocol(multiaddr.P_CIRCUIT)
	return err == nil
}

func natHome(arguments []string) error {
	flags := flag.NewFlagSet("home", flag.ExitOnError)
	listen, through := flags.String("listen", "", ""), flags.String("relay", "", "")
	dial, limit := flags.String("dial", "", ""), flags.Float64("limit", 20, "")
	hold := flags.Float64("hold", 0, "")
	flags.Parse(arguments)
	h, err := natHost(*listen,
		libp2p.EnableRelay(), libp2p.EnableHolePunching(), libp2p.ForceReachabilityPrivate())
	if err != nil {
		return err
	}
	defer h.Close()
	// When the relayed connection was in the swarm. h.Connect returns later: it identifies the peer first.
	began := atomic.Pointer[time.Time]{}
	start := func() { now := time.Now(); began.CompareAndSwap(nil, &now) }
	once, direct := sync.Once{}, make(chan struct{})
	ctx := network.WithAllowLimitedConn(context.Background(), "nat")
	relayInfo, err := peer.AddrInfoFromString(*through)
	if err != nil {
		return err
	}
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() == relayInfo.ID {
			return
		}
		start()
		if isRelayed(c) {
			return
		}
		once.Do(func() {
			tell(facts{"event": "direct", "peer": c.RemotePeer().String(),
				"seconds": time.Since(*began.Load()).Seconds(), "address": c.RemoteMultiaddr().String(),
				"direction": strings.ToLower(c.Stat().Direction.String())})
			close(direct)
		})
	}})
	if err := h.Connect(ctx, *relayInfo); err != nil {
		return err
	}
	// It upgrades no connection that came before it knows its own address.
	for !slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
		time.Sleep(20 * time.Millisecond)
	}
	if *dial == "" {
		if _, err := client.Reserve(ctx, h, *relayInfo); err != nil {
			return err
		}
		tell(facts{"event": "ready", "peer": h.ID().String()})
		_, err = io.Copy(io.Discard, os.Stdin)
		return err
	}
	tell(facts{"event": "ready", "peer": h.ID().String()})
	info, err := peer.AddrInfoFromString(fmt.Sprintf("%s/p2p-circuit/p2p/%s", *through, *dial))
	if err != nil {
		return err
	}
	if err := h.Connect(ctx, *info); err != nil {
		return err
	}
	tell(facts{"event": "relayed"})
	select {
	case <-direct:
		// The scenario: nothing passes but what the transport itself sends.
		time.Sleep(time.Duration(*hold * float64(time.Second)))
	case <-time.After(time.Duration(*limit * float64(time.Second))):
	}
	result := <-ping.Ping(ctx, h, info.ID)
	if result.Error != nil {
		return result.Error
	}
	isDirect := slices.ContainsFunc(h.Network().ConnsToPeer(info.ID), func(c network.Conn) bool {
		return !isRelayed(c)
	})
	tell(facts{"event": "pinged", "ms": float64(result.RTT.Microseconds()) / 1000, "direct": isDirect})
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}
