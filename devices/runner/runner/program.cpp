#include "runner/program.hpp"

#include <algorithm>
#include <array>
#include <numeric>

#include "core/error.hpp"
#include "runner/clock.hpp"
#include "runner/runtime_facts.hpp"

namespace ebbtide {
namespace {

using executorch::aten::ScalarType;
using executorch::extension::Module;

using executorch::runtime::TensorInfo;

std::string described(executorch::runtime::Error error) {
  const std::string said = last_logged();
  return std::string(executorch::runtime::to_string(error)) + (said.empty() ? "" : ": " + said);
}

std::vector<std::uint8_t> order_of(const TensorEntry& tensor) {
  if (tensor.channels_last) return {0, 2, 3, 1};
  std::vector<std::uint8_t> order(tensor.shape.size());
  std::iota(order.begin(), order.end(), std::uint8_t{0});
  return order;
}

// Why a tensor is not the one that the manifest states, empty if it is.
std::string difference(const executorch::runtime::Result<TensorInfo>& found, const TensorEntry& stated) {
  if (!found.ok()) return "no tensor";
  if (found->scalar_type() != ScalarType::Float || stated.dtype != "float32") return "another type than float32";
  const auto sizes = found->sizes();
  if (!std::equal(sizes.begin(), sizes.end(), stated.shape.begin(), stated.shape.end())) return "another shape";
  const auto order = found->dim_order();
  const std::vector<std::uint8_t> wanted = order_of(stated);
  if (!std::equal(order.begin(), order.end(), wanted.begin(), wanted.end())) return "another order of memory";
  return "";
}

}  // namespace

std::int64_t LoadTimes::total_ns() const {
  return std::accumulate(first_run_ns.begin(), first_run_ns.end(),
                         std::accumulate(methods_ns.begin(), methods_ns.end(), open_ns));
}

Program::Program(const std::filesystem::path& file, const ProgramEntry& entry)
    // Mapped: the default reads the file into memory that stays beside the packed weights.
    : place_(file.string()), module_(file.string(), Module::LoadMode::Mmap) {
  last_logged();
  const std::int64_t start = now_ns();
  const auto loaded = module_.load(executorch::runtime::Program::Verification::InternalConsistency);
  load_times_.open_ns = now_ns() - start;
  if (loaded != executorch::runtime::Error::Ok) refuse("ExecuTorch cannot load the program.", described(loaded));
  for (const MethodEntry& method : entry.methods) load_method(method);
  for (const MethodEntry& method : entry.methods) warm_up(method);
}

void Program::load_method(const MethodEntry& method) {
  const std::int64_t start = now_ns();
  const auto loaded = module_.load_method(method.name);
  load_times_.methods_ns.push_back(now_ns() - start);
  if (loaded != executorch::runtime::Error::Ok) {
    refuse("ExecuTorch cannot load method " + method.name + ".", described(loaded));
  }
  const auto meta = module_.method_meta(method.name);
  if (!meta.ok()) refuse("ExecuTorch says nothing of method " + method.name + ".", described(meta.error()));
  if (meta->num_inputs() != method.inputs.size() || meta->num_outputs() != method.outputs.size()) {
    refuse("Method " + method.name + " has other inputs or outputs than the manifest states.",
           std::to_string(meta->num_inputs()) + " in, " + std::to_string(meta->num_outputs()) + " out");
  }
  const auto check = [&](const std::string& fault, const std::string& what, std::size_t index) {
    if (!fault.empty()) {
      refuse("Method " + method.name + " is not as the manifest states.",
             fault + " in " + what + " " + std::to_string(index));
    }
  };
  for (std::size_t i = 0; i < method.inputs.size(); ++i) {
    check(difference(meta->input_tensor_meta(i), method.inputs[i]), "input", i);
  }
  for (std::size_t i = 0; i < method.outputs.size(); ++i) {
    check(difference(meta->output_tensor_meta(i), method.outputs[i]), "output", i);
  }
}

void Program::warm_up(const MethodEntry& method) {
  const TensorEntry& input = method.inputs[0];
  const std::vector<executorch::aten::SizesType> sizes(input.shape.begin(), input.shape.end());
  const std::size_t count = std::accumulate(sizes.begin(), sizes.end(), std::size_t{1},
                                            [](std::size_t a, auto b) { return a * static_cast<std::size_t>(b); });
  std::vector<executorch::aten::DimOrderType> order;
  for (const std::uint8_t dimension : order_of(input)) order.push_back(dimension);
  const auto zeros = executorch::extension::make_tensor_ptr(sizes, std::vector<float>(count), order);
  const std::int64_t start = now_ns();
  execute(module_, method.name, {EValue(zeros)});
  load_times_.first_run_ns.push_back(now_ns() - start);
}

void Program::refuse(const std::string& message, const std::string& found) {
  throw Error("engine.load", message,
              {.found = found,
               .hint = "the file is damaged, or was lowered for another version or a back end that is not here",
               .place = place_});
}

std::vector<EValue> execute(Module& module, const std::string& method, const std::vector<EValue>& inputs) {
  auto outputs = module.execute(method, inputs);
  if (!outputs.ok()) {
    throw Error("engine.failed", "ExecuTorch failed in method " + method + ".",
                {.found = described(outputs.error()), .place = method});
  }
  return std::move(*outputs);
}

}  // namespace ebbtide
