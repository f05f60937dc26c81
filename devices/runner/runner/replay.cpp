#include "runner/replay.hpp"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <iterator>
#include <sstream>
#include <string>
#include <utility>

#include "runner/output.hpp"
#include "runner/replay_vectors.hpp"

namespace ebbtide {
namespace {

constexpr int kDeepest = 32;

using Replay = void (*)(const Node& document, Tally& tally);

constexpr std::pair<const char*, Replay> kKinds[] = {
    {"choice", replay_choice},   {"manifest", replay_manifest},
    {"policy", replay_policy},   {"preprocessing", replay_preprocessing},
    {"session", replay_session},
};

Replay replay_of(const std::string& kind) {
  const auto* found =
      std::find_if(std::begin(kKinds), std::end(kKinds), [&](const auto& entry) { return entry.first == kind; });
  if (found == std::end(kKinds)) {
    std::string known;
    for (const auto& [name, unused] : kKinds) {
      known += known.empty() ? name : std::string(", ") + name;
    }
    throw Error(kFaultyVectors, "There are no vectors of this kind.", {.expected = known, .found = kind});
  }
  return found->second;
}

Json read(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  std::ostringstream text;
  text << stream.rdbuf();  // fails where there is nothing, as in an empty file or a folder
  if (!stream.is_open() || !text) {
    throw Error(kFaultyVectors, "A file of vectors cannot be read.", {.place = file.string()});
  }
  // What is nested without end would be written, compared and copied without end, too.
  const auto check_depth = [&](int depth, Json::parse_event_t, const Json&) {
    if (depth > kDeepest) {
      throw Error(kFaultyVectors, "A file of vectors is nested too deeply.", {.place = file.string()});
    }
    return true;
  };
  Json document = Json::parse(text.str(), check_depth, false);
  if (document.is_discarded()) {
    throw Error(kFaultyVectors, "A file of vectors is not JSON.", {.place = file.string()});
  }
  return document;
}

}  // namespace

int replay(const std::string& kind, const std::filesystem::path& file) {
  const Replay replay_steps = replay_of(kind);
  const Json document = read(file);
  const Node root(document, "$");
  Tally tally;
  try {
    if (!root.json().is_array()) {  // manifests are a plain list
      root.at("format").integer(1, 1);
    }
    replay_steps(root, tally);
  } catch (Error& error) {
    error.place = file.string() + ": " + error.place;
    throw;
  }
  if (tally.steps() == 0) {
    throw Error(kFaultyVectors, "A file of vectors has no steps.", {.place = file.string()});
  }
  const OrderedJson line = {{"kind", kind},
                            {"file", file.filename().string()},
                            {"steps", tally.steps()},
                            {"equal", tally.equal()},
                            {"first_difference", tally.first_difference()}};
  std::cout << line.dump(-1, ' ', true, OrderedJson::error_handler_t::replace) << '\n';
  return tally.steps() == tally.equal() ? 0 : 1;
}

}  // namespace ebbtide
