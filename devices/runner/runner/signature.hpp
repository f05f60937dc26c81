// Signatures: ECDSA over P-256 with SHA-256, over the exact bytes of a manifest.
//
// A transcription of what pipeline/ebbtide/bundle/signature.py verifies.

#ifndef EBBTIDE_RUNNER_SIGNATURE_HPP_
#define EBBTIDE_RUNNER_SIGNATURE_HPP_

#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>

struct evp_pkey_st;

namespace ebbtide {

// Two integers of at most 33 bytes with two bytes of header each, and two for the sequence.
inline constexpr std::size_t kMaxSignatureBytes = 72;

// A key that is trusted, with its id: the first 16 hexadecimal digits of the SHA-256 of its SubjectPublicKeyInfo.
class PublicKey {
 public:
  // Read a P-256 public key in PEM form. Throws bundle.key.
  explicit PublicKey(const std::filesystem::path& pem);

  const std::string& id() const { return id_; }

  // Throws bundle.signature if the signature is not this key's over exactly these bytes, in the one form that DER
  // allows.
  void verify(std::string_view data, std::string_view signature) const;

 private:
  std::shared_ptr<evp_pkey_st> key_;
  std::string id_;
};

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_SIGNATURE_HPP_
