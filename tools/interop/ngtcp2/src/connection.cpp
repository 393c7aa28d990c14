#include "connection.hpp"

#include <array>
#include <vector>

#include <gnutls/crypto.h>
#include <ngtcp2/ngtcp2_crypto_gnutls.h>

#include "bytes.hpp"
#include "endpoint.hpp"

namespace {

constexpr uint64_t STREAM_WINDOW = 1 << 20, CONNECTION_WINDOW = 8 << 20, STREAMS = 256;
constexpr ngtcp2_duration HANDSHAKE_TIMEOUT = 5 * NGTCP2_SECONDS, IDLE_TIMEOUT = 10 * NGTCP2_SECONDS,
                          KEEP_ALIVE = 5 * NGTCP2_SECONDS, FAREWELL = 3 * NGTCP2_SECONDS;

// TLS 1.3 as QUIC requires it (RFC 9001, section 8.4): without middlebox compatibility.
constexpr char PRIORITIES[] =
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:-CIPHER-ALL:+AES-128-GCM:+AES-256-GCM:+CHACHA20-POLY1305:"
    "-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1:%DISABLE_TLS13_COMPAT_MODE";

}  // namespace

// ngtcp2's callbacks, all of them on the endpoint's thread or in `flush`, with the lock held.
struct Callbacks {
    static Connection& of(void* connection) { return *static_cast<Connection*>(connection); }
    static Stream& stream(void* stream) { return *static_cast<Stream*>(stream); }

    static int handshake_completed(ngtcp2_conn* conn, void* connection) {
        of(connection).is_proven_ = true;
        of(connection).news_.notify_all();
        ngtcp2_conn_set_keep_alive_timeout(conn, KEEP_ALIVE);
        return 0;
    }

    static int stream_open(ngtcp2_conn*, int64_t id, void* connection) {
        of(connection).incoming_.push_back(of(connection).add_stream(id));
        of(connection).news_.notify_all();
        return 0;
    }

    static int stream_data(ngtcp2_conn*, uint32_t flags, int64_t, uint64_t, const uint8_t* data, size_t size, void*,
                           void* s) {
        stream(s).incoming_ += bytes_of(data, size);
        stream(s).is_finished_ = (flags & NGTCP2_STREAM_DATA_FLAG_FIN) != 0;
        stream(s).news_.notify_all();
        return 0;
    }

    static int acknowledged(ngtcp2_conn*, int64_t, uint64_t, uint64_t size, void*, void* s) {
        stream(s).on_acknowledged(size);
        return 0;
    }

    static int stream_reset(ngtcp2_conn*, int64_t, uint64_t, uint64_t code, void*, void* s) {
        if (!stream(s).read_cut_) stream(s).read_cut_ = Cut(code);
        stream(s).news_.notify_all();
        return 0;
    }

    static int stream_close(ngtcp2_conn* conn, uint32_t flags, int64_t id, uint64_t code, void* connection, void* s) {
        if (flags & NGTCP2_STREAM_CLOSE_FLAG_APP_ERROR_CODE_SET) stream(s).cut(code);
        stream(s).is_over_ = true;
        stream(s).news_.notify_all();
        of(connection).streams_.erase(id);
        if (!ngtcp2_conn_is_local_stream(conn, id)) ngtcp2_conn_extend_max_streams_bidi(conn, 1);
        return 0;
    }

    static int more_streams(ngtcp2_conn*, uint64_t, void* connection) {
        of(connection).news_.notify_all();
        return 0;
    }

    static int new_connection_id(ngtcp2_conn*, ngtcp2_cid* id, uint8_t* token, size_t size, void* connection) {
        *id = new_id(size);
        gnutls_rnd(GNUTLS_RND_RANDOM, token, NGTCP2_STATELESS_RESET_TOKENLEN);
        of(connection).endpoint_.add(*id, of(connection).shared_from_this());
        return 0;
    }

    static int remove_connection_id(ngtcp2_conn*, const ngtcp2_cid* id, void* connection) {
        of(connection).endpoint_.remove(*id);
        return 0;
    }

    static void random(uint8_t* into, size_t size, const ngtcp2_rand_ctx*) {
        gnutls_rnd(GNUTLS_RND_NONCE, into, size);
    }

    static int judge(gnutls_session_t session) {
        auto* reference = static_cast<ngtcp2_crypto_conn_ref*>(gnutls_session_get_ptr(session));
        try {
            of(reference->user_data).judge();
            return 0;
        } catch (const std::exception& error) {
            of(reference->user_data).why_over_ = error.what();
            return GNUTLS_E_CERTIFICATE_ERROR;
        }
    }

