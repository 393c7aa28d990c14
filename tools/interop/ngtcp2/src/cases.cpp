#include "cases.hpp"

#include <chrono>
#include <cmath>
#include <future>
#include <iostream>
#include <thread>

#include "bytes.hpp"
#include "protocol.hpp"
#include "sha256.hpp"

using namespace std::chrono_literals;

namespace {

constexpr uint64_t DIALER_CODE = 43, MIB = 1 << 20;
constexpr size_t BLOCK = 1 << 16;

// Dials, and serves the streams of the other side on that connection.
ConnectionPointer connect(Endpoint& endpoint, const Place& place) {
    auto connection = endpoint.dial(place);
    std::thread([connection, key = endpoint.key()] { serve(connection, key); }).detach();
    return connection;
}

Line identify(const ConnectionPointer& c) {
    auto stream = open(c, IDENTIFY);
    auto answer = stream->read_to_end();
    stream->close();
    std::string_view rest = answer;
    take_varint(rest);
    std::string agent, observed;
    std::vector<std::string> protocols;
    while (!rest.empty()) {
        auto field = take_protobuf_field(rest);
        if (field.number == 3) protocols.push_back(field.bytes);
        if (field.number == 4) observed = field.bytes;
        if (field.number == 6) agent = field.bytes;
    }
    return {
        {"agent", text(agent)},
        {"protocols", list(protocols)},
        {"observed", observed.empty() ? "null" : text(multiaddr_text(observed))},
    };
}

// Writes random bytes, finishes, and concurrently reads the answer to its end.
bool is_echoed(const StreamPointer& stream, size_t size) {
    auto data = random_bytes(size);
    auto writing = std::async(std::launch::async, [&] {
        for (size_t at = 0; at < size; at += BLOCK) stream->write(std::string_view(data).substr(at, BLOCK));
        stream->finish();
    });
    auto back = stream->read_to_end();
    writing.get();
    stream->close();
    return back == data;
}

Line streams(const ConnectionPointer& c) {
    // All of them are open before the first one is used.
    std::vector<StreamPointer> opened;
    for (int i = 0; i < 100; ++i) opened.push_back(open(c, ECHO));
    std::vector<std::future<bool>> users;
    for (auto& stream : opened) users.push_back(std::async(std::launch::async, is_echoed, stream, 1024));
    int same = 0;
    for (auto& user : users) same += user.get();
    return {{"streams", std::to_string(users.size())}, {"same", std::to_string(same)}};
}

struct Transfer {
    bool is_same;
    std::string digest;
};

// To a sink: whether it received the right bytes.
Transfer up(const ConnectionPointer& c, uint64_t size) {
    auto stream = open(c, SINK);
    auto sent = pump(*stream, size);
    stream->finish();
    auto heard = stream->read_to_end();
    stream->close();
    return {heard == sent, sent};
}

// From a source: whether its bytes match their SHA-256. Nothing is read for `pause`.
Transfer down(const ConnectionPointer& c, uint64_t size, std::chrono::seconds pause = 0s) {
    auto stream = open(c, SOURCE);
    stream->write(number(size));
    stream->finish();
    std::this_thread::sleep_for(pause);
    Sha256 digest;
    while (size > 0) {
        auto data = stream->read(std::min<uint64_t>(size, BLOCK));
        if (data.empty()) throw std::runtime_error("the source ended too early");
        digest.add(data);
        size -= data.size();
    }
    auto got = digest.end();
    auto promised = stream->read_to_end();
    stream->close();
    return {promised == got, got};
}

Line bulk(const ConnectionPointer& c) {
    auto sent = up(c, 64 * MIB), got = down(c, 64 * MIB);
    bool is_down = got.is_same && got.digest == sent.digest;
    return {{"bytes", std::to_string(64 * MIB)}, {"up", truth(sent.is_same)}, {"down", truth(is_down)}};
}

Line load(const ConnectionPointer& c) {
    auto sink = std::async(std::launch::async, [&] { return up(c, 16 * MIB).is_same; });
    int same = 0;
    for (int i = 0; i < 300; ++i) same += is_echoed(open(c, ECHO), 1024);
    return {{"streams", "300"}, {"same", std::to_string(same)}, {"up", truth(sink.get())}};
}

// Opens a stream, writes a byte, and reads. Returns the error that ended reading, if any.
std::pair<StreamPointer, std::optional<Cut>> provoke(const ConnectionPointer& c, const std::string& protocol) {
    auto stream = open(c, protocol);
    stream->write("x");
    try {
        stream->read_to_end();
        return {stream, std::nullopt};
    } catch (const Cut& cut) {
        return {stream, cut};
    }
}

// A stream whose end the listener reports to the runner.
StreamPointer watched(const ConnectionPointer& c) {
    auto stream = open(c, WATCH);
    stream->write("x");
    stream->read_exactly(1);
    return stream;
}

Line reset(const ConnectionPointer& c) {
    auto [stream, cut] = provoke(c, RESET);
    std::optional<uint64_t> write_code;
    try {
        // The listener sent STOP_SENDING, too, which may arrive after its reset.
        for (;;) stream->write(std::string(1024, 'x'));
    } catch (const Cut& stopped) {
        write_code = stopped.code;
    }
    watched(c)->reset(DIALER_CODE);
    // Shows that the connection outlives the reset.
    ping(c, 1);
    return {
        {"cut", truth(cut.has_value())},
        {"read_code", code(cut ? cut->code : std::nullopt)},
        {"write_code", code(write_code)},
    };
}

Line close(Endpoint& endpoint, const Place& place, const ConnectionPointer& c) {
    auto [_, cut] = provoke(c, CLOSE);
    auto again = connect(endpoint, place);
    watched(again);
    again->close(DIALER_CODE);
    return {{"cut", truth(cut.has_value())}, {"code", code(cut ? cut->code : std::nullopt)}};
}

Line many(Endpoint& endpoint, const std::vector<Place>& places) {
    std::vector<std::future<ConnectionPointer>> dials;
    for (auto& place : places) {
        dials.push_back(std::async(std::launch::async, [&] { return connect(endpoint, place); }));
    }
    std::vector<std::future<void>> pings;
    std::vector<std::string> remotes;
    std::vector<ConnectionPointer> connections;
    for (auto& dial : dials) connections.push_back(dial.get());
    for (auto& c : connections) {
        remotes.push_back(c->proven());
        pings.push_back(std::async(std::launch::async, ping, c, 1));
    }
    for (auto& each : pings) each.get();
    return {{"remotes", list(remotes)}};
}

Line note(const ConnectionPointer& c) {
    auto stream = open(c, NOTE);
    stream->write(std::string(BLOCK, 'x'));
    stream->leave();
    ping(c, 1);
    return {{"bytes", std::to_string(BLOCK)}};
}

// Streams whose listener reads a byte and ends both directions at once.
Line stop(const ConnectionPointer& c) {
    int answered = 0, closed = 0;
    for (; closed < 1100; ++closed) {
        auto stream = open(c, STOP);
        stream->write("x");
        answered += stream->read_to_end() == "x";
        try {
            stream->write(std::string(1024, 'x'));
        } catch (const Cut&) {
            // The peer has stopped reading, so this write may fail.
        }
        stream->close();
    }
    ping(c, 1);
    return {{"streams", "1100"}, {"answered", std::to_string(answered)}, {"closed", std::to_string(closed)}};
}

Line early(Endpoint& endpoint, const Place& place, ConnectionPointer c) {
    for (int i = 0; i < 10; ++i) {
        c->close(0);
        c = connect(endpoint, place);
    }
    ping(c, 1);
    return {{"rounds", "10"}};
}

Line perf(const ConnectionPointer& c) {
    auto stream = open(c, PERF);
    stream->write(number(8 * MIB));
    pump(*stream, 8 * MIB);
    stream->finish();
    auto received = stream->read_to_end().size();
    stream->close();
    return {{"sent", std::to_string(8 * MIB)}, {"received", std::to_string(received)}};
}

// The runner kills the listener after "ready", starts it again and writes a line.
Line restart(Endpoint& endpoint, const Place& place, const ConnectionPointer& c) {
    ping(c, 1);
    tell({{"event", text("ready")}});
    std::string line;
    std::getline(std::cin, line);
    auto began = std::chrono::steady_clock::now();
    for (int tries = 1;; ++tries) {
        try {
            ping(connect(endpoint, place), 1);
            std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
            return {{"seconds", std::to_string(std::round(10 * took.count()) / 10)}, {"tries", std::to_string(tries)}};
        } catch (const std::runtime_error& error) {
            std::cerr << "restart: " << error.what() << std::endl;
        }
        std::this_thread::sleep_for(500ms);
    }
}

}  // namespace

