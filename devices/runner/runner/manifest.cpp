#include "runner/manifest.hpp"

#include <algorithm>
#include <chrono>

#include "core/error.hpp"
#include "runner/schema.hpp"
#include "runner/strict_json.hpp"

namespace ebbtide {

extern const char* const kManifestSchema;

namespace {

// The schema has been checked, so whatever is asked for is there and of the right type.
template <typename T>
T at(const Json& object, const char* key) {
  return object.at(key).get<T>();
}

template <typename T>
std::optional<T> optional_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  if (found == object.end() || found->is_null()) return std::nullopt;
  return found->get<T>();
}

const Json* object_at(const Json& object, const char* key) {
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? nullptr : &*found;
}

template <typename T, typename Make>
std::vector<T> list_of(const Json& array, Make&& make) {
  std::vector<T> made;
  made.reserve(array.size());
  std::transform(array.begin(), array.end(), std::back_inserter(made), make);
  return made;
}

TensorEntry tensor_of(const Json& json) {
  return {.shape = at<std::vector<std::int64_t>>(json, "shape"),
          .dtype = at<std::string>(json, "dtype"),
          .channels_last = optional_at<std::string>(json, "layout").has_value()};
}

MethodEntry method_of(const Json& json) {
  return {.name = at<std::string>(json, "name"),
          .kind = at<std::string>(json, "kind"),
          .position = at<std::int32_t>(json, "position"),
          .type = optional_at<std::string>(json, "type"),
          .file = optional_at<std::string>(json, "file"),
          .inputs = list_of<TensorEntry>(json.at("inputs"), tensor_of),
          .outputs = list_of<TensorEntry>(json.at("outputs"), tensor_of)};
}

ProgramEntry program_of(const Json& json) {
  return {.id = at<std::string>(json, "id"),
          .width = at<std::string>(json, "width"),
          .format = at<std::string>(json, "format"),
          .file = optional_at<std::string>(json, "file"),
          .methods = list_of<MethodEntry>(json.at("methods"), method_of)};
}

ConfigurationEntry configuration_of(const Json& json) {
  const Json& expected = json.at("expected");
  ConfigurationEntry entry{.id = at<std::string>(json, "id"),
                           .path = list_of<StepEntry>(json.at("path"),
                                                      [](const Json& step) {
                                                        return StepEntry{
                                                            .method = at<std::string>(step, "method"),
                                                            .threshold = optional_at<float>(step, "threshold"),
                                                            .outside = optional_at<float>(step, "outside"),
                                                            .is_at_server =
                                                                optional_at<std::string>(step, "at").has_value()};
                                                      }),
                           .mean_macs = at<std::int64_t>(expected, "mean_macs"),
                           .latency = std::nullopt};
  if (const Json* latency = object_at(expected, "latency_us")) {
    entry.latency = {at<std::int64_t>(*latency, "p50"), at<std::int64_t>(*latency, "p90")};
  }
  return entry;
}

ModelEntry model_of(const Json& json) {
  const Json& input = json.at("input");
  ModelEntry entry{.classes = at<std::vector<std::string>>(json, "classes"),
                   .universal_classes = at<std::int64_t>(json, "universal_classes"),
                   .outside = std::nullopt,
                   .input = {.kind = at<std::string>(input, "kind"),
                             .shape = at<std::vector<std::int64_t>>(input, "shape"),
                             .layout = at<std::string>(input, "layout"),
                             .color = optional_at<std::string>(input, "color"),
                             .crop = optional_at<std::string>(input, "crop"),
                             .resize = optional_at<std::string>(input, "resize"),
                             .scale = at<std::vector<float>>(input, "scale"),
                             .bias = at<std::vector<float>>(input, "bias")}};
  if (const Json* outside = object_at(json, "outside")) {
    entry.outside = {at<std::string>(*outside, "score"), optional_at<std::string>(*outside, "fallback")};
  }
  return entry;
}

Manifest manifest_of(const Json& json) {
  const Json& runtime = json.at("runtime");
  const Json& payload = json.at("payload");
  const Json& policy = json.at("policy");
  using Integers = std::vector<std::int64_t>;
  Manifest manifest{.name = at<std::string>(json, "name"),
                    .sequence = at<std::int64_t>(json, "sequence"),
                    .created = at<std::string>(json, "created"),
                    .key_id = at<std::string>(json, "key_id"),
                    .runtime = {.engine = at<std::string>(runtime, "engine"),
                                .min = at<std::string>(runtime, "min"),
                                .max_exclusive = at<std::string>(runtime, "max_exclusive"),
                                .backends = at<std::vector<std::string>>(runtime, "backends")},
                    .model = model_of(json.at("model")),
                    .files = list_of<FileEntry>(json.at("files"),
                                                [](const Json& file) {
                                                  return FileEntry{.path = at<std::string>(file, "path"),
                                                                   .size_bytes = at<std::int64_t>(file, "size"),
                                                                   .sha256 = at<std::string>(file, "sha256")};
                                                }),
                    .payload = {.format = at<std::string>(payload, "format"), .xz = std::nullopt},
                    .programs = list_of<ProgramEntry>(json.at("programs"), program_of),
                    .configurations = list_of<ConfigurationEntry>(json.at("configurations"), configuration_of),
                    .tiers = at<std::vector<std::string>>(json, "tiers"),
                    .policy = {.enter_mh = at<Integers>(policy, "enter_mh"),
                               .battery_temperature_enter_dc = at<Integers>(policy, "battery_temperature_enter_dc"),
                               .status_floor = at<Integers>(policy, "status_floor"),
                               .apple_floor = at<Integers>(policy, "apple_floor"),
                               .battery_enter_percent = at<Integers>(policy, "battery_enter_percent")}};
  if (const Json* xz = object_at(payload, "xz")) {
    manifest.payload.xz = {at<std::int64_t>(*xz, "size"), at<std::int64_t>(*xz, "dictionary_bytes")};
  }
  return manifest;
}

void check_format(const Json& document) {
  const auto found = document.find("format");
  if (found == document.end() || found->is_null()) {
    throw Error("bundle.manifest_missing_key", "The key format is missing.", {.place = "$.format"});
  }
  if (!found->is_number_integer()) {  // 1.0 is equal to 1, but is no integer
    throw Error("bundle.manifest_value", "The format is not an integer.", {.place = "$.format"});
  }
  if (*found != 1) {
    throw Error("bundle.manifest_version", "The manifest has a format that this reader does not know.",
                {.expected = "format 1",
                 .found = found->dump(),
                 .hint = "Use a newer Ebbtide, or build the bundle with this one.",
                 .place = "$.format"});
  }
}

// The pattern has been checked: YYYY-MM-DDTHH:MM:SSZ.
void check_time(const std::string& created) {
  const auto number = [&](std::size_t start, std::size_t count) { return std::stoi(created.substr(start, count)); };
  const std::chrono::year_month_day day{std::chrono::year(number(0, 4)),
                                        std::chrono::month(static_cast<unsigned>(number(5, 2))),
                                        std::chrono::day(static_cast<unsigned>(number(8, 2)))};
  if (number(0, 4) < 1 || !day.ok() || number(11, 2) > 23 || number(14, 2) > 59 || number(17, 2) > 59) {
    throw Error("bundle.manifest_value", "There is no such time.", {.found = created, .place = "$.created"});
  }
}

}  // namespace

std::optional<std::int32_t> Manifest::tier_of(std::string_view configuration) const {
  const auto found = std::find(tiers.begin(), tiers.end(), configuration);
  if (found == tiers.end()) return std::nullopt;
  return static_cast<std::int32_t>(found - tiers.begin());
}

Manifest parse_manifest(std::string_view data) {
  const Json document = drop_extensions(parse_strict(data));
  check_format(document);
  check_schema(kManifestSchema, document);
  Manifest manifest = manifest_of(document);
  check_time(manifest.created);
  check_consistency(manifest);
  return manifest;
}

}  // namespace ebbtide
