// `ebbtide-runner run`: predictions of arrays, from a file or from a stream.

#ifndef EBBTIDE_RUNNER_RUN_HPP_
#define EBBTIDE_RUNNER_RUN_HPP_

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

#include "runner/npy.hpp"
#include "runner/session.hpp"

namespace ebbtide {

// Hands the samples of one array to a session, one at a time.
class Samples {
 public:
  // The stream stands behind the header. Throws runtime.input where samples are neither of the model's shape (float32,
  // with or without a batch of one) nor pictures (uint8: height, width and perhaps 1 or 3 channels).
  Samples(std::istream& stream, const NpyHeader& header, const Manifest& manifest, std::string place);

  std::int64_t count() const { return header_.shape[0]; }

  // Read the next sample into the session's input. Throws runtime.input if the stream ends early, and what
  // preprocessing throws.
  void next(Session& session);

 private:
  std::istream& stream_;
  NpyHeader header_;
  std::string place_;
  std::vector<std::uint8_t> pixels_;
};

// Predict every sample of a file and print a line for each.
void run_file(Session& session, const std::string& file);

// Answer what comes on standard input until it ends: arrays, and lines of JSON that switch. See README.md. An item that
// cannot be used is answered with its error and the configuration in force stays.
void run_stream(Session& session);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_RUN_HPP_
