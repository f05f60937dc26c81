// Names of files inside a bundle: plain, relative, the same file on every file system.
//
// A transcription of pipeline/ebbtide/bundle/names.py; tests/vectors/manifest holds both to it.

#ifndef EBBTIDE_RUNNER_NAMES_HPP_
#define EBBTIDE_RUNNER_NAMES_HPP_

#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace ebbtide {

inline constexpr const char* kManifestName = "manifest.json";
inline constexpr const char* kSignatureName = "manifest.sig";
inline constexpr const char* kPayloadName = "payload.xz";

// Why a name (UTF-8) may not stand in a manifest, nothing if it may.
std::optional<std::string> fault_of_name(const std::string& name);

// A name that collides with an earlier one, by its index, and why.
struct Collision {
  std::size_t index = 0;
  std::string fault;
};

// The first collision: the same name, one that differs only in case or composition, or a name that is a folder of
// another. Nothing if there is none.
std::optional<Collision> fault_of_set(const std::vector<std::string>& names);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_NAMES_HPP_
