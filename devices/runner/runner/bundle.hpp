// Opening a bundle: nothing is used before everything has been checked.

#ifndef EBBTIDE_RUNNER_BUNDLE_HPP_
#define EBBTIDE_RUNNER_BUNDLE_HPP_

#include <filesystem>
#include <optional>
#include <string>

#include "runner/manifest.hpp"

namespace ebbtide {

// A bundle whose manifest and files have been checked.
struct Bundle {
  std::filesystem::path folder;
  Manifest manifest;
  std::string manifest_sha256;
  bool is_signature_checked = false;

  // The file of a program. Throws runtime.engine for a program that has one for each method.
  const FileEntry& file_of(const ProgramEntry& program) const;
};

// Check a raw or unpacked bundle completely and open it: the signature if `key` is given, the manifest, what it asks of
// this runtime, which files are there, and the size and SHA-256 of each.
//
// Throws bundle.*, runtime.engine.
Bundle open_bundle(const std::filesystem::path& folder, const std::optional<std::filesystem::path>& key);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_BUNDLE_HPP_
