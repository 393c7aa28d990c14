// The peer on ngtcp2, the first stack of Nim's libp2p. It has the command line of
// tools/interop/README.md. This file has the arguments; `endpoint`, `connection` and `stream` have
// ngtcp2, `identity` libp2p's certificates, `protocol` the listener, `cases` the dialer, `report` the
// lines for the runner.
#include <cstdlib>
#include <iostream>
#include <map>
#include <thread>

#include <gnutls/gnutls.h>
#include <ngtcp2/ngtcp2.h>

#include "cases.hpp"
#include "endpoint.hpp"
#include "protocol.hpp"
#include "report.hpp"

namespace {

using Options = std::map<std::string, std::string>;

std::string option(const Options& options, const std::string& name, const std::string& otherwise) {
    auto found = options.find(name);
    return found == options.end() ? otherwise : found->second;
}

HostKey key_of(const Options& options) {
    auto digits = option(options, "seed", "");
    std::string seed;
    for (size_t i = 0; i + 1 < digits.size(); i += 2) {
        seed.push_back(static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16)));
    }
    return {option(options, "key", "ed25519"), seed};
}

void about() {
    tell({
        {"program", text(std::string("ngtcp2 ") + ngtcp2_version(0)->version_str)},
        {"stack", text(std::string("GnuTLS ") + gnutls_check_version(nullptr))},
        {"keys", list({"ed25519", "secp256k1", "ecdsa", "ecdsa-p384", "ecdsa-p521", "rsa"})},
        {"can", list({"reset", "reset code", "close code", "both roles", "same port", "perf", "server name",
                      "retry"})},
        {"certificates", list({std::begin(CERTIFICATES), std::end(CERTIFICATES)})},
    });
}

void listen(const Options& options) {
    auto key = key_of(options);
    bool is_six = option(options, "ip", "4") == "6";
    auto port = std::stoi(option(options, "port", "0"));
    Endpoint endpoint(Address::of(is_six ? "::1" : "127.0.0.1", static_cast<uint16_t>(port)), key,
                      {option(options, "certificate", ""), "", options.contains("retry")});
    endpoint.listen();
    auto peer = key.peer();
    tell({{"peer", text(peer)}, {"addrs", list({endpoint.address().text() + "/p2p/" + peer})}});
    std::thread([&] { serve(endpoint); }).detach();
    for (std::string line; std::getline(std::cin, line);) {
    }
    endpoint.close();
    // Exit without cleanup, because threads still serve.
    std::_Exit(EXIT_SUCCESS);
}

void dial(const std::vector<std::string>& positional, const Options& options) {
    auto key = key_of(options);
    std::vector<Place> places{Place::of(positional.at(1))};
    for (size_t i = 3; i < positional.size(); ++i) places.push_back(Place::of(positional[i]));
    bool is_six = places[0].address.storage.ss_family == AF_INET6;
    Endpoint endpoint(Address::of(is_six ? "::1" : "127.0.0.1", 0), key,
                      {option(options, "certificate", ""), option(options, "name", "")});
    Line said{{"ok", truth(true)}, {"self", text(key.peer())}};
    try {
        said.merge(run(positional.at(2), endpoint, places));
    } catch (const std::runtime_error& error) {
        said["ok"] = truth(false);
        said["error"] = text(error.what());
    }
    tell(said);
    endpoint.close();
    std::_Exit(EXIT_SUCCESS);
}

}  // namespace

int main(int count, char** arguments) try {
    Options options;
    std::vector<std::string> positional;
    for (int i = 1; i < count; ++i) {
        std::string argument = arguments[i];
        if (!argument.starts_with("--")) {
            positional.push_back(argument);
        } else if (++i < count) {
            options[argument.substr(2)] = arguments[i];
        } else {
            throw std::runtime_error(argument + " needs a value");
        }
    }
    auto command = positional.empty() ? "" : positional[0];
    if (command == "about") {
        about();
    } else if (command == "listen") {
        listen(options);
    } else if (command == "dial" && positional.size() >= 3) {
        dial(positional, options);
    } else {
        throw std::runtime_error("about, listen, or dial ADDRESS CASE");
    }
} catch (const std::exception& error) {
    std::cerr << error.what() << std::endl;
    return EXIT_FAILURE;
}
