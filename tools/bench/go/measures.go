package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/sync/errgroup"
)

type facts map[string]any

// The size and the limit of a transfer that lasts until its dialer ends.
const (
	bulkSize  = 1 << 40
	bulkLimit = time.Minute
)

// dialer runs one measure; names and options are those of tools/bench/README.md.
type dialer struct {
	transport transport.Transport
	address   ma.Multiaddr
	peer      peer.ID
	options   map[string]uint64
}

func (d dialer) option(name string, otherwise uint64) uint64 {
	if value, given := d.options[name]; given {
		return value
	}
	return otherwise
}

func (d dialer) limit() time.Duration {
	return time.Duration(d.option("limit", 6000)) * time.Millisecond
}

func (d dialer) dial(ctx context.Context) (transport.CapableConn, error) {
	return d.transport.Dial(ctx, d.address, d.peer)
}

func (d dialer) measure(ctx context.Context, what string) (facts, error) {
	first, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	connections := []transport.CapableConn{first}
	for uint64(len(connections)) < d.option("connections", 1) {
		connection, err := d.dial(ctx)
		if err != nil {
			return nil, err
		}
		connections = append(connections, connection)
	}
	var streams []network.MuxedStream
	if what == "ping" || what == "ping-bulk" {
		if streams, err = d.warmed(ctx, connections); err != nil {
			return nil, err
		}
	}
	before, err := census(ctx, first)
	if err != nil {
		return nil, err
	}
	var said facts
	switch what {
	case "up", "down":
		said, err = d.goodput(ctx, connections, what == "up")
	case "ping":
		said, err = d.ping(streams)
	case "ping-bulk":
		said, err = d.pingBesideBulk(ctx, streams)
	case "requests":
		said, err = d.repeated(func() error { return request(ctx, first) })
	case "handshakes":
		said, err = d.repeated(func() error {
			connection, err := d.dial(ctx)
			if err != nil {
				return err
			}
			return connection.Close()
		})
	case "idle":
		said, err = d.idle(ctx, first)
	default:
		err = fmt.Errorf("no measure %s", what)
	}
	if err != nil {
		return nil, err
	}
	after, err := census(ctx, first)
	if err != nil {
		return nil, err
	}
	said["cpu"] = [2]float64{float64(after[0]-before[0]) / 1e9, float64(after[1]-before[1]) / 1e9}
	said["rss"] = after[2:]
	return said, nil
}

// census returns the CPU time of dialer and listener, then their memory.
func census(ctx context.Context, connection network.MuxedConn) ([]uint64, error) {
	stream, err := connection.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	if _, err := stream.Write([]byte("c")); err != nil {
		return nil, err
	}
	there, err := readNumbers(stream, 2)
	if err != nil {
		return nil, err
	}
	cpu, memory := usage()
	return []uint64{cpu, there[0], memory, there[1]}, nil
}

func (d dialer) goodput(ctx context.Context, connections []transport.CapableConn, isUp bool) (facts, error) {
	streams := d.option("streams", 1)
	size := d.option("size", 2<<30) / streams
	done := make([][]uint64, streams)
	var tasks errgroup.Group
	for i := range done {
		tasks.Go(func() error {
			stream, err := connections[i%len(connections)].OpenStream(ctx)
			if err != nil {
				return err
			}
			defer stream.Close()
			if isUp {
				if _, err := stream.Write([]byte("u")); err != nil {
					return err
				}
				if err := fill(stream, size, d.limit()); err != nil {
					return err
				}
				if err := stream.CloseWrite(); err != nil {
					return err
				}
				done[i], err = readNumbers(stream, 3)
				return err
			}
			if _, err := stream.Write([]byte("d")); err != nil {
				return err
			}
			if err := writeNumbers(stream, size, uint64(d.limit())); err != nil {
				return err
			}
			// At the time limit a sender may hold the bytes of many seconds.
			bytes, began, ended, err := drain(stream, d.limit())
			done[i] = []uint64{bytes, began, ended}
			return err
		})
	}
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	var bytes uint64
	var rates []float64
	began, ended := done[0][1], done[0][2]
	for _, each := range done {
		bytes += each[0]
		began, ended = min(began, each[1]), max(ended, each[2])
		rates = append(rates, float64(each[0])*1e9/float64(max(each[2]-each[1], 1)))
	}
	return facts{"bytes": bytes, "seconds": float64(ended-began) / 1e9, "rates": rates}, nil
}

// latencies returns percentiles of many rounds, in microseconds.
func latencies(times []uint64, began uint64) facts {
	slices.Sort(times)
	at := func(part int) float64 { return float64(times[len(times)*part/100]) / 1e3 }
	return facts{"count": len(times), "seconds": float64(now()-began) / 1e9, "p50": at(50), "p99": at(99)}
}

func round(stream io.ReadWriter) error {
	buffer := []byte("x")
	if _, err := stream.Write(buffer); err != nil {
		return err
	}
	_, err := io.ReadFull(stream, buffer)
	return err
}

