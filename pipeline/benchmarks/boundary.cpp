// What a boundary between stages costs in ExecuTorch's own C++ runtime, as a phone's SDK calls it.
//
//   boundary STAGED.pte DENSE.pte STAGES ROUNDS REPEATS
//
// Interleaved rounds: all methods of the staged program in turn, then the dense program's one method; which of them
// comes first alternates. Prints one line a round: microseconds per pass of either, the median over the repeats.

#include <executorch/extension/module/module.h>
#include <executorch/extension/tensor/tensor.h>
#include <executorch/extension/threadpool/threadpool_guard.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

using executorch::extension::Module;
using executorch::runtime::EValue;
using Clock = std::chrono::steady_clock;

namespace {

EValue run(Module& program, const std::string& method, const EValue& input) {
  auto outputs = program.execute(method, input);
  if (!outputs.ok() || outputs->empty()) {
    std::fprintf(stderr, "%s failed with error %d\n", method.c_str(), static_cast<int>(outputs.error()));
    std::exit(1);
  }
  return outputs->front();
}

template <typename Pass>
double median_us(int repeats, Pass&& pass) {
  std::vector<double> times;
  pass();  // brings this program's weights back into the caches that the other one used
  pass();
  for (int i = 0; i < repeats; ++i) {
    const auto start = Clock::now();
    pass();
    times.push_back(std::chrono::duration<double, std::micro>(Clock::now() - start).count());
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: boundary STAGED.pte DENSE.pte STAGES ROUNDS REPEATS\n");
    return 2;
  }
  const int stages = std::atoi(argv[3]), rounds = std::atoi(argv[4]), repeats = std::atoi(argv[5]);
  // XNNPACK keeps the pool that is there when a method is loaded: without one it runs on the caller's thread.
  executorch::extension::threadpool::NoThreadPoolGuard one_thread;
  Module staged(argv[1], Module::LoadMode::Mmap), dense(argv[2], Module::LoadMode::Mmap);

  std::vector<std::string> methods;
  for (int i = 0; i + 1 < stages; ++i) methods.push_back("stage" + std::to_string(i));
  methods.push_back("head");

  std::vector<float> pixels(3 * 32 * 32);
  for (size_t i = 0; i < pixels.size(); ++i) pixels[i] = static_cast<float>((i * 2654435761u % 2048) / 1024.0 - 1.0);
  auto image = executorch::extension::from_blob(pixels.data(), {1, 3, 32, 32});

  const auto many = [&] {
    EValue value(image);
    for (const auto& method : methods) value = run(staged, method, value);
  };
  const auto one = [&] { run(dense, "forward", EValue(image)); };
  for (int i = 0; i < 50; ++i) many(), one();
  for (int round = 0; round < rounds; ++round) {
    double of_many = 0, of_one = 0;
    if (round % 2 == 0) {
      of_many = median_us(repeats, many);
      of_one = median_us(repeats, one);
    } else {
      of_one = median_us(repeats, one);
      of_many = median_us(repeats, many);
    }
    std::printf("%.3f %.3f\n", of_many, of_one);
  }
  return 0;
}
