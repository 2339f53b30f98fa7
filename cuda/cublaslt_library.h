#pragma once

#include <initializer_list>

namespace duet::cuda {

// Loads the first of these that can be loaded; throws Error with the reasons when none can. Never unloaded.
void* open_library(std::initializer_list<const char*> names);

}  // namespace duet::cuda
