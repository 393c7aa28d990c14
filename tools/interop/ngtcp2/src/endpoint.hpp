// A UDP socket and the one thread that drives ngtcp2: packets in, timers, packets out. Code that uses
// ngtcp2's state holds the endpoint's lock; threads wait without it.
#pragma once

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>

#include "address.hpp"
#include "connection.hpp"
#include "identity.hpp"

// Unusual properties of this peer; empty means the default.
struct Manner {
    // A kind of HostKey::certificate.
    std::string certificate;
    // The SNI of its dials; none by default.
    std::string server_name;
    // Whether dialers must validate their address first, by a Retry packet.
    bool is_retrying = false;
};

class Endpoint {
public:
    // Bound to `at`, where port 0 means any.
    Endpoint(const Address& at, const HostKey& key, Manner manner);

    // Connects and verifies the peer. Throws if it cannot.
    std::shared_ptr<Connection> dial(const Place& place);
    // Accept connections from now on.
    void listen();
    // The next inbound connection, before its handshake is complete.
    std::shared_ptr<Connection> accept();
    // Closes every connection.
    void close();

    Address address() const { return address_; }
    const HostKey& key() const { return key_; }

private:
    friend class Connection;
    friend struct Callbacks;

    void run();
    ngtcp2_tstamp next_time() const;
    void receive();
    void take(const uint8_t* data, size_t size, const Address& from);
    // Answers a first packet with a Retry packet.
    void retry(const ngtcp2_pkt_hd& first, const Address& from) const;
    // The original destination connection id; nothing if the token is not ours.
    std::optional<ngtcp2_cid> retried(const ngtcp2_pkt_hd& first, const Address& from) const;

    // For connections; called with the lock held.
    void wake() const;
    void send(const uint8_t* data, size_t size, const Address& to) const;
    void add(const ngtcp2_cid& id, std::shared_ptr<Connection> connection);
    void remove(const ngtcp2_cid& id);

    const HostKey key_;
    const Manner manner_;
    int socket_, wakeup_;
    Address address_;
    gnutls_certificate_credentials_t credentials_;
    std::mutex lock_;
    bool is_listening_ = false;
    // The key that encrypts Retry tokens.
    std::array<uint8_t, 32> secret_;
    // By destination connection id; a connection has several.
    std::map<std::string, std::shared_ptr<Connection>> connections_;
    std::deque<std::shared_ptr<Connection>> incoming_;
    std::condition_variable news_;
};

ngtcp2_tstamp now();
// A new connection id for our end.
ngtcp2_cid new_id(size_t size);
constexpr size_t ID_SIZE = 16;
