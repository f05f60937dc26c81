// How long a step of the policy takes; apart from the policy, which has no clock.

#ifndef EBBTIDE_CORE_POLICY_TIMING_HPP_
#define EBBTIDE_CORE_POLICY_TIMING_HPP_

#include <cstdint>

namespace ebbtide {

// Nanoseconds that a step takes on this machine: the median of passes over one seeded random walk of 4,096 readings, as
// many passes as make at least `rounds` steps (0 counts as 1). The walk is made before the clock starts, and each
// step's tier is used, so that none can be left out.
double policy_step_ns(std::uint64_t rounds);

}  // namespace ebbtide

#endif  // EBBTIDE_CORE_POLICY_TIMING_HPP_
