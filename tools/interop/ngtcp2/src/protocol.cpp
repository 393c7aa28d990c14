#include "protocol.hpp"

#include <algorithm>
#include <iostream>
#include <iterator>
#include <thread>

#include <gnutls/crypto.h>

#include "bytes.hpp"
#include "report.hpp"
#include "sha256.hpp"

namespace {

constexpr const char* SERVED[] = {PING, IDENTIFY, PERF, ECHO, SINK, SOURCE, RESET, CLOSE, WATCH, NOTE, STOP, BACK};
constexpr char MULTISTREAM[] = "/multistream/1.0.0";
constexpr size_t BLOCK = 1 << 16, PING_SIZE = 32, LONGEST_LINE = 127;

void say(Stream& stream, const std::string& line) {
    stream.write(varint(line.size() + 1) + line + "\n");
}

// A line of multistream-select. No known line needs a length of two bytes.
std::string hear(Stream& stream) {
    auto size = static_cast<uint8_t>(stream.read_exactly(1)[0]);
    if (size < 1 || size > LONGEST_LINE) throw std::runtime_error("a line of multistream-select that is too long");
    auto line = stream.read_exactly(size);
    if (line.back() != '\n') throw std::runtime_error("a line of multistream-select without its end");
    line.pop_back();
    return line;
}

std::string agreed(Stream& stream) {
    if (hear(stream) != MULTISTREAM) throw std::runtime_error("it does not speak multistream-select");
    say(stream, MULTISTREAM);
    for (;;) {
        auto wanted = hear(stream);
        bool is_served = std::find(std::begin(SERVED), std::end(SERVED), wanted) != std::end(SERVED);
        say(stream, is_served ? wanted : "na");
        if (is_served) return wanted;
    }
}

uint64_t number_from(Stream& stream) {
    uint64_t value = 0;
    for (uint8_t byte : stream.read_exactly(8)) value = value << 8 | byte;
    return value;
}

// The message of https://github.com/libp2p/specs/blob/master/identify/README.md, as far as this peer has
// values for it.
std::string identity(const Connection& connection, const HostKey& key) {
    auto message = protobuf_bytes(1, key.public_key());
    for (auto* protocol : SERVED) message += protobuf_bytes(3, protocol);
    message += protobuf_bytes(4, connection.remote().bytes());
    message += protobuf_bytes(5, "ipfs/0.1.0") + protobuf_bytes(6, "libp2p-quic-interop-ngtcp2");
    return varint(message.size()) + message;
}

void serve(const StreamPointer& stream, const std::string& protocol, const std::string& peer, const HostKey& key) {
    if (protocol == PING) {
        while (true) {
            auto first = stream->read(PING_SIZE);
            if (first.empty()) break;
            stream->write(first + stream->read_exactly(PING_SIZE - first.size()));
        }
    } else if (protocol == IDENTIFY) {
        stream->write(identity(*stream->connection, key));
    } else if (protocol == ECHO) {
        for (std::string data; !(data = stream->read(BLOCK)).empty();) stream->write(data);
    } else if (protocol == SINK) {
        Sha256 digest;
        for (std::string data; !(data = stream->read(BLOCK)).empty();) digest.add(data);
        stream->write(digest.end());
    } else if (protocol == SOURCE) {
        auto size = number_from(*stream);
        stream->write(pump(*stream, size));
    } else if (protocol == PERF) {
        auto size = number_from(*stream);
        stream->read_to_end();
        pump(*stream, size);
    } else if (protocol == RESET) {
        stream->read_exactly(1);
        return stream->reset(LISTENER_CODE);
    } else if (protocol == CLOSE) {
        stream->read_exactly(1);
        return stream->connection->close(LISTENER_CODE);
    } else if (protocol == WATCH) {
        stream->write(stream->read_exactly(1));
        Line said{{"event", text("end")}, {"peer", text(peer)}, {"how", text("finished")}, {"code", "null"}};
        try {
            stream->read_to_end();
        } catch (const Cut& cut) {
            said["how"] = text("cut");
            said["code"] = code(cut.code);
        }
        tell(said);
    } else if (protocol == NOTE) {
        auto size = stream->read_to_end().size();
        tell({{"event", text("note")}, {"peer", text(peer)}, {"bytes", std::to_string(size)}});
    } else if (protocol == STOP) {
        stream->write(stream->read_exactly(1));
        return stream->leave();
    } else if (protocol == BACK) {
        stream->read_exactly(1);
        ping(stream->connection, 1);
        stream->write("\1");
    }
    stream->close();
}

}  // namespace

StreamPointer open(const ConnectionPointer& connection, const std::string& protocol) {
    auto stream = connection->open();
    say(*stream, MULTISTREAM);
    say(*stream, protocol);
    for (auto& wanted : {std::string(MULTISTREAM), protocol}) {
        auto answer = hear(*stream);
        if (answer != wanted) throw std::runtime_error(wanted + " was answered with " + answer);
    }
    return stream;
}

void serve(const ConnectionPointer& connection, const HostKey& key) {
    auto peer = connection->proven();
    while (auto stream = connection->accept()) {
        std::thread([stream, peer, key] {
            try {
                serve(stream, agreed(*stream), peer, key);
            } catch (const std::runtime_error& error) {
                std::cerr << peer << ": " << error.what() << std::endl;
                stream->reset(0);
            }
        }).detach();
    }
}

void serve(Endpoint& endpoint) {
    for (;;) {
        std::thread([connection = endpoint.accept(), key = endpoint.key()] {
            try {
                tell({{"event", text("connected")}, {"peer", text(connection->proven())}});
                serve(connection, key);
            } catch (const std::runtime_error& error) {
                std::cerr << error.what() << std::endl;
            }
        }).detach();
    }
}

void ping(const ConnectionPointer& connection, int rounds) {
    auto stream = open(connection, PING);
    for (int i = 0; i < rounds; ++i) {
        auto sent = random_bytes(PING_SIZE);
        stream->write(sent);
        if (stream->read_exactly(PING_SIZE) != sent) throw std::runtime_error("the pong differs from the ping");
    }
    stream->close();
}

std::string pump(Stream& stream, uint64_t size) {
    std::string block(251 * 256, '\0');
    for (size_t i = 0; i < block.size(); ++i) block[i] = static_cast<char>(i % 251);
    Sha256 digest;
    for (; size > 0; size -= std::min<uint64_t>(size, block.size())) {
        auto data = std::string_view(block).substr(0, size);
        digest.add(data);
        stream.write(data);
    }
    return digest.end();
}

std::string number(uint64_t value) {
    std::string out;
    for (int shift = 56; shift >= 0; shift -= 8) out.push_back(static_cast<char>(value >> shift));
    return out;
}

std::string random_bytes(size_t size) {
    std::string out(size, '\0');
    gnutls_rnd(GNUTLS_RND_NONCE, out.data(), out.size());
    return out;
}
