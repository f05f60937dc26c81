// Arrays as NumPy writes them (.npy, versions 1 to 3), read one after the other from a stream.
//
// https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html

#ifndef EBBTIDE_RUNNER_NPY_HPP_
#define EBBTIDE_RUNNER_NPY_HPP_

#include <cstdint>
#include <istream>
#include <string>
#include <vector>

namespace ebbtide {

// What stands before an array's elements. Elements follow in C order.
struct NpyHeader {
  std::string dtype;  // "<f4" or "|u1"
  std::vector<std::int64_t> shape;

  std::int64_t item_bytes() const { return dtype == "<f4" ? 4 : 1; }
  // The number of elements behind the first axis, >= 1.
  std::int64_t items_a_sample() const;
};

// Read a header; the stream stands at its first byte. Throws runtime.input for anything that is not an array of
// float32 (little endian) or uint8 in C order with at least one axis.
NpyHeader read_npy_header(std::istream& stream, const std::string& place);

// Read exactly so many bytes. Throws runtime.input if the stream ends early.
void read_exactly(std::istream& stream, void* target, std::size_t bytes, const std::string& place);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_NPY_HPP_
