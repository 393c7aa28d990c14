// Protocols over streams: negotiation by multistream-select, and the protocols of this peer.
#pragma once

#include <memory>
#include <string>

#include "connection.hpp"
#include "endpoint.hpp"
#include "stream.hpp"

constexpr char PING[] = "/ipfs/ping/1.0.0", IDENTIFY[] = "/ipfs/id/1.0.0", PERF[] = "/perf/1.0.0",
               ECHO[] = "/libp2p-quic/echo/1.0.0", SINK[] = "/libp2p-quic/sink/1.0.0",
               SOURCE[] = "/libp2p-quic/source/1.0.0", RESET[] = "/libp2p-quic/reset/1.0.0",
               CLOSE[] = "/libp2p-quic/close/1.0.0", WATCH[] = "/libp2p-quic/watch/1.0.0",
               NOTE[] = "/libp2p-quic/note/1.0.0", STOP[] = "/libp2p-quic/stop/1.0.0",
               BACK[] = "/libp2p-quic/back/1.0.0";

constexpr uint64_t LISTENER_CODE = 42;

using StreamPointer = std::shared_ptr<Stream>;
using ConnectionPointer = std::shared_ptr<Connection>;

// Opens a stream and agrees on a protocol.
StreamPointer open(const ConnectionPointer& connection, const std::string& protocol);

// Serves every inbound stream of a connection, each in a thread, until the connection ends.
void serve(const ConnectionPointer& connection, const HostKey& key);

// Accepts connections forever, reports each verified one to the runner, and serves them.
void serve(Endpoint& endpoint);

// `rounds` pings on one stream. Throws if an answer is wrong.
void ping(const ConnectionPointer& connection, int rounds);

// Writes `size` bytes that repeat with the prime 251; their SHA-256.
std::string pump(Stream& stream, uint64_t size);

// 8 bytes, big-endian.
std::string number(uint64_t value);

std::string random_bytes(size_t size);
