#include "report.hpp"

#include <cstdio>
#include <iostream>
#include <mutex>

void tell(const Line& line) {
    std::string out;
    for (auto& [name, value] : line) out += (out.empty() ? "{" : ", ") + text(name) + ": " + value;
    static std::mutex one_at_a_time;
    std::lock_guard lock(one_at_a_time);
    std::cout << out << "}" << std::endl;
}

std::string text(std::string_view value) {
    std::string out = "\"";
    for (unsigned char each : value) {
        char escaped[8];
        std::snprintf(escaped, sizeof escaped, each < 0x20 ? "\\u%04x" : each == '"' || each == '\\' ? "\\%c" : "%c", each);
        out += escaped;
    }
    return out + "\"";
}

std::string list(const std::vector<std::string>& texts) {
    std::string out;
    for (auto& each : texts) out += (out.empty() ? "" : ", ") + text(each);
    return "[" + out + "]";
}

std::string truth(bool value) {
    return value ? "true" : "false";
}

std::string code(std::optional<uint64_t> value) {
    return value ? std::to_string(*value) : "null";
}
