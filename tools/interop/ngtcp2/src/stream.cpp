#include "stream.hpp"

#include "connection.hpp"

constexpr size_t MOST_ON_THE_WAY = 1 << 20;

std::string Stream::read(size_t size) {
    auto lock = connection->locked();
    news_.wait(lock, [&] { return !incoming_.empty() || is_finished_ || read_cut_; });
    if (incoming_.empty()) {
        if (is_finished_) return {};
        throw *read_cut_;
    }
    auto out = incoming_.substr(0, size);
    incoming_.erase(0, size);
    connection->credit(*this, out.size());
    return out;
}

std::string Stream::read_exactly(size_t size) {
    std::string out;
    while (out.size() < size) {
        auto more = read(size - out.size());
        if (more.empty()) throw std::runtime_error("the stream ended too early");
        out += more;
    }
    return out;
}

std::string Stream::read_to_end() {
    std::string out;
    for (std::string more; !(more = read(1 << 16)).empty();) out += more;
    return out;
}

void Stream::write(std::string_view data) {
    if (data.empty()) return;
    auto lock = connection->locked();
    news_.wait(lock, [&] { return unacknowledged_ < MOST_ON_THE_WAY || write_cut_; });
    if (write_cut_) throw *write_cut_;
    outgoing_.emplace_back(data);
    unacknowledged_ += data.size();
    connection->wake();
}

void Stream::finish() {
    auto lock = connection->locked();
    has_end_ = true;
    connection->wake();
}

void Stream::close() {
    finish();
    read_to_end();
    wait_until_over();
}

void Stream::leave() {
    finish();
    {
        auto lock = connection->locked();
        connection->shut_read(*this);
    }
    wait_until_over();
}

void Stream::reset(uint64_t code) {
    auto lock = connection->locked();
    connection->shut_both(*this, code);
    cut(std::nullopt);
}

void Stream::cut(std::optional<uint64_t> code) {
    if (!read_cut_) read_cut_ = Cut(code);
    if (!write_cut_) write_cut_ = Cut(code);
    news_.notify_all();
}

void Stream::wait_until_over() {
    auto lock = connection->locked();
    news_.wait(lock, [&] { return is_over_; });
}

void Stream::on_sent(size_t size, bool is_end) {
    at_ += size;
    if (next_ < outgoing_.size() && at_ == outgoing_[next_].size()) {
        ++next_;
        at_ = 0;
    }
    is_end_sent_ = is_end_sent_ || is_end;
}

void Stream::on_acknowledged(size_t size) {
    unacknowledged_ -= size;
    acknowledged_of_first_ += size;
    while (!outgoing_.empty() && next_ > 0 && acknowledged_of_first_ >= outgoing_.front().size()) {
        acknowledged_of_first_ -= outgoing_.front().size();
        outgoing_.pop_front();
        --next_;
    }
    news_.notify_all();
}
