// A blocking interface to ngtcp2's streams: read, write, finish, reset. The endpoint's thread fills and
// empties its queues; threads that use the stream wait on them.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>

class Connection;

// A stream or its connection ended early; `code` is the peer's, if it is known.
struct Cut : std::runtime_error {
    explicit Cut(std::optional<uint64_t> code)
        : std::runtime_error(code ? "cut by the other side with code " + std::to_string(*code) : "cut"),
          code(code) {}
    std::optional<uint64_t> code;
};

class Stream {
public:
    Stream(std::shared_ptr<Connection> on, int64_t id) : connection(std::move(on)), id(id) {}

    // At most `size` bytes, none at the end of the stream. Throws Cut.
    std::string read(size_t size);
    // Exactly `size` bytes. Throws Cut, or std::runtime_error if the stream ends before.
    std::string read_exactly(size_t size);
    // All bytes up to the end of the stream. Throws Cut.
    std::string read_to_end();
    // Waits while too many bytes are unacknowledged. Throws Cut.
    void write(std::string_view data);
    // End our direction.
    void finish();
    // Finish our direction, and wait until the other side has finished its own and acknowledged all of
    // ours.
    void close();
    // Finish our direction and send STOP_SENDING.
    void leave();
    // Reset both directions.
    void reset(uint64_t code);

    const std::shared_ptr<Connection> connection;
    const int64_t id;

private:
    friend class Connection;
    friend struct Callbacks;

    void cut(std::optional<uint64_t> code);
    void wait_until_over();

    // The following members are protected by the endpoint's lock.
    std::string incoming_;
    bool is_finished_ = false;
    std::optional<Cut> read_cut_, write_cut_;
    bool is_over_ = false;
    std::condition_variable news_;

    // ngtcp2 keeps no copy: a chunk is kept until it is acknowledged.
    std::deque<std::string> outgoing_;
    size_t unacknowledged_ = 0, acknowledged_of_first_ = 0;
    // The next bytes to send: the number of a chunk and an offset in it.
    size_t next_ = 0, at_ = 0;
    bool has_end_ = false, is_end_sent_ = false;

    bool has_to_send() const { return !write_cut_ && (next_ < outgoing_.size() || (has_end_ && !is_end_sent_)); }
    void on_sent(size_t size, bool is_end);
    void on_acknowledged(size_t size);
};