// warmed returns a stream on each connection, after a tenth of the rounds for warm-up.
func (d dialer) warmed(ctx context.Context, connections []transport.CapableConn) ([]network.MuxedStream, error) {
	count := d.option("count", 5000)/uint64(len(connections))/10 + 1
	streams := make([]network.MuxedStream, len(connections))
	var tasks errgroup.Group
	for i, connection := range connections {
		tasks.Go(func() (err error) {
			if streams[i], err = connection.OpenStream(ctx); err != nil {
				return err
			}
			if _, err = streams[i].Write([]byte("e")); err != nil {
				return err
			}
			for range count {
				if err = round(streams[i]); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return streams, tasks.Wait()
}

func (d dialer) ping(streams []network.MuxedStream) (facts, error) {
	count := d.option("count", 5000) / uint64(len(streams))
	var lock sync.Mutex
	var times []uint64
	began := now()
	var tasks errgroup.Group
	for _, stream := range streams {
		tasks.Go(func() error {
			defer stream.Close()
			var mine []uint64
			for uint64(len(mine)) < count && now()-began < uint64(d.limit()) {
				start := now()
				if err := round(stream); err != nil {
					return err
				}
				mine = append(mine, now()-start)
			}
			lock.Lock()
			times = append(times, mine...)
			lock.Unlock()
			return nil
		})
	}
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	return latencies(times, began), nil
}

// pingBesideBulk makes round trips while another connection receives as fast as it can.
func (d dialer) pingBesideBulk(ctx context.Context, streams []network.MuxedStream) (facts, error) {
	connection, err := d.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	stream, err := connection.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := stream.Write([]byte("d")); err != nil {
		return nil, err
	}
	if err := writeNumbers(stream, bulkSize, uint64(bulkLimit)); err != nil {
		return nil, err
	}
	block := make([]byte, piece)
	// Its first bytes: the transfer runs.
	if _, err := io.ReadFull(stream, block); err != nil {
		return nil, err
	}
	var received atomic.Uint64
	ended := make(chan error, 1)
	go func() {
		for {
			n, err := stream.Read(block)
			received.Add(uint64(n))
			if err != nil {
				ended <- err
				return
			}
		}
	}()
	began := now()
	said, err := d.ping(streams)
	if err != nil {
		return nil, err
	}
	rate := float64(received.Load()) * 1e9 / float64(now()-began)
	select {
	case err := <-ended:
		return nil, fmt.Errorf("the transfer ended before the round trips: %w", err)
	default:
	}
	said["rates"] = []float64{rate}
	return said, nil
}

// repeated runs one count times, inflight at once, or until the time limit.
func (d dialer) repeated(one func() error) (facts, error) {
	inflight := d.option("inflight", 1)
	count := d.option("count", 5000) / inflight
	var lock sync.Mutex
	var times []uint64
	began := now()
	var tasks errgroup.Group
	for range inflight {
		tasks.Go(func() error {
			var mine []uint64
			for uint64(len(mine)) < count && now()-began < uint64(d.limit()) {
				start := now()
				if err := one(); err != nil {
					return err
				}
				mine = append(mine, now()-start)
			}
			lock.Lock()
			times = append(times, mine...)
			lock.Unlock()
			return nil
		})
	}
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	return latencies(times, began), nil
}

func request(ctx context.Context, connection network.MuxedConn) error {
	stream, err := connection.OpenStream(ctx)
	if err != nil {
		return err
	}
	defer stream.Close()
	asked := make([]byte, 65)
	asked[0] = 'e'
	if _, err := stream.Write(asked); err != nil {
		return err
	}
	if err := stream.CloseWrite(); err != nil {
		return err
	}
	back, err := io.ReadAll(stream)
	if err == nil && len(back) != 64 {
		err = fmt.Errorf("%d of 64 bytes came back", len(back))
	}
	return err
}

func (d dialer) idle(ctx context.Context, first transport.CapableConn) (facts, error) {
	count := d.option("count", 1000)
	before, err := census(ctx, first)
	if err != nil {
		return nil, err
	}
	began := now()
	held := make([]transport.CapableConn, count)
	var tasks errgroup.Group
	tasks.SetLimit(8)
	for i := range held {
		tasks.Go(func() (err error) {
			if held[i], err = d.dial(ctx); err != nil {
				return err
			}
			// Used once: its memory counts, too, and the listener has accepted it.
			_, err = census(ctx, held[i])
			return err
		})
	}
	if err := tasks.Wait(); err != nil {
		return nil, err
	}
	after, err := census(ctx, first)
	if err != nil {
		return nil, err
	}
	each := make([]float64, 2)
	for side := range each {
		each[side] = (float64(after[2+side]) - float64(before[2+side])) / float64(count)
	}
	return facts{"count": count, "seconds": float64(now()-began) / 1e9, "each": each}, nil
}
