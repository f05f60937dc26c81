// Replaying the shared vectors of tests/vectors, to which every language is held, in C++.

#ifndef EBBTIDE_RUNNER_REPLAY_HPP_
#define EBBTIDE_RUNNER_REPLAY_HPP_

#include <filesystem>
#include <string>

namespace ebbtide {

// Take each step of a file of vectors and compare what comes out with what is written there, bit for bit.
//
// Prints one line of JSON to standard output:
//   {"kind": "policy", "file": "traces.json", "steps": 194, "equal": 194, "first_difference": null}
// `steps` counts the decisions, predictions, choices, images or manifests of the file, `equal` those that came out as
// written; `first_difference` is the first other one: {"place", "expected", "found"}, with a JSON path as place.
//
// Args:
//   kind: "policy", "session", "choice", "manifest" or "preprocessing".
//   file: one of that kind.
//
// Returns 0 if all steps are equal, 1 if not.
// Throws runtime.vectors if there is no such kind, or the file cannot be read or is not one of its kind.
int replay(const std::string& kind, const std::filesystem::path& file);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_REPLAY_HPP_
