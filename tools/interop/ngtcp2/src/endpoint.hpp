// A UDP socket and the one thread that drives ngtcp2: packets in, timers, packets out. Whatever
// touches ngtcp2's state holds the endpoint's lock; whoever waits, waits without it.
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

// What it shows of itself otherwise than usual; empty means as usual.
struct Manner {
    // A kind of HostKey::certificate.
    std::string certificate;
    // The SNI of its dials. Usually there is none.
    std::string server_name;
    // Whether who dials must prove its address first, by a Retry packet.
    bool is_retrying = false;
};

class Endpoint {
public:
    // Bound to `at`, where port 0 means any.
    Endpoint(const Address& at, const HostKey& key, Manner manner);

    // Connects and proves the peer. Throws if it cannot.
    std::shared_ptr<Connection> dial(const Place& place);
    // From now on, others may connect.
    void listen();
    // The next connection that came in, its handshake still on the way.
    std::shared_ptr<Connection> accept();
    // Says goodbye to everybody.
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
    // The id that the packet before our Retry packet was for; nothing if the token is not ours.
    std::optional<ngtcp2_cid> retried(const ngtcp2_pkt_hd& first, const Address& from) const;

    // For connections; called with the lock held.
    void wake() const;
    void send(const uint8_t* data, size_t size, const Address& to) const;
    void add(const ngtcp2_cid& id, std::shared_ptr<Connection> connection);
    void remove(const ngtcp2_cid& id);

    const HostKey key_;
    const Manner manner_;
    int socket_, bell_;
    Address address_;
    gnutls_certificate_credentials_t credentials_;
    std::mutex lock_;
    bool is_listening_ = false;
    // What Retry tokens are sealed with.
    std::array<uint8_t, 32> secret_;
    // By the ids that the other side puts on its packets; a connection has several.
    std::map<std::string, std::shared_ptr<Connection>> connections_;
    std::deque<std::shared_ptr<Connection>> incoming_;
    std::condition_variable news_;
};

ngtcp2_tstamp now();
// A new id for our end of a connection.
ngtcp2_cid new_id(size_t size);
constexpr size_t ID_SIZE = 16;
