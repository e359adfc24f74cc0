#pragma once

#include <string>
#include <string_view>

namespace mgr {

// Names this process for ps(1) and top(1): `title` takes the place of its command line, `name` (at
// most 15 bytes are shown) that of its program's name. Both end with the next exec; what is forked
// inherits them. The environment stays readable in /proc/PID/environ.
//
// The kernel is shown another piece of memory (PR_SET_MM_MAP, no privilege needed). Where it does
// not support that, the title is written over the arguments, and cut to their length: pointers into
// argv are of no use after this call.
void set_process_title(std::string_view title, const std::string& name);

}  // namespace mgr
