// How results and errors are written: one JSON object a line.

#ifndef EBBTIDE_RUNNER_OUTPUT_HPP_
#define EBBTIDE_RUNNER_OUTPUT_HPP_

#include <nlohmann/json.hpp>
#include <span>

#include "core/error.hpp"

namespace ebbtide {

// Keys stay in the order in which they were written.
using OrderedJson = nlohmann::ordered_json;

// A float32 as a decimal that gives the very same double, and so float32, back; "nan", "inf" or "-inf" as a text.
OrderedJson number(float value);
OrderedJson numbers(std::span<const float> values);

// {"error": {"code", "message", "expected", "found", "hint", "place"}}; what is empty is null.
OrderedJson error_json(const Error& error);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_OUTPUT_HPP_
