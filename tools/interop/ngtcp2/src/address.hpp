// Addresses of sockets, and their form in libp2p (https://github.com/multiformats/multiaddr).
#pragma once

#include <string>
#include <string_view>

#include <sys/socket.h>

struct Address {
    sockaddr_storage storage{};
    socklen_t size = sizeof(sockaddr_storage);

    // `ip` as numbers. Throws if it is none.
    static Address of(const std::string& ip, uint16_t port);

    sockaddr* raw() { return reinterpret_cast<sockaddr*>(&storage); }
    const sockaddr* raw() const { return reinterpret_cast<const sockaddr*>(&storage); }

    // As /ip4/127.0.0.1/udp/4001/quic-v1, and as the bytes of that.
    std::string text() const;
    std::string bytes() const;
};

// A peer id and its address.
struct Place {
    Address address;
    std::string peer;

    // From /ip4/127.0.0.1/udp/4001/quic-v1/p2p/12D3Koo... Throws if it is another address.
    static Place of(std::string_view text);
};

// The text of a multiaddr's bytes. Throws for a protocol that this program does not support.
std::string multiaddr_text(std::string_view bytes);
