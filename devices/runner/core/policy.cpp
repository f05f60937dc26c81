#include "core/policy.hpp"

#include <algorithm>
#include <cstddef>
#include <functional>
#include <string>

#include "core/error.hpp"

namespace ebbtide {
namespace {

constexpr std::int64_t kLightMarginMh = 30;  // how far below the phone's own LIGHT the first demand begins: 0.9 degrees
constexpr std::int64_t kStopStatus = 5;      // THERMAL_STATUS_EMERGENCY; 6 is SHUTDOWN
constexpr std::int64_t kStopState = 3;       // ProcessInfo.ThermalState.critical
constexpr std::int64_t kMostMh = 10'000;
constexpr std::int64_t kLeastDc = -400;
constexpr std::int64_t kMostDc = 1500;
constexpr std::int64_t kMostMs = 86'400'000;

// The names in the order of `Demanding`.
constexpr std::array<std::string_view, 8> kKeep = {"keep:none",
                                                   "keep:headroom",
                                                   "keep:status",
                                                   "keep:apple_state",
                                                   "keep:battery",
                                                   "keep:saver",
                                                   "keep:battery_temperature",
                                                   "keep:application"};
constexpr std::array<std::string_view, 8> kDown = {"down:none",
                                                   "down:headroom",
                                                   "down:status",
                                                   "down:apple_state",
                                                   "down:battery",
                                                   "down:saver",
                                                   "down:battery_temperature",
                                                   "down:application"};

[[noreturn]] void refuse_signal(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  throw Error("policy.signal", std::string("The signal ") + name + " is out of range: " + std::to_string(value) + ".",
              {.expected = std::to_string(least) + " to " + std::to_string(most),
               .found = std::to_string(value),
               .place = name});
}

void check(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {
    refuse_signal(name, value, least, most);
  }
}

// An absent signal is in range: every range has its least value.
void check(const char* name, const std::optional<std::int64_t>& value, std::int64_t least, std::int64_t most) {
  check(name, value.value_or(least), least, most);
}

void check(const Signals& signals) {
  check("t_ms", signals.t_ms, 0, kMaxTime);
  check("headroom_mh", signals.headroom_mh, 0, kMostMh);
  check("headroom_age_ms", signals.headroom_age_ms, 0, kMaxTime);
  check("light_mh", signals.light_mh, 0, kMostMh);
  check("moderate_mh", signals.moderate_mh, 0, kMostMh);
  check("android_status", signals.android_status, 0, 6);
  check("apple_state", signals.apple_state, 0, 3);
  check("battery_percent", signals.battery_percent, 0, 100);
  check("battery_temperature_dc", signals.battery_temperature_dc, kLeastDc, kMostDc);
}

[[noreturn]] void refuse_parameter(const char* name, const std::string& message, const std::string& expected) {
  throw Error("policy.parameters", message, {.expected = expected, .place = name});
}

void check_parameter(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value < least || value > most) {
    refuse_parameter(name, std::string("A number of ") + name + " is out of range: " + std::to_string(value) + ".",
                     std::to_string(least) + " to " + std::to_string(most));
  }
}

template <typename Numbers>
void check_parameters(const char* name, const Numbers& numbers, std::int64_t least, std::int64_t most, bool falls) {
  for (const auto number : numbers) {
    check_parameter(name, number, least, most);
  }
  const bool sorted = falls ? std::is_sorted(numbers.begin(), numbers.end(), std::greater<>())
                            : std::is_sorted(numbers.begin(), numbers.end());
  if (!sorted) {
    refuse_parameter(name, std::string("The numbers of ") + name + (falls ? " rise." : " fall."),
                     falls ? "numbers that do not rise" : "numbers that do not fall");
  }
}

void check(const PolicyParameters& parameters) {
  check_parameters("enter_mh", parameters.enter_mh, 0, kMostMh, false);
  check_parameter("hysteresis_mh", parameters.hysteresis_mh, 0, kMostMh);
  check_parameters("status_floor", parameters.status_floor, 0, kMaxTiers - 1, false);
  check_parameters("apple_floor", parameters.apple_floor, 0, kMaxTiers - 1, false);
  check_parameters("battery_enter_percent", parameters.battery_enter_percent, 0, 100, true);
  check_parameter("battery_hysteresis", parameters.battery_hysteresis, 0, 100);
  check_parameters("battery_temperature_enter_dc", parameters.battery_temperature_enter_dc, kLeastDc, kMostDc, false);
  check_parameter("battery_temperature_hysteresis_dc", parameters.battery_temperature_hysteresis_dc, 0, 500);
  check_parameter("saver_floor", parameters.saver_floor, 0, kMaxTiers - 1);
  check_parameter("up_hold_ms", parameters.up_hold_ms, 0, kMostMs);
  check_parameter("stale_ms", parameters.stale_ms, 0, kMostMs);
  check_parameter("gap_ms", parameters.gap_ms, 0, kMostMs);
}

// The entries, lowered to the phone's own thresholds: an absent one is too high to lower anything.
std::array<std::int64_t, 3> entries(const std::array<std::int64_t, 3>& enter, const Signals& signals) {
  const std::int64_t light_mh = signals.light_mh.value_or(kMostMh + kLightMarginMh);
  return {std::min(enter[0], light_mh - kLightMarginMh), std::min(enter[1], light_mh),
          std::min(enter[2], signals.moderate_mh.value_or(kMostMh))};
}

// The highest level that a value enters, or that it was in before and does not leave. The bits are taken without
// jumps, since which of them hold is what a processor cannot foresee.
std::int32_t latched(std::int32_t before, std::int64_t value, const std::array<std::int64_t, 3>& enter,
                     std::int64_t hysteresis) {
  std::int32_t demand = 0;
  for (std::int32_t level = 0; level < 3; ++level) {
    const std::int64_t limit = enter[static_cast<std::size_t>(level)];
    const bool is_in = (value >= limit) | ((before > level) & (value >= limit - hysteresis));
    demand = is_in ? level + 1 : demand;
  }
  return demand;
}

// The mirror of `latched`: less is worse, and the level itself is left at the entry plus the hysteresis.
std::int32_t latched_below(std::int32_t before, std::int64_t value, const std::array<std::int64_t, 3>& enter,
                           std::int64_t hysteresis) {
  std::int32_t demand = 0;
  for (std::int32_t level = 0; level < 3; ++level) {
    const std::int64_t limit = enter[static_cast<std::size_t>(level)];
    const bool is_in = (value <= limit) | ((before > level) & (value < limit + hysteresis));
    demand = is_in ? level + 1 : demand;
  }
  return demand;
}

}  // namespace

