// From a decoded picture to a model's input, in integers up to the last multiply-add, so that every language agrees.
//
// The definition of the steps (crop, resize `bilinear-v1`, colour, scale) is the documentation of
// pipeline/ebbtide/data/preprocess.py, of which this is a transcription; tests/vectors/preprocessing holds both to it.

#ifndef EBBTIDE_CORE_PREPROCESSING_HPP_
#define EBBTIDE_CORE_PREPROCESSING_HPP_

#include <cstdint>
#include <span>
#include <vector>

namespace ebbtide {

// Pixels in memory: uint8, row by row, channels last, oriented as they should be seen. Nothing is owned.
struct Image {
  std::span<const std::uint8_t> pixels;  // height * width * channels
  std::int32_t height = 0;
  std::int32_t width = 0;
  std::int32_t channels = 0;  // 1 (gray) or 3 (RGB)
};

// What a model takes and how an image becomes it: the manifest's `model.input` of kind "image".
struct ImageInput {
  std::int32_t channels = 0;  // 1 (gray) or 3 (RGB)
  std::int32_t height = 0;
  std::int32_t width = 0;
  std::vector<float> scale;  // per channel; the model sees pixel * scale + bias
  std::vector<float> bias;   // per channel
  bool crops_center = true;  // cut to the aspect of (height, width) first
  bool resizes = true;       // `bilinear-v1`; where false, an image must come in the size of the input
};

// A part of an image, in pixels.
struct Crop {
  std::int32_t top = 0;
  std::int32_t left = 0;
  std::int32_t height = 0;
  std::int32_t width = 0;

  bool operator==(const Crop&) const = default;
};

// The inputs that one output of a resized axis takes: weights[k] belongs to input `first + k`; they sum to 2^14.
struct ResizeRow {
  std::int32_t first = 0;
  std::vector<std::int32_t> weights;

  bool operator==(const ResizeRow&) const = default;
};

// The longest side of an image or input, in pixels: no size of a buffer then exceeds 32 bits.
inline constexpr std::int32_t kLongestSide = 1 << 15;

// The largest middle part of (height, width) with the aspect of (target_height, target_width).
//
// Throws data.input where a side is not 1..kLongestSide.
Crop center_crop(std::int32_t height, std::int32_t width, std::int32_t target_height, std::int32_t target_width);

// The weights of `bilinear-v1` from `inputs` pixels to `outputs`: one row for each output.
//
// Throws data.input where one of them is not 1..kLongestSide.
std::vector<ResizeRow> resize_weights(std::int32_t inputs, std::int32_t outputs);

// Crop, resize and colour: all steps but the last. Returns uint8 (height, width, channels) of `input`, channels last.
//
// Throws data.array (no pixels, or another number of them than the sizes say), data.channels, data.input (another size
// and `input.resizes` is false, or an input that is not well formed).
std::vector<std::uint8_t> fit_pixels(const Image& image, const ImageInput& input);

// All steps: writes the model's input, float32 (channels, height, width), into `tensor`, which has just that size.
//
// Throws what `fit_pixels` throws, and data.array where `tensor` has another size.
void preprocess(const Image& image, const ImageInput& input, std::span<float> tensor);

// A signal (channels, length) to a model's input: values * scale + bias, each product rounded to float32 before the
// addition. `scale` and `bias` have one number for each channel.
//
// Throws data.array (sizes that do not fit each other), data.not_finite.
void preprocess_signal(std::span<const float> values, std::span<const float> scale, std::span<const float> bias,
                       std::span<float> tensor);

}  // namespace ebbtide

#endif  // EBBTIDE_CORE_PREPROCESSING_HPP_
