#include "runner/runtime_facts.hpp"

#include <executorch/runtime/backend/interface.h>
#include <executorch/runtime/platform/platform.h>

#include <algorithm>
#include <cctype>
#include <mutex>
#include <utility>

#include "core/error.hpp"

#if __has_include(<executorch/extension/threadpool/threadpool.h>)
#include <executorch/extension/threadpool/threadpool.h>
#else
// The Python package ships the library but not this header. Objects of the class are only pointed to.
namespace executorch::extension::threadpool {
class ThreadPool final {
 public:
  std::size_t get_thread_count() const;
  bool _unsafe_reset_threadpool(std::uint32_t threads);
};
ThreadPool* get_threadpool();
}  // namespace executorch::extension::threadpool
#endif

namespace ebbtide {
namespace {

std::mutex log_mutex;
std::string log_text;

void remember(et_timestamp_t, et_pal_log_level_t level, const char*, const char*, std::size_t, const char* message,
              std::size_t length) {
  if (level != kError && level != kFatal) return;
  const std::lock_guard<std::mutex> lock(log_mutex);
  log_text.assign(message, length);
}

}  // namespace

std::string executorch_version() { return EBBTIDE_EXECUTORCH_VERSION; }

std::vector<std::string> executorch_backends() {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < executorch::runtime::get_num_registered_backends(); ++i) {
    const auto name = executorch::runtime::get_backend_name(i);
    if (!name.ok()) continue;
    std::string text = *name;
    std::transform(text.begin(), text.end(), text.begin(), [](unsigned char letter) { return std::tolower(letter); });
    if (text.ends_with("backend")) text.resize(text.size() - std::string("backend").size());
    names.push_back(text);
  }
  return names;
}

void fix_threads(std::int32_t threads) {
  auto* pool = executorch::extension::threadpool::get_threadpool();
  const auto wanted = static_cast<std::size_t>(std::max(threads, 0));
  if (threads > 0 && pool != nullptr && pool->get_thread_count() != wanted) {
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"  // "unsafe" where programs are loaded: none is
    pool->_unsafe_reset_threadpool(static_cast<std::uint32_t>(threads));
#pragma GCC diagnostic pop
  }
  if (threads < 1 || pool == nullptr || pool->get_thread_count() != wanted) {
    throw Error("engine.threads", "ExecuTorch cannot run with that number of threads.",
                {.expected = "1 or more", .found = std::to_string(threads), .place = "--threads"});
  }
}

void capture_log() {
  executorch::runtime::register_pal(executorch::runtime::PalImpl::create(&remember, "runtime_facts.cpp"));
}

std::string last_logged() {
  const std::lock_guard<std::mutex> lock(log_mutex);
  return std::exchange(log_text, {});
}

}  // namespace ebbtide
