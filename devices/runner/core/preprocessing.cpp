#include "core/preprocessing.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>

#include "core/error.hpp"

// A product must be rounded to float32 before the bias is added, as it is in the reference. GCC has no such pragma; the
// library is built with -ffp-contract=off for it.
#ifdef __clang__
#pragma STDC FP_CONTRACT OFF
#endif

namespace ebbtide {
namespace {

constexpr int kWeightBits = 14;
constexpr std::uint32_t kHalf = 1U << (kWeightBits - 1);

std::string size_text(std::int64_t height, std::int64_t width) {
  return std::to_string(height) + " x " + std::to_string(width);
}

// Whether a side of an image or input has a length that can be worked with.
bool is_side(std::int32_t pixels) { return pixels >= 1 && pixels <= kLongestSide; }

void check_sides(std::initializer_list<std::int32_t> sides) {
  for (const std::int32_t side : sides) {
    if (!is_side(side)) {
      throw Error("data.input", "A side of an image or an input has no length that can be worked with.",
                  {.expected = "1 to " + std::to_string(kLongestSide), .found = std::to_string(side)});
    }
  }
}

std::uint64_t count(std::int32_t height, std::int32_t width, std::int32_t channels) {
  return static_cast<std::uint64_t>(height) * static_cast<std::uint64_t>(width) * static_cast<std::uint64_t>(channels);
}

void check_image(const Image& image) {
  if (image.channels != 1 && image.channels != 3) {
    throw Error("data.channels", "Images have " + std::to_string(image.channels) + " channels.",
                {.expected = "1 (gray) or 3 (RGB), as the last axis",
                 .hint = "order the axes (height, width, channels) and drop alpha or further bands"});
  }
  if (!is_side(image.height) || !is_side(image.width) ||
      image.pixels.size() != count(image.height, image.width, image.channels)) {
    throw Error("data.array", "An image has no pixels, or another number of them than its sizes say.",
                {.expected = "height x width x channels bytes, each side 1 to " + std::to_string(kLongestSide),
                 .found = std::to_string(image.pixels.size()) + " bytes for " + size_text(image.height, image.width) +
                          " x " + std::to_string(image.channels)});
  }
}

void check_input(const ImageInput& input) {
  const bool has_channels = input.channels == 1 || input.channels == 3;
  const auto channels = static_cast<std::size_t>(has_channels ? input.channels : 0);
  if (!has_channels || !is_side(input.height) || !is_side(input.width) || input.scale.size() != channels ||
      input.bias.size() != channels) {
    throw Error(
        "data.input", "The description of the input is not well formed.",
        {.expected =
             "1 or 3 channels, sides of 1 to " + std::to_string(kLongestSide) + ", a scale and a bias for each channel",
         .found = std::to_string(input.channels) + " x " + size_text(input.height, input.width) + ", " +
                  std::to_string(input.scale.size()) + " scales, " + std::to_string(input.bias.size()) + " biases"});
  }
}

std::uint8_t rounded(std::uint32_t sum) { return static_cast<std::uint8_t>((sum + kHalf) >> kWeightBits); }

// The first pass: weighted sums of whole rows. Takes the cropped part of the image, gives (rows, crop.width, channels).
std::vector<std::uint8_t> resize_height(const Image& image, const Crop& crop, std::int32_t rows) {
  const auto channels = static_cast<std::size_t>(image.channels);
  const std::size_t stride = static_cast<std::size_t>(image.width) * channels;
  const std::size_t length = static_cast<std::size_t>(crop.width) * channels;
  const std::uint8_t* corner = image.pixels.data() + static_cast<std::size_t>(crop.top) * stride +
                               static_cast<std::size_t>(crop.left) * channels;
  std::vector<std::uint8_t> result(static_cast<std::size_t>(rows) * length);
  std::uint8_t* out = result.data();
  if (crop.height == rows) {
    for (std::int32_t row = 0; row < rows; ++row, out += length) {
      std::copy_n(corner + static_cast<std::size_t>(row) * stride, length, out);
    }
    return result;
  }
  std::vector<std::uint32_t> sums(length);
  for (const ResizeRow& row : resize_weights(crop.height, rows)) {
    std::fill(sums.begin(), sums.end(), 0U);
    const std::uint8_t* in = corner + static_cast<std::size_t>(row.first) * stride;
    for (const std::int32_t weight : row.weights) {
      const auto factor = static_cast<std::uint32_t>(weight);
      for (std::size_t i = 0; i < length; ++i) {
        sums[i] += factor * in[i];
      }
      in += stride;
    }
    for (std::size_t i = 0; i < length; ++i) {
      out[i] = rounded(sums[i]);
    }
    out += length;
  }
  return result;
}

// The second pass, along each row of (rows, inputs, channels).
std::vector<std::uint8_t> resize_width(const std::vector<std::uint8_t>& pixels, std::size_t rows, std::int32_t inputs,
                                       std::int32_t outputs, std::size_t channels) {
  const std::vector<ResizeRow> table = resize_weights(inputs, outputs);
  std::vector<std::uint8_t> result(rows * table.size() * channels);
  std::uint8_t* out = result.data();
  for (std::size_t row = 0; row < rows; ++row) {
    const std::uint8_t* line = pixels.data() + row * static_cast<std::size_t>(inputs) * channels;
    for (const ResizeRow& entry : table) {
      const std::uint8_t* first = line + static_cast<std::size_t>(entry.first) * channels;
      for (std::size_t channel = 0; channel < channels; ++channel) {
        std::uint32_t sum = 0;
        for (std::size_t k = 0; k < entry.weights.size(); ++k) {
          sum += static_cast<std::uint32_t>(entry.weights[k]) * first[k * channels + channel];
        }
        *out++ = rounded(sum);
      }
    }
  }
  return result;
}

std::vector<std::uint8_t> recolor(std::vector<std::uint8_t> pixels, std::int32_t from, std::int32_t to) {
  if (from == to) {
    return pixels;
  }
  std::vector<std::uint8_t> result;
  if (to == 3) {
    result.reserve(pixels.size() * 3);
    for (const std::uint8_t value : pixels) {
      result.insert(result.end(), 3, value);
    }
    return result;
  }
  result.reserve(pixels.size() / 3);
  for (std::size_t i = 0; i < pixels.size(); i += 3) {
    const std::uint32_t sum = 19595U * pixels[i] + 38470U * pixels[i + 1] + 7471U * pixels[i + 2] + (1U << 15);
    result.push_back(static_cast<std::uint8_t>(sum >> 16));
  }
  return result;
}

}  // namespace

Crop center_crop(std::int32_t height, std::int32_t width, std::int32_t target_height, std::int32_t target_width) {
  check_sides({height, width, target_height, target_width});
  const auto h = static_cast<std::int64_t>(height), w = static_cast<std::int64_t>(width);
  const auto th = static_cast<std::int64_t>(target_height), tw = static_cast<std::int64_t>(target_width);
  if (w * th > h * tw) {
    const std::int64_t kept = std::min(std::max<std::int64_t>(1, (2 * h * tw + th) / (2 * th)), w);
    return {0, static_cast<std::int32_t>((w - kept) / 2), height, static_cast<std::int32_t>(kept)};
  }
  const std::int64_t kept = std::min(std::max<std::int64_t>(1, (2 * w * th + tw) / (2 * tw)), h);
  return {static_cast<std::int32_t>((h - kept) / 2), 0, static_cast<std::int32_t>(kept), width};
}

std::vector<ResizeRow> resize_weights(std::int32_t inputs, std::int32_t outputs) {
  check_sides({inputs, outputs});
  const auto m = static_cast<std::int64_t>(inputs), n = static_cast<std::int64_t>(outputs);
  const std::int64_t reach = std::max(m, n);
  // 2 r - |(2 j + 1) n - centre|, cut at 0: a triangle around the centre of an output.
  const auto raw = [&](std::int64_t j, std::int64_t centre) {
    return std::max<std::int64_t>(0, 2 * reach - std::abs((2 * j + 1) * n - centre));
  };
  std::vector<ResizeRow> table;
  table.reserve(static_cast<std::size_t>(outputs));
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t centre = (2 * i + 1) * m;
    // A negative numerator would be cut to 0 anyway, so division towards zero does as well as the reference's floor.
    const std::int64_t first = std::max<std::int64_t>(0, (centre - 2 * reach) / (2 * n));
    const std::int64_t last = std::min(m - 1, (centre + 2 * reach) / (2 * n));
    std::int64_t total = 0;
    for (std::int64_t j = first; j <= last; ++j) {
      total += raw(j, centre);
    }
    ResizeRow row{static_cast<std::int32_t>(first), {}};
    row.weights.reserve(static_cast<std::size_t>(last - first + 1));
    std::int64_t running = 0;
    std::int64_t before = 0;
    for (std::int64_t j = first; j <= last; ++j) {
      running += raw(j, centre);
      const std::int64_t after = ((running << (kWeightBits + 1)) + total) / (2 * total);
      if (after != before || !row.weights.empty()) {
        row.weights.push_back(static_cast<std::int32_t>(after - before));
      } else {
        ++row.first;  // a leading zero is left out
      }
      before = after;
    }
    while (row.weights.back() == 0) {
      row.weights.pop_back();
    }
    table.push_back(std::move(row));
  }
  return table;
}

