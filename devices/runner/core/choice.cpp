#include "core/choice.hpp"

#include <algorithm>
#include <array>
#include <tuple>

#include "core/error.hpp"

namespace ebbtide {
namespace {

// How a profile can recognise a device, the surest first.
enum class Recognised : std::uint8_t { kNamed, kDevice, kIdentifier, kSoc, kDefault };

// The words of `Recognised` as reasons; the last is for a device that is in no group.
constexpr std::array<std::string_view, 5> kReasons = {"profile:named", "profile:device", "profile:identifier",
                                                      "profile:soc", "default"};

// A candidate that can be used: how its profile recognised the device, and the first and last tier allowed.
struct Judged {
  std::size_t index = 0;
  Recognised recognised = Recognised::kDefault;
  std::size_t first = 0;
  std::size_t last = 0;
};

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

bool contains(const std::vector<std::string>& names, const std::optional<std::string>& name) {
  return name.has_value() && contains(names, *name);
}

std::optional<Recognised> recognises(const ProfileRule& profile, const Facts& facts) {
  if (profile.platform != facts.platform) {
    return std::nullopt;
  }
  if (profile.id == facts.profile && !profile.is_default) {  // to be told that it is any device tells nothing
    return Recognised::kNamed;
  }
  if (contains(profile.device, facts.model())) {
    return Recognised::kDevice;
  }
  if (contains(profile.identifier, known(facts.identifier))) {
    return Recognised::kIdentifier;
  }
  if (contains(profile.soc, known(facts.soc_model))) {
    return Recognised::kSoc;
  }
  return profile.is_default ? std::optional(Recognised::kDefault) : std::nullopt;
}

// Why the application's runtime cannot run a candidate; empty if it can.
std::string_view runtime_lacks(const Candidate& candidate, const Facts& facts) {
  if (candidate.platform != facts.platform) {
    return "platform";
  }
  if (facts.engine.has_value() && candidate.engine != *facts.engine) {
    return "engine";
  }
  if (facts.runtime_version.has_value()) {
    const auto version = version_numbers(*facts.runtime_version);
    if (version < version_numbers(candidate.runtime_min) ||
        version >= version_numbers(candidate.runtime_max_exclusive)) {
      return "runtime_version";
    }
  }
  const auto is_missing = [&](const std::string& backend) { return !contains(*facts.backends, backend); };
  if (facts.backends.has_value() && std::any_of(candidate.backends.begin(), candidate.backends.end(), is_missing)) {
    return "backend";
  }
  return {};
}

// Which demand of its profile a device does not meet; empty if it meets all.
std::string_view profile_refuses(const ProfileRule& profile, const Facts& facts) {
  if (profile.os_min.has_value() && facts.os_version.has_value() &&
      version_numbers(*facts.os_version) < version_numbers(*profile.os_min)) {
    return "os";
  }
  const auto is_asked = [&](const std::string& abi) { return contains(*profile.abis, abi); };
  if (profile.abis.has_value() && facts.abis.has_value() &&
      std::none_of(facts.abis->begin(), facts.abis->end(), is_asked)) {
    return "abi";
  }
  if (profile.ram_bytes_min.has_value() && facts.ram_bytes.has_value() && *facts.ram_bytes < *profile.ram_bytes_min) {
    return "ram";
  }
  return {};
}

std::int32_t smallest_percent(const std::vector<CandidateTier>& tiers) {
  std::int32_t smallest = tiers.empty() ? 0 : tiers.front().percent();
  for (const CandidateTier& tier : tiers) {
    smallest = std::min(smallest, tier.percent());
  }
  return smallest;
}

// Sets the first and last tier of the run of allowed tiers that ends with the cheapest of them; false if there is none.
// One run, because that is what a policy can be limited to.
bool allow_tiers(const std::vector<CandidateTier>& tiers, const GroupRule* group, Judged& judged) {
  const std::int32_t smallest = smallest_percent(tiers);
  const auto allows = [&](const CandidateTier& tier) {
    if (group != nullptr) {
      return tier.memory_bytes() <= group->memory_bytes_max;
    }
    return judged.recognised != Recognised::kDefault || tier.percent() == smallest;
  };
  std::size_t stop = tiers.size();
  while (stop > 0 && !allows(tiers[stop - 1])) {
    --stop;
  }
  if (stop == 0) {
    return false;
  }
  judged.last = stop - 1;
  judged.first = judged.last;
  while (judged.first > 0 && allows(tiers[judged.first - 1])) {
    --judged.first;
  }
  return true;
}

// Why a candidate cannot be used; empty, and `judged` set, if it can.
std::string_view judge(const Candidate& candidate, const Facts& facts, const ProfileRule* profile,
                       const GroupRule* group, Judged& judged) {
  if (const std::string_view lacking = runtime_lacks(candidate, facts); !lacking.empty()) {
    return lacking;
  }
  if (profile == nullptr) {
    return "profile";
  }
  const std::optional<Recognised> recognised = recognises(*profile, facts);
  if (!recognised.has_value()) {
    return "device";
  }
  if (const std::string_view refused = profile_refuses(*profile, facts); !refused.empty()) {
    return refused;
  }
  judged.recognised = *recognised;
  return allow_tiers(candidate.tiers, group, judged) ? std::string_view() : "memory";
}

// The profile of an id; of two with the same one the later.
const ProfileRule* profile_of(const std::string& id, const std::vector<ProfileRule>& profiles) {
  const auto found =
      std::find_if(profiles.rbegin(), profiles.rend(), [&](const ProfileRule& profile) { return profile.id == id; });
  return found == profiles.rend() ? nullptr : &*found;
}

// The absent facts that a check of this candidate would have needed.
std::vector<std::string_view> unknown_of(const Candidate& candidate, const Facts& facts, const ProfileRule& profile) {
  std::vector<std::string_view> names;
  const auto ask = [&](std::string_view name, bool asked, bool is_there) {
    if (asked && !is_there) {
      names.push_back(name);
    }
  };
  ask("ram_bytes", true, facts.ram_bytes.has_value());  // groups ask for it
  ask("os_version", profile.os_min.has_value(), facts.os_version.has_value());
  ask("abis", profile.abis.has_value(), facts.abis.has_value());
  ask("engine", true, facts.engine.has_value());
  ask("runtime_version", true, facts.runtime_version.has_value());
  ask("backends", !candidate.backends.empty(), facts.backends.has_value());
  return names;
}

// What follows from the tiers that a device may use of a bundle, and how it was recognised.
void set_tiers(const std::vector<CandidateTier>& tiers, const Judged& judged, const GroupRule* group, Choice& choice) {
  const auto first = tiers.begin() + static_cast<std::ptrdiff_t>(judged.first);
  const auto stop = tiers.begin() + static_cast<std::ptrdiff_t>(judged.last) + 1;
  const auto narrower = [](const CandidateTier& a, const CandidateTier& b) { return a.percent() < b.percent(); };
  const bool is_default = judged.recognised == Recognised::kDefault;
  // The first of the smallest width: cheaper tiers of that width are for the policy to go down to.
  const auto start = is_default ? std::min_element(first, stop, narrower) : first;
  const bool has_all = judged.first == 0 && judged.last + 1 == tiers.size();
  choice.reason = is_default && group != nullptr ? "group" : kReasons[static_cast<std::size_t>(judged.recognised)];
  choice.group = group != nullptr ? std::optional(group->id) : std::nullopt;
  choice.limit = has_all ? "none" : group != nullptr ? "memory" : "unknown";
  choice.tier = static_cast<std::int32_t>(start - tiers.begin());
  choice.minimum_tier = static_cast<std::int32_t>(judged.first);
  choice.maximum_tier = static_cast<std::int32_t>(judged.last);
  choice.width = start->width;
  choice.widest = std::max_element(first, stop, narrower)->width;
}

Error no_bundle(const Facts& facts, std::span<const Candidate> candidates,
                const std::vector<std::string_view>& excluded) {
  std::string found;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    found += (found.empty() ? "" : ", ") + candidates[i].name + ": " + std::string(excluded[i]);
  }
  return {"device.no_bundle",
          "None of the bundles can be used on this device.",
          {.expected = "a bundle for " + facts.platform, .found = found.empty() ? "no bundles" : found}};
}

}  // namespace

