#include "core/walk.hpp"

#include <cmath>

namespace ebbtide {

void check_confidence(const PathStep& step, float confidence) {
  if (std::isnan(confidence)) {
    throw Error("runtime.output", step.reference + " put out a confidence that is not a number.",
                {.expected = "a finite input and a model with finite weights",
                 .hint = "look for NaN or infinite values in the input",
                 .place = step.reference});
  }
}

Error no_head(std::span<const PathStep> path) {
  return {"runtime.configuration",
          "A path ended without a head.",
          {.place = path.empty() ? std::string() : path.back().reference}};
}

namespace {

void refuse_empty(std::span<const float> logits) {
  if (logits.empty()) {
    throw Error("runtime.output", "A step put out no logits.", {.expected = "one number for each class"});
  }
}

}  // namespace

std::size_t label_of(std::span<const float> logits) {
  refuse_empty(logits);
  std::size_t best = 0;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) {
      return i;
    }
    if (logits[i] > logits[best]) {
      best = i;
    }
  }
  return best;
}

double energy(std::span<const float> logits) {
  // `label_of` refuses no logits. Any logit that is not a number makes the sum, and so the energy, one that is not.
  const double peak = logits[label_of(logits)];
  double sum = 0.0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit) - peak);
  }
  return -(peak + std::log(sum));
}

double strangeness(OutsideScore score, const StepOutputs& outputs) {
  switch (score) {
    case OutsideScore::kEnergy:
      return energy(outputs.logits);
    case OutsideScore::kConfidence:
      return -static_cast<double>(outputs.confidence);
  }
  throw Error("runtime.configuration", "The score for what is outside is not known.", {});
}

std::optional<bool> is_outside(const PathStep& step, const StepOutputs& outputs, OutsideScore score) {
  if (!step.outside.has_value()) return std::nullopt;
  return strangeness(score, outputs) > static_cast<double>(*step.outside);
}

}  // namespace ebbtide