std::string_view Decision::reason() const {
  switch (move) {
    case Move::kKeep:
      return kKeep[static_cast<std::size_t>(signal)];
    case Move::kDown:
      return kDown[static_cast<std::size_t>(signal)];
    case Move::kHold:
      return "hold";
    case Move::kUp:
      return "up";
    case Move::kUpForApplication:
      break;
  }
  return "up:application";
}

bool should_stop(const Signals& signals) {
  return signals.android_status.value_or(0) >= kStopStatus || signals.apple_state.value_or(0) >= kStopState;
}

Policy::Policy(const PolicyParameters& parameters, std::int32_t tiers, std::int32_t minimum_tier,
               std::int32_t maximum_tier)
    : parameters_(parameters), tiers_(tiers) {
  check(parameters);
  if (tiers < 1 || tiers > kMaxTiers) {
    throw Error("policy.parameters", "A policy cannot choose among " + std::to_string(tiers) + " tiers.",
                {.expected = "1 to " + std::to_string(kMaxTiers), .found = std::to_string(tiers), .place = "tiers"});
  }
  limit(minimum_tier, maximum_tier);
  state_.tier = lowest_;
}

void Policy::limit(std::int32_t minimum, std::int32_t maximum) {
  if (minimum < 0 || minimum > maximum || maximum >= kMaxTiers) {
    const std::string pair = std::to_string(minimum) + " and " + std::to_string(maximum);
    throw Error("policy.limits", "The minimum and maximum tier " + pair + " are no limits.",
                {.expected = "0 <= minimum <= maximum <= " + std::to_string(kMaxTiers - 1), .found = pair});
  }
  lowest_ = std::min(minimum, tiers_ - 1);
  highest_ = std::min(maximum, tiers_ - 1);
}

