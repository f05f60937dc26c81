// ebbtide-runner: reads a bundle, predicts, measures, and replays vectors. See README.md.
//
// Every failure is one line of JSON on standard error, {"error": {...}}, and an exit status: 2 for bad input, 1 for a
// defect of ours or vectors that differ.

#include <CLI/CLI.hpp>
#include <exception>
#include <filesystem>
#include <iostream>
#include <optional>
#include <string>

#include "core/error.hpp"
#include "core/policy_timing.hpp"
#include "runner/bench.hpp"
#include "runner/bundle.hpp"
#include "runner/output.hpp"
#include "runner/overhead.hpp"
#include "runner/replay.hpp"
#include "runner/run.hpp"
#include "runner/runtime_facts.hpp"
#include "runner/session.hpp"

namespace {

struct Arguments {
  std::filesystem::path bundle;
  std::optional<std::filesystem::path> key;
  std::optional<std::string> configuration;
  std::optional<std::int32_t> tier;
  bool is_active = false;
  std::int32_t threads = 1;
  std::string input = "-";
  std::filesystem::path output;
  ebbtide::BenchPlan plan;
  ebbtide::OverheadPlan overhead;
  std::uint64_t steps = 1'000'000;
  std::string kind;
  std::filesystem::path file;
};

void add_bundle(CLI::App& command, Arguments& arguments) {
  command.add_option("bundle", arguments.bundle, "the bundle's folder, raw or unpacked")->required();
  command.add_option("--key", arguments.key, "public key (PEM): also verify the signature");
}

void add_threads(CLI::App& command, Arguments& arguments) {
  command.add_option("--threads", arguments.threads, "threads of the whole process, fixed before anything is loaded")
      ->capture_default_str();
}

void add_choice(CLI::App& command, Arguments& arguments) {
  auto* configuration =
      command.add_option("-c,--configuration", arguments.configuration, "configuration to begin with");
  command.add_option("--tier", arguments.tier, "tier to begin with (default: 0)")->excludes(configuration);
}

void begin(ebbtide::Session& session, const Arguments& arguments) {
  if (arguments.configuration) {
    session.switch_to(*arguments.configuration);
  } else {
    session.switch_tier(arguments.tier.value_or(0));
  }
}

int verify(const Arguments& arguments) {
  const ebbtide::Bundle bundle = ebbtide::open_bundle(arguments.bundle, arguments.key);
  const ebbtide::OrderedJson facts = {{"name", bundle.manifest.name},
                                      {"sequence", bundle.manifest.sequence},
                                      {"manifest_sha256", bundle.manifest_sha256},
                                      {"key_id", bundle.manifest.key_id},
                                      {"signature_checked", bundle.is_signature_checked},
                                      {"files", bundle.manifest.files.size()}};
  std::cout << facts.dump() << '\n';
  return 0;
}

int run(const Arguments& arguments) {
  ebbtide::fix_threads(arguments.threads);
  const ebbtide::Bundle bundle = ebbtide::open_bundle(arguments.bundle, arguments.key);
  ebbtide::Session session(bundle, arguments.is_active ? ebbtide::Residency::kActive : ebbtide::Residency::kAll);
  begin(session, arguments);
  if (arguments.input == "-") {
    ebbtide::run_stream(session);
  } else {
    ebbtide::run_file(session, arguments.input);
  }
  return 0;
}

int bench(const Arguments& arguments) {
  ebbtide::fix_threads(arguments.threads);
  const ebbtide::Bundle bundle = ebbtide::open_bundle(arguments.bundle, arguments.key);
  ebbtide::bench(bundle, arguments.plan, arguments.threads, arguments.output);
  return 0;
}

int overhead(const Arguments& arguments) {
  ebbtide::fix_threads(arguments.threads);
  const ebbtide::Bundle bundle = ebbtide::open_bundle(arguments.bundle, arguments.key);
  ebbtide::Session session(bundle);
  begin(session, arguments);
  std::cout << ebbtide::measure_overhead(session, arguments.overhead).dump() << '\n';
  return 0;
}

int policy_step(const Arguments& arguments) {
  const ebbtide::OrderedJson found = {{"rounds", arguments.steps},
                                      {"policy_step_ns", ebbtide::policy_step_ns(arguments.steps)}};
  std::cout << found.dump() << '\n';
  return 0;
}

int parse_and_do(int argc, char** argv) {
  Arguments arguments;
  CLI::App app("Reads a bundle, predicts, measures, and replays vectors.", "ebbtide-runner");
  app.require_subcommand(1);

  CLI::App* verify_command = app.add_subcommand("verify", "check a bundle; nothing in it is run");
  add_bundle(*verify_command, arguments);

  CLI::App* run_command = app.add_subcommand("run", "predict; a line of JSON for each sample");
  add_bundle(*run_command, arguments);
  add_choice(*run_command, arguments);
  add_threads(*run_command, arguments);
  run_command->add_option("--input", arguments.input, "a .npy file, or - for a stream")->capture_default_str();
  run_command->add_flag("--active", arguments.is_active, "keep only the programs of the configuration in force");

  CLI::App* bench_command =
      app.add_subcommand("bench", "measure; writes results as devices/results.schema.json has it");
  add_bundle(*bench_command, arguments);
  add_threads(*bench_command, arguments);
  ebbtide::BenchPlan& plan = arguments.plan;
  bench_command->add_option("--output", arguments.output, "the results file")->required();
  bench_command->add_option("--inputs", plan.inputs, "a .npy file of real inputs, needed for exits to mean anything");
  bench_command->add_option("-c,--configuration", plan.configurations, "which ones (default: those of the tiers)");
  bench_command->add_option("--warm-up", plan.warm_up, "untimed predictions before each turn")->capture_default_str();
  bench_command->add_option("--rounds", plan.rounds, "turns of each configuration")->capture_default_str();
  bench_command->add_option("--loads", plan.loads, "loads of each program from nothing")->capture_default_str();
  bench_command->add_option("--switches", plan.switches, "switches of each kind")->capture_default_str();
  bench_command->add_option("--cool-down-ms", plan.cool_down_ms, "rest before each turn")->capture_default_str();

  CLI::App* overhead_command = app.add_subcommand("overhead", "time of the prediction loop over bare method calls");
  add_bundle(*overhead_command, arguments);
  add_choice(*overhead_command, arguments);
  add_threads(*overhead_command, arguments);
  ebbtide::OverheadPlan& loop = arguments.overhead;
  overhead_command->add_option("--rounds", loop.rounds, "interleaved rounds")->capture_default_str();
  overhead_command->add_option("--repeats", loop.repeats, "timed passes of each kind in a round")
      ->capture_default_str();
  overhead_command->add_option("--inputs", loop.inputs, "a .npy file; its first sample is run");

  CLI::App* policy_command = app.add_subcommand("policy-step", "time of one step of the tier policy");
  policy_command->add_option("--rounds", arguments.steps, "steps to take, at least")->capture_default_str();

  CLI::App* replay_command = app.add_subcommand("replay", "hold this program to a file of tests/vectors");
  replay_command->add_option("kind", arguments.kind, "policy, session, choice, manifest or preprocessing")->required();
  replay_command->add_option("file", arguments.file, "the vectors")->required();

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  ebbtide::capture_log();
  if (verify_command->parsed()) return verify(arguments);
  if (run_command->parsed()) return run(arguments);
  if (bench_command->parsed()) return bench(arguments);
  if (overhead_command->parsed()) return overhead(arguments);
  if (policy_command->parsed()) return policy_step(arguments);
  return ebbtide::replay(arguments.kind, arguments.file);
}

int fail(const ebbtide::Error& error, int status) {
  std::cout.flush();
  std::cerr << ebbtide::error_json(error).dump(-1, ' ', true, nlohmann::ordered_json::error_handler_t::replace) << '\n';
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  std::ios::sync_with_stdio(false);
  try {
    return parse_and_do(argc, argv);
  } catch (const ebbtide::Error& error) {
    return fail(error, 2);
  } catch (const std::exception& error) {
    return fail(ebbtide::Error("api.internal", error.what()), 1);
  }
}
