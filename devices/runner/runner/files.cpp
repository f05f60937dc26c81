#include "runner/files.hpp"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "core/error.hpp"

namespace ebbtide {
namespace {

constexpr std::size_t kBlockBytes = std::size_t{1} << 20;

Error wrong_kind(const std::string& place, const std::string& found) {
  return {"bundle.file_kind",
          "A bundle holds plain files and folders only.",
          {.expected = "a plain file", .found = found, .place = place}};
}

Error wrong_size(std::int64_t expected, std::int64_t found, const std::string& place) {
  return {"bundle.file_size",
          "The file does not have the size that the manifest states.",
          {.expected = std::to_string(expected) + " bytes",
           .found = std::to_string(found) + " bytes",
           .hint = "Fetch the bundle again from its source.",
           .place = place}};
}

// A plain file opened for reading; the last segment of its name may not be a link.
class PlainFile {
 public:
  explicit PlainFile(const std::filesystem::path& path) : place_(path.string()) {
    // Without O_NONBLOCK, opening a named pipe would wait for ever.
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (descriptor_ < 0) {
      if (errno == ELOOP) throw wrong_kind(place_, "a link");
      throw Error("bundle.file_missing", "The file cannot be read.", {.found = std::strerror(errno), .place = place_});
    }
    struct stat facts{};
    if (::fstat(descriptor_, &facts) != 0 || !S_ISREG(facts.st_mode)) {
      ::close(descriptor_);
      throw wrong_kind(place_, "something else");
    }
    size_bytes_ = facts.st_size;
  }

  ~PlainFile() { ::close(descriptor_); }
  PlainFile(const PlainFile&) = delete;
  PlainFile& operator=(const PlainFile&) = delete;

  std::int64_t size_bytes() const { return size_bytes_; }

  // Hand every block to `take`. Throws bundle.file_size if there is more or less than `expected`.
  void read(std::int64_t expected, const std::function<void(std::string_view)>& take) {
    if (size_bytes_ != expected) throw wrong_size(expected, size_bytes_, place_);
    std::vector<char> block(kBlockBytes);
    std::int64_t done = 0;
    while (done <= expected) {
      const ssize_t count = ::read(descriptor_, block.data(), block.size());
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      done += count;
      if (done <= expected) take({block.data(), static_cast<std::size_t>(count)});
    }
    if (done != expected) throw wrong_size(expected, done, place_);
  }

 private:
  std::string place_;
  int descriptor_ = -1;
  std::int64_t size_bytes_ = 0;
};

class Sha256 {
 public:
  Sha256() : context_(EVP_MD_CTX_new(), &EVP_MD_CTX_free) {
    if (!context_ || EVP_DigestInit_ex(context_.get(), EVP_sha256(), nullptr) != 1) throw std::bad_alloc();
  }

  void update(std::string_view data) { EVP_DigestUpdate(context_.get(), data.data(), data.size()); }

  std::string hex() {
    std::array<unsigned char, 32> digest{};
    EVP_DigestFinal_ex(context_.get(), digest.data(), nullptr);
    return hex_of(digest);
  }

 private:
  std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context_;
};

}  // namespace

std::string hex_of(std::span<const unsigned char> bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

std::string sha256_of(std::string_view data) {
  Sha256 digest;
  digest.update(data);
  return digest.hex();
}

std::string read_small(const std::filesystem::path& path, std::size_t limit_bytes) {
  PlainFile file(path);
  if (file.size_bytes() > static_cast<std::int64_t>(limit_bytes)) {
    throw Error("bundle.limit", "The file is larger than readers accept.",
                {.expected = "at most " + std::to_string(limit_bytes) + " bytes",
                 .found = std::to_string(file.size_bytes()) + " bytes",
                 .place = path.string()});
  }
  std::string data;
  file.read(file.size_bytes(), [&](std::string_view block) { data += block; });
  return data;
}

void verify_file(const std::filesystem::path& path, std::int64_t size_bytes, const std::string& sha256) {
  PlainFile file(path);
  Sha256 digest;
  file.read(size_bytes, [&](std::string_view block) { digest.update(block); });
  const std::string found = digest.hex();
  if (found != sha256) {
    throw Error("bundle.file_hash", "The file is not the one that the manifest states.",
                {.expected = sha256,
                 .found = found,
                 .hint = "Fetch the bundle again from its source.",
                 .place = path.string()});
  }
}

void check_contents(const std::filesystem::path& folder, const std::set<std::string>& expected) {
  namespace fs = std::filesystem;
  std::set<std::string> folders;
  for (const std::string& name : expected) {
    for (std::size_t at = name.find('/'); at != std::string::npos; at = name.find('/', at + 1)) {
      folders.insert(name.substr(0, at));
    }
  }
  std::set<std::string> missing = expected;
  std::error_code failure;
  fs::recursive_directory_iterator entry(folder, failure);
  for (; !failure && entry != fs::recursive_directory_iterator(); entry.increment(failure)) {
    const std::string name = entry->path().lexically_relative(folder).generic_string();
    const std::string place = folder.string() + "/" + name;
    const fs::file_status status = entry->symlink_status(failure);
    if (failure) break;
    const bool is_folder = fs::is_directory(status);
    if (!is_folder && !fs::is_regular_file(status)) {
      throw wrong_kind(place, fs::is_symlink(status) ? "a link" : "something else");
    }
    if (!(is_folder ? folders : expected).contains(name)) {
      throw Error("bundle.extra_file", "This is not in the manifest.",
                  {.hint = "Remove it, or fetch the bundle again from its source.", .place = place});
    }
    if (!is_folder) missing.erase(name);
  }
  if (failure) {
    throw Error("bundle.file_missing", "The folder cannot be read.",
                {.found = failure.message(), .place = folder.string()});
  }
  if (!missing.empty()) {
    throw Error("bundle.file_missing", std::to_string(missing.size()) + " files of the bundle are not there.",
                {.hint = "Fetch the bundle again from its source.", .place = folder.string() + "/" + *missing.begin()});
  }
}

}  // namespace ebbtide
