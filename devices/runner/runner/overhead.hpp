// What a prediction costs beyond the bare calls of its methods.

#ifndef EBBTIDE_RUNNER_OVERHEAD_HPP_
#define EBBTIDE_RUNNER_OVERHEAD_HPP_

#include <cstdint>
#include <filesystem>
#include <optional>

#include "runner/output.hpp"
#include "runner/session.hpp"

namespace ebbtide {

struct OverheadPlan {
  std::int32_t rounds = 100;
  std::int32_t repeats = 50;
  std::optional<std::filesystem::path> inputs;
};

// Time the prediction loop and bare calls of `Module::execute` along the same steps, in the same process, in
// interleaved rounds whose order alternates.
//
// Returns {"configuration", "calls", "rounds", "repeats", "overhead_ns_per_call", "quartiles_ns_per_call",
// "prediction_p50_ns", "bare_p50_ns"}: the first is the median over the rounds of (median prediction - median bare
// pass) / calls, where `calls` is the number of methods that this input runs.
//
// Throws profiling.plan for numbers below 1, and what predicting throws.
OrderedJson measure_overhead(Session& session, const OverheadPlan& plan);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_OVERHEAD_HPP_
