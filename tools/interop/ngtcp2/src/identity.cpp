#include "identity.hpp"

#include <algorithm>
#include <map>
#include <vector>

#include <openssl/asn1t.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/param_build.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <openssl/x509.h>

#include "bytes.hpp"

namespace {

// KeyType of https://github.com/libp2p/specs/blob/master/peer-ids/peer-ids.md.
enum KeyType { RSA_KEY, ED25519_KEY, SECP256K1_KEY, ECDSA_KEY };

constexpr char EXTENSION[] = "1.3.6.1.4.1.53594.1.1";
constexpr char FOREIGN_EXTENSION[] = "1.3.6.1.4.1.53594.99";
constexpr char PREFIX[] = "libp2p-tls-handshake:";
constexpr long DAY = 24 * 60 * 60;

template <auto release> struct Release {
    void operator()(auto* it) const { release(it); }
};
using Key = std::shared_ptr<EVP_PKEY>;
using Parameters = std::unique_ptr<OSSL_PARAM, Release<OSSL_PARAM_free>>;
using ParametersMaker = std::unique_ptr<OSSL_PARAM_BLD, Release<OSSL_PARAM_BLD_free>>;
using Context = std::unique_ptr<EVP_PKEY_CTX, Release<EVP_PKEY_CTX_free>>;
using Digest = std::unique_ptr<EVP_MD_CTX, Release<EVP_MD_CTX_free>>;
using X509Pointer = std::unique_ptr<X509, Release<X509_free>>;

void must(bool is_done, const char* what) {
    if (is_done) return;
    auto error = ERR_get_error();
    throw std::runtime_error(std::string(what) + (error ? std::string(": ") + ERR_error_string(error, nullptr) : ""));
}

Key owned(EVP_PKEY* key) {
    must(key != nullptr, "key");
    return {key, EVP_PKEY_free};
}

// The output of i2d_*.
template <class T> std::string der_of(int (*write)(const T*, uint8_t**), const T* it) {
    uint8_t* data = nullptr;
    int size = write(it, &data);
    must(size > 0, "DER");
    auto out = bytes_of(data, size);
    OPENSSL_free(data);
    return out;
}

}  // namespace

// The value of the extension: SEQUENCE { publicKey OCTET STRING, signature OCTET STRING }.
struct SignedKey {
    ASN1_OCTET_STRING *public_key, *signature;
};
DECLARE_ASN1_FUNCTIONS(SignedKey)
ASN1_SEQUENCE(SignedKey) = {
    ASN1_SIMPLE(SignedKey, public_key, ASN1_OCTET_STRING),
    ASN1_SIMPLE(SignedKey, signature, ASN1_OCTET_STRING),
} ASN1_SEQUENCE_END(SignedKey)
IMPLEMENT_ASN1_FUNCTIONS(SignedKey)

