// tests/vectors/session: the outputs of a path's exits and head, with where the path is left and what comes out.

#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <vector>

#include "core/walk.hpp"
#include "runner/replay_vectors.hpp"

namespace ebbtide {
namespace {

constexpr std::int32_t kMostSteps = 1024;

// What one step put out, as a vector tells it.
struct Recorded {
  std::vector<float> probabilities;
  float confidence = 0.0F;
  std::vector<float> logits;
};

std::vector<PathStep> path_of(const Node& list) {
  std::vector<PathStep> path;
  for (const Node& entry : list.items()) {
    entry.only({"method", "kind", "position", "threshold", "outside"});
    const std::string kind = entry.at("kind").text();
    const auto position = entry.find("position");
    const auto threshold = entry.find("threshold");
    const auto outside = entry.find("outside");
    path.push_back({.reference = entry.at("method").text(),
                    .is_stage = kind == "stage",
                    .position = position ? position->integer32(0, kMostSteps) : 0,
                    .threshold = threshold ? std::optional(threshold->float32()) : std::nullopt,
                    .outside = outside ? std::optional(outside->float32()) : std::nullopt});
  }
  return path;
}

// The outputs of a sample by the index of their step; empty where nothing was recorded.
std::vector<std::optional<Recorded>> outputs_of(const Node& list, std::size_t steps, std::size_t classes) {
  std::vector<std::optional<Recorded>> outputs(steps);
  for (const Node& entry : list.items()) {
    entry.only({"step", "probabilities", "confidence", "logits"});
    const auto last = static_cast<std::int32_t>(steps) - 1;
    Recorded& recorded = outputs[static_cast<std::size_t>(entry.at("step").integer32(0, last))].emplace();
    recorded = {entry.at("probabilities").floats32(), entry.at("confidence").float32(), entry.at("logits").floats32()};
    if (recorded.probabilities.size() != classes || recorded.logits.size() != classes) {
      entry.refuse("as many probabilities and logits as classes");
    }
  }
  return outputs;
}

void compare_visit(const Node& wanted, const std::vector<PathStep>& path, const Visit& visit,
                   std::optional<OutsideScore> score, Tally& tally) {
  const auto integer = [&](const char* key, std::int64_t found) {
    tally.compare(wanted.at(key), wanted.at(key).integer(0, std::numeric_limits<std::int32_t>::max()), found);
  };
  integer("step", static_cast<std::int64_t>(visit.step));
  integer("position", path[visit.step].position);
  integer("label", static_cast<std::int64_t>(label_of(visit.outputs.logits)));
  tally.compare_float32(wanted.at("confidence"), visit.outputs.confidence);
  const Node outside = wanted.at("outside");
  const auto is_found = score ? is_outside(path[visit.step], visit.outputs, *score) : std::nullopt;
  const Json found = is_found ? Json(*is_found) : Json();
  if (!outside.json().is_null() && !outside.json().is_boolean()) {
    outside.refuse("true, false or null");
  }
  tally.compare(outside, outside.json(), found);
}

void replay_sample(const Node& sample, const std::vector<PathStep>& path, std::size_t classes,
                   std::optional<OutsideScore> score, Tally& tally) {
  sample.only({"name", "why", "outputs", "expected"});
  const Node wanted = sample.at("expected").only({"step", "position", "label", "confidence", "outside", "error"});
  const auto outputs = outputs_of(sample.at("outputs"), path.size(), classes);
  const auto run = [&](std::size_t index) -> StepOutputs {
    if (path[index].is_stage) {
      return {};
    }
    if (!outputs[index].has_value()) {
      sample.at("outputs").refuse("the outputs of step " + std::to_string(index) + ", which is run");
    }
    return {outputs[index]->probabilities, outputs[index]->confidence, outputs[index]->logits};
  };
  std::optional<Visit> visit;
  const std::optional<Error> error = attempt([&] { visit = walk(path, run); });
  if (const auto code = wanted.find("error")) {
    tally.compare_error(*code, error);
  } else if (error.has_value()) {
    tally.differ(wanted.place(), wanted.json(), error->code);
  } else {
    compare_visit(wanted, path, *visit, score, tally);
  }
}

std::optional<OutsideScore> score_of(const Node& entry) {
  const auto score = entry.find("outside");
  if (!score) return std::nullopt;
  if (score->text() == "energy") return OutsideScore::kEnergy;
  if (score->text() == "confidence") return OutsideScore::kConfidence;
  score->refuse("energy or confidence");
}

}  // namespace

void replay_session(const Node& document, Tally& tally) {
  document.only({"format", "cases"});
  for (const Node& entry : document.at("cases").items()) {
    entry.only({"name", "why", "classes", "path", "outside", "samples"});
    const std::vector<PathStep> path = path_of(entry.at("path"));
    const std::optional<OutsideScore> score = score_of(entry);
    const auto classes = static_cast<std::size_t>(entry.at("classes").integer32(1, 1 << 20));
    for (const Node& sample : entry.at("samples").items()) {
      tally.begin();
      replay_sample(sample, path, classes, score, tally);
    }
  }
}

}  // namespace ebbtide
