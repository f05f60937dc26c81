// What this program's ExecuTorch is, and the settings that hold for the whole process.

#ifndef EBBTIDE_RUNNER_RUNTIME_FACTS_HPP_
#define EBBTIDE_RUNNER_RUNTIME_FACTS_HPP_

#include <cstdint>
#include <string>
#include <vector>

namespace ebbtide {

// "1.5.1+cpu": what follows the three numbers is not looked at where versions are compared.
std::string executorch_version();

// The backends that are linked in, by the names of the manifest: "xnnpack" for XnnpackBackend.
std::vector<std::string> executorch_backends();

// Fix the number of threads of this process. Call it once, before the first program is loaded: every XNNPACK delegate
// keeps a raw pointer to the thread pool that was there when it was loaded, and another count replaces the pool.
//
// Throws engine.threads if the number is not positive or the pool does not take it.
void fix_threads(std::int32_t threads);

// Keep what ExecuTorch logs from the screen and remember it instead.
void capture_log();

// The last error that ExecuTorch logged since the last call, empty if there was none.
std::string last_logged();

}  // namespace ebbtide

#endif  // EBBTIDE_RUNNER_RUNTIME_FACTS_HPP_