std::int32_t CandidateTier::percent() const {
  const std::string_view text = width;
  return version_numbers(text.substr(std::min<std::size_t>(1, text.size())))[0];
}

bool Selector::holds(const Facts& facts) const {
  const auto one_is_any = [&](const std::string& abi) { return contains(abis_any, abi); };
  const auto one_is_none = [&](const std::string& abi) { return contains(abis_none, abi); };
  const auto& version = facts.os_version;
  return (!platform.has_value() || facts.platform == *platform) &&
         (device.empty() || contains(device, facts.model())) &&
         (soc.empty() || contains(soc, known(facts.soc_model))) &&
         (identifier.empty() || contains(identifier, known(facts.identifier))) &&
         (!ram_bytes_min.has_value() || (facts.ram_bytes.has_value() && *facts.ram_bytes >= *ram_bytes_min)) &&
         (!ram_bytes_below.has_value() || (facts.ram_bytes.has_value() && *facts.ram_bytes < *ram_bytes_below)) &&
         (!os_min.has_value() || (version.has_value() && version_numbers(*version) >= version_numbers(*os_min))) &&
         (!os_below.has_value() || (version.has_value() && version_numbers(*version) < version_numbers(*os_below))) &&
         (abis_any.empty() ||
          (facts.abis.has_value() && std::any_of(facts.abis->begin(), facts.abis->end(), one_is_any))) &&
         (abis_none.empty() ||
          (facts.abis.has_value() && std::none_of(facts.abis->begin(), facts.abis->end(), one_is_none)));
}