    static ngtcp2_callbacks all() {
        ngtcp2_callbacks made{};
        made.client_initial = ngtcp2_crypto_client_initial_cb;
        made.recv_client_initial = ngtcp2_crypto_recv_client_initial_cb;
        made.recv_crypto_data = ngtcp2_crypto_recv_crypto_data_cb;
        made.encrypt = ngtcp2_crypto_encrypt_cb;
        made.decrypt = ngtcp2_crypto_decrypt_cb;
        made.hp_mask = ngtcp2_crypto_hp_mask_cb;
        made.recv_retry = ngtcp2_crypto_recv_retry_cb;
        made.update_key = ngtcp2_crypto_update_key_cb;
        made.delete_crypto_aead_ctx = ngtcp2_crypto_delete_crypto_aead_ctx_cb;
        made.delete_crypto_cipher_ctx = ngtcp2_crypto_delete_crypto_cipher_ctx_cb;
        made.get_path_challenge_data = ngtcp2_crypto_get_path_challenge_data_cb;
        made.version_negotiation = ngtcp2_crypto_version_negotiation_cb;
        made.rand = random;
        made.handshake_completed = handshake_completed;
        made.get_new_connection_id = new_connection_id;
        made.remove_connection_id = remove_connection_id;
        made.stream_open = stream_open;
        made.recv_stream_data = stream_data;
        made.acked_stream_data_offset = acknowledged;
        made.stream_reset = stream_reset;
        made.stream_close = stream_close;
        made.extend_max_local_streams_bidi = more_streams;
        return made;
    }

    static ngtcp2_settings settings() {
        ngtcp2_settings made;
        ngtcp2_settings_default(&made);
        made.initial_ts = now();
        made.handshake_timeout = HANDSHAKE_TIMEOUT;
        return made;
    }

    static ngtcp2_transport_params parameters() {
        ngtcp2_transport_params made;
        ngtcp2_transport_params_default(&made);
        made.initial_max_stream_data_bidi_local = made.initial_max_stream_data_bidi_remote = STREAM_WINDOW;
        made.initial_max_data = CONNECTION_WINDOW;
        made.initial_max_streams_bidi = STREAMS;
        made.max_idle_timeout = IDLE_TIMEOUT;
        return made;
    }
};

Connection::Connection(Endpoint& endpoint, const Place& place)
    : endpoint_(endpoint), local_(endpoint.address()), remote_(place.address), expected_(place.peer) {
    auto callbacks = Callbacks::all();
    auto settings = Callbacks::settings();
    auto parameters = Callbacks::parameters();
    auto there = new_id(ID_SIZE), here = new_id(ID_SIZE);
    auto way = path();
    int error = ngtcp2_conn_client_new(&conn_, &there, &here, &way, NGTCP2_PROTO_VER_V1, &callbacks, &settings,
                                       &parameters, nullptr, this);
    if (error != 0) throw std::runtime_error(ngtcp2_strerror(error));
}

Connection::Connection(Endpoint& endpoint, const Address& from, const ngtcp2_pkt_hd& first,
                       const std::optional<ngtcp2_cid>& before_retry)
    : endpoint_(endpoint), local_(endpoint.address()), remote_(from) {
    auto callbacks = Callbacks::all();
    auto settings = Callbacks::settings();
    auto parameters = Callbacks::parameters();
    parameters.original_dcid = before_retry.value_or(first.dcid);
    if (before_retry) {
        settings.token = first.token;
        parameters.retry_scid_present = 1;
        parameters.retry_scid = first.dcid;
    }
    auto here = new_id(ID_SIZE);
    auto way = path();
    int error = ngtcp2_conn_server_new(&conn_, &first.scid, &here, &way, first.version, &callbacks, &settings,
                                       &parameters, nullptr, this);
    if (error != 0) throw std::runtime_error(ngtcp2_strerror(error));
}

Connection::~Connection() {
    ngtcp2_conn_del(conn_);
    gnutls_deinit(session_);
}

// Not in the constructor, because the endpoint's table needs a shared pointer to the connection.
void Connection::begin_tls(unsigned role) {
    gnutls_init(&session_, role | GNUTLS_NO_END_OF_EARLY_DATA | GNUTLS_FORCE_CLIENT_CERT);
    gnutls_priority_set_direct(session_, PRIORITIES, nullptr);
    unsigned char name[] = "libp2p";
    gnutls_datum_t protocol{name, sizeof name - 1};
    gnutls_alpn_set_protocols(session_, &protocol, 1, GNUTLS_ALPN_MANDATORY);
    gnutls_credentials_set(session_, GNUTLS_CRD_CERTIFICATE, endpoint_.credentials_);
    gnutls_session_set_verify_function(session_, Callbacks::judge);
    reference_ = {[](ngtcp2_crypto_conn_ref* it) { return Callbacks::of(it->user_data).conn_; }, this};
    gnutls_session_set_ptr(session_, &reference_);
    if (role == GNUTLS_SERVER) {
        ngtcp2_crypto_gnutls_configure_server_session(session_);
        gnutls_certificate_server_set_request(session_, GNUTLS_CERT_REQUIRE);
    } else {
        ngtcp2_crypto_gnutls_configure_client_session(session_);
        auto& name = endpoint_.manner_.server_name;
        if (!name.empty()) gnutls_server_name_set(session_, GNUTLS_NAME_DNS, name.data(), name.size());
    }
    ngtcp2_conn_set_tls_native_handle(conn_, session_);
    std::vector<ngtcp2_cid> ids(ngtcp2_conn_get_num_scid(conn_));
    ngtcp2_conn_get_scid(conn_, ids.data());
    for (auto& id : ids) endpoint_.add(id, shared_from_this());
}

