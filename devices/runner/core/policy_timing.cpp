#include "core/policy_timing.hpp"

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <random>
#include <vector>

#include "core/policy.hpp"

namespace ebbtide {
namespace {

constexpr std::size_t kReadings = 4096;  // 5.7 hours of readings, more than a branch predictor learns by heart

// The manifest's default, as `DEFAULT_POLICY` in pipeline/ebbtide/bundle/manifest.py.
constexpr PolicyParameters kDefault = {.enter_mh = {750, 850, 950},
                                       .hysteresis_mh = 65,
                                       .status_floor = {0, 1, 2, 3, 3, 3, 3},
                                       .apple_floor = {0, 1, 2, 3},
                                       .battery_enter_percent = {20, 10, 5},
                                       .battery_hysteresis = 5,
                                       .battery_temperature_enter_dc = {390, 410, 430},
                                       .battery_temperature_hysteresis_dc = 20,
                                       .saver_floor = 1,
                                       .up_hold_ms = 60'000,
                                       .stale_ms = 15'000,
                                       .gap_ms = 60'000};

// Readings of a phone that warms and cools, discharges and charges, with every signal in them and some absent.
std::vector<Signals> random_walk() {
  std::minstd_rand random(7);  // its sequence is the same everywhere
  const auto below = [&](std::int64_t bound) {
    return static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(bound));
  };
  std::int64_t headroom_mh = 600;
  std::int64_t percent = 60;
  std::vector<Signals> readings(kReadings);
  for (std::size_t i = 0; i < kReadings; ++i) {
    headroom_mh = std::clamp<std::int64_t>(headroom_mh + below(61) - 30, 400, 1100);
    percent = std::clamp<std::int64_t>(percent + below(3) - 1, 0, 100);
    Signals& signals = readings[i];
    signals.t_ms = static_cast<std::int64_t>(i) * 5000;
    if (below(8) != 0) {
      signals.headroom_mh = headroom_mh;
    }
    signals.headroom_age_ms = below(20'000);
    if (below(2) != 0) {
      signals.light_mh = 800;
      signals.moderate_mh = 933;
    }
    signals.android_status = std::max<std::int64_t>(0, (headroom_mh - 700) / 100);
    signals.battery_percent = percent;
    signals.charging = below(4) == 0;
    signals.saver = percent < 20;
    signals.battery_temperature_dc = headroom_mh / 3 + 150;
  }
  return readings;
}

}  // namespace

double policy_step_ns(std::uint64_t rounds) {
  const std::vector<Signals> readings = random_walk();
  const std::uint64_t passes = (std::max<std::uint64_t>(rounds, 1) + kReadings - 1) / kReadings;
  std::vector<double> times_ns(static_cast<std::size_t>(passes));
  std::int64_t sum = 0;
  for (double& time_ns : times_ns) {
    Policy policy(kDefault, kMaxTiers);
    const auto start = std::chrono::steady_clock::now();
    for (const Signals& signals : readings) {
      sum += policy.step(signals).tier;
    }
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    time_ns = spent.count() / static_cast<double>(kReadings);
  }
  volatile std::int64_t kept = sum;
  static_cast<void>(kept);
  const auto middle = times_ns.begin() + static_cast<std::ptrdiff_t>(times_ns.size() / 2);
  std::nth_element(times_ns.begin(), middle, times_ns.end());
  return *middle;
}

}  // namespace ebbtide
