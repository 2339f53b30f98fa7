#include "duet/train/interrupt.h"

#include <unistd.h>

#include <atomic>
#include <csignal>

namespace duet::train {
namespace {

std::atomic<int> signals{0};
static_assert(std::atomic<int>::is_always_lock_free);

void on_signal(int) {
  if (signals.fetch_add(1) > 0) ::_exit(130);
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
}

bool interrupt_requested() {
  return signals.load() > 0;
}

void throw_if_interrupted(std::string_view doing) {
  if (interrupt_requested()) throw Interrupted(text("interrupted while ", doing));
}

}  // namespace duet::train