namespace {

using SignedKeyPointer = std::unique_ptr<SignedKey, Release<SignedKey_free>>;

std::string octets(const ASN1_OCTET_STRING* string) {
    return bytes_of(ASN1_STRING_get0_data(string), ASN1_STRING_length(string));
}

const EVP_MD* digest_for(int type) {
    return type == ED25519_KEY ? nullptr : EVP_sha256();
}

std::string peer_id(const std::string& public_key) {
    if (public_key.size() <= 42) return base58(std::string("\0", 1) + varint(public_key.size()) + public_key);
    uint8_t digest[SHA256_DIGEST_LENGTH];
    SHA256(raw(public_key), public_key.size(), digest);
    return base58("\x12\x20" + bytes_of(digest, sizeof digest));
}

std::string signature(EVP_PKEY* key, int type, const std::string& message) {
    Digest digest{EVP_MD_CTX_new()};
    must(EVP_DigestSignInit(digest.get(), nullptr, digest_for(type), nullptr, key) == 1, "sign");
    size_t size = 0;
    must(EVP_DigestSign(digest.get(), nullptr, &size, raw(message), message.size()) == 1, "sign");
    std::vector<uint8_t> out(size);
    must(EVP_DigestSign(digest.get(), out.data(), &size, raw(message), message.size()) == 1, "sign");
    return bytes_of(out.data(), size);
}

void add_extension(X509* to, const char* oid, bool is_critical, const std::string& value) {
    std::unique_ptr<ASN1_OCTET_STRING, Release<ASN1_OCTET_STRING_free>> octets{ASN1_OCTET_STRING_new()};
    ASN1_OCTET_STRING_set(octets.get(), raw(value), static_cast<int>(value.size()));
    std::unique_ptr<ASN1_OBJECT, Release<ASN1_OBJECT_free>> name{OBJ_txt2obj(oid, 1)};
    std::unique_ptr<X509_EXTENSION, Release<X509_EXTENSION_free>> extension{
        X509_EXTENSION_create_by_OBJ(nullptr, name.get(), is_critical, octets.get())};
    must(X509_add_ext(to, extension.get(), -1) == 1, "certificate");
}

Key secp256k1_of(const std::string& point) {
    ParametersMaker maker{OSSL_PARAM_BLD_new()};
    OSSL_PARAM_BLD_push_utf8_string(maker.get(), OSSL_PKEY_PARAM_GROUP_NAME, "secp256k1", 0);
    OSSL_PARAM_BLD_push_octet_string(maker.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
    Parameters parameters{OSSL_PARAM_BLD_to_param(maker.get())};
    Context context{EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr)};
    EVP_PKEY* key = nullptr;
    must(EVP_PKEY_fromdata_init(context.get()) == 1, "secp256k1 key");
    must(EVP_PKEY_fromdata(context.get(), &key, EVP_PKEY_PUBLIC_KEY, parameters.get()) == 1, "secp256k1 key");
    return owned(key);
}

// Whether the host key in `public_key` signed `message`. Throws if it is not a valid key.
bool is_signed(const std::string& public_key, const std::string& by, const std::string& message) {
    std::string_view rest = public_key;
    uint64_t type = RSA_KEY;
    std::string data;
    while (!rest.empty()) {
        auto field = take_protobuf_field(rest);
        if (field.number == 1) type = field.value;
        if (field.number == 2) data = field.bytes;
    }
    auto* at = raw(data);
    Key key;
    switch (type) {
    case ED25519_KEY:
        key = owned(EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nullptr, at, data.size()));
        break;
    case SECP256K1_KEY: key = secp256k1_of(data); break;
    case RSA_KEY:
    case ECDSA_KEY: key = owned(d2i_PUBKEY(nullptr, &at, static_cast<long>(data.size()))); break;
    default: throw std::runtime_error("a host key of an unknown type");
    }
    Digest digest{EVP_MD_CTX_new()};
    auto* method = digest_for(static_cast<int>(type));
    must(EVP_DigestVerifyInit(digest.get(), nullptr, method, nullptr, key.get()) == 1, "verify");
    return EVP_DigestVerify(digest.get(), raw(by), by.size(), raw(message), message.size()) == 1;
}

const std::map<std::string_view, const char*> CURVES{
    {"ecdsa", "P-256"}, {"ecdsa-p384", "P-384"}, {"ecdsa-p521", "P-521"}};

}  // namespace

HostKey::HostKey(std::string_view type, std::string_view seed) {
    if (type == "ed25519") {
        type_ = ED25519_KEY;
        key_ = owned(seed.empty() ? EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")
                                  : EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nullptr, raw(seed), seed.size()));
    } else if (type == "secp256k1") {
        type_ = SECP256K1_KEY;
        key_ = owned(EVP_EC_gen("secp256k1"));
    } else if (auto curve = CURVES.find(type); curve != CURVES.end()) {
        type_ = ECDSA_KEY;
        key_ = owned(EVP_EC_gen(curve->second));
    } else if (type == "rsa") {
        type_ = RSA_KEY;
        key_ = owned(EVP_RSA_gen(2048));
    } else {
        throw std::runtime_error("unknown key type " + std::string(type));
    }
}

std::string HostKey::public_key() const {
    std::string data(65, '\0');
    size_t size = data.size();
    auto* out = reinterpret_cast<uint8_t*>(data.data());
    if (type_ == ED25519_KEY) {
        must(EVP_PKEY_get_raw_public_key(key_.get(), out, &size) == 1, "public key");
        data.resize(size);
    } else if (type_ == SECP256K1_KEY) {
        must(EVP_PKEY_get_octet_string_param(key_.get(), OSSL_PKEY_PARAM_PUB_KEY, out, size, &size) == 1, "public key");
        // The compressed point: whether y is odd, and x.
        data = std::string(1, data[64] & 1 ? '\3' : '\2') + data.substr(1, 32);
    } else {
        data = der_of(i2d_PUBKEY, static_cast<const EVP_PKEY*>(key_.get()));
    }
    return varint(1 << 3) + varint(type_) + protobuf_bytes(2, data);
}

std::string HostKey::peer() const {
    return peer_id(public_key());
}

