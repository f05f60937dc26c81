#include "runner/bench.hpp"

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <thread>
#include <utility>

#include "core/error.hpp"
#include "runner/clock.hpp"
#include "runner/machine.hpp"
#include "runner/output.hpp"
#include "runner/run.hpp"
#include "runner/runtime_facts.hpp"
#include "runner/session.hpp"

namespace ebbtide {
namespace {

using Times = std::vector<std::int64_t>;

constexpr std::int64_t kRowEveryMs = 5000;
constexpr std::size_t kDriftShare = 5;    // the first and the last fifth of the rounds are compared,
constexpr std::int64_t kDriftTenths = 1;  // and may differ by a tenth

// The times of one configuration.
struct Turns {
  std::vector<Times> predictions;                     // by round
  std::map<std::string, std::vector<Times>> methods;  // by program/method, then by round
  std::map<std::string, std::int64_t> left_at;        // by program/method
  Times load_ns;
  Times first_prediction_ns;
  std::optional<std::int64_t> peak;
};

struct ProgramTimes {
  Times open_ns;
  std::map<std::string, std::pair<Times, Times>> methods;  // loads and first runs, by name
};

// Twice the median, which is whole.
std::int64_t double_median(Times times) {
  std::sort(times.begin(), times.end());
  return times[(times.size() - 1) / 2] + times[times.size() / 2];
}

// Whether the machine grew slower or faster meanwhile: then no figure of these times means much.
bool has_drifted(const std::vector<Times>& rounds) {
  const std::size_t part = std::max<std::size_t>(rounds.size() / kDriftShare, 1);
  Times first;
  Times last;
  for (std::size_t i = 0; i < part; ++i) {
    first.insert(first.end(), rounds[i].begin(), rounds[i].end());
    const Times& late = rounds[rounds.size() - 1 - i];
    last.insert(last.end(), late.begin(), late.end());
  }
  const std::int64_t before = double_median(std::move(first));
  const std::int64_t after = double_median(std::move(last));
  return 10 * std::abs(after - before) > kDriftTenths * before;
}

// The start moves on every second round and every odd round runs backwards, as in profiling/timing.py.
std::vector<std::string> turn_order(std::vector<std::string> names, std::size_t turn) {
  std::rotate(names.begin(), names.begin() + static_cast<std::ptrdiff_t>((turn / 2) % names.size()), names.end());
  if (turn % 2 == 1) std::reverse(names.begin(), names.end());
  return names;
}

void check_plan(const BenchPlan& plan) {
  const std::pair<const char*, std::pair<std::int32_t, std::int32_t>> least[] = {
      {"warm_up", {plan.warm_up, 0}},
      {"rounds", {plan.rounds, 1}},
      {"loads", {plan.loads, 1}},
      {"switches", {plan.switches, 0}},
      {"cool_down_ms", {plan.cool_down_ms, 0}},
  };
  for (const auto& [name, numbers] : least) {
    if (numbers.first < numbers.second) {
      throw Error("profiling.plan", std::string("A measurement cannot have that ") + name + ".",
                  {.expected = "at least " + std::to_string(numbers.second),
                   .found = std::to_string(numbers.first),
                   .place = name});
    }
  }
}

class Bench {
 public:
  Bench(const Bundle& bundle, const BenchPlan& plan, std::int32_t threads)
      : bundle_(bundle), plan_(plan), threads_(threads), session_(bundle), names_(plan.configurations) {
    if (names_.empty()) names_ = bundle.manifest.tiers;
    std::set<std::string> seen;
    std::erase_if(names_, [&](const std::string& name) { return !seen.insert(name).second; });
    read_inputs();
  }

  OrderedJson measure() {
    start_memory_ = resident_bytes();
    add_row("before", nullptr);
    for (const std::string& name : names_) measure_loads(name);
    session_.unload();
    for (const std::string& name : names_) session_.switch_to(name);
    resident_memory_ = resident_bytes();
    reset_peak();
    for (std::int32_t round = 0; round < plan_.rounds; ++round) {
      for (const std::string& name : turn_order(names_, static_cast<std::size_t>(round))) take_turn(name);
    }
    peak_memory_ = peak_bytes();
    measure_switches();
    add_row("after", nullptr);
    return results();
  }

 private:
  void read_inputs() {
    if (!plan_.inputs) {
      inputs_.emplace_back(session_.input().size());
      return;
    }
    const std::string place = plan_.inputs->string();
    std::ifstream stream(*plan_.inputs, std::ios::binary);
    if (!stream) throw Error("runtime.input", "The file cannot be read.", {.place = place});
    Samples samples(stream, read_npy_header(stream, place), bundle_.manifest, place);
    if (samples.count() < 1) throw Error("runtime.bench", "There are no samples to time.", {.place = place});
    for (std::int64_t i = 0; i < samples.count(); ++i) {
      samples.next(session_);
      inputs_.emplace_back(session_.input().begin(), session_.input().end());
    }
  }

