// What a schema cannot say about a manifest: references, order, and shapes along a path.
//
// A transcription of pipeline/ebbtide/bundle/consistency.py; tests/vectors/manifest holds both to it.

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/error.hpp"
#include "runner/manifest.hpp"
#include "runner/names.hpp"

namespace ebbtide {
namespace {

[[noreturn]] void refuse(const std::string& code, const std::string& message, const std::string& place,
                         const std::string& expected = "") {
  throw Error("bundle.manifest_" + code, message, {.expected = expected, .place = place});
}

std::string indexed(const std::string& place, std::size_t index) { return place + "[" + std::to_string(index) + "]"; }

void check_unique(const std::vector<std::string>& names, const std::string& place, const std::string& what,
                  const std::string& key = "") {
  std::set<std::string> seen;
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (!seen.insert(names[i]).second) {
      refuse("duplicate", "The " + what + " " + names[i] + " stands twice.", indexed(place, i) + key);
    }
  }
}

template <typename Entry>
std::vector<std::string> ids_of(const std::vector<Entry>& entries, std::string Entry::* field) {
  std::vector<std::string> ids;
  for (const Entry& entry : entries) ids.push_back(entry.*field);
  return ids;
}

void check_runtime_range(const RuntimeEntry& runtime) {
  check_unique(runtime.backends, "$.runtime.backends", "backend");
  if (version_key(runtime.min) >= version_key(runtime.max_exclusive)) {
    refuse("order", "No version is at least " + runtime.min + " and below " + runtime.max_exclusive + ".",
           "$.runtime.max_exclusive");
  }
}

void check_input(const InputEntry& entry) {
  const bool is_image = entry.kind == "image";
  const std::string place = "$.model.input";
  const std::string layout = is_image ? "NCHW" : "NCT";
  if (entry.layout != layout) {
    refuse("value", "The layout of a " + entry.kind + " input is " + layout + ".", place + ".layout");
  }
  if (entry.shape.size() != entry.layout.size() || entry.shape[0] != 1) {
    refuse("value", "The shape does not fit the layout with a batch of one.", place + ".shape", entry.layout);
  }
  const auto channels = static_cast<std::size_t>(entry.shape[1]);
  if (is_image && (!entry.color || channels != (*entry.color == "gray" ? 1U : 3U))) {
    refuse("value", "The colour does not fit the channels.", place + ".color", "gray for 1, RGB for 3");
  }
  if (!is_image) {
    if (entry.color) refuse("value", "A signal has no color.", place + ".color", "null");
    if (entry.crop) refuse("value", "A signal has no crop.", place + ".crop", "null");
    if (entry.resize) refuse("value", "A signal has no resize.", place + ".resize", "null");
  }
  if (is_image && !entry.resize) refuse("value", "An image needs a way to resize.", place + ".resize", "bilinear-v1");
  if (entry.scale.size() != channels) refuse("value", "There is not one scale a channel.", place + ".scale");
  if (entry.bias.size() != channels) refuse("value", "There is not one bias a channel.", place + ".bias");
}

void check_files(const Manifest& manifest) {
  for (std::size_t i = 0; i < manifest.files.size(); ++i) {
    if (const auto fault = fault_of_name(manifest.files[i].path)) {
      refuse("value", "The path " + manifest.files[i].path + " " + *fault + ".", indexed("$.files", i) + ".path",
             "a plain relative path");
    }
  }
  const std::vector<std::string> paths = ids_of(manifest.files, &FileEntry::path);
  if (const auto collision = fault_of_set(paths)) {
    refuse("duplicate", "The path " + paths[collision->index] + " " + collision->fault + ".",
           indexed("$.files", collision->index) + ".path");
  }
  if (manifest.payload.xz.has_value() != (manifest.payload.format == "xz")) {
    refuse("value", "A payload in the form xz has an object xz, a raw one has none.", "$.payload.xz");
  }
}

// Adds the files that the program uses to `used`. A .pte is one file; an .mlpackage is a folder per method.
void check_program_files(const ProgramEntry& program, const std::set<std::string>& files, const std::string& place,
                         std::set<std::string>& used) {
  if (program.format == "pte") {
    if (!program.file) refuse("value", "A program in the form pte has one file.", place + ".file");
    if (!files.contains(*program.file)) {
      refuse("reference", "There is no file " + *program.file + ".", place + ".file");
    }
    for (std::size_t i = 0; i < program.methods.size(); ++i) {
      if (program.methods[i].file) {
        refuse("value", "The methods of a pte have no file of their own.", indexed(place + ".methods", i) + ".file");
      }
    }
    used.insert(*program.file);
    return;
  }
  if (program.file) refuse("value", "A program in the form mlpackage has a file for each method.", place + ".file");
  for (std::size_t i = 0; i < program.methods.size(); ++i) {
    const std::string at = indexed(place + ".methods", i) + ".file";
    if (!program.methods[i].file) refuse("value", "The method of an mlpackage needs its own file.", at);
    const std::string folder = *program.methods[i].file + "/";
    bool found = false;
    for (auto file = files.lower_bound(folder); file != files.end() && file->starts_with(folder); ++file) {
      used.insert(*file);
      found = true;
    }
    if (!found) refuse("reference", "There is no file below the folder " + folder, at);
  }
}

std::string stem_of(const MethodEntry& method) {
  if (method.kind == "head") return "head";
  if (method.kind == "model") return "forward";
  return method.kind + std::to_string(method.position);
}

// The number of elements, or one that no list of classes has where it would not fit.
std::int64_t elements(const TensorEntry& tensor) {
  std::int64_t count = 1;
  for (const std::int64_t size : tensor.shape) {
    if (__builtin_mul_overflow(count, size, &count)) return -1;
  }
  return count;
}

void check_method(const MethodEntry& method, std::size_t classes, const std::string& place) {
  const std::string stem = stem_of(method);
  // Several types of exit may stand at one position; they are told apart by what follows an underscore.
  if (method.name != stem && !(method.kind == "exit" && method.name.starts_with(stem + "_"))) {
    refuse("value", "A " + method.kind + " of that position is not named " + method.name + ".", place + ".name", stem);
  }
  if (method.type.has_value() != (method.kind == "exit")) {
    refuse("value", "An exit, and only an exit, has a type.", place + ".type");
  }
  const auto check_layouts = [&](const std::vector<TensorEntry>& tensors, const std::string& key) {
    for (std::size_t i = 0; i < tensors.size(); ++i) {
      if (tensors[i].channels_last && tensors[i].shape.size() != 4) {
        refuse("value", "Only four dimensions can be channels_last.", indexed(place + key, i) + ".layout");
      }
    }
  };
  check_layouts(method.inputs, ".inputs");
  check_layouts(method.outputs, ".outputs");
  if (method.inputs.size() != 1) refuse("value", "A method takes one tensor.", place + ".inputs");
  if (method.kind == "stage") {
    if (method.outputs.size() != 1) refuse("value", "A stage puts out one tensor.", place + ".outputs");
    return;
  }
  const auto count = static_cast<std::int64_t>(classes);
  if (method.outputs.size() != 3 || elements(method.outputs[0]) != count || elements(method.outputs[1]) != 1 ||
      elements(method.outputs[2]) != count) {
    refuse("value", "The outputs are not probabilities, confidence and logits over the classes.", place + ".outputs",
           "three tensors");
  }
}

struct Known {
  const ProgramEntry* program = nullptr;
  const MethodEntry* method = nullptr;
};

using Methods = std::map<std::string, Known, std::less<>>;

Methods check_programs(const Manifest& manifest) {
  check_unique(ids_of(manifest.programs, &ProgramEntry::id), "$.programs", "program", ".id");
  std::set<std::string> files;
  for (const FileEntry& file : manifest.files) files.insert(file.path);
  std::set<std::string> used;
  Methods methods;
  for (std::size_t i = 0; i < manifest.programs.size(); ++i) {
    const ProgramEntry& program = manifest.programs[i];
    const std::string place = indexed("$.programs", i);
    check_program_files(program, files, place, used);
    check_unique(ids_of(program.methods, &MethodEntry::name), place + ".methods", "method", ".name");
    for (std::size_t at = 0; at < program.methods.size(); ++at) {
      check_method(program.methods[at], manifest.model.classes.size(), indexed(place + ".methods", at));
      methods[program.id + "/" + program.methods[at].name] = {&program, &program.methods[at]};
    }
  }
  for (std::size_t i = 0; i < manifest.files.size(); ++i) {
    if (!used.contains(manifest.files[i].path)) {
      refuse("reference", "No program uses the file " + manifest.files[i].path + ".", indexed("$.files", i) + ".path");
    }
  }
  return methods;
}

void check_step(const StepEntry& step, const MethodEntry& method, const std::string& place, bool is_last) {
  if (is_last != (method.kind == "head" || method.kind == "model")) {
    refuse("order", "A path ends with the head or the one method of a dense program, and only there.",
           place + ".method", "stages with their exits, then the head");
  }
  if (step.threshold.has_value() != (method.kind == "exit")) {
    refuse(method.kind == "exit" ? "missing_key" : "value", "An exit, and only an exit, has a threshold.",
           place + ".threshold");
  }
}

void check_outside(const StepEntry& step, const MethodEntry& method, const std::string& place, bool is_told) {
  const bool is_wanted = is_told && method.kind != "stage";
  if (step.outside.has_value() != is_wanted) {
    refuse(is_wanted ? "missing_key" : "value",
           "Exits and heads of a model that tells what is outside, and only they, have a threshold for it.",
           place + ".outside");
  }
}

void check_place(const StepEntry& step, const StepEntry* before, const std::string& place) {
  if (before == nullptr && step.is_at_server) {
    refuse("order", "The first step runs on the device.", place + ".at", "no key");
  }
  if (before != nullptr && before->is_at_server && !step.is_at_server) {
    refuse("order", "What follows a step on a server runs there, too.", place + ".at", "server");
  }
}

class Path {
 public:
  Path(const Manifest& manifest, std::string width) : width_(std::move(width)) {
    tensor_ = {.shape = manifest.model.input.shape, .dtype = "float32", .channels_last = false};
  }

