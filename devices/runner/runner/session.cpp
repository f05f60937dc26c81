#include "runner/session.hpp"

#include <algorithm>

#include "core/error.hpp"
#include "runner/clock.hpp"

namespace ebbtide {
namespace {

constexpr std::size_t kPaddingFloats = 16;

template <typename Entry>
const Entry& entry_of(const std::vector<Entry>& entries, const std::string& id) {
  return *std::find_if(entries.begin(), entries.end(), [&](const Entry& entry) { return entry.id == id; });
}

std::string program_of(const std::string& reference) { return reference.substr(0, reference.rfind('/')); }

std::string method_of(const std::string& reference) { return reference.substr(reference.rfind('/') + 1); }

std::span<const float> floats(const EValue& value) {
  const auto& tensor = value.toTensor();
  return {tensor.const_data_ptr<float>(), static_cast<std::size_t>(tensor.numel())};
}

ImageInput image_input(const InputEntry& entry) {
  return {.channels = static_cast<std::int32_t>(entry.shape[1]),
          .height = static_cast<std::int32_t>(entry.shape[2]),
          .width = static_cast<std::int32_t>(entry.shape[3]),
          .scale = entry.scale,
          .bias = entry.bias,
          .crops_center = entry.crop.has_value(),
          .resizes = entry.resize.has_value()};
}

}  // namespace

std::vector<std::string> programs_of(const ConfigurationEntry& entry) {
  std::vector<std::string> ids;
  for (const StepEntry& step : entry.path) {
    const std::string id = program_of(step.method);
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
  }
  return ids;
}

Session::Session(const Bundle& bundle, Residency residency) : bundle_(bundle), residency_(residency) {
  const ModelEntry& model = bundle.manifest.model;
  if (model.input.kind == "image") image_input_ = image_input(model.input);
  if (model.outside) {
    outside_ = model.outside->score == "energy" ? OutsideScore::kEnergy : OutsideScore::kConfidence;
  }
  input_count_ = 1;
  std::vector<executorch::aten::SizesType> sizes;
  for (const std::int64_t size : model.input.shape) {
    input_count_ *= static_cast<std::size_t>(size);
    sizes.push_back(static_cast<executorch::aten::SizesType>(size));
  }
  input_.resize(input_count_ + kPaddingFloats);
  input_tensor_ = executorch::extension::from_blob(input_.data(), sizes);
  argument_.emplace_back(input_tensor_);
  probabilities_.resize(model.classes.size());
  logits_.resize(model.classes.size());
}

void Session::switch_to(const std::string& configuration) {
  const auto& entries = manifest().configurations;
  const auto entry = std::find_if(entries.begin(), entries.end(),
                                  [&](const ConfigurationEntry& one) { return one.id == configuration; });
  if (entry == entries.end()) {
    throw Error("runtime.configuration", "The bundle has no configuration " + configuration + ".",
                {.place = configuration});
  }
  const auto known = bound_.find(configuration);
  current_ = known != bound_.end() ? known->second : bind(*entry);
  if (residency_ == Residency::kActive) keep_only(*entry);
}

void Session::switch_tier(std::int32_t tier) {
  const auto& tiers = manifest().tiers;
  if (tier < 0 || static_cast<std::size_t>(tier) >= tiers.size()) {
    throw Error(
        "runtime.tier", "The bundle has no tier " + std::to_string(tier) + ".",
        {.expected = "0 to " + std::to_string(tiers.size() - 1), .found = std::to_string(tier), .place = "tier"});
  }
  switch_to(tiers[static_cast<std::size_t>(tier)]);
}

void Session::unload() {
  current_.reset();
  bound_.clear();
  programs_.clear();
}

void Session::set_image(const Image& image) {
  if (!image_input_) {
    throw Error("runtime.input", "The model takes a signal, not a picture.",
                {.expected = "float32", .found = "uint8", .place = "input"});
  }
  preprocess(image, *image_input_, input());
}

const Prediction& Session::predict() {
  times_ns_.clear();
  argument_[0] = EValue(*input_tensor_);
  const Configuration& configuration = *current_;
  const Visit visit = walk(std::span<const PathStep>(configuration.path), [this](std::size_t index) {
    const std::int64_t start = now_ns();
    const StepOutputs outputs = run_step(index);
    times_ns_.push_back(now_ns() - start);
    return outputs;
  });
  // The outputs lie in the method's memory, which its next run overwrites.
  std::copy(visit.outputs.probabilities.begin(), visit.outputs.probabilities.end(), probabilities_.begin());
  std::copy(visit.outputs.logits.begin(), visit.outputs.logits.end(), logits_.begin());
  prediction_.step = visit.step;
  prediction_.label = label_of(logits_);
  prediction_.confidence = visit.outputs.confidence;
  prediction_.probabilities = probabilities_;
  prediction_.logits = logits_;
  prediction_.is_outside =
      outside_ ? ebbtide::is_outside(configuration.path[visit.step], visit.outputs, *outside_) : std::nullopt;
  prediction_.times_ns = times_ns_;
  return prediction_;
}

void Session::run_bare(std::size_t count) {
  argument_[0] = EValue(*input_tensor_);
  for (std::size_t i = 0; i < count; ++i) {
    auto outputs = current_->modules[i]->execute(current_->methods[i], argument_);
    if (!outputs.ok()) throw Error("engine.failed", "A method failed.", {.place = current_->path[i].reference});
    if (current_->path[i].is_stage) argument_[0] = std::move(outputs->front());
  }
}

StepOutputs Session::run_step(std::size_t index) {
  const Configuration& configuration = *current_;
  std::vector<EValue> outputs = execute(*configuration.modules[index], configuration.methods[index], argument_);
  if (configuration.path[index].is_stage) {
    // Handed on where it lies: each method has its own memory, and the next one copies what it takes.
    argument_[0] = std::move(outputs[0]);
    return {};
  }
  return {.probabilities = floats(outputs[0]), .confidence = floats(outputs[1])[0], .logits = floats(outputs[2])};
}

std::shared_ptr<const Configuration> Session::bind(const ConfigurationEntry& entry) {
  std::map<std::string, std::unique_ptr<Program>> made;
  for (const std::string& id : programs_of(entry)) {
    if (programs_.contains(id)) continue;
    const ProgramEntry& program = entry_of(manifest().programs, id);
    made[id] = std::make_unique<Program>(bundle_.folder / bundle_.file_of(program).path, program);
  }
  programs_.merge(made);
  auto bound = std::make_shared<Configuration>();
  bound->entry = &entry;
  bound->tier = manifest().tier_of(entry.id);
  for (const StepEntry& step : entry.path) {
    const std::string id = program_of(step.method);
    const std::string name = method_of(step.method);
    const auto& methods = entry_of(manifest().programs, id).methods;
    const auto method =
        std::find_if(methods.begin(), methods.end(), [&](const MethodEntry& one) { return one.name == name; });
    bound->path.push_back({.reference = step.method,
                           .is_stage = method->kind == "stage",
                           .position = method->position,
                           .threshold = step.threshold,
                           .outside = step.outside});
    bound->modules.push_back(&programs_.at(id)->module());
    bound->methods.push_back(name);
  }
  times_ns_.reserve(bound->path.size());
  bound_[entry.id] = bound;
  return bound;
}

void Session::keep_only(const ConfigurationEntry& entry) {
  const std::vector<std::string> kept = programs_of(entry);
  std::erase_if(bound_, [&](const auto& one) { return one.second != current_; });
  std::erase_if(programs_,
                [&](const auto& one) { return std::find(kept.begin(), kept.end(), one.first) == kept.end(); });
}

}  // namespace ebbtide
