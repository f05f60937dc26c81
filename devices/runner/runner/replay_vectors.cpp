#include "runner/replay_vectors.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "runner/output.hpp"

namespace ebbtide {

Node Node::at(const char* key) const {
  if (!value_->is_object() || !value_->contains(key)) {
    refuse(std::string("an object with the key ") + key);
  }
  return {(*value_)[key], place_ + "." + key};
}

std::optional<Node> Node::find(const char* key) const {
  if (!value_->is_object()) {
    refuse("an object");
  }
  const auto found = value_->find(key);
  if (found == value_->end() || found->is_null()) {
    return std::nullopt;
  }
  return Node(*found, place_ + "." + key);
}

std::vector<Node> Node::items() const {
  if (!value_->is_array()) {
    refuse("an array");
  }
  std::vector<Node> nodes;
  nodes.reserve(value_->size());
  for (std::size_t i = 0; i < value_->size(); ++i) {
    nodes.emplace_back((*value_)[i], place_ + "[" + std::to_string(i) + "]");
  }
  return nodes;
}

const Node& Node::only(std::initializer_list<std::string_view> keys) const {
  if (!value_->is_object()) {
    refuse("an object");
  }
  for (const auto& [key, value] : value_->items()) {
    if (std::find(keys.begin(), keys.end(), key) == keys.end()) {
      Node(value, place_ + "." + key).refuse("no such key");
    }
  }
  return *this;
}

bool Node::boolean() const {
  if (!value_->is_boolean()) {
    refuse("true or false");
  }
  return value_->get<bool>();
}

std::string Node::text() const {
  if (!value_->is_string()) {
    refuse("a text");
  }
  return value_->get<std::string>();
}

std::int64_t Node::integer(std::int64_t least, std::int64_t most) const {
  const bool fits =
      value_->is_number_integer() &&
      (!value_->is_number_unsigned() ||
       value_->get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()));
  if (!fits || value_->get<std::int64_t>() < least || value_->get<std::int64_t>() > most) {
    refuse("a whole number from " + std::to_string(least) + " to " + std::to_string(most));
  }
  return value_->get<std::int64_t>();
}

std::int32_t Node::integer32(std::int32_t least, std::int32_t most) const {
  return static_cast<std::int32_t>(integer(least, most));
}

float Node::float32() const {
  if (value_->is_string()) {
    const auto& name = value_->get_ref<const std::string&>();
    if (name == "nan") {
      return std::numeric_limits<float>::quiet_NaN();
    }
    if (name == "inf" || name == "-inf") {
      return name == "inf" ? std::numeric_limits<float>::infinity() : -std::numeric_limits<float>::infinity();
    }
  } else if (value_->is_number()) {
    const auto wide = value_->get<double>();
    // The conversion of a double beyond the range of float32 is undefined, so the range comes first.
    if (std::abs(wide) <= static_cast<double>(std::numeric_limits<float>::max()) &&
        static_cast<double>(static_cast<float>(wide)) == wide) {
      return static_cast<float>(wide);
    }
  }
  refuse("a number that is a float32 exactly, or \"nan\", \"inf\", \"-inf\"");
}

std::vector<float> Node::floats32() const {
  std::vector<float> values;
  for (const Node& item : items()) {
    values.push_back(item.float32());
  }
  return values;
}

void Node::refuse(const std::string& expected) const {
  constexpr std::size_t kLongest = 80;
  std::string found = value_->dump(-1, ' ', true, Json::error_handler_t::replace);
  if (found.size() > kLongest) {
    found = found.substr(0, kLongest) + "...";
  }
  throw Error(kFaultyVectors, "A file of vectors is not of the form of its kind.",
              {.expected = expected, .found = found, .hint = "write it anew with `make vectors`", .place = place_});
}

void Tally::compare_float32(const Node& expected, float found) {
  const float wanted = expected.float32();
  const bool equal = (std::isnan(wanted) && std::isnan(found)) ||
                     std::bit_cast<std::uint32_t>(wanted) == std::bit_cast<std::uint32_t>(found);
  if (!equal) {
    differ(expected.place(), expected.json(), Json(number(found)));
  }
}

void Tally::compare_error(const Node& expected, const std::optional<Error>& error) {
  const std::string code = error ? error->code : "no error";
  compare(expected, expected.text(), code);
}

void Tally::differ(const std::string& place, const Json& expected, const Json& found) {
  if (step_is_equal_) {
    step_is_equal_ = false;
    --equal_;
  }
  if (first_difference_.is_null()) {
    first_difference_ = {{"place", place}, {"expected", expected}, {"found", found}};
  }
}

}  // namespace ebbtide
