#pragma once

#include <array>
#include <string_view>

namespace mgr::settings {

// The events that the setting `hooks` knows, and who acts on them.

// Python functions, module:function.
inline constexpr std::string_view kHookLoaded = "loaded";             // in the mold
inline constexpr std::string_view kHookWorkerStart = "worker_start";  // in the worker, as the
inline constexpr std::string_view kHookWorkerReady = "worker_ready";  // next two
inline constexpr std::string_view kHookWorkerExit = "worker_exit";
// Commands, started by the supervisor.
inline constexpr std::string_view kHookReady = "ready";
inline constexpr std::string_view kHookReloaded = "reloaded";
inline constexpr std::string_view kHookReloadFailed = "reload_failed";
inline constexpr std::string_view kHookWorkerDied = "worker_died";
inline constexpr std::string_view kHookStopped = "stopped";

inline constexpr std::array kPythonHooks{kHookLoaded, kHookWorkerStart, kHookWorkerReady,
                                         kHookWorkerExit};
inline constexpr std::array kCommandHooks{kHookReady, kHookReloaded, kHookReloadFailed,
                                          kHookWorkerDied, kHookStopped};

}  // namespace mgr::settings
