// The dialer's side of each case of tools/interop/README.md.
#pragma once

#include <string>
#include <vector>

#include "address.hpp"
#include "endpoint.hpp"
#include "report.hpp"

// Runs a case that dials `places`, in most cases one. Returns its facts or throws.
Line run(const std::string& name, Endpoint& endpoint, const std::vector<Place>& places);