  static const Prediction& predict(Session& session, const std::vector<float>& input, std::int64_t& spent_ns) {
    std::copy(input.begin(), input.end(), session.input().begin());
    const std::int64_t start = now_ns();
    const Prediction& found = session.predict();
    spent_ns = now_ns() - start;
    return found;
  }

  void warm_up(Session& session) {
    std::int64_t unused = 0;
    for (std::int32_t i = 0; i < plan_.warm_up; ++i) {
      predict(session, inputs_[static_cast<std::size_t>(i) % inputs_.size()], unused);
    }
  }

  void measure_loads(const std::string& name) {
    Turns& turns = turns_[name];
    for (std::int32_t i = 0; i < plan_.loads; ++i) {
      session_.unload();
      const bool has_peak = reset_peak();
      const std::int64_t start = now_ns();
      session_.switch_to(name);
      turns.load_ns.push_back(now_ns() - start);
      std::int64_t first = 0;
      predict(session_, inputs_[0], first);
      turns.first_prediction_ns.push_back(first);
      warm_up(session_);
      if (has_peak) turns.peak = std::max(turns.peak, peak_bytes());
      for (const std::string& id : programs_of(*session_.current().entry)) add_load(id);
    }
  }

  void add_load(const std::string& id) {
    const LoadTimes& load = session_.program(id).load_times();
    ProgramTimes& times = programs_[id];
    times.open_ns.push_back(load.open_ns);
    const auto& methods = program_entry(id).methods;
    for (std::size_t i = 0; i < methods.size(); ++i) {
      times.methods[methods[i].name].first.push_back(load.methods_ns[i]);
      times.methods[methods[i].name].second.push_back(load.first_run_ns[i]);
    }
  }

  void take_turn(const std::string& name) {
    if (plan_.cool_down_ms > 0) std::this_thread::sleep_for(std::chrono::milliseconds(plan_.cool_down_ms));
    if (milliseconds() - last_row_ms_ >= kRowEveryMs || turns_[name].predictions.empty()) {
      add_row("during", name.c_str());
    }
    session_.switch_to(name);
    warm_up(session_);
    const Configuration& configuration = session_.current();
    Turns& turns = turns_[name];
    turns.predictions.emplace_back();
    for (const PathStep& step : configuration.path) turns.methods[step.reference].emplace_back();
    for (const std::vector<float>& input : inputs_) {
      std::int64_t spent = 0;
      const Prediction& found = predict(session_, input, spent);
      turns.predictions.back().push_back(spent);
      ++turns.left_at[configuration.path[found.step].reference];
      for (std::size_t i = 0; i < found.times_ns.size(); ++i) {
        turns.methods[configuration.path[i].reference].back().push_back(found.times_ns[i]);
      }
    }
  }

  void measure_switches() {
    for (std::size_t i = 0; i + 1 < names_.size() && plan_.switches > 0; ++i) {
      for (const auto& [before, after] : {std::pair(names_[i], names_[i + 1]), std::pair(names_[i + 1], names_[i])}) {
        measure_switch(session_, before, after, "all");
      }
    }
    session_.unload();
    Session active(bundle_, Residency::kActive);
    for (std::size_t i = 0; i + 1 < names_.size() && plan_.switches > 0; ++i) {
      for (const auto& [before, after] : {std::pair(names_[i], names_[i + 1]), std::pair(names_[i + 1], names_[i])}) {
        measure_switch(active, before, after, "active");
      }
    }
  }

  void measure_switch(Session& session, const std::string& before, const std::string& after, const char* residency) {
    Times switch_ns;
    Times first_ns;
    for (std::int32_t i = 0; i < plan_.switches; ++i) {
      session.switch_to(before);
      warm_up(session);
      const std::int64_t start = now_ns();
      session.switch_to(after);
      switch_ns.push_back(now_ns() - start);
      std::int64_t first = 0;
      predict(session, inputs_[0], first);
      first_ns.push_back(first);
    }
    switches_.push_back({{"before", before},
                         {"after", after},
                         {"residency", residency},
                         {"switch_ns", switch_ns},
                         {"first_prediction_ns", first_ns}});
  }

  const ProgramEntry& program_entry(const std::string& id) const {
    const auto& programs = bundle_.manifest.programs;
    return *std::find_if(programs.begin(), programs.end(), [&](const ProgramEntry& one) { return one.id == id; });
  }

  std::int64_t milliseconds() const { return (now_ns() - start_ns_) / 1'000'000; }

  void add_row(const char* phase, const char* configuration) {
    last_row_ms_ = milliseconds();
    OrderedJson row = {{"t_ms", last_row_ms_}, {"phase", phase}};
    row["configuration"] = configuration == nullptr ? OrderedJson() : OrderedJson(configuration);
    row.update(thermal_facts());
    rows_.push_back(row);
  }

