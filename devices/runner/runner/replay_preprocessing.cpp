// tests/vectors/preprocessing: weights.json (the weights of an axis) and images.json (whole pictures).

#include <bit>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "core/preprocessing.hpp"
#include "runner/files.hpp"
#include "runner/replay_vectors.hpp"

namespace ebbtide {
namespace {

void replay_weights(const Node& entry, Tally& tally) {
  entry.only({"inputs", "outputs", "rows"});
  const auto rows =
      resize_weights(entry.at("inputs").integer32(1, kLongestSide), entry.at("outputs").integer32(1, kLongestSide));
  const Node wanted = entry.at("rows");
  const std::vector<Node> items = wanted.items();
  tally.compare(wanted, items.size(), rows.size());
  for (std::size_t i = 0; i < items.size() && i < rows.size(); ++i) {
    const std::vector<Node> pair = items[i].items();
    if (pair.size() != 2) {
      items[i].refuse("the first input and its weights");
    }
    ResizeRow row{pair[0].integer32(0, kLongestSide), {}};
    for (const Node& weight : pair[1].items()) {
      row.weights.push_back(weight.integer32(0, 1 << 14));
    }
    if (row != rows[i]) {
      tally.differ(items[i].place(), items[i].json(), Json::array({rows[i].first, rows[i].weights}));
    }
  }
}

// The pixels that a vector lists, or those of its generator (README.md of the vectors).
std::vector<std::uint8_t> pixels_of(const Node& image, std::size_t count) {
  std::vector<std::uint8_t> pixels;
  pixels.reserve(count);
  if (const auto listed = image.find("pixels")) {
    for (const Node& value : listed->items()) {
      pixels.push_back(static_cast<std::uint8_t>(value.integer(0, 255)));
    }
    return pixels;
  }
  auto state =
      static_cast<std::uint32_t>(image.at("generator_seed").integer(0, std::numeric_limits<std::uint32_t>::max()));
  while (pixels.size() < count) {
    state = state * 1664525U + 1013904223U;
    pixels.push_back(static_cast<std::uint8_t>(state >> 24));
  }
  return pixels;
}

ImageInput input_of(const Node& entry) {
  entry.only({"kind", "shape", "color", "scale", "bias", "crop", "resize"});
  const std::vector<Node> shape = entry.at("shape").items();
  const std::string color = entry.at("color").text();
  if (entry.at("kind").text() != "image" || shape.size() != 3 || (color != "RGB" && color != "gray")) {
    entry.refuse("the input of a model of images");
  }
  ImageInput input{.channels = shape[0].integer32(color == "RGB" ? 3 : 1, color == "RGB" ? 3 : 1),
                   .height = shape[1].integer32(1, kLongestSide),
                   .width = shape[2].integer32(1, kLongestSide),
                   .scale = entry.at("scale").floats32(),
                   .bias = entry.at("bias").floats32()};
  const auto is_set = [&](const char* key, const char* only_value) {
    const auto value = entry.find(key);
    if (value && value->text() != only_value) {
      value->refuse(std::string(only_value) + " or null");
    }
    return value.has_value();
  };
  input.crops_center = is_set("crop", "center");
  input.resizes = is_set("resize", "bilinear-v1");
  return input;
}

// Compares a list of whole numbers, element by element, to name the first that differs.
template <typename Value>
void compare_list(const Node& wanted, const std::vector<Value>& found, Tally& tally) {
  const std::vector<Node> items = wanted.items();
  if (items.size() != found.size()) {
    tally.differ(wanted.place(), items.size(), found.size());
    return;
  }
  for (std::size_t i = 0; i < items.size(); ++i) {
    tally.compare(items[i], items[i].integer(0, std::numeric_limits<std::uint32_t>::max()),
                  static_cast<std::int64_t>(found[i]));
  }
}

void replay_image(const Node& entry, Tally& tally) {
  entry.only({"name", "image", "input", "expected"});
  const Node picture = entry.at("image").only({"height", "width", "channels", "pixels", "generator_seed"});
  const Node wanted = entry.at("expected").only({"crop", "sha256", "pixels", "tensor_bits"});
  const ImageInput input = input_of(entry.at("input"));
  Image image{.pixels = {},
              .height = picture.at("height").integer32(1, 1 << 13),
              .width = picture.at("width").integer32(1, 1 << 13),
              .channels = picture.at("channels").integer32(1, 3)};
  const std::vector<std::uint8_t> pixels =
      pixels_of(picture, static_cast<std::size_t>(image.height) * static_cast<std::size_t>(image.width) *
                             static_cast<std::size_t>(image.channels));
  image.pixels = pixels;
  const std::vector<std::uint8_t> fitted = fit_pixels(image, input);
  std::vector<float> tensor(fitted.size());
  preprocess(image, input, tensor);

  const Crop crop = input.crops_center ? center_crop(image.height, image.width, input.height, input.width)
                                       : Crop{0, 0, image.height, image.width};
  compare_list(wanted.at("crop"), std::vector<std::int32_t>{crop.top, crop.left, crop.height, crop.width}, tally);
  if (const auto listed = wanted.find("pixels")) {
    compare_list(*listed, fitted, tally);
  }
  if (const auto listed = wanted.find("tensor_bits")) {
    std::vector<std::uint32_t> bits;
    for (const float value : tensor) {
      bits.push_back(std::bit_cast<std::uint32_t>(value));
    }
    compare_list(*listed, bits, tally);
  }
  tally.compare(wanted.at("sha256"), wanted.at("sha256").text(),
                sha256_of(std::string_view(reinterpret_cast<const char*>(fitted.data()), fitted.size())));
}

}  // namespace

void replay_preprocessing(const Node& document, Tally& tally) {
  for (const Node& entry : document.only({"format", "cases"}).at("cases").items()) {
    tally.begin();
    if (entry.find("rows")) {
      replay_weights(entry, tally);
    } else {
      replay_image(entry, tally);
    }
  }
}

}  // namespace ebbtide
