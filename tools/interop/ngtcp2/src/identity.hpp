// Host keys, peer ids, and the certificates that prove them
// (https://github.com/libp2p/specs/blob/master/tls/tls.md). libcrypto does the work, because it
// has all four types of keys; GnuTLS, which does the handshakes, knows no secp256k1.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <openssl/evp.h>

struct Certificate {
    std::string der, key_der;
};

// What peers do, or must not do: with another key than P-256, and with libp2p's extension critical;
// one that is over, one without libp2p's extension, one with a critical extension nobody knows.
constexpr const char* CERTIFICATES[] = {"ed25519", "p384", "rsa", "critical", "expired", "bare", "foreign"};

class HostKey {
public:
    // `type` is ed25519, secp256k1, ecdsa or rsa; `seed`, if any, the 32 bytes of an Ed25519 key.
    HostKey(std::string_view type, std::string_view seed);

    std::string peer() const;
    // The protobuf message that peer ids are made of.
    std::string public_key() const;
    // A new key for the handshakes, and a certificate in which the host key signs it. `kind` is one
    // of CERTIFICATES, or empty for an ordinary one.
    Certificate certificate(const std::string& kind) const;

private:
    int type_;
    std::shared_ptr<EVP_PKEY> key_;
};

// The peer that a certificate proves. Throws if it proves none.
std::string peer_of(std::string_view certificate_der);

std::string base58(std::string_view bytes);
