// SHA-256 of data in parts.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include <openssl/evp.h>

class Sha256 {
public:
    Sha256() { EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr); }
    void add(std::string_view data) { EVP_DigestUpdate(context_.get(), data.data(), data.size()); }
    // The 32 bytes; no data may be added after that.
    std::string end() {
        std::string out(32, '\0');
        EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char*>(out.data()), nullptr);
        return out;
    }

private:
    struct Release {
        void operator()(EVP_MD_CTX* it) const { EVP_MD_CTX_free(it); }
    };
    std::unique_ptr<EVP_MD_CTX, Release> context_{EVP_MD_CTX_new()};
};
