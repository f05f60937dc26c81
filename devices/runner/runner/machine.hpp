// What a measurement was made on, as far as it moves times. No host names, users or paths: results are published.

#ifndef EBBTIDE_RUNNER_MACHINE_HPP_
#define EBBTIDE_RUNNER_MACHINE_HPP_

#include <cstdint>
#include <optional>
#include <string>

#include "runner/output.hpp"

namespace ebbtide {

// The `device` of results; whatever cannot be read is null, never guessed.
OrderedJson device_facts();

// What is in memory now and was at most, in bytes; nothing where the system does not say.
std::optional<std::int64_t> resident_bytes();
std::optional<std::int64_t> peak_bytes();

// Give back what was freed and let the peak begin anew; false where the system does not allow that.
bool reset_peak();

// What the machine says of its heat and battery: the nullable fields of a row of results.
OrderedJson thermal_facts();

// The time of the calendar as the results state it, "2026-11-27T12:00:00Z".
std::string utc_now();

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_MACHINE_HPP_
