// `ebbtide-runner bench`: how long methods, predictions, loads and switches take, as raw times.

#ifndef EBBTIDE_RUNNER_BENCH_HPP_
#define EBBTIDE_RUNNER_BENCH_HPP_

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "runner/bundle.hpp"

namespace ebbtide {

struct BenchPlan {
  std::optional<std::filesystem::path> inputs;  // .npy, as `run` takes them; one input of zeros if left out
  std::vector<std::string> configurations;      // none: those of the tiers
  std::int32_t warm_up = 10;
  std::int32_t rounds = 10;
  std::int32_t loads = 5;
  std::int32_t switches = 20;
  std::int32_t cool_down_ms = 0;
};

// Measure and write the results, whole or not at all. Their form is pipeline/ebbtide/profiling/results.py.
//
// First each configuration is loaded from nothing `loads` times. Then all are resident, and each round gives every
// configuration its turn: a rest of `cool_down_ms`, `warm_up` untimed predictions, one timed prediction of every input;
// the order turns from round to round. At last the switches between neighbouring configurations, both ways.
//
// Throws profiling.plan for numbers out of range, runtime.input, runtime.configuration, engine.*, steps.read_only if
// the file cannot be written.
void bench(const Bundle& bundle, const BenchPlan& plan, std::int32_t threads, const std::filesystem::path& output);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_BENCH_HPP_
