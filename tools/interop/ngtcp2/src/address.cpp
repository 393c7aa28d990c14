#include "address.hpp"

#include <vector>

#include <arpa/inet.h>
#include <netinet/in.h>

#include "bytes.hpp"
#include "identity.hpp"

namespace {

// https://github.com/multiformats/multicodec/blob/master/table.csv
enum Code { IP4 = 0x04, TCP = 0x06, IP6 = 0x29, UDP = 0x0111, P2P = 0x01a5, QUIC_V1 = 0x01cd };

std::string ip_text(int family, const void* ip) {
    char text[INET6_ADDRSTRLEN];
    if (inet_ntop(family, ip, text, sizeof text) == nullptr) throw std::runtime_error("inet_ntop");
    return text;
}

std::string port_text(std::string_view bytes) {
    return std::to_string(raw(bytes)[0] << 8 | raw(bytes)[1]);
}

}  // namespace

Address Address::of(const std::string& ip, uint16_t port) {
    Address made;
    auto* four = reinterpret_cast<sockaddr_in*>(&made.storage);
    auto* six = reinterpret_cast<sockaddr_in6*>(&made.storage);
    if (inet_pton(AF_INET, ip.c_str(), &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        made.size = sizeof *four;
    } else if (inet_pton(AF_INET6, ip.c_str(), &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        made.size = sizeof *six;
    } else {
        throw std::runtime_error("no IP address: " + ip);
    }
    return made;
}

std::string Address::bytes() const {
    auto tail = varint(QUIC_V1);
    if (storage.ss_family == AF_INET) {
        auto* four = reinterpret_cast<const sockaddr_in*>(&storage);
        return varint(IP4) + bytes_of(&four->sin_addr, 4) + varint(UDP) + bytes_of(&four->sin_port, 2) + tail;
    }
    auto* six = reinterpret_cast<const sockaddr_in6*>(&storage);
    return varint(IP6) + bytes_of(&six->sin6_addr, 16) + varint(UDP) + bytes_of(&six->sin6_port, 2) + tail;
}

std::string Address::text() const {
    return multiaddr_text(bytes());
}

std::string multiaddr_text(std::string_view bytes) {
    std::string out;
    while (!bytes.empty()) {
        auto code = take_varint(bytes);
        switch (code) {
        case IP4: out += "/ip4/" + ip_text(AF_INET, take(bytes, 4).data()); break;
        case IP6: out += "/ip6/" + ip_text(AF_INET6, take(bytes, 16).data()); break;
        case TCP: out += "/tcp/" + port_text(take(bytes, 2)); break;
        case UDP: out += "/udp/" + port_text(take(bytes, 2)); break;
        case QUIC_V1: out += "/quic-v1"; break;
        case P2P: out += "/p2p/" + base58(take(bytes, take_varint(bytes))); break;
        default: throw std::runtime_error("a multiaddr with protocol " + std::to_string(code));
        }
    }
    return out;
}

Place Place::of(std::string_view text) {
    std::vector<std::string> parts;
    for (size_t at = 1; at <= text.size();) {
        auto end = std::min(text.find('/', at), text.size());
        parts.emplace_back(text.substr(at, end - at));
        at = end + 1;
    }
    bool is_ours = parts.size() == 7 && (parts[0] == "ip4" || parts[0] == "ip6") && parts[2] == "udp" &&
                   parts[4] == "quic-v1" && parts[5] == "p2p";
    if (!is_ours) throw std::runtime_error("no QUIC address of a peer: " + std::string(text));
    return {Address::of(parts[1], static_cast<uint16_t>(std::stoul(parts[3]))), parts[6]};
}
