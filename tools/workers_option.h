#pragma once

#include "duet/tools/commands.h"
#include "duet/train/workers.h"

namespace duet::tools {

// --workers of commands that read data sets.
inline CLI::Option* add_workers_option(CLI::App& command, train::Workers& workers) {
  return command
      .add_option("--workers", workers,
                  "Threads that decode images and prepare batches beside those that compute; 0 = these do it; auto = 2 "
                  "for a GPU, 0 for the CPU")
      ->capture_default_str()
      ->type_name("auto|INT")
      ->check([](const std::string& value) {
        const bool known = value == "auto" || CLI::Range(0, train::most_workers)(value).empty();
        return known ? std::string() : text(value, " is neither auto nor a number from 0 to ", train::most_workers);
      });
}

}  // namespace duet::tools
