#include "duet/core/parallel.h"

#include <omp.h>

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
#pragma omp parallel for schedule(static, 1) num_threads(static_cast <int>(chunks))
  for (int64_t i = 0; i < chunks; ++i) body(state, i);
}

}  // namespace duet
