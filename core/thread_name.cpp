#include "duet/core/thread_name.h"

#include <pthread.h>

namespace duet {
namespace {

thread_local std::string this_name;

}  // namespace

void name_thread(const std::string& name) {
  this_name = name;
  ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());  // the system's limit
}

const std::string& thread_name() {
  return this_name;
}

}  // namespace duet
