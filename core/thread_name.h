#pragma once

#include <string>

namespace duet {

// How this thread is called in traces and debuggers; empty until it was named.
void name_thread(const std::string& name);
const std::string& thread_name();

}  // namespace duet
