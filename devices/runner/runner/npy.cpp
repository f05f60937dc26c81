#include "runner/npy.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <regex>

#include "core/error.hpp"

namespace ebbtide {
namespace {

static_assert(std::endian::native == std::endian::little, "arrays are read as they lie in memory");

constexpr std::size_t kMaxHeaderBytes = 4096;
constexpr std::size_t kMaxAxes = 8;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;

Error refused(const std::string& message, const std::string& found, const std::string& place) {
  return {"runtime.input",
          message,
          {.expected = "a .npy array of float32 or uint8 in C order, samples along its first axis",
           .found = found,
           .place = place}};
}

std::string field(const std::string& header, const std::string& pattern, const std::string& place) {
  std::smatch match;
  if (!std::regex_search(header, match, std::regex(pattern)))
    throw refused("The array's header is not valid.", header, place);
  return match[1];
}

std::vector<std::int64_t> shape_of(const std::string& text, const std::string& header, const std::string& place) {
  std::vector<std::int64_t> shape;
  std::int64_t elements = 1;
  const std::regex number("[0-9]{1,12}");
  for (std::sregex_iterator match(text.begin(), text.end(), number); match != std::sregex_iterator(); ++match) {
    shape.push_back(std::stoll(match->str()));
    if (__builtin_mul_overflow(elements, std::max<std::int64_t>(shape.back(), 1), &elements))
      elements = kMaxElements + 1;
  }
  if (shape.empty() || shape.size() > kMaxAxes || elements > kMaxElements) {
    throw refused("The array has no samples or too many axes.", header, place);
  }
  return shape;
}

}  // namespace

std::int64_t NpyHeader::items_a_sample() const {
  std::int64_t count = 1;
  for (std::size_t axis = 1; axis < shape.size(); ++axis) count *= shape[axis];
  return count;
}

void read_exactly(std::istream& stream, void* target, std::size_t bytes, const std::string& place) {
  stream.read(static_cast<char*>(target), static_cast<std::streamsize>(bytes));
  if (static_cast<std::size_t>(stream.gcount()) != bytes) {
    throw refused("The input ends early.", std::to_string(stream.gcount()) + " of " + std::to_string(bytes) + " bytes",
                  place);
  }
}

NpyHeader read_npy_header(std::istream& stream, const std::string& place) {
  std::array<unsigned char, 8> lead{};
  read_exactly(stream, lead.data(), lead.size(), place);
  const std::string magic(reinterpret_cast<const char*>(lead.data()), 6);
  const int version = lead[6];
  if (magic != "\x93NUMPY" || version < 1 || version > 3) throw refused("This is not a .npy array.", "", place);
  std::array<unsigned char, 4> length{};
  read_exactly(stream, length.data(), version == 1 ? 2 : 4, place);
  const std::size_t size = length[0] | static_cast<std::size_t>(length[1]) << 8 |
                           static_cast<std::size_t>(length[2]) << 16 | static_cast<std::size_t>(length[3]) << 24;
  if (size > kMaxHeaderBytes) throw refused("The array's header is too long.", std::to_string(size) + " bytes", place);
  std::string header(size, '\0');
  read_exactly(stream, header.data(), size, place);

  NpyHeader found;
  found.dtype = field(header, "'descr': *'([^']*)'", place);
  if (found.dtype != "<f4" && found.dtype != "|u1") throw refused("The array has another type.", found.dtype, place);
  if (field(header, "'fortran_order': *(True|False)", place) == "True") {
    throw refused("The array is in Fortran order.", header, place);
  }
  found.shape = shape_of(field(header, "'shape': *\\(([0-9, ]*)\\)", place), header, place);
  if (found.items_a_sample() < 1) throw refused("The array's samples are empty.", header, place);
  return found;
}

}  // namespace ebbtide
