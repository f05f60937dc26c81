// The clock of every measurement: monotonic, in whole nanoseconds.

#ifndef EBBTIDE_RUNNER_CLOCK_HPP_
#define EBBTIDE_RUNNER_CLOCK_HPP_

#include <chrono>
#include <cstdint>

namespace ebbtide {

inline std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_CLOCK_HPP_