std::vector<std::uint8_t> fit_pixels(const Image& image, const ImageInput& input) {
  check_image(image);
  check_input(input);
  const bool same_size = image.height == input.height && image.width == input.width;
  if (!same_size && !input.resizes) {
    throw Error("data.input", "The image does not have the size of the input, and this input is not resized.",
                {.expected = size_text(input.height, input.width),
                 .found = size_text(image.height, image.width),
                 .hint = "resize the image before, or build with data.input.size"});
  }
  Crop crop{0, 0, image.height, image.width};
  if (!same_size && input.crops_center) {
    crop = center_crop(image.height, image.width, input.height, input.width);
  }
  std::vector<std::uint8_t> pixels = resize_height(image, crop, input.height);
  if (crop.width != input.width) {
    pixels = resize_width(pixels, static_cast<std::size_t>(input.height), crop.width, input.width,
                          static_cast<std::size_t>(image.channels));
  }
  return recolor(std::move(pixels), image.channels, input.channels);
}

void preprocess(const Image& image, const ImageInput& input, std::span<float> tensor) {
  const std::vector<std::uint8_t> pixels = fit_pixels(image, input);
  if (tensor.size() != pixels.size()) {
    throw Error("data.array", "The tensor to write has another size than the model's input.",
                {.expected = std::to_string(pixels.size()), .found = std::to_string(tensor.size())});
  }
  const auto channels = static_cast<std::size_t>(input.channels);
  const std::size_t plane = pixels.size() / channels;
  for (std::size_t channel = 0; channel < channels; ++channel) {
    const float scale = input.scale[channel];
    const float bias = input.bias[channel];
    float* out = tensor.data() + channel * plane;
    const std::uint8_t* in = pixels.data() + channel;
    for (std::size_t i = 0; i < plane; ++i) {
      const float product = static_cast<float>(in[i * channels]) * scale;
      out[i] = product + bias;
    }
  }
}

void preprocess_signal(std::span<const float> values, std::span<const float> scale, std::span<const float> bias,
                       std::span<float> tensor) {
  const std::size_t channels = scale.size();
  if (channels == 0 || bias.size() != channels || values.empty() || values.size() % channels != 0 ||
      tensor.size() != values.size()) {
    throw Error("data.array", "The signal does not have the shape of the input.",
                {.expected = std::to_string(tensor.size()) + " values of " + std::to_string(channels) + " channels",
                 .found = std::to_string(values.size()) + " values",
                 .hint = "give a signal as the bundle was built for"});
  }
  if (!std::all_of(values.begin(), values.end(), [](float value) { return std::isfinite(value); })) {
    throw Error("data.not_finite", "The signal holds NaN or infinite values.",
                {.hint = "leave the sample out or fill the gap"});
  }
  const std::size_t length = values.size() / channels;
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float product = values[i] * scale[i / length];
    tensor[i] = product + bias[i / length];
  }
}

}  // namespace ebbtide
