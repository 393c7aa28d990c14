// The program for the hole-punch suite of libp2p's unified-testing: relay, listener or dialer, as the
// environment says. tools/interop/unified/README.md has the rules.
package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/multiformats/go-multiaddr"
)

const (
	// The harness ends every program after this time.
	harnessLimit = 180 * time.Second
	// For what the other programs write into Redis.
	keyLimit = 60 * time.Second
	// For the direct connection: three attempts of 5 s each, and their exchanges.
	punchLimit = 30 * time.Second
	// The harness has its programs poll.
	pollEvery = 50 * time.Millisecond
)

func init() {
	commands["hole-punch"] = holePunch
}

func holePunch([]string) error {
	if transport := os.Getenv("TRANSPORT"); transport != "quic-v1" {
		return fmt.Errorf("TRANSPORT must be quic-v1, got %q", transport)
	}
	store, err := openKeyStore()
	if err != nil {
		return err
	}
	defer store.conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), harnessLimit)
	defer cancel()
	switch role := os.Getenv("IS_DIALER"); role {
	case "":
		return punchRelay(ctx, store)
	case "true", "false":
		return punchHome(ctx, store, role == "true")
	default:
		return fmt.Errorf("IS_DIALER must be true or false, got %q", role)
	}
}

// quicAt returns the address to listen on: a free port of the IP address that is in a variable.
func quicAt(variable string) string {
	return fmt.Sprintf("/ip4/%s/udp/0/quic-v1", os.Getenv(variable))
}

func punchRelay(ctx context.Context, store *keyStore) error {
	h, err := natHost(quicAt("RELAY_IP"), libp2p.EnableRelayService(), libp2p.ForceReachabilityPublic())
	if err != nil {
		return err
	}
	defer h.Close()
	for _, each := range h.Network().ListenAddresses() {
		// The other one is /p2p-circuit.
		if _, err := each.ValueForProtocol(multiaddr.P_UDP); err != nil {
			continue
		}
		if err := store.set("relay_multiaddr", fmt.Sprintf("%s/p2p/%s", each, h.ID())); err != nil {
			return err
		}
	}
	<-ctx.Done()
	return nil
}

func punchHome(ctx context.Context, store *keyStore, isDialer bool) error {
	ip := "LISTENER_IP"
	if isDialer {
		ip = "DIALER_IP"
	}
	through, err := store.wait("relay_multiaddr")
	if err != nil {
		return err
	}
	relayInfo, err := peer.AddrInfoFromString(through)
	if err != nil {
		return err
	}
	h, err := natHost(quicAt(ip),
		libp2p.EnableRelay(), libp2p.EnableHolePunching(), libp2p.ForceReachabilityPrivate())
	if err != nil {
		return err
	}
	defer h.Close()
	if err := h.Connect(ctx, *relayInfo); err != nil {
		return err
	}
	// It upgrades no connection that came before it knows its own address.
	for !slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
		select {
		case <-ctx.Done():
			return errors.New("no peer told a public address of this host: go-libp2p punches to no other")
		case <-time.After(pollEvery):
		}
	}
	if isDialer {
		id, err := store.wait("listener_peer_id")
		if err != nil {
			return err
		}
		return punchDial(ctx, h, fmt.Sprintf("%s/p2p-circuit/p2p/%s", through, id))
	}
	if _, err := client.Reserve(ctx, h, *relayInfo); err != nil {
		return err
	}
	if err := store.set("listener_peer_id", h.ID().String()); err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// punchDial connects through the relay, and reports the time until a ping over the direct connection.
