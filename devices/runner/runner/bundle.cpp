#include "runner/bundle.hpp"

#include <algorithm>
#include <set>
#include <vector>

#include "core/error.hpp"
#include "runner/files.hpp"
#include "runner/names.hpp"
#include "runner/runtime_facts.hpp"
#include "runner/signature.hpp"
#include "runner/strict_json.hpp"

namespace ebbtide {
namespace {

// As the default limits of pipeline/ebbtide/bundle/layout.py.
constexpr std::int64_t kMaxTotalBytes = std::int64_t{4} * 1024 * 1024 * 1024;
constexpr std::int64_t kMaxDictionaryBytes = std::int64_t{512} * 1024 * 1024;

void check_limit(std::int64_t found, std::int64_t limit, const std::string& what, const std::string& place) {
  if (found > limit) {
    throw Error("bundle.limit", "The manifest states " + std::to_string(found) + " " + what + ".",
                {.expected = "at most " + std::to_string(limit), .place = place});
  }
}

void check_limits(const Manifest& manifest) {
  std::int64_t total = 0;
  for (const FileEntry& file : manifest.files) {
    total += file.size_bytes;
    check_limit(total, kMaxTotalBytes, "bytes in all files", "$.files");
  }
  if (manifest.payload.xz) {
    check_limit(manifest.payload.xz->dictionary_bytes, kMaxDictionaryBytes, "dictionary bytes",
                "$.payload.xz.dictionary_bytes");
    // A stream that does not shrink is stored with less than one part in a thousand of framing.
    check_limit(manifest.payload.xz->size_bytes, total + total / 1000 + 4096, "payload bytes", "$.payload.xz.size");
  }
}

// The manifest of signed bytes. A signature that the trusted key did not make may be that of a key nobody trusts here:
// then the manifest names it, and that says more.
Manifest signed_manifest(const std::string& data, const std::string& signature, const PublicKey& key) {
  std::optional<Error> refused;
  try {
    key.verify(data, signature);
  } catch (const Error& error) {
    refused = error;
  }
  if (refused) {
    std::string stated;
    try {
      stated = parse_manifest(data).key_id;
    } catch (const Error&) {
      throw *refused;
    }
    if (stated == key.id()) throw *refused;
    throw Error("bundle.key_untrusted", "The bundle is signed by a key that is not trusted here.",
                {.expected = key.id(),
                 .found = stated,
                 .hint = "Give the public key of whoever built the bundle, if you trust them.",
                 .place = "manifest.sig"});
  }
  Manifest manifest = parse_manifest(data);
  if (manifest.key_id != key.id()) {
    throw Error("bundle.signature", "The manifest states another key than the one that signed it.",
                {.expected = key.id(), .found = manifest.key_id, .place = "$.key_id"});
  }
  return manifest;
}

void check_runtime(const RuntimeEntry& runtime) {
  if (runtime.engine != "executorch") {
    throw Error("runtime.engine", "The bundle was lowered for " + runtime.engine + ".",
                {.expected = "executorch", .found = runtime.engine, .place = "$.runtime.engine"});
  }
  const std::string version = executorch_version();
  const auto key = version_key(version);
  if (key < version_key(runtime.min) || key >= version_key(runtime.max_exclusive)) {
    throw Error("bundle.runtime_version", "This executorch is " + version + ", for which the bundle was not built.",
                {.expected = "at least " + runtime.min + ", below " + runtime.max_exclusive,
                 .found = version,
                 .hint = "Use a runtime of that range, or build the bundle for this one.",
                 .place = "$.runtime"});
  }
  const std::vector<std::string> backends = executorch_backends();
  for (const std::string& wanted : runtime.backends) {
    if (std::find(backends.begin(), backends.end(), wanted) == backends.end()) {
      throw Error("bundle.runtime_version", "This executorch lacks the backend " + wanted + ".",
                  {.expected = wanted,
                   .hint = "Use a runtime that has it, or build the bundle for another device profile.",
                   .place = "$.runtime.backends"});
    }
  }
}

}  // namespace

const FileEntry& Bundle::file_of(const ProgramEntry& program) const {
  if (!program.file) {
    throw Error("runtime.engine",
                "Program " + program.id + " has a file for each method, which this runtime cannot load.",
                {.expected = "a program in the form pte", .found = program.format, .place = program.id});
  }
  return *std::find_if(manifest.files.begin(), manifest.files.end(),
                       [&](const FileEntry& file) { return file.path == *program.file; });
}

Bundle open_bundle(const std::filesystem::path& folder, const std::optional<std::filesystem::path>& key) {
  const std::string data = read_small(folder / kManifestName, kMaxManifestBytes);
  Bundle bundle{
      .folder = folder,
      .manifest = key ? signed_manifest(data, read_small(folder / kSignatureName, kMaxSignatureBytes), PublicKey(*key))
                      : parse_manifest(data),
      .manifest_sha256 = sha256_of(data),
      .is_signature_checked = key.has_value()};
  const Manifest& manifest = bundle.manifest;
  check_limits(manifest);
  if (manifest.payload.format == "xz" &&
      std::filesystem::exists(std::filesystem::symlink_status(folder / kPayloadName))) {
    throw Error("bundle.payload", "The files of this bundle are packed.",
                {.hint = "Install it into a store first (`ebb install`), or unpack it.",
                 .place = (folder / kPayloadName).string()});
  }
  check_runtime(manifest.runtime);
  std::set<std::string> expected = {kManifestName, kSignatureName};
  for (const FileEntry& file : manifest.files) expected.insert(file.path);
  check_contents(folder, expected);
  for (const FileEntry& file : manifest.files) verify_file(folder / file.path, file.size_bytes, file.sha256);
  return bundle;
}

}  // namespace ebbtide
