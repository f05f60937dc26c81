// Reading single files with bounds: no links followed, nothing read beyond what is allowed.

#ifndef EBBTIDE_RUNNER_FILES_HPP_
#define EBBTIDE_RUNNER_FILES_HPP_

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <string_view>

namespace ebbtide {

// The SHA-256 of some bytes in lower-case hexadecimal.
std::string sha256_of(std::string_view data);

// Two hexadecimal digits a byte, lower case.
std::string hex_of(std::span<const unsigned char> bytes);

// The whole content of a small plain file. Throws bundle.file_missing, bundle.file_kind (a link, a pipe, ...),
// bundle.limit if it is larger than the limit, bundle.file_size if it changes meanwhile.
std::string read_small(const std::filesystem::path& path, std::size_t limit_bytes);

// Check size and hash of a plain file in constant memory. Throws as above, and bundle.file_size, bundle.file_hash.
void verify_file(const std::filesystem::path& path, std::int64_t size_bytes, const std::string& sha256);

// Check that a folder holds exactly the expected plain files, and no folder beyond theirs. Throws bundle.file_kind,
// bundle.extra_file, bundle.file_missing.
void check_contents(const std::filesystem::path& folder, const std::set<std::string>& expected);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_FILES_HPP_
