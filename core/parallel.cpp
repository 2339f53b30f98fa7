#include "duet/core/parallel.h"

#include <omp.h>

#include <exception>
#include <vector>

#include "duet/core/error.h"

namespace duet {
namespace {
int thread_count = omp_get_max_threads();
}

void set_threads(int count) {
  check(count >= 1 && count <= 1024, "threads", "--threads must be between 1 and 1024, got ", count);
  thread_count = count;
  omp_set_num_threads(count);  // also what oneDNN reads
}

int threads() {
  return omp_in_parallel() ? 1 : thread_count;
}

void detail::run_chunks(int64_t chunks, void (*body)(void*, int64_t), void* state) {
  // An exception must not leave an OpenMP region.
  std::vector<std::exception_ptr> thrown(static_cast<size_t>(chunks));
  // Always the full team, even for fewer chunks: OpenMP ends and restarts threads when the team size changes.
#pragma omp parallel for schedule(static, 1) num_threads(thread_count)
  for (int64_t i = 0; i < chunks; ++i) {
    try {
      body(state, i);
    } catch (...) {
      thrown[static_cast<size_t>(i)] = std::current_exception();
    }
  }
  for (const std::exception_ptr& e : thrown)
    if (e) std::rethrow_exception(e);
}

}  // namespace duet
