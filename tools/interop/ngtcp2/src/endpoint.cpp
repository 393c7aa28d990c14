#include "endpoint.hpp"

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <set>
#include <system_error>

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "bytes.hpp"

namespace {

// Packets that are read before acknowledgments are sent.
constexpr int MOST_AT_ONCE = 64;
constexpr ngtcp2_duration TOKEN_LIFE = 10 * NGTCP2_SECONDS;
constexpr size_t RETRY_SIZE = 256;

void must(int result, const char* what) {
    if (result < 0) throw std::system_error(errno, std::generic_category(), what);
}

std::string name_of(const ngtcp2_cid& id) {
    return bytes_of(id.data, id.datalen);
}

}  // namespace

ngtcp2_tstamp now() {
    using namespace std::chrono;
    return duration_cast<nanoseconds>(steady_clock::now().time_since_epoch()).count();
}

ngtcp2_cid new_id(size_t size) {
    ngtcp2_cid id{.datalen = size, .data = {}};
    gnutls_rnd(GNUTLS_RND_RANDOM, id.data, size);
    return id;
}

Endpoint::Endpoint(const Address& at, const HostKey& key, Manner manner)
    : key_(key), manner_(std::move(manner)), address_(at) {
    gnutls_rnd(GNUTLS_RND_KEY, secret_.data(), secret_.size());
    must(socket_ = ::socket(at.raw()->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
    must(wakeup_ = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), "eventfd");
    must(bind(socket_, at.raw(), at.size), "bind");
    must(getsockname(socket_, address_.raw(), &address_.size), "getsockname");

    auto certificate = key.certificate(manner_.certificate);
    auto datum = [](std::string& bytes) {
        return gnutls_datum_t{reinterpret_cast<unsigned char*>(bytes.data()), static_cast<unsigned>(bytes.size())};
    };
    auto der = datum(certificate.der), key_der = datum(certificate.key_der);
    gnutls_certificate_allocate_credentials(&credentials_);
    int error = gnutls_certificate_set_x509_key_mem(credentials_, &der, &key_der, GNUTLS_X509_FMT_DER);
    if (error < 0) throw std::runtime_error(std::string("certificate: ") + gnutls_strerror(error));

    std::thread([this] { run(); }).detach();
}

std::shared_ptr<Connection> Endpoint::dial(const Place& place) {
    std::shared_ptr<Connection> connection;
    {
        std::unique_lock lock(lock_);
        connection = std::make_shared<Connection>(*this, place);
        connection->begin_tls(GNUTLS_CLIENT);
        connection->flush();
        wake();
    }
    connection->proven();
    return connection;
}

void Endpoint::listen() {
    std::unique_lock lock(lock_);
    is_listening_ = true;
}

std::shared_ptr<Connection> Endpoint::accept() {
    std::unique_lock lock(lock_);
    news_.wait(lock, [&] { return !incoming_.empty(); });
    auto connection = incoming_.front();
    incoming_.pop_front();
    return connection;
}

void Endpoint::close() {
    std::set<std::shared_ptr<Connection>> open;
    {
        std::unique_lock lock(lock_);
        is_listening_ = false;
        for (auto& [_, connection] : connections_) open.insert(connection);
    }
    for (auto& connection : open) connection->close(0);
}

void Endpoint::run() {
    for (;;) {
        timespec time{};
        bool has_time;
        {
            std::unique_lock lock(lock_);
            auto next = next_time(), present = now();
            has_time = next != UINT64_MAX;
            if (has_time && next > present) {
                time.tv_sec = static_cast<time_t>((next - present) / NGTCP2_SECONDS);
                time.tv_nsec = static_cast<long>((next - present) % NGTCP2_SECONDS);
            }
        }
        std::array<pollfd, 2> awaited{{{socket_, POLLIN, 0}, {wakeup_, POLLIN, 0}}};
        ppoll(awaited.data(), awaited.size(), has_time ? &time : nullptr, nullptr);
        std::unique_lock lock(lock_);
        eventfd_t count;
        eventfd_read(wakeup_, &count);
        receive();
        std::set<std::shared_ptr<Connection>> all;
        for (auto& [_, connection] : connections_) all.insert(connection);
        for (auto& connection : all) {
            connection->on_time();
            connection->flush();
        }
        auto present = now();
        std::erase_if(connections_, [&](auto& entry) { return entry.second->forget_at_ <= present; });
    }
}

ngtcp2_tstamp Endpoint::next_time() const {
    ngtcp2_tstamp next = UINT64_MAX;
    for (auto& [_, connection] : connections_) {
        next = std::min(next, connection->is_over_ ? connection->forget_at_ : ngtcp2_conn_get_expiry(connection->conn_));
    }
    return next;
}

void Endpoint::receive() {
    std::array<uint8_t, 1 << 16> packet;
    for (int i = 0; i < MOST_AT_ONCE; ++i) {
        Address from;
        auto size = recvfrom(socket_, packet.data(), packet.size(), MSG_DONTWAIT, from.raw(), &from.size);
        if (size < 0) return;
        take(packet.data(), static_cast<size_t>(size), from);
    }
    // There may be more, after these packets are answered.
    wake();
}

void Endpoint::take(const uint8_t* data, size_t size, const Address& from) {
    ngtcp2_version_cid header;
    if (ngtcp2_pkt_decode_version_cid(&header, data, size, ID_SIZE) != 0) return;
    auto found = connections_.find(bytes_of(header.dcid, header.dcidlen));
    if (found != connections_.end()) {
        auto connection = found->second;
        connection->receive(data, size);
        return;
    }
    ngtcp2_pkt_hd first;
    if (!is_listening_ || ngtcp2_accept(&first, data, size) != 0) return;
    std::optional<ngtcp2_cid> before_retry;
    if (manner_.is_retrying) {
        if (first.token.len == 0) return retry(first, from);
        before_retry = retried(first, from);
        if (!before_retry) return;
    }
    auto connection = std::make_shared<Connection>(*this, from, first, before_retry);
    connection->begin_tls(GNUTLS_SERVER);
    add(first.dcid, connection);
    connection->receive(data, size);
    incoming_.push_back(connection);
    news_.notify_all();
}

void Endpoint::retry(const ngtcp2_pkt_hd& first, const Address& from) const {
    auto here = new_id(ID_SIZE);
    std::array<uint8_t, NGTCP2_CRYPTO_MAX_RETRY_TOKENLEN> token;
    std::array<uint8_t, RETRY_SIZE> packet;
    auto size = ngtcp2_crypto_generate_retry_token(token.data(), secret_.data(), secret_.size(), first.version,
                                                   from.raw(), from.size, &here, &first.dcid, now());
    if (size < 0) return;
    size = ngtcp2_crypto_write_retry(packet.data(), packet.size(), first.version, &first.scid, &here, &first.dcid,
                                     token.data(), static_cast<size_t>(size));
    if (size > 0) send(packet.data(), static_cast<size_t>(size), from);
}

std::optional<ngtcp2_cid> Endpoint::retried(const ngtcp2_pkt_hd& first, const Address& from) const {
    ngtcp2_cid original;
    int error = ngtcp2_crypto_verify_retry_token(&original, first.token.base, first.token.len, secret_.data(),
                                                 secret_.size(), first.version, from.raw(), from.size, &first.dcid,
                                                 TOKEN_LIFE, now());
    return error == 0 ? std::optional(original) : std::nullopt;
}

void Endpoint::wake() const {
    eventfd_write(wakeup_, 1);
}

void Endpoint::send(const uint8_t* data, size_t size, const Address& to) const {
    // A packet that the socket refuses is lost, as on the network.
    sendto(socket_, data, size, 0, to.raw(), to.size);
}

void Endpoint::add(const ngtcp2_cid& id, std::shared_ptr<Connection> connection) {
    connections_[name_of(id)] = std::move(connection);
}

void Endpoint::remove(const ngtcp2_cid& id) {
    connections_.erase(name_of(id));
}
