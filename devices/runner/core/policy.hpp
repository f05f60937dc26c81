// The tier policy: from what a phone says about itself to a tier, on integers alone.
//
// The rule is the text of pipeline/ebbtide/runtime/policy.py, of which this is a transcription; the vectors in
// tests/vectors/policy hold both to it. "mh" is thermal headroom x 1000, "dc" a tenth of a degree Celsius. Tier 0 is
// the best and most expensive; a demand is the tier that one signal asks for, 0 to 3.

#ifndef EBBTIDE_CORE_POLICY_HPP_
#define EBBTIDE_CORE_POLICY_HPP_

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace ebbtide {

// As many tiers as there are demands.
inline constexpr std::int32_t kMaxTiers = 4;

// The greatest time, 2^53 - 1: every language's numbers hold it exactly.
inline constexpr std::int64_t kMaxTime = (std::int64_t{1} << 53) - 1;

// One reading of everything that decides; empty where the phone does not say. `Policy::step` checks the ranges.
struct Signals {
  std::int64_t t_ms = 0;                               // on a clock that never goes back; 0 to 2^53 - 1
  std::optional<std::int64_t> headroom_mh;             // 0 to 10,000; 1000 is severe throttling, 100 are 3 degrees
  std::int64_t headroom_age_ms = 0;                    // 0 to 2^53 - 1
  std::optional<std::int64_t> light_mh;                // where the status LIGHT begins, 0 to 10,000
  std::optional<std::int64_t> moderate_mh;             // where MODERATE begins, 0 to 10,000
  std::optional<std::int64_t> android_status;          // PowerManager.THERMAL_STATUS_*, 0 to 6
  std::optional<std::int64_t> apple_state;             // ProcessInfo.ThermalState, 0 to 3
  std::optional<std::int64_t> battery_percent;         // 0 to 100
  bool charging = false;                               // a charger is plugged in
  bool saver = false;                                  // the power saver is on
  std::optional<std::int64_t> battery_temperature_dc;  // -400 to 1500
};

// The numbers of the rule: the manifest's `policy`.
struct PolicyParameters {
  std::array<std::int64_t, 3> enter_mh{};                      // rising, 0 to 10,000
  std::int64_t hysteresis_mh = 0;                              // 0 to 10,000
  std::array<std::int32_t, 7> status_floor{};                  // rising, demands 0 to 3
  std::array<std::int32_t, 4> apple_floor{};                   // rising, demands 0 to 3
  std::array<std::int64_t, 3> battery_enter_percent{};         // falling, 0 to 100
  std::int64_t battery_hysteresis = 0;                         // 0 to 100
  std::array<std::int64_t, 3> battery_temperature_enter_dc{};  // rising, -400 to 1500
  std::int64_t battery_temperature_hysteresis_dc = 0;          // 0 to 500
  std::int32_t saver_floor = 0;                                // a demand, 0 to 3
  std::int64_t up_hold_ms = 0;                                 // 0 to 86,400,000, as the next two
  std::int64_t stale_ms = 0;
  std::int64_t gap_ms = 0;
};

// What can demand a tier, in the order in which equal demands win.
enum class Demanding : std::uint8_t {
  kNone,
  kHeadroom,
  kStatus,
  kAppleState,
  kBattery,
  kSaver,
  kBatteryTemperature,
  kApplication,
};

// What a decision did to the tier.
enum class Move : std::uint8_t { kKeep, kDown, kHold, kUp, kUpForApplication };

// A tier and why.
struct Decision {
  std::int32_t tier = 0;  // the one to use from now on
  Move move = Move::kKeep;
  // What demanded most; after kHold and the two of kUp it demands less than the tier that was in force.
  Demanding signal = Demanding::kNone;
  std::int32_t minimum_tier = 0;  // the application's limits that held
  std::int32_t maximum_tier = 0;

  // "keep:SIGNAL", "keep:none", "down:SIGNAL", "hold", "up" or "up:application"; text that lives for ever.
  std::string_view reason() const;
};

// Whether the application should stop, because the phone is about to shut down or to stop it: an Android status of
// EMERGENCY or SHUTDOWN, or Apple's `critical`. Nothing here refuses to run.
bool should_stop(const Signals& signals);

// What a policy remembers from one step to the next.
struct PolicyState {
  std::int32_t tier = 0;
  std::int32_t headroom = 0;  // the three latches: the demand at the step before
  std::int32_t battery = 0;
  std::int32_t battery_temperature = 0;
  std::optional<std::int64_t> below_since_ms;
  std::optional<std::int64_t> last_ms;

  bool operator==(const PolicyState&) const = default;
};

// Decides which tier to use, one reading after the other. For one thread at a time; a step allocates nothing.
class Policy {
 public:
  // Args: parameters, from a manifest; tiers, how many the bundle has, 1 to 4; minimum_tier and maximum_tier as of
  // `limit`. The policy begins with the minimum tier.
  //
  // Throws policy.parameters, policy.limits.
  Policy(const PolicyParameters& parameters, std::int32_t tiers, std::int32_t minimum_tier = 0,
         std::int32_t maximum_tier = kMaxTiers - 1);

  // Set the application's limits, 0 <= minimum <= maximum <= 3; one beyond the bundle's last tier means the last. They
  // hold from the next step on, which moves the tier at once, either way.
  //
  // Throws policy.limits; the limits in force then stay.
  void limit(std::int32_t minimum, std::int32_t maximum);

  // Take one reading and decide.
  //
  // Throws policy.signal (place: the field), policy.time; nothing has changed then.
  Decision step(const Signals& signals);

  std::int32_t tier() const { return state_.tier; }
  std::int32_t tiers() const { return tiers_; }
  const PolicyState& state() const { return state_; }

 private:
  struct Demand {
    std::int32_t tier = 0;
    Demanding signal = Demanding::kNone;

    // Among equal demands the first stays.
    void raise(std::int32_t other, Demanding of) {
      if (other > tier) {
        tier = other;
        signal = of;
      }
    }
  };

  Demand demand_of(const Signals& signals);
  Move move(std::int32_t demand, std::int64_t now_ms);

  PolicyParameters parameters_;
  std::int32_t tiers_;
  std::int32_t lowest_ = 0;   // the application's minimum tier, as far as the bundle has it
  std::int32_t highest_ = 0;  // its maximum
  PolicyState state_;
};

}  // namespace ebbtide

#endif  // EBBTIDE_CORE_POLICY_HPP_
