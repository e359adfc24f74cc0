#pragma once

#include "common/settings/sources/loader.h"
#include "manager/supervisor/program.h"

namespace mgr::manager {

// Runs the supervisor in the foreground until it is told to stop, and returns the exit status of
// `mgr run` (contract section 1). `loader` reads the settings again at each reload; `loaded` is its
// first result. Everything that goes wrong is logged or, before there is a log, written to stderr.
// `program`: what an upgrade replaces.
int run_supervisor(SettingsLoader loader, LoadedSettings loaded, const Program& program);

// The same from a saved state, which program.resume() names (upgrade.h). A probe does not return;
// a successor that can't go on executes the program before it.
int resume_supervisor(SettingsLoader loader, const Program& program);

// `mgr check`: loads the application in a mold and starts it in one worker that gets no sockets,
// then leaves. 0, 4, 3, or 1.
int check_application(const Settings& settings);

}  // namespace mgr::manager
