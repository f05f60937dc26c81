// What an application can read of the device it runs on, and of the runtime that is built into it.
//
// A transcription of pipeline/ebbtide/device/facts.py; the vectors in tests/vectors/choice hold both to it.

#ifndef EBBTIDE_CORE_FACTS_HPP_
#define EBBTIDE_CORE_FACTS_HPP_

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ebbtide {

// A device and a runtime, as the application on it sees them. Every fact but the platform may be absent; a brand,
// device, SoC model or identifier that is empty or "unknown" is absent too.
struct Facts {
  std::string platform;                              // "android", "ios", "linux", "macos", "windows"
  std::optional<std::string> profile;                // the device's profile by name, where somebody has told it
  std::optional<std::string> brand;                  // Build.BRAND
  std::optional<std::string> device;                 // Build.DEVICE
  std::optional<std::string> soc_model;              // Build.SOC_MODEL
  std::optional<std::string> identifier;             // utsname.machine on Apple systems
  std::optional<std::int64_t> ram_bytes;             // MemoryInfo.totalMem, ProcessInfo.physicalMemory
  std::optional<std::string> os_version;             // API level on Android, version elsewhere
  std::optional<std::vector<std::string>> abis;      // Build.SUPPORTED_ABIS
  std::optional<std::string> engine;                 // the runtime built into the application
  std::optional<std::string> runtime_version;        // three numbers, and anything after them
  std::optional<std::vector<std::string>> backends;  // built into it, in the manifest's words

  // BRAND/DEVICE as profiles name a device; absent unless both are known.
  std::optional<std::string> model() const;
};

// Refuse facts that are not possible. Throws device.facts (place: the fact).
void check_facts(const Facts& facts);

// The fact, or nothing where it says that it is not known.
std::optional<std::string> known(const std::optional<std::string>& fact);

// The first three numbers of a version, of at most six digits each, for comparing; those that are not there are zero.
std::array<std::int32_t, 3> version_numbers(std::string_view version);

}  // namespace ebbtide

#endif  // EBBTIDE_CORE_FACTS_HPP_
