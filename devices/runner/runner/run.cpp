#include "runner/run.hpp"

#include <algorithm>
#include <fstream>
#include <iostream>
#include <utility>

#include "core/error.hpp"
#include "runner/output.hpp"
#include "runner/strict_json.hpp"

namespace ebbtide {
namespace {

constexpr std::size_t kMaxLineBytes = 4096;
constexpr std::size_t kSkipBytes = 65536;

std::string shape_text(const NpyHeader& header) {
  std::string text = header.dtype + " [";
  for (std::size_t i = 0; i < header.shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(header.shape[i]);
  }
  return text + "]";
}

bool is_tensor(const NpyHeader& header, const InputEntry& input) {
  if (header.dtype != "<f4") return false;
  const std::vector<std::int64_t> sample(header.shape.begin() + 1, header.shape.end());
  return sample == input.shape || std::equal(sample.begin(), sample.end(), input.shape.begin() + 1, input.shape.end());
}

bool is_pictures(const NpyHeader& header, const InputEntry& input) {
  const std::size_t axes = header.shape.size();
  return header.dtype == "|u1" && input.kind == "image" &&
         (axes == 3 || (axes == 4 && (header.shape[3] == 1 || header.shape[3] == 3)));
}

OrderedJson described(const Session& session, const Prediction& found) {
  const Configuration& configuration = session.current();
  OrderedJson times = OrderedJson::array();
  for (std::size_t i = 0; i < found.times_ns.size(); ++i) {
    times.push_back({configuration.path[i].reference, found.times_ns[i]});
  }
  return {{"label", found.label},
          {"class", session.manifest().model.classes[found.label]},
          {"confidence", number(found.confidence)},
          {"position", configuration.path[found.step].position},
          {"left_at", configuration.path[found.step].reference},
          {"outside", found.is_outside ? OrderedJson(*found.is_outside) : OrderedJson()},
          {"probabilities", numbers(found.probabilities)},
          {"logits", numbers(found.logits)},
          {"methods_ns", times}};
}

OrderedJson current(const Session& session) {
  const Configuration& now = session.current();
  return {{"configuration", now.entry->id}, {"tier", now.tier ? OrderedJson(*now.tier) : OrderedJson()}};
}

void answer(const OrderedJson& line) { std::cout << line.dump() << '\n'; }

void skip(std::istream& stream, const NpyHeader& header) {
  std::vector<char> block(kSkipBytes);
  std::int64_t left = header.shape[0] * header.items_a_sample() * header.item_bytes();
  while (left > 0 && stream) {
    stream.read(block.data(), static_cast<std::streamsize>(std::min<std::int64_t>(left, kSkipBytes)));
    left -= stream.gcount();
  }
}

// Answers every sample of an array; where one fails, that is its answer.
void answer_array(Session& session, std::istream& stream) {
  const NpyHeader header = read_npy_header(stream, "standard input");
  std::optional<Samples> samples;
  try {
    samples.emplace(stream, header, session.manifest(), "standard input");
  } catch (const Error& error) {
    skip(stream, header);
    answer(error_json(error));
    return;
  }
  for (std::int64_t i = 0; i < samples->count(); ++i) {
    try {
      samples->next(session);
      answer(described(session, session.predict()));
    } catch (const Error& error) {
      if (!stream) throw;
      answer(error_json(error));
    }
  }
}

void answer_line(Session& session, std::istream& stream) {
  std::string line;
  while (line.size() < kMaxLineBytes) {
    const int letter = stream.get();
    if (letter == '\n' || letter == std::istream::traits_type::eof()) break;
    line += static_cast<char>(letter);
  }
  try {
    const Json request = Json::parse(line, nullptr, false);
    if (request.is_object() && request.size() == 1 && request.contains("switch") && request["switch"].is_string()) {
      session.switch_to(request["switch"]);
    } else if (request.is_object() && request.size() == 1 && request.contains("switch_tier") &&
               request["switch_tier"].is_number_integer()) {
      session.switch_tier(request["switch_tier"].get<std::int32_t>());
    } else {
      throw Error("runtime.input", "The line is no request.",
                  {.expected = R"({"switch": ID} or {"switch_tier": NUMBER})",
                   .found = line.substr(0, 120),
                   .place = "standard input"});
    }
    answer(current(session));
  } catch (const Error& error) {
    answer(error_json(error));
  }
}

}  // namespace

Samples::Samples(std::istream& stream, const NpyHeader& header, const Manifest& manifest, std::string place)
    : stream_(stream), header_(header), place_(std::move(place)) {
  const InputEntry& input = manifest.model.input;
  if (is_pictures(header, input)) {
    pixels_.resize(static_cast<std::size_t>(header.items_a_sample()));
  } else if (!is_tensor(header, input)) {
    std::string shape;
    for (const std::int64_t size : input.shape) shape += (shape.empty() ? "" : ", ") + std::to_string(size);
    throw Error("runtime.input", "The samples do not have the shape of the model's input.",
                {.expected = "float32 [n, " + shape + "]" +
                             (input.kind == "image" ? ", or pictures uint8 [n, height, width, 1 or 3]" : ""),
                 .found = shape_text(header),
                 .place = place_});
  }
}

void Samples::next(Session& session) {
  if (pixels_.empty()) {
    const std::span<float> target = session.input();
    read_exactly(stream_, target.data(), target.size_bytes(), place_);
    return;
  }
  read_exactly(stream_, pixels_.data(), pixels_.size(), place_);
  session.set_image({.pixels = pixels_,
                     .height = static_cast<std::int32_t>(header_.shape[1]),
                     .width = static_cast<std::int32_t>(header_.shape[2]),
                     .channels = header_.shape.size() == 4 ? static_cast<std::int32_t>(header_.shape[3]) : 1});
}

void run_file(Session& session, const std::string& file) {
  std::ifstream stream(file, std::ios::binary);
  if (!stream) throw Error("runtime.input", "The file cannot be read.", {.place = file});
  Samples samples(stream, read_npy_header(stream, file), session.manifest(), file);
  for (std::int64_t i = 0; i < samples.count(); ++i) {
    samples.next(session);
    answer(described(session, session.predict()));
  }
}

void run_stream(Session& session) {
  answer(current(session));
  std::cout.flush();
  while (std::cin.peek() != std::istream::traits_type::eof()) {
    if (std::cin.peek() == '{') {
      answer_line(session, std::cin);
    } else {
      answer_array(session, std::cin);
    }
    std::cout.flush();
  }
}

}  // namespace ebbtide
