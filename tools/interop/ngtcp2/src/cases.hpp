// What the dialer does in each case of interop/README.md.
#pragma once

#include <string>
#include <vector>

#include "address.hpp"
#include "endpoint.hpp"
#include "report.hpp"

// Runs a case; `places` are where it dials, and most cases have one. Its facts, or an exception.
Line run(const std::string& name, Endpoint& endpoint, const std::vector<Place>& places);
