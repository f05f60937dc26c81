// One error for everything a user can get wrong: a stable code, what was expected, what was found, what to do.
//
// A code is "package.reason" and is one of those in pipeline/ebbtide/errors.py, whose `EbbtideError` this mirrors.

#ifndef EBBTIDE_CORE_ERROR_HPP_
#define EBBTIDE_CORE_ERROR_HPP_

#include <stdexcept>
#include <string>
#include <utility>

namespace ebbtide {

// The parts of an error that are left out where they would say nothing. Written with designated initializers:
// `throw Error("engine.input", "The input has another shape.", {.expected = "1 x 3 x 8 x 8", .found = "3 x 8 x 8"})`.
struct Details {
  std::string expected{};
  std::string found{};
  std::string hint{};
  std::string place{};
};

// The only exception that this library throws, besides std::bad_alloc. `what()` is the message.
struct Error : std::runtime_error {
  // Args: code, "package.reason"; message, a sentence for people; details, what else is known.
  Error(std::string code, const std::string& message, Details details = {})
      : std::runtime_error(message),
        code(std::move(code)),
        expected(std::move(details.expected)),
        found(std::move(details.found)),
        hint(std::move(details.hint)),
        place(std::move(details.place)) {}

  std::string code;
  std::string expected;  // what would have been right
  std::string found;     // what was there instead
  std::string hint;      // what to do about it
  std::string place;     // file, key or JSON path
};

}  // namespace ebbtide

#endif  // EBBTIDE_CORE_ERROR_HPP_
