// tests/vectors/manifest: whole manifests; valid ones are read, invalid ones give an error with a JSON path.
//
// `canonical`, the bytes that a writer makes of a valid one, is not compared: nothing here writes manifests.

#include <openssl/evp.h>

#include <optional>
#include <string>

#include "runner/manifest.hpp"
#include "runner/replay_vectors.hpp"

namespace ebbtide {
namespace {

std::string decoded(const Node& base64) {
  const std::string text = base64.text();
  std::string bytes(text.size() / 4 * 3, '\0');
  const int count = text.empty() ? -1
                                 : EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                                                   reinterpret_cast<const unsigned char*>(text.data()),
                                                   static_cast<int>(text.size()));
  if (count < 0) {
    base64.refuse("base64");
  }
  // OpenSSL counts the padding as bytes.
  bytes.resize(static_cast<std::size_t>(count) - (text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0));
  return bytes;
}

}  // namespace

void replay_manifest(const Node& document, Tally& tally) {
  for (const Node& entry : document.items()) {
    tally.begin();
    entry.only({"name", "why", "text", "base64", "canonical", "error"});
    const auto base64 = entry.find("base64");
    const std::string data = base64 ? decoded(*base64) : entry.at("text").text();
    const std::optional<Error> error = attempt([&] { parse_manifest(data); });
    if (const auto wanted = entry.find("error")) {
      wanted->only({"code", "path"});
      tally.compare_error(wanted->at("code"), error);
      if (error.has_value()) {
        tally.compare(wanted->at("path"), wanted->at("path").text(), error->place);
      }
    } else if (error.has_value()) {
      tally.differ(entry.place(), "no error", error->code + " at " + error->place);
    }
  }
}

}  // namespace ebbtide