  void follow(const StepEntry& step, const Known& known, const std::string& place, std::size_t index) {
    const MethodEntry& method = *known.method;
    const std::string at = place + ".method";
    if (known.program->width != width_) refuse("order", "The path changes to another width.", at, "one width");
    if (method.inputs[0].shape != tensor_.shape) refuse("order", step.method + " takes another shape.", at);
    if (method.inputs[0].channels_last != tensor_.channels_last) {
      refuse("order", step.method + " takes another order of memory.", at);
    }
    if (method.kind == "stage") {
      if (method.position != stages_) refuse("order", "The stage stands where another one is due.", at);
      ++stages_;
      tensor_ = method.outputs[0];
    } else if (method.kind == "exit") {
      if (method.position != stages_ - 1 || method.position == last_exit_) {
        refuse("order", "The exit does not follow its stage.", at);
      }
      last_exit_ = method.position;
    } else if (method.kind == "model") {
      if (index != 0) refuse("order", "The method of a dense program stands alone.", at);
    } else if (method.position != stages_) {
      refuse("order", "The head's position is not that of the stage that would come next.", at);
    }
  }

 private:
  std::string width_;
  TensorEntry tensor_;
  std::int32_t stages_ = 0;
  std::int32_t last_exit_ = -1;
};

void check_configuration(const ConfigurationEntry& entry, const Methods& methods, const Manifest& manifest,
                         const std::string& place) {
  std::vector<Known> steps;
  for (std::size_t i = 0; i < entry.path.size(); ++i) {
    const auto found = methods.find(entry.path[i].method);
    if (found == methods.end()) {
      refuse("reference", "There is no method " + entry.path[i].method + ".", indexed(place + ".path", i) + ".method");
    }
    steps.push_back(found->second);
  }
  Path path(manifest, steps.front().program->width);
  for (std::size_t i = 0; i < steps.size(); ++i) {
    const std::string at = indexed(place + ".path", i);
    check_step(entry.path[i], *steps[i].method, at, i + 1 == steps.size());
    check_outside(entry.path[i], *steps[i].method, at, manifest.model.outside.has_value());
    check_place(entry.path[i], i == 0 ? nullptr : &entry.path[i - 1], at);
    path.follow(entry.path[i], steps[i], at, i);
  }
  if (entry.latency && entry.latency->p50_us > entry.latency->p90_us) {
    refuse("order", "Half of the inferences take longer than nine tenths of them.", place + ".expected.latency_us.p90");
  }
}

std::optional<std::size_t> first_rise(const std::vector<std::int64_t>& costs) {
  for (std::size_t i = 1; i < costs.size(); ++i) {
    if (costs[i] >= costs[i - 1]) return i;
  }
  return std::nullopt;
}

void check_tiers(const Manifest& manifest) {
  check_unique(manifest.tiers, "$.tiers", "configuration");
  std::vector<std::int64_t> latencies;
  std::vector<std::int64_t> macs;
  for (std::size_t i = 0; i < manifest.tiers.size(); ++i) {
    const auto entry = std::find_if(manifest.configurations.begin(), manifest.configurations.end(),
                                    [&](const ConfigurationEntry& one) { return one.id == manifest.tiers[i]; });
    if (entry == manifest.configurations.end()) {
      refuse("reference", "There is no configuration " + manifest.tiers[i] + ".", indexed("$.tiers", i));
    }
    macs.push_back(entry->mean_macs);
    if (entry->latency) latencies.push_back(entry->latency->p50_us);
  }
  if (latencies.size() == macs.size() && !first_rise(latencies)) return;
  if (const auto rise = first_rise(macs)) {
    refuse("order", "This tier is not expected to cost less than the one before it.", indexed("$.tiers", *rise),
           "mean_macs, or the measured p50 of every tier, strictly decreasing");
  }
}

void check_policy(const PolicyLists& policy) {
  const auto check = [](const std::vector<std::int64_t>& numbers, const std::string& name, auto before) {
    if (!std::is_sorted(numbers.begin(), numbers.end(), before)) {
      refuse("order", "The numbers of " + name + " are not in order.", "$.policy." + name);
    }
  };
  check(policy.enter_mh, "enter_mh", std::less<>());
  check(policy.battery_temperature_enter_dc, "battery_temperature_enter_dc", std::less<>());
  check(policy.status_floor, "status_floor", std::less<>());
  check(policy.apple_floor, "apple_floor", std::less<>());
  check(policy.battery_enter_percent, "battery_enter_percent", std::greater<>());
}

}  // namespace

