// Bytes are std::string everywhere; the C libraries require unsigned pointers.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

inline const uint8_t* raw(std::string_view bytes) {
    return reinterpret_cast<const uint8_t*>(bytes.data());
}

inline std::string bytes_of(const void* data, size_t size) {
    return {static_cast<const char*>(data), size};
}

// A varint: 7 bits per byte, the lowest first.
inline std::string varint(uint64_t value) {
    std::string out;
    for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
    out.push_back(static_cast<char>(value));
    return out;
}

// Takes a varint from the beginning of `from`.
inline uint64_t take_varint(std::string_view& from) {
    uint64_t value = 0;
    for (unsigned shift = 0; shift < 63; shift += 7) {
        if (from.empty()) break;
        auto byte = static_cast<uint8_t>(from.front());
        from.remove_prefix(1);
        value |= uint64_t{byte & 0x7fu} << shift;
        if (byte < 0x80) return value;
    }
    throw std::runtime_error("an incomplete varint");
}

// Takes `size` bytes from the beginning of `from`.
inline std::string take(std::string_view& from, uint64_t size) {
    if (size > from.size()) throw std::runtime_error("a message that is shorter than its length");
    std::string taken{from.substr(0, size)};
    from.remove_prefix(size);
    return taken;
}

// A field of a protobuf message that is a string, bytes or a message.
inline std::string protobuf_bytes(unsigned field, std::string_view value) {
    return varint(field << 3 | 2) + varint(value.size()) + std::string(value);
}

// Takes a field: its number, and its bytes or, for a number, the number alone.
struct ProtobufField {
    uint64_t number, value;
    std::string bytes;
};

inline ProtobufField take_protobuf_field(std::string_view& from) {
    auto tag = take_varint(from);
    ProtobufField field{.number = tag >> 3, .value = 0, .bytes = {}};
    switch (tag & 7) {
    case 0: field.value = take_varint(from); break;
    case 2: field.bytes = take(from, take_varint(from)); break;
    default: throw std::runtime_error("a protobuf field of a kind that libp2p does not use");
    }
    return field;
}
