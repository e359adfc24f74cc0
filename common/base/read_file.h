#pragma once

#include <limits>
#include <string>

#include "common/base/result.h"

namespace mgr {

// What else than a regular file (and /dev/null) is read.
enum class Pipes {
  refused,
  // /dev/stdin and /dev/fd/N, as a shell's <(…) gives them; read until their other end is closed.
  inherited,
};

struct ReadFile {
  std::string shown;  // names the file in errors
  Pipes pipes = Pipes::refused;
  std::size_t most = std::numeric_limits<std::size_t>::max();  // bytes; a limit is whole MiB
};

// A whole file. Nothing is waited for but an inherited pipe. Errors: it can't be read, is no
// regular file, or is larger than `most`.
Result<std::string> read_file(const std::string& path, const ReadFile& options);

}  // namespace mgr
