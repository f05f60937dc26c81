#include "runner/machine.hpp"

#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <vector>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

namespace ebbtide {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kKib = 1024;

std::optional<std::string> first_line(const fs::path& path) {
  std::ifstream stream(path);
  std::string line;
  if (!std::getline(stream, line) || line.empty()) return std::nullopt;
  return line;
}

std::optional<std::int64_t> integer_in(const fs::path& path) {
  std::ifstream stream(path);
  std::int64_t value = 0;
  if (!(stream >> value)) return std::nullopt;
  return value;
}

// What follows the first `separator` in the first line that begins with `key`, without blanks and quotes around it.
std::optional<std::string> value_in(const fs::path& path, const std::string& key, char separator) {
  std::ifstream stream(path);
  for (std::string line; std::getline(stream, line);) {
    const std::size_t at = line.find(separator);
    if (!line.starts_with(key) || at == std::string::npos) continue;
    const std::size_t start = line.find_first_not_of(" \t\"", at + 1);
    if (start != std::string::npos) return line.substr(start, line.find_last_not_of(" \t\"") - start + 1);
  }
  return std::nullopt;
}

OrderedJson json_of(const std::optional<std::string>& value) { return value ? OrderedJson(*value) : OrderedJson(); }
OrderedJson json_of(const std::optional<std::int64_t>& value) { return value ? OrderedJson(*value) : OrderedJson(); }

std::string platform() {
#if defined(__ANDROID__)
  return "android";
#elif defined(__APPLE__)
#if defined(__ENVIRONMENT_IPHONE_OS_VERSION_MIN_REQUIRED__)
  return "ios";
#else
  return "macos";
#endif
#else
  return "linux";
#endif
}

std::int64_t cores_usable(std::int64_t logical) {
#if defined(__linux__)
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return CPU_COUNT(&set);
#endif
  return logical;
}

std::optional<std::int64_t> status_bytes(const std::string& key) {
  const auto text = value_in("/proc/self/status", key, ':');
  if (!text) return std::nullopt;
  return std::stoll(*text) * kKib;
}

std::vector<fs::path> sorted_entries(const fs::path& folder) {
  std::error_code failure;
  std::vector<fs::path> entries;
  for (fs::directory_iterator entry(folder, failure); !failure && entry != fs::directory_iterator();
       entry.increment(failure)) {
    entries.push_back(entry->path());
  }
  std::sort(entries.begin(), entries.end());
  return entries;
}

// The hottest thermal zone in tenths of a degree Celsius.
std::optional<std::int64_t> hottest_zone_dc() {
  std::optional<std::int64_t> hottest;
  for (const fs::path& zone : sorted_entries("/sys/class/thermal")) {
    if (!zone.filename().string().starts_with("thermal_zone")) continue;
    const auto millidegrees = integer_in(zone / "temp");
    // A zone whose sensor is off says 0 or something absurd.
    if (millidegrees && *millidegrees > 0 && *millidegrees < 150'000) {
      hottest = std::max(hottest.value_or(*millidegrees / 100), *millidegrees / 100);
    }
  }
  return hottest;
}

}  // namespace

OrderedJson device_facts() {
  utsname names{};
  uname(&names);
  auto model = value_in("/proc/cpuinfo", "model name", ':');
  if (!model) model = value_in("/proc/cpuinfo", "Hardware", ':');  // as kernels for Arm call it
  const std::int64_t logical = std::max<std::int64_t>(sysconf(_SC_NPROCESSORS_ONLN), 1);
  auto os = value_in("/etc/os-release", "PRETTY_NAME", '=');
  if (!os) os = names.sysname;
  return {{"platform", platform()},
          {"model", json_of(first_line("/sys/devices/virtual/dmi/id/product_name"))},
          {"cpu_model", model.value_or(names.machine)},
          {"architecture", names.machine},
          {"cores_logical", logical},
          {"cores_usable", cores_usable(logical)},
          {"memory_bytes", static_cast<std::int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGESIZE)},
          {"os", *os},
          {"kernel", names.release},
          {"governor", json_of(first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))}};
}

std::optional<std::int64_t> resident_bytes() { return status_bytes("VmRSS"); }

std::optional<std::int64_t> peak_bytes() { return status_bytes("VmHWM"); }

bool reset_peak() {
#if defined(__GLIBC__)
  malloc_trim(0);
#endif
  std::ofstream stream("/proc/self/clear_refs");
  stream << 5 << std::flush;  // proc(5): resets the peak resident set size
  return stream.good();
}

OrderedJson thermal_facts() {
  std::optional<std::int64_t> percent;
  std::optional<std::int64_t> temperature_dc;
  std::optional<bool> is_charging;
  for (const fs::path& supply : sorted_entries("/sys/class/power_supply")) {
    if (first_line(supply / "type") != "Battery") continue;
    percent = integer_in(supply / "capacity");
    temperature_dc = integer_in(supply / "temp");
    if (const auto status = first_line(supply / "status")) is_charging = status == "Charging" || status == "Full";
    break;
  }
  // The system's own verdicts are for applications; a program on the host is told none.
  return {{"android_status", nullptr},
          {"apple_state", nullptr},
          {"headroom_mh", nullptr},
          {"battery_percent", json_of(percent)},
          {"battery_temperature_dc", json_of(temperature_dc)},
          {"charging", is_charging ? OrderedJson(*is_charging) : OrderedJson()},
          {"hottest_zone_dc", json_of(hottest_zone_dc())}};
}

std::string utc_now() {
  const std::time_t now = std::chrono::system_clock::to_time_t(std::chrono::system_clock::now());
  std::tm parts{};
  gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

}  // namespace ebbtide
