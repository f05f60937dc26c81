#include "runner/output.hpp"

#include <cmath>
#include <string>

namespace ebbtide {

OrderedJson number(float value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value > 0 ? "inf" : "-inf";
  return static_cast<double>(value);
}

OrderedJson numbers(std::span<const float> values) {
  OrderedJson list = OrderedJson::array();
  for (const float value : values) list.push_back(number(value));
  return list;
}

OrderedJson error_json(const Error& error) {
  const auto text = [](const std::string& value) { return value.empty() ? OrderedJson() : OrderedJson(value); };
  return {{"error",
           {{"code", error.code},
            {"message", error.what()},
            {"expected", text(error.expected)},
            {"found", text(error.found)},
            {"hint", text(error.hint)},
            {"place", text(error.place)}}}};
}

}  // namespace ebbtide
