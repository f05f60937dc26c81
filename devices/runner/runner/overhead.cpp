#include "runner/overhead.hpp"

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "runner/clock.hpp"
#include "runner/run.hpp"

namespace ebbtide {
namespace {

constexpr std::int32_t kSettle = 3;

double quantile(std::vector<double> values, double share) {
  std::sort(values.begin(), values.end());
  const double place = share * static_cast<double>(values.size() - 1);
  const auto below = static_cast<std::size_t>(place);
  const std::size_t above = std::min(below + 1, values.size() - 1);
  return values[below] + (place - static_cast<double>(below)) * (values[above] - values[below]);
}

template <typename Pass>
double median_ns(std::int32_t repeats, Pass&& pass) {
  std::vector<double> times;
  for (std::int32_t i = 0; i < kSettle; ++i) pass();
  for (std::int32_t i = 0; i < repeats; ++i) {
    const std::int64_t start = now_ns();
    pass();
    times.push_back(static_cast<double>(now_ns() - start));
  }
  return quantile(std::move(times), 0.5);
}

}  // namespace

OrderedJson measure_overhead(Session& session, const OverheadPlan& plan) {
  if (plan.rounds < 1 || plan.repeats < 1) {
    throw Error("profiling.plan", "There is nothing to time.", {.expected = "1 or more rounds and repeats"});
  }
  if (plan.inputs) {
    std::ifstream stream(*plan.inputs, std::ios::binary);
    const std::string place = plan.inputs->string();
    Samples(stream, read_npy_header(stream, place), session.manifest(), place).next(session);
  }
  const std::size_t calls = session.predict().step + 1;
  std::vector<double> differences;
  std::vector<double> predictions;
  std::vector<double> bare;
  for (std::int32_t round = 0; round < plan.rounds; ++round) {
    const auto predict = [&] { predictions.push_back(median_ns(plan.repeats, [&] { session.predict(); })); };
    const auto run_bare = [&] { bare.push_back(median_ns(plan.repeats, [&] { session.run_bare(calls); })); };
    if (round % 2 == 0) {
      predict();
      run_bare();
    } else {
      run_bare();
      predict();
    }
    differences.push_back((predictions.back() - bare.back()) / static_cast<double>(calls));
  }
  return {{"configuration", session.current().entry->id},
          {"calls", calls},
          {"rounds", plan.rounds},
          {"repeats", plan.repeats},
          {"overhead_ns_per_call", quantile(differences, 0.5)},
          {"quartiles_ns_per_call", {quantile(differences, 0.25), quantile(differences, 0.75)}},
          {"prediction_p50_ns", quantile(predictions, 0.5)},
          {"bare_p50_ns", quantile(bare, 0.5)}};
}

}  // namespace ebbtide
