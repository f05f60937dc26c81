// What the replays of all kinds share: strict reading of vector files, and the count of what came out as written.

#ifndef EBBTIDE_RUNNER_REPLAY_VECTORS_HPP_
#define EBBTIDE_RUNNER_REPLAY_VECTORS_HPP_

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.hpp"
#include "runner/strict_json.hpp"

namespace ebbtide {

inline constexpr const char* kFaultyVectors = "runtime.vectors";

// A value of a vector file and its JSON path. Whatever is not as it is asked for throws runtime.vectors with that path.
class Node {
 public:
  Node(const Json& value, std::string place) : value_(&value), place_(std::move(place)) {}

  const Json& json() const { return *value_; }
  const std::string& place() const { return place_; }

  // The value of a key that must be there.
  Node at(const char* key) const;
  // The value of a key, or nothing where it is absent or null.
  std::optional<Node> find(const char* key) const;
  // The elements of an array.
  std::vector<Node> items() const;
  // Refuses an object with any other key than these: a misspelled one would test nothing.
  const Node& only(std::initializer_list<std::string_view> keys) const;

  bool boolean() const;
  std::string text() const;
  // A whole number from `least` to `most`.
  std::int64_t integer(std::int64_t least, std::int64_t most) const;
  std::int32_t integer32(std::int32_t least, std::int32_t most) const;
  // A float32: a number that is one exactly, or "nan", "inf", "-inf".
  float float32() const;
  std::vector<float> floats32() const;

  [[noreturn]] void refuse(const std::string& expected) const;

 private:
  const Json* value_;
  std::string place_;
};

// The count of a replay, and the first difference that it met.
class Tally {
 public:
  // Begin the next step.
  void begin() {
    ++steps_;
    step_is_equal_ = true;
    ++equal_;
  }
  // Compare a value of the step that was begun.
  template <typename Value>
  void compare(const Node& expected, const Value& wanted, const Value& found) {
    if (!(wanted == found)) {
      differ(expected.place(), expected.json(), Json(found));
    }
  }
  // The same for a float32, by its bits, with all not-a-numbers equal to each other.
  void compare_float32(const Node& expected, float found);
  // The error that a step must end with. `error` is what it did end with, nothing if it ended well.
  void compare_error(const Node& expected, const std::optional<Error>& error);
  // The step that was begun is not as written.
  void differ(const std::string& place, const Json& expected, const Json& found);

  std::uint64_t steps() const { return steps_; }
  std::uint64_t equal() const { return equal_; }
  const Json& first_difference() const { return first_difference_; }

 private:
  std::uint64_t steps_ = 0;
  std::uint64_t equal_ = 0;
  bool step_is_equal_ = true;
  Json first_difference_;
};

// Do what a vector asks for; the error that it ended with, nothing if it ended well. Errors about the file go through.
template <typename Act>
std::optional<Error> attempt(Act&& act) {
  try {
    act();
  } catch (const Error& error) {
    if (error.code == kFaultyVectors) {
      throw;
    }
    return error;
  }
  return std::nullopt;
}

// The replay of each kind, over the whole document of a file.
void replay_policy(const Node& document, Tally& tally);
void replay_session(const Node& document, Tally& tally);
void replay_choice(const Node& document, Tally& tally);
void replay_manifest(const Node& document, Tally& tally);
void replay_preprocessing(const Node& document, Tally& tally);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_REPLAY_VECTORS_HPP_
