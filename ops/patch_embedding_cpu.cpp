#include "duet/ops/patch_embedding.h"

#include "duet/core/parallel.h"

namespace duet::ops {
namespace {

// Visits every run of p pixels: f(offset in patches, offset in images).
template <class F>
void for_patch_runs(PatchGrid g, F&& f) {
  parallel_for(g.batch * g.count(), 16, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const int64_t b = i / g.count(), row = i % g.count() / g.columns(), column = i % g.columns();
      for (int64_t c = 0; c < g.channels; ++c)
        for (int64_t y = 0; y < g.patch; ++y)
          f(i * g.size() + (c * g.patch + y) * g.patch,
            ((b * g.channels + c) * g.height + row * g.patch + y) * g.width + column * g.patch);
    }
  });
}

}  // namespace

template <class T>
void patchify(CpuContext, PatchGrid grid, const T* images, T* patches) {
  for_patch_runs(grid, [&](int64_t patch, int64_t image) { std::copy_n(images + image, grid.patch, patches + patch); });
}

template <class T>
void unpatchify(CpuContext, PatchGrid grid, const T* patches, T* images) {
  for_patch_runs(grid, [&](int64_t patch, int64_t image) { std::copy_n(patches + patch, grid.patch, images + image); });
}

template <class T>
void assemble_tokens(CpuContext, int64_t batch, int64_t count, int64_t width, const T* projected, const Wide<T>* bias,
                     const Wide<T>* class_token, const Wide<T>* positions, T* y) {
  parallel_for(batch, 1, [&](int64_t begin, int64_t end) {
    for (int64_t b = begin; b < end; ++b) {
      T* out = y + b * (count + 1) * width;
      for (int64_t c = 0; c < width; ++c) out[c] = static_cast<T>(class_token[c] + positions[c]);
      for (int64_t n = 0; n < count; ++n) {
        const T* in = projected + (b * count + n) * width;
        out += width;
        for (int64_t c = 0; c < width; ++c)
          out[c] = static_cast<T>(static_cast<Wide<T>>(in[c]) + bias[c] + positions[(n + 1) * width + c]);
      }
    }
  });
}

#define DUET_INSTANTIATE(T)                                                                                         \
  template void patchify<T>(CpuContext, PatchGrid, const T*, T*);                                                   \
  template void unpatchify<T>(CpuContext, PatchGrid, const T*, T*);                                                 \
  template void assemble_tokens<T>(CpuContext, int64_t, int64_t, int64_t, const T*, const Wide<T>*, const Wide<T>*, \
                                   const Wide<T>*, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(double)
DUET_INSTANTIATE(bf16)

}  // namespace duet::ops
