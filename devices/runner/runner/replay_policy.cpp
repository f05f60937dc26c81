// tests/vectors/policy: traces of readings, each with the tier and reason, or the error, that it must give.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/policy.hpp"
#include "runner/replay_vectors.hpp"

namespace ebbtide {
namespace {

constexpr std::int64_t kLeast = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kMost = std::numeric_limits<std::int64_t>::max();

template <typename Number, std::size_t count>
std::array<Number, count> numbers_of(const Node& list) {
  const std::vector<Node> items = list.items();
  if (items.size() != count) {
    list.refuse(std::to_string(count) + " numbers");
  }
  std::array<Number, count> numbers{};
  for (std::size_t i = 0; i < count; ++i) {
    numbers[i] = items[i].integer32(-1'000'000'000, 1'000'000'000);
  }
  return numbers;
}

// The parameters of a trace: those of the file, with the trace's own in their place.
PolicyParameters parameters_of(const Node& common, const Node& overrides) {
  for (const Node* node : {&common, &overrides}) {
    node->only({"enter_mh", "hysteresis_mh", "status_floor", "apple_floor", "battery_enter_percent",
                "battery_hysteresis", "battery_temperature_enter_dc", "battery_temperature_hysteresis_dc",
                "saver_floor", "up_hold_ms", "stale_ms", "gap_ms"});
  }
  const auto of = [&](const char* key) { return overrides.find(key).value_or(common.at(key)); };
  const auto number = [&](const char* key) { return of(key).integer(0, kMost); };
  return {.enter_mh = numbers_of<std::int64_t, 3>(of("enter_mh")),
          .hysteresis_mh = number("hysteresis_mh"),
          .status_floor = numbers_of<std::int32_t, 7>(of("status_floor")),
          .apple_floor = numbers_of<std::int32_t, 4>(of("apple_floor")),
          .battery_enter_percent = numbers_of<std::int64_t, 3>(of("battery_enter_percent")),
          .battery_hysteresis = number("battery_hysteresis"),
          .battery_temperature_enter_dc = numbers_of<std::int64_t, 3>(of("battery_temperature_enter_dc")),
          .battery_temperature_hysteresis_dc = number("battery_temperature_hysteresis_dc"),
          .saver_floor = of("saver_floor").integer32(0, kMaxTiers - 1),
          .up_hold_ms = number("up_hold_ms"),
          .stale_ms = number("stale_ms"),
          .gap_ms = number("gap_ms")};
}

[[noreturn]] void refuse_signal(const Node& value, const char* expected) {
  throw Error("policy.signal", "A signal has the wrong type or is not known.",
              {.expected = expected, .found = value.json().dump(), .place = value.place()});
}

// Readings come in JSON with values of any type: what is no whole number, or is none of the signals, is the policy's
// error and not the file's, since vectors test that, too.
std::optional<std::int64_t> whole(const std::optional<Node>& value) {
  if (!value.has_value()) {
    return std::nullopt;
  }
  const Json& json = value->json();
  const bool fits = json.is_number_integer() &&
                    (!json.is_number_unsigned() || json.get<std::uint64_t>() <= static_cast<std::uint64_t>(kMost));
  if (!fits) {
    refuse_signal(*value, "a whole number");
  }
  return json.get<std::int64_t>();
}

bool flag(const std::optional<Node>& value) {
  if (value.has_value() && !value->json().is_boolean()) {
    refuse_signal(*value, "true or false");
  }
  return value.has_value() && value->json().get<bool>();
}

Signals signals_of(const Node& entry) {
  constexpr std::string_view kNames[] = {"t_ms",        "headroom_mh",    "headroom_age_ms",       "light_mh",
                                         "moderate_mh", "android_status", "apple_state",           "battery_percent",
                                         "charging",    "saver",          "battery_temperature_dc"};
  for (const auto& [name, value] : entry.json().items()) {
    if (std::find(std::begin(kNames), std::end(kNames), name) == std::end(kNames)) {
      refuse_signal(Node(value, entry.place() + "." + name), "one of the signals");
    }
  }
  const std::optional<std::int64_t> t_ms = whole(entry.find("t_ms"));
  if (!t_ms.has_value()) {
    refuse_signal(entry, "t_ms");
  }
  return {.t_ms = *t_ms,
          .headroom_mh = whole(entry.find("headroom_mh")),
          .headroom_age_ms = whole(entry.find("headroom_age_ms")).value_or(0),
          .light_mh = whole(entry.find("light_mh")),
          .moderate_mh = whole(entry.find("moderate_mh")),
          .android_status = whole(entry.find("android_status")),
          .apple_state = whole(entry.find("apple_state")),
          .battery_percent = whole(entry.find("battery_percent")),
          .charging = flag(entry.find("charging")),
          .saver = flag(entry.find("saver")),
          .battery_temperature_dc = whole(entry.find("battery_temperature_dc"))};
}

void limit(const Node& pair, Policy& policy) {
  const std::vector<Node> items = pair.items();
  if (items.size() != 2) {
    pair.refuse("a minimum and a maximum tier");
  }
  std::int32_t limits[2] = {};
  for (std::size_t i = 0; i < 2; ++i) {
    const Json& value = items[i].json();
    const bool fits = value.is_number_integer() && value >= std::numeric_limits<std::int32_t>::min() &&
                      value <= std::numeric_limits<std::int32_t>::max();
    if (!fits) {
      throw Error("policy.limits", "A limit is not a whole number.", {.place = items[i].place()});
    }
    limits[i] = value.get<std::int32_t>();
  }
  policy.limit(limits[0], limits[1]);
}

void replay_step(const Node& step, Policy& policy, Tally& tally) {
  step.only({"limits", "in", "tier", "reason", "error"});
  const Node reading = step.at("in");
  if (!reading.json().is_object()) {
    reading.refuse("an object");
  }
  const PolicyState before = policy.state();
  std::optional<Decision> decision;
  const std::optional<Error> error = attempt([&] {
    if (const auto limits = step.find("limits")) {
      limit(*limits, policy);
    }
    decision = policy.step(signals_of(reading));
  });
  if (const auto wanted = step.find("error")) {
    tally.compare_error(*wanted, error);
    if (error.has_value() && policy.state() != before) {
      tally.differ(step.place(), "an unchanged state", "a changed one");
    }
    return;
  }
  const Node tier = step.at("tier");
  const Node reason = step.at("reason");
  if (!decision.has_value()) {
    tally.differ(step.place(), reason.text(), error->code);
    return;
  }
  tally.compare(tier, tier.integer32(0, kMaxTiers - 1), decision->tier);
  tally.compare(reason, reason.text(), std::string(decision->reason()));
}

}  // namespace

void replay_policy(const Node& document, Tally& tally) {
  document.only({"format", "policy", "traces"});
  for (const Node& trace : document.at("traces").items()) {
    trace.only({"name", "why", "tiers", "policy", "minimum_tier", "maximum_tier", "steps"});
    std::optional<Policy> policy;
    const std::optional<Error> error = attempt([&] {
      policy.emplace(parameters_of(document.at("policy"), trace.at("policy")),
                     trace.at("tiers").integer32(1, kMaxTiers), trace.at("minimum_tier").integer32(0, kMaxTiers - 1),
                     trace.at("maximum_tier").integer32(0, kMaxTiers - 1));
    });
    if (error.has_value()) {
      trace.refuse("a policy, not " + error->code + ": " + error->what());
    }
    for (const Node& step : trace.at("steps").items()) {
      tally.begin();
      replay_step(step, *policy, tally);
    }
  }
}

}  // namespace ebbtide
