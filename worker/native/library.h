#pragma once

#include <string>
#include <variant>

#include "common/base/unique_fd.h"
#include "common/settings/application_name.h"
#include "worker/sdk/include/mgr/abi.h"

namespace mgr::native {

// Why an application could not be loaded. The stages are those of the Python host
// (ipc::LoadFailed): "import" the file, "attribute" the symbol, "application" what it is.
struct LoadFailure {
  std::string stage;
  std::string error;  // one line that names the library
};

// An application in a loaded library; stays loaded for the life of the process.
struct Library {
  const mgr_application_table* application = nullptr;
  UniqueFd copy;  // kept open: what prints stacks looks for symbols there
};

// Loads a private copy of the library, so that nobody who writes over the file touches what runs;
// where a copy cannot be loaded (it needs neighbours by $ORIGIN), the file itself. Relative paths
// are relative to the current directory. Once in a process: dlopen() knows the copies of different
// libraries by the same name.
std::variant<Library, LoadFailure> load(const settings::LibraryName& name);

}  // namespace mgr::native