Certificate HostKey::certificate(const std::string& kind) const {
    auto key = owned(kind == "ed25519" ? EVP_PKEY_Q_keygen(nullptr, nullptr, "ED25519")
                     : kind == "rsa"   ? EVP_RSA_gen(2048)
                                       : EVP_EC_gen(kind == "p384" ? "P-384" : "P-256"));
    auto host = public_key();
    auto proof = signature(key_.get(), type_, PREFIX + der_of(i2d_PUBKEY, static_cast<const EVP_PKEY*>(key.get())));

    SignedKeyPointer value{SignedKey_new()};
    ASN1_OCTET_STRING_set(value->public_key, raw(host), static_cast<int>(host.size()));
    ASN1_OCTET_STRING_set(value->signature, raw(proof), static_cast<int>(proof.size()));
    auto value_der = der_of(i2d_SignedKey, static_cast<const SignedKey*>(value.get()));

    X509Pointer made{X509_new()};
    must(X509_set_version(made.get(), X509_VERSION_3) == 1, "certificate");
    must(ASN1_INTEGER_set(X509_get_serialNumber(made.get()), 1) == 1, "certificate");
    // Clocks differ.
    must(X509_gmtime_adj(X509_getm_notBefore(made.get()), -DAY) != nullptr, "certificate");
    must(X509_gmtime_adj(X509_getm_notAfter(made.get()), kind == "expired" ? -1 : 365 * DAY) != nullptr, "certificate");
    must(X509_set_pubkey(made.get(), key.get()) == 1, "certificate");
    if (kind != "bare") add_extension(made.get(), EXTENSION, kind == "critical", value_der);
    if (kind == "foreign") add_extension(made.get(), FOREIGN_EXTENSION, true, value_der);
    auto* digest = kind == "ed25519" ? nullptr : kind == "p384" ? EVP_sha384() : EVP_sha256();
    must(X509_sign(made.get(), key.get(), digest) > 0, "certificate");
    return {
        der_of(i2d_X509, static_cast<const X509*>(made.get())),
        der_of(i2d_PrivateKey, static_cast<const EVP_PKEY*>(key.get())),
    };
}

std::string peer_of(std::string_view certificate_der) {
    auto* at = raw(certificate_der);
    X509Pointer certificate{d2i_X509(nullptr, &at, static_cast<long>(certificate_der.size()))};
    must(certificate != nullptr, "certificate");
    auto* key = X509_get0_pubkey(certificate.get());
    must(key != nullptr && X509_verify(certificate.get(), key) == 1, "certificate: not self-signed");
    bool is_valid = X509_cmp_current_time(X509_get0_notBefore(certificate.get())) < 0 &&
                    X509_cmp_current_time(X509_get0_notAfter(certificate.get())) > 0;
    must(is_valid, "certificate: not valid now");

    std::unique_ptr<ASN1_OBJECT, Release<ASN1_OBJECT_free>> name{OBJ_txt2obj(EXTENSION, 1)};
    int place = X509_get_ext_by_OBJ(certificate.get(), name.get(), -1);
    must(place >= 0, "certificate: no host key in it");
    for (int i = 0; i < X509_get_ext_count(certificate.get()); ++i) {
        bool is_known = i == place || !X509_EXTENSION_get_critical(X509_get_ext(certificate.get(), i));
        must(is_known, "certificate: a critical extension that is unknown");
    }
    auto value_der = octets(X509_EXTENSION_get_data(X509_get_ext(certificate.get(), place)));
    at = raw(value_der);
    SignedKeyPointer value{d2i_SignedKey(nullptr, &at, static_cast<long>(value_der.size()))};
    must(value != nullptr, "certificate: host key");
    auto public_key = octets(value->public_key);
    auto message = PREFIX + der_of(i2d_PUBKEY, static_cast<const EVP_PKEY*>(key));
    must(is_signed(public_key, octets(value->signature), message), "certificate: not signed by the host key");
    return peer_id(public_key);
}

std::string base58(std::string_view bytes) {
    constexpr char ALPHABET[] = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz";
    std::vector<uint8_t> digits;
    for (uint8_t byte : bytes) {
        unsigned carry = byte;
        for (auto& digit : digits) {
            carry += digit * 256u;
            digit = carry % 58;
            carry /= 58;
        }
        for (; carry > 0; carry /= 58) digits.push_back(carry % 58);
    }
    // Each leading zero byte is a one.
    std::string out(std::find_if(bytes.begin(), bytes.end(), [](char c) { return c != 0; }) - bytes.begin(), '1');
    for (auto digit = digits.rbegin(); digit != digits.rend(); ++digit) out.push_back(ALPHABET[*digit]);
    return out;
}