  OrderedJson configuration_json(const std::string& name) const {
    const Turns& turns = turns_.at(name);
    OrderedJson methods = OrderedJson::array();
    OrderedJson left_at = OrderedJson::array();
    const auto& entries = bundle_.manifest.configurations;
    const auto entry =
        std::find_if(entries.begin(), entries.end(), [&](const ConfigurationEntry& one) { return one.id == name; });
    for (const StepEntry& step : entry->path) {
      methods.push_back({{"method", step.method}, {"rounds_ns", turns.methods.at(step.method)}});
      if (const auto count = turns.left_at.find(step.method); count != turns.left_at.end()) {
        left_at.push_back({{"method", step.method}, {"count", count->second}});
      }
    }
    const auto tier = bundle_.manifest.tier_of(name);
    OrderedJson invalid = OrderedJson::array();
    if (has_drifted(turns.predictions)) invalid.push_back("drift");
    return {{"id", name},
            {"tier", tier ? OrderedJson(*tier) : OrderedJson()},
            {"rounds_ns", turns.predictions},
            {"methods", methods},
            {"left_at", left_at},
            {"load_ns", turns.load_ns},
            {"first_prediction_ns", turns.first_prediction_ns},
            {"peak_bytes", turns.peak ? OrderedJson(*turns.peak) : OrderedJson()},
            {"invalid", invalid}};
  }

  OrderedJson program_json(const std::string& id, const ProgramTimes& times) const {
    const ProgramEntry& entry = program_entry(id);
    const FileEntry& file = bundle_.file_of(entry);
    OrderedJson methods = OrderedJson::array();
    for (const MethodEntry& method : entry.methods) {
      const auto& [load_ns, first_run_ns] = times.methods.at(method.name);
      methods.push_back({{"name", method.name}, {"load_ns", load_ns}, {"first_run_ns", first_run_ns}});
    }
    return {{"id", id},
            {"sha256", file.sha256},
            {"size_bytes", file.size_bytes},
            {"open_ns", times.open_ns},
            {"methods", methods}};
  }

  OrderedJson results() const {
    const auto bytes = [](const std::optional<std::int64_t>& value) {
      return value ? OrderedJson(*value) : OrderedJson();
    };
    OrderedJson programs = OrderedJson::array();
    for (const auto& [id, times] : programs_) programs.push_back(program_json(id, times));
    OrderedJson configurations = OrderedJson::array();
    for (const std::string& name : names_) configurations.push_back(configuration_json(name));
    return {
        {"format", 1},
        {"bundle",
         {{"name", bundle_.manifest.name},
          {"sequence", bundle_.manifest.sequence},
          {"manifest_sha256", bundle_.manifest_sha256},
          {"signature_checked", bundle_.is_signature_checked}}},
        {"runtime", {{"engine", "executorch"}, {"version", executorch_version()}, {"backends", executorch_backends()}}},
        {"device", device_facts()},
        {"protocol",
         {{"started", started_},
          {"threads", threads_},
          {"samples", inputs_.size()},
          {"inputs", plan_.inputs ? "given" : "zeros"},
          {"warm_up", plan_.warm_up},
          {"rounds", plan_.rounds},
          {"loads", plan_.loads},
          {"switches", plan_.switches},
          {"cool_down_ms", plan_.cool_down_ms}}},
        {"programs", programs},
        {"configurations", configurations},
        {"switches", switches_},
        {"memory",
         {{"start_bytes", bytes(start_memory_)},
          {"resident_bytes", bytes(resident_memory_)},
          {"peak_bytes", bytes(peak_memory_)}}},
        {"rows", rows_},
        {"invalid", OrderedJson::array()}};
  }

  const Bundle& bundle_;
  const BenchPlan& plan_;
  std::int32_t threads_;
  Session session_;
  std::vector<std::string> names_;
  std::vector<std::vector<float>> inputs_;
  std::map<std::string, Turns> turns_;
  std::map<std::string, ProgramTimes> programs_;
  OrderedJson switches_ = OrderedJson::array();
  OrderedJson rows_ = OrderedJson::array();
  std::optional<std::int64_t> start_memory_;
  std::optional<std::int64_t> resident_memory_;
  std::optional<std::int64_t> peak_memory_;
  std::string started_ = utc_now();
  std::int64_t start_ns_ = now_ns();
  std::int64_t last_row_ms_ = 0;
};

}  // namespace

void bench(const Bundle& bundle, const BenchPlan& plan, std::int32_t threads, const std::filesystem::path& output) {
  check_plan(plan);
  const OrderedJson results = Bench(bundle, plan, threads).measure();
  const std::filesystem::path unfinished = output.string() + ".new";
  std::ofstream stream(unfinished, std::ios::binary);
  stream << results.dump() << '\n' << std::flush;
  std::error_code failure;
  if (stream.good()) std::filesystem::rename(unfinished, output, failure);
  if (!stream.good() || failure) {
    throw Error("steps.read_only", "The results cannot be written.", {.place = output.string()});
  }
}

}  // namespace ebbtide