Line run(const std::string& name, Endpoint& endpoint, const std::vector<Place>& places) {
    auto& place = places.at(0);
    if (name == "many") return many(endpoint, places);
    if (name == "listening") {
        endpoint.listen();
        std::thread([&] { serve(endpoint); }).detach();
    }
    auto c = connect(endpoint, place);
    if (name == "handshake") {
        ping(c, 1);
        return {{"remote", text(c->proven())}};
    }
    if (name == "ping") {
        ping(c, 100);
        return {{"rounds", "100"}};
    }
    if (name == "identify") return identify(c);
    if (name == "echo") {
        return {{"bytes", std::to_string(MIB)}, {"same", truth(is_echoed(open(c, ECHO), MIB))}};
    }
    if (name == "streams") return streams(c);
    if (name == "bulk") return bulk(c);
    if (name == "reset") return reset(c);
    if (name == "close") return close(endpoint, place, c);
    if (name == "idle") {
        ping(c, 1);
        std::this_thread::sleep_for(35s);
        ping(c, 1);
        return {{"seconds", "35"}};
    }
    if (name == "load") return load(c);
    if (name == "slow") {
        return {{"bytes", std::to_string(16 * MIB)}, {"down", truth(down(c, 16 * MIB, 2s).is_same)}};
    }
    if (name == "note") return note(c);
    if (name == "stop") return stop(c);
    if (name == "early") return early(endpoint, place, c);
    if (name == "back") {
        auto stream = open(c, BACK);
        stream->write("x");
        // The listener's ping is answered concurrently, as on any connection.
        auto answer = stream->read_exactly(1);
        stream->close();
        return {{"answer", std::to_string(answer[0])}};
    }
    if (name == "listening") {
        auto facts = identify(c);
        facts["addrs"] = list({endpoint.address().text()});
        return facts;
    }
    if (name == "perf") return perf(c);
    if (name == "restart") return restart(endpoint, place, c);
    throw std::runtime_error("unknown case " + name);
}
