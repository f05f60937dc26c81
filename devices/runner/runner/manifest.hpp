// The manifest of a bundle, version 1: what it says, as pipeline/ebbtide/bundle/manifest.py describes it field by
// field.

#ifndef EBBTIDE_RUNNER_MANIFEST_HPP_
#define EBBTIDE_RUNNER_MANIFEST_HPP_

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace ebbtide {

struct RuntimeEntry {
  std::string engine;
  std::string min;
  std::string max_exclusive;
  std::vector<std::string> backends;
};

struct OutsideEntry {
  std::string score;  // energy or confidence
  std::optional<std::string> fallback;
};

struct InputEntry {
  std::string kind;  // image or signal
  std::vector<std::int64_t> shape;
  std::string layout;
  std::optional<std::string> color;
  std::optional<std::string> crop;
  std::optional<std::string> resize;
  std::vector<float> scale;
  std::vector<float> bias;
};

struct ModelEntry {
  std::vector<std::string> classes;
  std::int64_t universal_classes = 0;
  std::optional<OutsideEntry> outside;
  InputEntry input;
};

struct FileEntry {
  std::string path;
  std::int64_t size_bytes = 0;
  std::string sha256;
};

struct XzEntry {
  std::int64_t size_bytes = 0;
  std::int64_t dictionary_bytes = 0;
};

struct PayloadEntry {
  std::string format;  // raw or xz
  std::optional<XzEntry> xz;
};

struct TensorEntry {
  std::vector<std::int64_t> shape;
  std::string dtype;
  bool channels_last = false;

  bool operator==(const TensorEntry&) const = default;
};

struct MethodEntry {
  std::string name;
  std::string kind;  // stage, exit, head or model
  std::int32_t position = 0;
  std::optional<std::string> type;
  std::optional<std::string> file;
  std::vector<TensorEntry> inputs;
  std::vector<TensorEntry> outputs;
};

struct ProgramEntry {
  std::string id;
  std::string width;
  std::string format;  // pte or mlpackage
  std::optional<std::string> file;
  std::vector<MethodEntry> methods;
};

struct StepEntry {
  std::string method;  // program/method
  std::optional<float> threshold;
  std::optional<float> outside;
  bool is_at_server = false;  // a server may run it; this runner has none and runs it itself
};

struct LatencyEntry {
  std::int64_t p50_us = 0;
  std::int64_t p90_us = 0;
};

struct ConfigurationEntry {
  std::string id;
  std::vector<StepEntry> path;
  std::int64_t mean_macs = 0;
  std::optional<LatencyEntry> latency;
};

// The lists of the tier policy that must be in order; the rule itself is in core/policy.hpp.
struct PolicyLists {
  std::vector<std::int64_t> enter_mh;
  std::vector<std::int64_t> battery_temperature_enter_dc;
  std::vector<std::int64_t> status_floor;
  std::vector<std::int64_t> apple_floor;
  std::vector<std::int64_t> battery_enter_percent;
};

struct Manifest {
  std::string name;
  std::int64_t sequence = 0;
  std::string created;
  std::string key_id;
  RuntimeEntry runtime;
  ModelEntry model;
  std::vector<FileEntry> files;
  PayloadEntry payload;
  std::vector<ProgramEntry> programs;
  std::vector<ConfigurationEntry> configurations;
  std::vector<std::string> tiers;
  PolicyLists policy;

  // The tier that names a configuration, nothing if none does.
  std::optional<std::int32_t> tier_of(std::string_view configuration) const;
};

// Read a manifest and check everything that can be checked without its files.
//
// Throws bundle.manifest_* with the JSON path as place, as `parse_manifest` in pipeline/ebbtide/bundle/parsing.py does.
Manifest parse_manifest(std::string_view data);

// Refuse a manifest whose parts do not fit together: what a schema cannot say. Throws bundle.manifest_value,
// _duplicate, _reference or _order with the JSON path.
void check_consistency(const Manifest& manifest);

// The three numbers of a version "1.5.1", for comparing.
std::array<std::int64_t, 3> version_key(const std::string& version);

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_MANIFEST_HPP_
