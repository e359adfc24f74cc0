#pragma once

#include "common/settings/sources/loader.h"

namespace mgr::manager {

// Runs the supervisor in the foreground until it is told to stop, and returns the exit status of
// `mgr run` (contract section 1). `loader` reads the settings again at each reload; `loaded` is its
// first result. Everything that goes wrong is logged or, before there is a log, written to stderr.
int run_supervisor(SettingsLoader loader, LoadedSettings loaded);

// `mgr check`: loads the application in a mold and starts it in one worker that gets no sockets,
// then leaves. 0, 4, 3, or 1.
int check_application(const Settings& settings);

}  // namespace mgr::manager
