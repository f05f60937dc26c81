#include "runner/signature.hpp"

#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include <array>
#include <fstream>
#include <vector>

#include "core/error.hpp"
#include "runner/files.hpp"

namespace ebbtide {
namespace {

constexpr std::size_t kMaxKeyBytes = 16 * 1024;

Error bad_key(const std::filesystem::path& path, const std::string& found) {
  return {"bundle.key",
          "This is not a key that can be used here.",
          {.expected = "a P-256 public key in PEM form",
           .found = found,
           .hint = "Make one with `ebb keys new`, and its public half with `ebb keys public`.",
           .place = path.string()}};
}

Error bad_signature(const std::string& message) {
  return {"bundle.signature", message, {.hint = "Fetch the bundle again from its source.", .place = "manifest.sig"}};
}

const unsigned char* bytes_of(std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); }

// One encoding for each pair of integers: a second one would be a second valid file.
void check_form(std::string_view signature) {
  if (signature.size() > kMaxSignatureBytes) throw bad_signature("The signature has too many bytes.");
  const unsigned char* read = bytes_of(signature);
  const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> parsed(
      d2i_ECDSA_SIG(nullptr, &read, static_cast<long>(signature.size())), &ECDSA_SIG_free);
  if (!parsed) throw bad_signature("The signature is not an ECDSA signature in DER form.");
  const int size = i2d_ECDSA_SIG(parsed.get(), nullptr);
  std::vector<unsigned char> again(static_cast<std::size_t>(size > 0 ? size : 0));
  unsigned char* write = again.data();
  i2d_ECDSA_SIG(parsed.get(), &write);
  if (std::string_view(reinterpret_cast<const char*>(again.data()), again.size()) != signature) {
    throw bad_signature("The signature is not in the one form that DER allows.");
  }
}

std::string read_key(const std::filesystem::path& path) {
  std::ifstream stream(path, std::ios::binary);
  std::string text(kMaxKeyBytes + 1, '\0');
  stream.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(stream.gcount()));
  if (text.empty()) throw bad_key(path, "a file that cannot be read, or nothing in it");
  if (text.size() > kMaxKeyBytes) throw bad_key(path, "more than 16384 bytes");
  return text;
}

}  // namespace

PublicKey::PublicKey(const std::filesystem::path& pem) {
  const std::string text = read_key(pem);
  const std::unique_ptr<BIO, decltype(&BIO_free)> memory(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())),
                                                         &BIO_free);
  key_ = std::shared_ptr<EVP_PKEY>(PEM_read_bio_PUBKEY(memory.get(), nullptr, nullptr, nullptr), &EVP_PKEY_free);
  if (!key_) throw bad_key(pem, "something else");
  std::array<char, 32> group{};
  std::size_t length = 0;
  if (EVP_PKEY_get_base_id(key_.get()) != EVP_PKEY_EC ||
      EVP_PKEY_get_group_name(key_.get(), group.data(), group.size(), &length) != 1 ||
      std::string_view(group.data(), length) != "prime256v1") {
    throw bad_key(pem, "a key of another kind");
  }
  unsigned char* der = nullptr;
  const int size = i2d_PUBKEY(key_.get(), &der);
  if (size <= 0) throw bad_key(pem, "something else");
  id_ = sha256_of({reinterpret_cast<const char*>(der), static_cast<std::size_t>(size)}).substr(0, 16);
  OPENSSL_free(der);
}

void PublicKey::verify(std::string_view data, std::string_view signature) const {
  check_form(signature);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!context || EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) != 1 ||
      EVP_DigestVerify(context.get(), bytes_of(signature), signature.size(), bytes_of(data), data.size()) != 1) {
    throw bad_signature("The manifest is not what was signed, or the signature is another's.");
  }
}

}  // namespace ebbtide
