#include "core/facts.hpp"

#include <algorithm>
#include <cstddef>

#include "core/error.hpp"

namespace ebbtide {
namespace {

constexpr std::int64_t kMaxBytes = (std::int64_t{1} << 53) - 1;
constexpr std::size_t kLongestText = 400;  // characters
constexpr std::size_t kLongestName = 64;
constexpr std::size_t kMostNames = 16;
constexpr std::size_t kMostDigits = 6;

[[noreturn]] void refuse(const char* name, const std::string& expected, const std::string& found) {
  throw Error("device.facts", std::string("The fact ") + name + " is not possible.",
              {.expected = expected, .found = found.substr(0, kLongestText), .place = name});
}

bool is_digit(char letter) { return letter >= '0' && letter <= '9'; }

// How many digits a version has from a place on, at most six.
std::size_t digits_at(std::string_view version, std::size_t at) {
  std::size_t digits = 0;
  while (digits < kMostDigits && at + digits < version.size() && is_digit(version[at + digits])) {
    ++digits;
  }
  return digits;
}

// The length of the numbers with points between them, at most three, that a version begins with; sets how many there
// are.
std::size_t length_of_numbers(std::string_view version, std::size_t& count) {
  std::size_t length = digits_at(version, 0);
  count = length > 0 ? 1 : 0;
  while (count > 0 && count < 3 && length < version.size() && version[length] == '.') {
    const std::size_t digits = digits_at(version, length + 1);
    if (digits == 0) {
      break;
    }
    length += 1 + digits;
    ++count;
  }
  return length;
}

// One to three numbers and nothing else.
bool is_os_version(std::string_view version) {
  std::size_t count = 0;
  return length_of_numbers(version, count) == version.size() && count > 0;
}

// Three numbers; after them anything, of one line, that does not begin with a digit.
bool is_runtime_version(std::string_view version) {
  std::size_t count = 0;
  const std::size_t length = length_of_numbers(version, count);
  if (count != 3) {
    return false;
  }
  const std::string_view rest = version.substr(length);
  return rest.empty() || (!is_digit(rest.front()) && rest.find('\n', 1) == std::string_view::npos);
}

// Lower-case letters, digits and . _ - between two of the former.
bool is_name(std::string_view name) {
  const auto is_end = [](char letter) { return is_digit(letter) || (letter >= 'a' && letter <= 'z'); };
  return !name.empty() && name.size() <= kLongestName && is_end(name.front()) && is_end(name.back()) &&
         std::all_of(name.begin(), name.end(),
                     [&](char letter) { return is_end(letter) || letter == '.' || letter == '_' || letter == '-'; });
}

// At most 400 characters of UTF-8.
bool is_short(std::string_view text) {
  const auto begins = [](char byte) { return (static_cast<unsigned char>(byte) & 0xC0U) != 0x80U; };
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), begins)) <= kLongestText;
}

void check_text(const char* name, const std::optional<std::string>& text) {
  if (text.has_value() && !is_short(*text)) {
    refuse(name, "at most 400 characters", *text);
  }
}

void check_abis(const std::vector<std::string>& abis) {
  const auto is_text = [](const std::string& abi) { return !abi.empty() && is_short(abi); };
  if (abis.empty() || abis.size() > kMostNames || !std::all_of(abis.begin(), abis.end(), is_text)) {
    refuse("abis", "1 to 16 texts", std::to_string(abis.size()) + " texts, or an empty or very long one");
  }
}

}  // namespace

std::optional<std::string> Facts::model() const {
  const std::optional<std::string> known_brand = known(brand);
  const std::optional<std::string> known_device = known(device);
  return known_brand.has_value() && known_device.has_value() ? std::optional(*known_brand + "/" + *known_device)
                                                             : std::nullopt;
}

void check_facts(const Facts& facts) {
  constexpr std::array<std::string_view, 5> kPlatforms = {"android", "ios", "linux", "macos", "windows"};
  if (std::find(kPlatforms.begin(), kPlatforms.end(), facts.platform) == kPlatforms.end()) {
    refuse("platform", "android, ios, linux, macos or windows", facts.platform);
  }
  if (facts.profile.has_value() && !is_name(*facts.profile)) {
    refuse("profile", "a profile's name", *facts.profile);
  }
  check_text("brand", facts.brand);
  check_text("device", facts.device);
  check_text("soc_model", facts.soc_model);
  check_text("identifier", facts.identifier);
  if (facts.ram_bytes.has_value() && (*facts.ram_bytes < 1 || *facts.ram_bytes > kMaxBytes)) {
    refuse("ram_bytes", "1 to 2^53 - 1", std::to_string(*facts.ram_bytes));
  }
  if (facts.os_version.has_value() && !is_os_version(*facts.os_version)) {
    refuse("os_version", "one to three numbers, such as 34 or 17.2", *facts.os_version);
  }
  if (facts.abis.has_value()) {
    check_abis(*facts.abis);
  }
  if (facts.engine.has_value() && *facts.engine != "executorch" && *facts.engine != "coreml") {
    refuse("engine", "executorch or coreml", *facts.engine);
  }
  if (facts.runtime_version.has_value() && !is_runtime_version(*facts.runtime_version)) {
    refuse("runtime_version", "three numbers, such as 1.5.1", *facts.runtime_version);
  }
  if (facts.backends.has_value() &&
      (facts.backends->size() > kMostNames || !std::all_of(facts.backends->begin(), facts.backends->end(), is_name))) {
    refuse("backends", "at most 16 names in lower case", std::to_string(facts.backends->size()) + " names");
  }
}

// Android writes "unknown" where it does not know.
std::optional<std::string> known(const std::optional<std::string>& fact) {
  return fact.has_value() && (fact->empty() || *fact == "unknown") ? std::nullopt : fact;
}

std::array<std::int32_t, 3> version_numbers(std::string_view version) {
  std::size_t count = 0;
  const std::string_view text = version.substr(0, length_of_numbers(version, count));
  std::array<std::int32_t, 3> numbers{};
  std::size_t index = 0;
  for (const char letter : text) {
    if (letter == '.') {
      ++index;
    } else {
      numbers[index] = numbers[index] * 10 + (letter - '0');
    }
  }
  return numbers;
}

}  // namespace ebbtide
