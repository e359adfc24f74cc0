#pragma once

namespace mgr {

// "0.1.0"
const char* program_version();

}  // namespace mgr
