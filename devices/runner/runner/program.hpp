// A .pte program with all its methods loaded.

#ifndef EBBTIDE_RUNNER_PROGRAM_HPP_
#define EBBTIDE_RUNNER_PROGRAM_HPP_

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "runner/manifest.hpp"

namespace ebbtide {

using executorch::runtime::EValue;

// How long the parts of a load took.
struct LoadTimes {
  std::int64_t open_ns = 0;                // the file mapped and its structure verified
  std::vector<std::int64_t> methods_ns;    // each method loaded, its weights packed
  std::vector<std::int64_t> first_run_ns;  // each method's first run, on zeros

  // All of it.
  std::int64_t total_ns() const;
};

// A loaded program. Each method has its own memory, so what a stage put out stays until that stage runs again. For one
// thread at a time.
class Program {
 public:
  // Load the file, whose hash has been checked, and every method in it, in the order of the manifest; run each once on
  // zeros, so that the first prediction does not pay for touching weights.
  //
  // Throws engine.load if it is damaged, is not what the manifest says or needs what this runtime does not have.
  Program(const std::filesystem::path& file, const ProgramEntry& entry);

  executorch::extension::Module& module() { return module_; }
  const LoadTimes& load_times() const { return load_times_; }

 private:
  void load_method(const MethodEntry& method);
  void warm_up(const MethodEntry& method);
  [[noreturn]] void refuse(const std::string& message, const std::string& found);

  std::string place_;
  executorch::extension::Module module_;
  LoadTimes load_times_;
};

// Run one method. Throws engine.failed.
std::vector<EValue> execute(executorch::extension::Module& module, const std::string& method,
                            const std::vector<EValue>& inputs);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_PROGRAM_HPP_