// A libp2p chain is one certificate, which is self-signed.
void Connection::judge() {
    unsigned count = 0;
    auto* certificates = gnutls_certificate_get_peers(session_, &count);
    if (count != 1) throw std::runtime_error("it showed " + std::to_string(count) + " certificates");
    peer_ = peer_of({reinterpret_cast<char*>(certificates[0].data), certificates[0].size});
    if (!expected_.empty() && peer_ != expected_) throw std::runtime_error(peer_ + " is there, not " + expected_);
}

std::string Connection::proven() {
    auto lock = locked();
    news_.wait(lock, [&] { return is_proven_ || is_over_; });
    if (!is_proven_) throw std::runtime_error("handshake: " + why_over_);
    return peer_;
}

std::shared_ptr<Stream> Connection::open() {
    auto lock = locked();
    news_.wait(lock, [&] { return is_over_ || ngtcp2_conn_get_streams_bidi_left(conn_) > 0; });
    if (is_over_) throw std::runtime_error(why_over_);
    int64_t id;
    int error = ngtcp2_conn_open_bidi_stream(conn_, &id, nullptr);
    if (error != 0) throw std::runtime_error(ngtcp2_strerror(error));
    return add_stream(id);
}

std::shared_ptr<Stream> Connection::add_stream(int64_t id) {
    auto stream = std::make_shared<Stream>(shared_from_this(), id);
    streams_[id] = stream;
    ngtcp2_conn_set_stream_user_data(conn_, id, stream.get());
    return stream;
}

std::shared_ptr<Stream> Connection::accept() {
    auto lock = locked();
    news_.wait(lock, [&] { return is_over_ || !incoming_.empty(); });
    if (incoming_.empty()) return nullptr;
    auto stream = incoming_.front();
    incoming_.pop_front();
    return stream;
}

void Connection::close(uint64_t code) {
    auto lock = locked();
    if (is_over_) return;
    ngtcp2_connection_close_error reason;
    ngtcp2_connection_close_error_default(&reason);
    ngtcp2_connection_close_error_set_application_error(&reason, code, nullptr, 0);
    send_close(reason);
    end("closed here", std::nullopt);
}

std::unique_lock<std::mutex> Connection::locked() const {
    return std::unique_lock(endpoint_.lock_);
}

void Connection::wake() const {
    endpoint_.wake();
}

void Connection::credit(Stream& stream, size_t size) {
    if (is_over_) return;
    // The stream may have ended; the connection's credit must be extended anyway.
    if (!stream.is_over_) ngtcp2_conn_extend_max_stream_offset(conn_, stream.id, size);
    ngtcp2_conn_extend_max_offset(conn_, size);
    wake();
}

void Connection::shut_read(Stream& stream) {
    if (!is_over_ && !stream.is_over_) ngtcp2_conn_shutdown_stream_read(conn_, stream.id, 0);
    wake();
}

void Connection::shut_both(Stream& stream, uint64_t code) {
    if (!is_over_ && !stream.is_over_) ngtcp2_conn_shutdown_stream(conn_, stream.id, code);
    wake();
}

ngtcp2_path Connection::path() {
    return {{local_.raw(), local_.size}, {remote_.raw(), remote_.size}, nullptr};
}

void Connection::receive(const uint8_t* data, size_t size) {
    if (is_over_) {
        if (!farewell_.empty()) endpoint_.send(raw(farewell_), farewell_.size(), remote_);
        return;
    }
    auto way = path();
    ngtcp2_pkt_info info{};
    int error = ngtcp2_conn_read_pkt(conn_, &way, &info, data, size, now());
    if (error != 0) fail(error);
}

void Connection::on_time() {
    if (is_over_ || ngtcp2_conn_get_expiry(conn_) > now()) return;
    int error = ngtcp2_conn_handle_expiry(conn_, now());
    if (error != 0) fail(error);
}

