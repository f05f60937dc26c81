// Runs a bundle: one configuration in force, predictions along its path, switches between two predictions.

#ifndef EBBTIDE_RUNNER_SESSION_HPP_
#define EBBTIDE_RUNNER_SESSION_HPP_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/preprocessing.hpp"
#include "core/walk.hpp"
#include "runner/bundle.hpp"
#include "runner/program.hpp"

namespace ebbtide {

// A configuration bound to loaded programs.
struct Configuration {
  const ConfigurationEntry* entry = nullptr;
  std::optional<std::int32_t> tier;
  std::vector<PathStep> path;
  std::vector<executorch::extension::Module*> modules;  // that of each step
  std::vector<std::string> methods;                     // the name of each step's method
};

// What a prediction gave. The spans live until the next prediction.
struct Prediction {
  std::size_t step = 0;  // index into the configuration's path
  std::size_t label = 0;
  float confidence = 0.0F;
  std::span<const float> probabilities;
  std::span<const float> logits;
  std::optional<bool> is_outside;          // nothing if the bundle has no rule for that
  std::span<const std::int64_t> times_ns;  // of the steps that were run
};

enum class Residency : std::uint8_t {
  kAll,     // programs stay loaded, so that a switch is a swap of pointers
  kActive,  // only those of the configuration in force; of two while it switches
};

// A bundle's session, for one thread.
class Session {
 public:
  // Begins without a configuration: `switch_to` loads one. The bundle must outlive the session.
  explicit Session(const Bundle& bundle, Residency residency = Residency::kAll);

  // Put a configuration in force, loading what it needs first. If anything fails, the one in force stays.
  // Throws runtime.configuration, engine.*.
  void switch_to(const std::string& configuration);

  // Put the configuration of a tier in force. Throws runtime.tier, and as `switch_to`.
  void switch_tier(std::int32_t tier);

  // Forget every program, as a new process would; no configuration is in force then.
  void unload();

  // The configuration in force; there must be one.
  const Configuration& current() const { return *current_; }

  // Where the next prediction's input goes: float32 of the model's shape, row by row.
  std::span<float> input() { return {input_.data(), input_count_}; }

  // Preprocess a picture into `input()`. Throws as `preprocess`, and runtime.input for a model of signals.
  void set_image(const Image& image);

  // Classify what stands in `input()`. Throws runtime.output, engine.failed.
  const Prediction& predict();

  // One bare call after the other along the first `count` steps, as `Module::execute` alone: what `predict` is held
  // against. Throws engine.failed.
  void run_bare(std::size_t count);

  const Manifest& manifest() const { return bundle_.manifest; }
  bool is_resident(const std::string& program) const { return programs_.contains(program); }
  const Program& program(const std::string& id) const { return *programs_.at(id); }

 private:
  StepOutputs run_step(std::size_t index);
  std::shared_ptr<const Configuration> bind(const ConfigurationEntry& entry);
  void keep_only(const ConfigurationEntry& entry);

  const Bundle& bundle_;
  Residency residency_;
  std::map<std::string, std::unique_ptr<Program>> programs_;
  std::map<std::string, std::shared_ptr<const Configuration>> bound_;
  std::shared_ptr<const Configuration> current_;

  std::optional<ImageInput> image_input_;
  std::optional<OutsideScore> outside_;
  std::vector<float> input_;  // longer than the input: XNNPACK may read a few bytes past it
  std::size_t input_count_ = 0;
  executorch::extension::TensorPtr input_tensor_;

  std::vector<EValue> argument_;  // the one input of a step, kept so that a call allocates nothing of ours
  std::vector<float> probabilities_;
  std::vector<float> logits_;
  std::vector<std::int64_t> times_ns_;
  Prediction prediction_;
};

// The ids of the programs that a path runs, each once, in the order of their first call.
std::vector<std::string> programs_of(const ConfigurationEntry& entry);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_SESSION_HPP_
