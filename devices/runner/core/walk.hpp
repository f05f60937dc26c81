// The rule by which a prediction leaves a path: the one loop that every prediction runs.
//
// A transcription of `walk` in pipeline/ebbtide/runtime/configuration.py and of runtime/outside.py. The loop is a
// template over the call of a step, so that it costs nothing beside what the steps cost and allocates nothing.

#ifndef EBBTIDE_CORE_WALK_HPP_
#define EBBTIDE_CORE_WALK_HPP_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "core/error.hpp"

namespace ebbtide {

// One call of a path. `threshold` is absent for stages and for the last step, which is always left at.
struct PathStep {
  std::string reference;  // "program/method"
  bool is_stage = false;
  std::int32_t position = 0;
  std::optional<float> threshold;  // log-odds; an exit is left at when its confidence is greater
  std::optional<float> outside;    // the score above which an answer given here is about none of the classes
};

// What an exit or a head put out. The spans are the caller's: they live as long as the memory they show.
struct StepOutputs {
  std::span<const float> probabilities;
  float confidence = 0.0F;
  std::span<const float> logits;
};

// Where a path was left, and with what.
struct Visit {
  std::size_t step = 0;  // index into the path
  StepOutputs outputs;
};

// How to tell an input that belongs to none of the classes, by a score that is higher the stranger it looks.
enum class OutsideScore { kEnergy, kConfidence };

// Throws runtime.output, naming the step, if a path was left with a confidence that is not a number.
void check_confidence(const PathStep& step, float confidence);

// The error of a path that ends without a head: runtime.configuration.
Error no_head(std::span<const PathStep> path);

// Run a path until an exit is sure enough or its end is reached.
//
// An exit is left at when `confidence > threshold`, in float32. A confidence that is not a number is greater than
// nothing, so it never leaves early.
//
// Args:
//   path: a configuration's, ending with a head or a whole model.
//   run: called as `StepOutputs run(std::size_t index)` for one step after the other. It keeps the tensors: a stage
//     takes the output of the stage before it (the input, if it is the first) and replaces it, an exit or a head takes
//     it and leaves it. What it returns for a stage is not looked at.
//
// Throws runtime.output, runtime.configuration (a path without a head), and what `run` throws.
template <typename Run>
Visit walk(std::span<const PathStep> path, Run&& run) {
  for (std::size_t index = 0; index < path.size(); ++index) {
    const PathStep& step = path[index];
    const StepOutputs outputs = run(index);
    if (step.is_stage) {
      continue;
    }
    if (!step.threshold.has_value() || outputs.confidence > *step.threshold) {
      check_confidence(step, outputs.confidence);
      return {index, outputs};
    }
  }
  throw no_head(path);
}

// The class of the largest logit, the lowest of equal ones. Where a logit is not a number it is the first such class,
// as NumPy's argmax has it. Throws runtime.output where there are no logits.
std::size_t label_of(std::span<const float> logits);

// The energy score of an input, -log(sum(exp(logits))) in double precision; higher is stranger.
// Throws runtime.output where there are no logits.
//
// Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, equation 4 with temperature 1.
double energy(std::span<const float> logits);

// How little an input looks like one of the classes: the energy of the logits, or the confidence negated.
double strangeness(OutsideScore score, const StepOutputs& outputs);

// Whether an answer given at a step is about none of the classes; nothing if the step has no threshold for that. A score
// that is not a number lies above nothing.
std::optional<bool> is_outside(const PathStep& step, const StepOutputs& outputs, OutsideScore score);

}  // namespace ebbtide

#endif  // EBBTIDE_CORE_WALK_HPP_