func punchDial(ctx context.Context, h host.Host, circuit string) error {
	info, err := peer.AddrInfoFromString(circuit)
	if err != nil {
		return err
	}
	direct := make(chan time.Time, 1)
	h.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if c.RemotePeer() != info.ID || isRelayed(c) {
			return
		}
		select {
		case direct <- time.Now():
		default:
		}
	}})
	began := time.Now()
	if err := h.Connect(network.WithAllowLimitedConn(ctx, "hole-punch"), *info); err != nil {
		return err
	}
	var connected time.Time
	select {
	case connected = <-direct:
	case <-time.After(punchLimit):
		return fmt.Errorf("no direct connection to %s within %s", info.ID, punchLimit)
	}
	rtt, err := pingDirectly(ctx, h, info.ID)
	if err != nil {
		return err
	}
	fmt.Printf("latency:\n  handshake_plus_one_rtt: %.3f\n  ping_rtt: %.3f\n  unit: ms\n",
		milliseconds(connected.Sub(began)+rtt), milliseconds(rtt))
	return nil
}

// pingDirectly fails where the ping would go through the relay, which the ping service permits.
func pingDirectly(ctx context.Context, h host.Host, to peer.ID) (time.Duration, error) {
	s, err := h.NewStream(ctx, to, ping.ID)
	if err != nil {
		return 0, err
	}
	defer s.Close()
	if isRelayed(s.Conn()) {
		return 0, fmt.Errorf("the ping to %s would go through the relay", to)
	}
	sent, received := make([]byte, ping.PingSize), make([]byte, ping.PingSize)
	rand.Read(sent)
	began := time.Now()
	if _, err := s.Write(sent); err != nil {
		return 0, err
	}
	if _, err := io.ReadFull(s, received); err != nil {
		return 0, err
	}
	rtt := time.Since(began)
	if !bytes.Equal(sent, received) {
		return 0, fmt.Errorf("%s answered the ping with other bytes", to)
	}
	return rtt, nil
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Microseconds()) / 1000
}

// keyStore is the Redis of one test, whose keys begin with the test's key. It has as much of the protocol of
// Redis (RESP) as GET and SET need.
type keyStore struct {
	conn    net.Conn
	reader  *bufio.Reader
	testKey string
}

func openKeyStore() (*keyStore, error) {
	testKey := os.Getenv("TEST_KEY")
	if testKey == "" {
		return nil, errors.New("TEST_KEY must be set")
	}
	conn, err := net.Dial("tcp", os.Getenv("REDIS_ADDR"))
	if err != nil {
		return nil, fmt.Errorf("REDIS_ADDR: %w", err)
	}
	return &keyStore{conn, bufio.NewReader(conn), testKey}, nil
}

func (k *keyStore) set(name, value string) error {
	_, err := k.do("SET", k.testKey+"_"+name, value)
	return err
}

// wait polls until another program has set the value.
func (k *keyStore) wait(name string) (string, error) {
	key := k.testKey + "_" + name
	for began := time.Now(); time.Since(began) < keyLimit; time.Sleep(pollEvery) {
		value, err := k.do("GET", key)
		if err != nil || value != "" {
			return value, err
		}
	}
	return "", fmt.Errorf("no program wrote %s into Redis within %s", key, keyLimit)
}

// do runs GET, whose answer is empty if there is no such key, or SET, whose answer is always empty.
func (k *keyStore) do(command ...string) (string, error) {
	request := fmt.Sprintf("*%d\r\n", len(command))
	for _, part := range command {
		request += fmt.Sprintf("$%d\r\n%s\r\n", len(part), part)
	}
	if _, err := io.WriteString(k.conn, request); err != nil {
		return "", err
	}
	line, err := k.reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	switch line = strings.TrimSuffix(line, "\r\n"); {
	case line == "$-1", strings.HasPrefix(line, "+"):
		return "", nil
	case strings.HasPrefix(line, "$"):
		size, err := strconv.Atoi(line[1:])
		if err != nil {
			return "", err
		}
		value := make([]byte, size+len("\r\n"))
		_, err = io.ReadFull(k.reader, value)
		return string(value[:size]), err
	default:
		return "", fmt.Errorf("Redis answered %s with %q", command[0], line)
	}
}
