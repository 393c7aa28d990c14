// Lines of JSON for the runner.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

// Names, and values that are JSON already.
using Line = std::map<std::string, std::string>;

// Prints it in one piece, so that lines of several threads do not mix.
void tell(const Line& line);

std::string text(std::string_view value);
std::string list(const std::vector<std::string>& texts);
std::string truth(bool value);
std::string code(std::optional<uint64_t> value);
