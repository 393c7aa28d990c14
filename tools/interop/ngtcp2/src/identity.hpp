// Host keys, peer ids and certificates
// (https://github.com/libp2p/specs/blob/master/tls/tls.md). It uses libcrypto, which has all four types
// of keys; GnuTLS, which does the handshakes, has no secp256k1.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <openssl/evp.h>

struct Certificate {
    std::string der, key_der;
};

// Valid kinds: another key than P-256, libp2p's extension as critical. Invalid kinds: expired, without
// libp2p's extension, with an unknown critical extension.
constexpr const char* CERTIFICATES[] = {"ed25519", "p384", "rsa", "critical", "expired", "bare", "foreign"};

class HostKey {
public:
    // `type` is ed25519, secp256k1, ecdsa or rsa; `seed`, if any, the 32 bytes of an Ed25519 key.
    HostKey(std::string_view type, std::string_view seed);

    std::string peer() const;
    // The protobuf message that a peer id is the hash of.
    std::string public_key() const;
    // A new key for the handshakes, and a certificate in which the host key signs it. `kind` is one
    // of CERTIFICATES, or empty for the default.
    Certificate certificate(const std::string& kind) const;

private:
    int type_;
    std::shared_ptr<EVP_PKEY> key_;
};

// The peer id of a certificate. Throws if it is invalid.
std::string peer_of(std::string_view certificate_der);

std::string base58(std::string_view bytes);
