#pragma once

#include "duet/core/error.h"

namespace duet::train {

// Thrown after SIGINT or SIGTERM, once everything worth keeping is on disk. The program then exits with status 130.
class Interrupted : public Error {
 public:
  using Error::Error;
};

// From now on the first SIGINT or SIGTERM sets a flag that long loops poll; a second one ends the process at once.
void catch_interrupts();
bool interrupt_requested();
// Throws Interrupted when a signal has arrived.
void throw_if_interrupted(std::string_view doing);

}  // namespace duet::train
