// One QUIC connection: ngtcp2's state, its streams, and the peer id.
#pragma once

#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>
#include <ngtcp2/ngtcp2_crypto.h>

#include "address.hpp"
#include "stream.hpp"

class Endpoint;

class Connection : public std::enable_shared_from_this<Connection> {
public:
    // A connection that dials `place`, and one that answers a client's first packet, or its first after a
    // Retry packet: then `before_retry` is the original destination connection id.
    Connection(Endpoint& endpoint, const Place& place);
    Connection(Endpoint& endpoint, const Address& from, const ngtcp2_pkt_hd& first,
               const std::optional<ngtcp2_cid>& before_retry);
    ~Connection();

    // Waits for the end of the handshake and returns the peer id. Throws if it failed.
    std::string proven();
    // Waits until the peer's limit allows one more stream. Throws if the connection ended.
    std::shared_ptr<Stream> open();
    // The next stream that the other side opened; null if the connection ended.
    std::shared_ptr<Stream> accept();
    void close(uint64_t code);
    Address remote() const { return remote_; }

private:
    friend class Endpoint;
    friend class Stream;
    friend struct Callbacks;

    // For streams and the endpoint. All except `locked` are called with the lock held.
    std::unique_lock<std::mutex> locked() const;
    void wake() const;
    void credit(Stream& stream, size_t size);
    void shut_read(Stream& stream);
    void shut_both(Stream& stream, uint64_t code);

    void begin_tls(unsigned role);
    ngtcp2_path path();
    void receive(const uint8_t* data, size_t size);
    void on_time();
    void flush();
    std::shared_ptr<Stream> add_stream(int64_t id);
    void judge();
    // Ends it after an error of ngtcp2, and sends CONNECTION_CLOSE if that is allowed.
    void fail(int error);
    void send_close(const ngtcp2_connection_close_error& reason);
    void end(const std::string& why, std::optional<uint64_t> code);

    Endpoint& endpoint_;
    Address local_, remote_;
    std::string expected_, peer_;
    ngtcp2_conn* conn_ = nullptr;
    gnutls_session_t session_ = nullptr;
    ngtcp2_crypto_conn_ref reference_{};
    bool is_proven_ = false, is_over_ = false;
    std::string why_over_;
    // The packet with our CONNECTION_CLOSE, which answers later packets again.
    std::string farewell_;
    ngtcp2_tstamp forget_at_ = UINT64_MAX;
    std::map<int64_t, std::shared_ptr<Stream>> streams_;
    int64_t last_served_ = -1;
    std::deque<std::shared_ptr<Stream>> incoming_;
    std::condition_variable news_;
};