std::array<std::int64_t, 3> version_key(const std::string& version) {
  std::array<std::int64_t, 3> key{};
  std::size_t start = 0;
  for (std::int64_t& number : key) {
    number = std::stoll(version.substr(start));
    start = version.find('.', start) + 1;
  }
  return key;
}

void check_consistency(const Manifest& manifest) {
  if (const auto fault = fault_of_name(manifest.name)) {  // it is the name of a folder in a store
    refuse("value", "The name " + manifest.name + " " + *fault + ".", "$.name");
  }
  check_runtime_range(manifest.runtime);
  check_unique(manifest.model.classes, "$.model.classes", "class");
  if (manifest.model.universal_classes < static_cast<std::int64_t>(manifest.model.classes.size())) {
    refuse("value", "There are more classes than the universal model has.", "$.model.universal_classes");
  }
  check_input(manifest.model.input);
  if (manifest.model.outside && manifest.model.outside->fallback == manifest.name) {
    refuse("value", "The bundle names itself to be asked instead.", "$.model.outside.fallback", "another bundle");
  }
  check_files(manifest);
  const Methods methods = check_programs(manifest);
  check_unique(ids_of(manifest.configurations, &ConfigurationEntry::id), "$.configurations", "configuration", ".id");
  for (std::size_t i = 0; i < manifest.configurations.size(); ++i) {
    check_configuration(manifest.configurations[i], methods, manifest, indexed("$.configurations", i));
  }
  check_tiers(manifest);
  check_policy(manifest.policy);
}

}  // namespace ebbtide