// Sends what the windows allow. Streams take turns, a packet each.
void Connection::flush() {
    if (is_over_) return;
    std::deque<std::shared_ptr<Stream>> turns;
    for (auto& [id, stream] : streams_) {
        if (stream->has_to_send()) turns.push_back(stream);
    }
    while (!turns.empty() && turns.front()->id <= last_served_ && turns.back()->id > last_served_) {
        turns.push_back(turns.front());
        turns.pop_front();
    }
    std::vector<uint8_t> packet(ngtcp2_conn_get_max_tx_udp_payload_size(conn_));
    auto quantum = ngtcp2_conn_get_send_quantum(conn_);
    for (size_t sent = 0; sent < quantum;) {
        auto stream = turns.empty() ? nullptr : turns.front();
        ngtcp2_vec data{};
        uint32_t flags = NGTCP2_WRITE_STREAM_FLAG_NONE;
        if (stream && stream->next_ < stream->outgoing_.size()) {
            auto& chunk = stream->outgoing_[stream->next_];
            data = {const_cast<uint8_t*>(raw(chunk)) + stream->at_, chunk.size() - stream->at_};
        }
        bool is_last = stream && stream->next_ + 1 >= stream->outgoing_.size();
        if (is_last && stream->has_end_) flags = NGTCP2_WRITE_STREAM_FLAG_FIN;
        ngtcp2_pkt_info info;
        ngtcp2_ssize taken = -1;
        auto size = ngtcp2_conn_writev_stream(conn_, nullptr, &info, packet.data(), packet.size(), &taken, flags,
                                              stream ? stream->id : -1, &data, data.len > 0, now());
        if (stream && taken >= 0) {
            stream->on_sent(taken, flags && static_cast<size_t>(taken) == data.len);
            last_served_ = stream->id;
        }
        if (size == NGTCP2_ERR_STREAM_DATA_BLOCKED) {
            turns.pop_front();
        } else if (size == NGTCP2_ERR_STREAM_SHUT_WR || size == NGTCP2_ERR_STREAM_NOT_FOUND) {
            // The other side sent STOP_SENDING. This version of ngtcp2 does not report its code.
            if (!stream->write_cut_) stream->write_cut_ = Cut(std::nullopt);
            stream->news_.notify_all();
            turns.pop_front();
        } else if (size < 0) {
            return fail(static_cast<int>(size));
        } else if (size == 0) {
            break;
        } else {
            endpoint_.send(packet.data(), size, remote_);
            sent += size;
            if (stream) {
                turns.pop_front();
                if (stream->has_to_send()) turns.push_back(stream);
            }
        }
    }
    ngtcp2_conn_update_pkt_tx_time(conn_, now());
}

void Connection::fail(int error) {
    ngtcp2_connection_close_error reason;
    ngtcp2_connection_close_error_default(&reason);
    std::string why = why_over_.empty() ? ngtcp2_strerror(error) : why_over_;
    switch (error) {
    case NGTCP2_ERR_DRAINING: {
        ngtcp2_conn_get_connection_close_error(conn_, &reason);
        auto code = std::to_string(reason.error_code);
        if (reason.type != NGTCP2_CONNECTION_CLOSE_ERROR_CODE_TYPE_APPLICATION) {
            return end("the other side ended it with error " + code, std::nullopt);
        }
        return end("the other side closed it with code " + code, reason.error_code);
    }
    case NGTCP2_ERR_IDLE_CLOSE:
    case NGTCP2_ERR_HANDSHAKE_TIMEOUT:
    case NGTCP2_ERR_DROP_CONN: return end(why, std::nullopt);
    case NGTCP2_ERR_CRYPTO:
        ngtcp2_connection_close_error_set_transport_error_tls_alert(
            &reason, ngtcp2_conn_get_tls_alert(conn_), nullptr, 0);
        break;
    default: ngtcp2_connection_close_error_set_transport_error_liberr(&reason, error, nullptr, 0);
    }
    send_close(reason);
    end(why, std::nullopt);
}

void Connection::send_close(const ngtcp2_connection_close_error& reason) {
    std::vector<uint8_t> packet(NGTCP2_MAX_UDP_PAYLOAD_SIZE);
    ngtcp2_pkt_info info;
    auto size = ngtcp2_conn_write_connection_close(conn_, nullptr, &info, packet.data(), packet.size(), &reason, now());
    if (size <= 0) return;
    farewell_ = bytes_of(packet.data(), size);
    endpoint_.send(packet.data(), size, remote_);
}

void Connection::end(const std::string& why, std::optional<uint64_t> code) {
    is_over_ = true;
    why_over_ = why;
    forget_at_ = now() + FAREWELL;
    for (auto& [_, stream] : streams_) {
        stream->is_over_ = true;
        stream->cut(code);
    }
    streams_.clear();
    news_.notify_all();
}
