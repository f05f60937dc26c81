// Which bundle a device gets, and with which tier it begins: a pure function on integers and texts.
//
// The rule is the text of pipeline/ebbtide/device/choice.py (and of groups.py beside it), of which this is a
// transcription; the vectors in tests/vectors/choice hold both to it. Candidates and the catalogue are in the words of
// the documents they come from (a manifest, devices/catalog.json): whoever reads these checks them.

#ifndef EBBTIDE_CORE_CHOICE_HPP_
#define EBBTIDE_CORE_CHOICE_HPP_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/facts.hpp"

namespace ebbtide {

// A tier of a candidate: the width that its configuration runs, and what that needs.
struct CandidateTier {
  std::string width;            // "w" and a percentage
  std::int64_t file_bytes = 0;  // all files of the programs on its path; 0 to 2^53 - 1, as the next
  std::int64_t peak_bytes = 0;  // the largest activations on its path

  // What it may take: a program's file and the copy that the runtime packs of it, and the activations.
  std::int64_t memory_bytes() const { return 2 * file_bytes + peak_bytes; }
  // The width as a number.
  std::int32_t percent() const;
};

// A bundle that is there, as far as a choice reads its manifest.
struct Candidate {
  std::string name;
  std::int64_t sequence = 0;  // 0 to 2^53 - 1
  std::string profile;
  std::string platform;
  std::string engine;
  std::string runtime_min;
  std::string runtime_max_exclusive;
  std::vector<std::string> backends;
  std::vector<CandidateTier> tiers;  // 1 to 4
};

// How a profile recognises a device, and what it asks of it; what is absent is not asked.
struct ProfileRule {
  std::string id;
  std::string platform;
  std::vector<std::string> soc;         // any one of the four rules suffices
  std::vector<std::string> device;      // BRAND/DEVICE
  std::vector<std::string> identifier;  // utsname.machine
  bool is_default = false;              // chosen where nothing else of the platform matches
  std::optional<std::string> os_min;
  std::optional<std::vector<std::string>> abis;  // the device has one of these
  std::optional<std::int64_t> ram_bytes_min;
};

// Conditions on facts, all of which must hold; an absent fact fulfils none. An empty list asks nothing.
struct Selector {
  std::optional<std::string> platform;
  std::vector<std::string> device;
  std::vector<std::string> soc;
  std::vector<std::string> identifier;
  std::optional<std::int64_t> ram_bytes_min;    // at least
  std::optional<std::int64_t> ram_bytes_below;  // less than
  std::optional<std::string> os_min;
  std::optional<std::string> os_below;
  std::vector<std::string> abis_any;   // one of these is among the device's
  std::vector<std::string> abis_none;  // none of these is

  bool holds(const Facts& facts) const;
};

// A group of devices, and the most memory that a configuration may need on them.
struct GroupRule {
  std::string id;
  std::vector<Selector> any;  // one of these holds
  std::int64_t memory_bytes_max = 0;
};

// All profiles and all groups, the groups in order: the first that holds counts.
struct Catalog {
  std::vector<ProfileRule> profiles;
  std::vector<GroupRule> groups;
};

// What was chosen and why. The words live for ever.
struct Choice {
  std::size_t candidate = 0;  // its index
  std::string_view
      reason;  // "profile:named", "profile:device", "profile:identifier", "profile:soc", "group", "default"
  std::optional<std::string> group;       // the one that the device is in
  std::string_view limit;                 // why not all tiers are allowed: "none", "memory", "unknown"
  std::int32_t tier = 0;                  // to begin with
  std::int32_t minimum_tier = 0;          // the best allowed; the application's limit for the policy
  std::int32_t maximum_tier = 0;          // the cheapest allowed
  std::string width;                      // of `tier`
  std::string widest;                     // of the tiers allowed
  std::vector<std::string_view> unknown;  // facts that were absent where a check needed them, in the order of `Facts`
  // For each candidate why it could not be used, empty where it could: "platform", "engine", "runtime_version",
  // "backend", "profile", "device", "os", "abi", "ram", "memory".
  std::vector<std::string_view> excluded;
};

// Choose a bundle for a device.
//
// Throws device.facts as `check_facts`, device.no_bundle if none can be used.
Choice choose(const Facts& facts, std::span<const Candidate> candidates, const Catalog& catalog);

// The first group that a device is in; null if it is in none. It lies in `groups`.
const GroupRule* group_of(const Facts& facts, std::span<const GroupRule> groups);

}  // namespace ebbtide

#endif  // EBBTIDE_CORE_CHOICE_HPP_
