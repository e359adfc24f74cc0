#pragma once

#include "worker/life/stacks.h"

namespace mgr::native {

// Writes the frames of the thread that the handler runs in, most recent call first:
//   #0 mangled_name+0x1f (file)
// Names come from the symbol tables of the files that are mapped, static functions included where
// the file is not stripped. Call once, before the first question: loads what the handler needs.
worker::Stacks::Frames frames_of_one_thread();

}  // namespace mgr::native