Decision Policy::step(const Signals& signals) {
  check(signals);
  if (state_.last_ms.has_value()) {
    if (signals.t_ms < *state_.last_ms) {
      const std::string now = std::to_string(signals.t_ms);
      const std::string last = std::to_string(*state_.last_ms);
      throw Error("policy.time", "The reading at " + now + " ms comes after one at " + last + " ms.",
                  {.expected = "t_ms of at least " + last, .found = now, .place = "t_ms"});
    }
    if (signals.t_ms - *state_.last_ms > parameters_.gap_ms) {
      state_.below_since_ms.reset();
    }
  }
  state_.last_ms = signals.t_ms;
  const Demand demand = demand_of(signals);
  const Move moved = move(std::min(demand.tier, highest_), signals.t_ms);
  return {state_.tier, moved, demand.signal, lowest_, highest_};
}

Policy::Demand Policy::demand_of(const Signals& signals) {
  Demand demand;
  const bool fresh = signals.headroom_mh.has_value() && signals.headroom_age_ms <= parameters_.stale_ms;
  state_.headroom = fresh ? latched(state_.headroom, *signals.headroom_mh, entries(parameters_.enter_mh, signals),
                                    parameters_.hysteresis_mh)
                          : 0;
  demand.raise(state_.headroom, Demanding::kHeadroom);
  if (signals.android_status.has_value()) {
    demand.raise(parameters_.status_floor[static_cast<std::size_t>(*signals.android_status)], Demanding::kStatus);
  }
  if (signals.apple_state.has_value()) {
    demand.raise(parameters_.apple_floor[static_cast<std::size_t>(*signals.apple_state)], Demanding::kAppleState);
  }
  state_.battery = signals.battery_percent.has_value() && !signals.charging
                       ? latched_below(state_.battery, *signals.battery_percent, parameters_.battery_enter_percent,
                                       parameters_.battery_hysteresis)
                       : 0;
  demand.raise(state_.battery, Demanding::kBattery);
  if (signals.saver) {
    demand.raise(parameters_.saver_floor, Demanding::kSaver);
  }
  // The last resort, where nothing better is known of heat.
  const bool blind = !fresh && !signals.apple_state.has_value() && signals.android_status.value_or(0) == 0;
  state_.battery_temperature =
      blind && signals.battery_temperature_dc.has_value()
          ? latched(state_.battery_temperature, *signals.battery_temperature_dc,
                    parameters_.battery_temperature_enter_dc, parameters_.battery_temperature_hysteresis_dc)
          : 0;
  demand.raise(state_.battery_temperature, Demanding::kBatteryTemperature);
  demand.raise(lowest_, Demanding::kApplication);
  return demand;
}

Move Policy::move(std::int32_t demand, std::int64_t now_ms) {
  if (state_.tier > highest_) {
    state_.tier = highest_;
    state_.below_since_ms = now_ms;
    return Move::kUpForApplication;
  }
  if (demand >= state_.tier) {
    const Move moved = demand > state_.tier ? Move::kDown : Move::kKeep;
    state_.tier = demand;
    state_.below_since_ms.reset();
    return moved;
  }
  if (!state_.below_since_ms.has_value()) {
    state_.below_since_ms = now_ms;
  }
  if (now_ms - *state_.below_since_ms < parameters_.up_hold_ms) {
    return Move::kHold;
  }
  --state_.tier;
  state_.below_since_ms = now_ms;
  return Move::kUp;
}

}  // namespace ebbtide