const GroupRule* group_of(const Facts& facts, std::span<const GroupRule> groups) {
  const auto holds = [&](const Selector& selector) { return selector.holds(facts); };
  const auto found = std::find_if(groups.begin(), groups.end(), [&](const GroupRule& group) {
    return std::any_of(group.any.begin(), group.any.end(), holds);
  });
  return found == groups.end() ? nullptr : &*found;
}

Choice choose(const Facts& facts, std::span<const Candidate> candidates, const Catalog& catalog) {
  check_facts(facts);
  const GroupRule* group = group_of(facts, catalog.groups);
  std::optional<Judged> best;
  const auto rank = [&](const Judged& judged) {
    const Candidate& candidate = candidates[judged.index];
    return std::tuple(judged.recognised, -candidate.sequence, std::string_view(candidate.profile),
                      std::string_view(candidate.name));
  };
  Choice choice;
  for (std::size_t index = 0; index < candidates.size(); ++index) {
    Judged judged{.index = index};
    const ProfileRule* profile = profile_of(candidates[index].profile, catalog.profiles);
    choice.excluded.push_back(judge(candidates[index], facts, profile, group, judged));
    // Of equal ones the earlier stays.
    if (choice.excluded.back().empty() && (!best.has_value() || rank(judged) < rank(*best))) {
      best = judged;
    }
  }
  if (!best.has_value()) {
    throw no_bundle(facts, candidates, choice.excluded);
  }
  const Candidate& candidate = candidates[best->index];
  choice.candidate = best->index;
  set_tiers(candidate.tiers, *best, group, choice);
  choice.unknown = unknown_of(candidate, facts, *profile_of(candidate.profile, catalog.profiles));
  return choice;
}

}  // namespace ebbtide
