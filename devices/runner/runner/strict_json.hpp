// JSON as every reader of a bundle must take it: one meaning for every byte, bounded work, no surprises.
//
// A transcription of pipeline/ebbtide/bundle/strict_json.py; tests/vectors/manifest holds both to it.

#ifndef EBBTIDE_RUNNER_STRICT_JSON_HPP_
#define EBBTIDE_RUNNER_STRICT_JSON_HPP_

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace ebbtide {

using Json = nlohmann::json;

inline constexpr std::size_t kMaxManifestBytes = std::size_t{8} * 1024 * 1024;

// Parse one JSON object: UTF-8 without a byte order mark, no key twice, nested at most 32 deep, integers within 2^53 -
// 1 either way, finite numbers. Throws bundle.manifest_syntax with place "$" for anything else.
Json parse_strict(std::string_view data);

// A copy without the "x_*" objects, which may stand in any object and which readers ignore. Throws
// bundle.manifest_value where such a key holds something that is not an object.
Json drop_extensions(const Json& value, const std::string& path = "$");

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_STRICT_JSON_HPP_
