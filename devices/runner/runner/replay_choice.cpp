// tests/vectors/choice: devices and the bundles that are there, each with the one to choose, or the error.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/choice.hpp"
#include "runner/replay_vectors.hpp"

namespace ebbtide {
namespace {

constexpr std::int64_t kMaxInteger = (std::int64_t{1} << 53) - 1;

std::vector<std::string> texts_of(const std::optional<Node>& list) {
  std::vector<std::string> texts;
  if (list.has_value()) {
    for (const Node& item : list->items()) {
      texts.push_back(item.text());
    }
  }
  return texts;
}

std::optional<std::string> text_of(const std::optional<Node>& value) {
  return value.has_value() ? std::optional(value->text()) : std::nullopt;
}

std::optional<std::int64_t> bytes_of(const std::optional<Node>& value) {
  return value.has_value() ? std::optional(value->integer(1, kMaxInteger)) : std::nullopt;
}

Facts read_facts(const Node& entry) {
  entry.only({"platform", "profile", "brand", "device", "soc_model", "identifier", "ram_bytes", "os_version", "abis",
              "engine", "runtime_version", "backends"});
  const auto list = [&](const char* key) {
    const auto value = entry.find(key);
    return value.has_value() ? std::optional(texts_of(value)) : std::nullopt;
  };
  return {.platform = entry.at("platform").text(),
          .profile = text_of(entry.find("profile")),
          .brand = text_of(entry.find("brand")),
          .device = text_of(entry.find("device")),
          .soc_model = text_of(entry.find("soc_model")),
          .identifier = text_of(entry.find("identifier")),
          .ram_bytes = bytes_of(entry.find("ram_bytes")),
          .os_version = text_of(entry.find("os_version")),
          .abis = list("abis"),
          .engine = text_of(entry.find("engine")),
          .runtime_version = text_of(entry.find("runtime_version")),
          .backends = list("backends")};
}

// Facts come in JSON with values of any type: a wrong one is an error of theirs and not the file's, since vectors test
// that, too.
Facts facts_of(const Node& entry) {
  try {
    return read_facts(entry);
  } catch (const Error& error) {
    throw Error("device.facts", error.what(), {.expected = error.expected, .found = error.found, .place = error.place});
  }
}

Candidate candidate_of(const Node& entry) {
  entry.only({"name", "sequence", "profile", "platform", "engine", "runtime_min", "runtime_max_exclusive", "backends",
              "tiers"});
  Candidate candidate{.name = entry.at("name").text(),
                      .sequence = entry.at("sequence").integer(0, kMaxInteger),
                      .profile = entry.at("profile").text(),
                      .platform = entry.at("platform").text(),
                      .engine = entry.at("engine").text(),
                      .runtime_min = entry.at("runtime_min").text(),
                      .runtime_max_exclusive = entry.at("runtime_max_exclusive").text(),
                      .backends = texts_of(entry.at("backends")),
                      .tiers = {}};
  for (const Node& tier : entry.at("tiers").items()) {
    tier.only({"width", "file_bytes", "peak_bytes"});
    candidate.tiers.push_back({.width = tier.at("width").text(),
                               .file_bytes = tier.at("file_bytes").integer(0, kMaxInteger),
                               .peak_bytes = tier.at("peak_bytes").integer(0, kMaxInteger)});
  }
  return candidate;
}

ProfileRule profile_of(const Node& entry) {
  entry.only({"id", "platform", "match", "os_min", "abis", "ram_bytes_min"});
  const Node match = entry.at("match").only({"soc", "device", "identifier", "default"});
  const auto is_default = match.find("default");
  const auto abis = entry.find("abis");
  return {.id = entry.at("id").text(),
          .platform = entry.at("platform").text(),
          .soc = texts_of(match.find("soc")),
          .device = texts_of(match.find("device")),
          .identifier = texts_of(match.find("identifier")),
          .is_default = is_default.has_value() && is_default->boolean(),
          .os_min = text_of(entry.find("os_min")),
          .abis = abis.has_value() ? std::optional(texts_of(abis)) : std::nullopt,
          .ram_bytes_min = bytes_of(entry.find("ram_bytes_min"))};
}

Selector selector_of(const Node& entry) {
  entry.only({"platform", "device", "soc", "identifier", "ram_bytes_min", "ram_bytes_below", "os_min", "os_below",
              "abis_any", "abis_none"});
  return {.platform = text_of(entry.find("platform")),
          .device = texts_of(entry.find("device")),
          .soc = texts_of(entry.find("soc")),
          .identifier = texts_of(entry.find("identifier")),
          .ram_bytes_min = bytes_of(entry.find("ram_bytes_min")),
          .ram_bytes_below = bytes_of(entry.find("ram_bytes_below")),
          .os_min = text_of(entry.find("os_min")),
          .os_below = text_of(entry.find("os_below")),
          .abis_any = texts_of(entry.find("abis_any")),
          .abis_none = texts_of(entry.find("abis_none"))};
}

Catalog catalog_of(const Node& document) {
  document.only({"format", "profiles", "groups"});
  Catalog catalog;
  for (const Node& profile : document.at("profiles").items()) {
    catalog.profiles.push_back(profile_of(profile));
  }
  for (const Node& group : document.at("groups").items()) {
    group.only({"id", "any", "memory_bytes_max"});
    GroupRule& rule = catalog.groups.emplace_back();
    rule.id = group.at("id").text();
    rule.memory_bytes_max = group.at("memory_bytes_max").integer(1, kMaxInteger);
    for (const Node& selector : group.at("any").items()) {
      rule.any.push_back(selector_of(selector));
    }
  }
  return catalog;
}

// A choice in the words of the vectors.
Json json_of(const Choice& choice) {
  Json excluded = Json::array();
  for (const std::string_view why : choice.excluded) {
    excluded.push_back(why.empty() ? Json() : Json(why));
  }
  return {{"candidate", choice.candidate},
          {"reason", choice.reason},
          {"group", choice.group.has_value() ? Json(*choice.group) : Json()},
          {"limit", choice.limit},
          {"tier", choice.tier},
          {"minimum_tier", choice.minimum_tier},
          {"maximum_tier", choice.maximum_tier},
          {"width", choice.width},
          {"widest", choice.widest},
          {"unknown", choice.unknown},
          {"excluded", excluded}};
}

void replay_case(const Node& entry, const Catalog& catalog, Tally& tally) {
  entry.only({"name", "why", "facts", "candidates", "expected"});
  std::vector<Candidate> candidates;
  for (const Node& candidate : entry.at("candidates").items()) {
    candidates.push_back(candidate_of(candidate));
  }
  std::optional<Choice> choice;
  const std::optional<Error> error =
      attempt([&] { choice = choose(facts_of(entry.at("facts")), candidates, catalog); });
  const Node wanted = entry.at("expected");
  if (const auto code = wanted.find("error")) {
    wanted.only({"error"});
    tally.compare_error(*code, error);
    return;
  }
  if (error.has_value()) {
    tally.differ(wanted.place(), wanted.json(), error->code);
    return;
  }
  const Json found = json_of(*choice);
  for (const auto& [key, value] : found.items()) {
    tally.compare(wanted.at(key.c_str()), wanted.at(key.c_str()).json(), value);
  }
  if (wanted.json().size() != found.size()) {
    wanted.refuse("the keys of a choice");
  }
}

}  // namespace

void replay_choice(const Node& document, Tally& tally) {
  document.only({"format", "catalog", "cases"});
  const Catalog catalog = catalog_of(document.at("catalog"));
  for (const Node& entry : document.at("cases").items()) {
    tally.begin();
    replay_case(entry, catalog, tally);
  }
}

}  // namespace ebbtide
