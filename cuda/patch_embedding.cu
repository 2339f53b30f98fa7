#include "duet/ops/patch_embedding.h"

#include "duet/cuda/device.cuh"

namespace duet {
namespace cuda {
namespace {

using ops::PatchGrid;

// One thread `pack` neighbours of a patch's row, in the order of the patches, so that their side is coalesced and the
// images' comes in runs of `patch`. Finding a place costs nine integer divisions, hence the packs.
template <class T, bool back, int pack>
__global__ void patchify_kernel(PatchGrid g, const T* from, T* to) {
  using Few = Pack<T, pack>;
  const int64_t n = g.batch * g.count() * g.size(), stride = static_cast<int64_t>(gridDim.x) * blockDim.x * pack;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * pack; i < n; i += stride) {
    const int64_t inside = i % g.size(), patch = i / g.size();
    const int64_t x = inside % g.patch, y = inside / g.patch % g.patch, c = inside / (g.patch * g.patch);
    const int64_t b = patch / g.count(), row = patch % g.count() / g.columns(), column = patch % g.columns();
    const int64_t image = ((b * g.channels + c) * g.height + row * g.patch + y) * g.width + column * g.patch + x;
    const int64_t source = back ? i : image, target = back ? image : i;
    *reinterpret_cast<Few*>(to + target) = *reinterpret_cast<const Few*>(from + source);
  }
}

template <bool back, class T>
void start_patchify(CudaContext context, const char* name, PatchGrid grid, const T* from, T* to) {
  const auto run = [&](auto pack) {
    launch(context, name, patchify_kernel<T, back, pack>,
           blocks_for(grid.batch * grid.count() * grid.size() / pack, 256), dim3(256), grid, from, to);
  };
  if (grid.patch % full_pack<T> == 0 && aligned16(from, to))
    run(std::integral_constant<int, full_pack<T>>{});
  else
    run(std::integral_constant<int, 1>{});
}

template <class T, int pack>
__global__ void assemble_tokens_kernel(int64_t batch, int64_t count, int64_t width, const T* projected,
                                       const float* bias, const float* class_token, const float* positions, T* y) {
  const int64_t n = batch * (count + 1) * width, stride = static_cast<int64_t>(gridDim.x) * blockDim.x * pack;
  for (int64_t i = (static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x) * pack; i < n; i += stride) {
    const int64_t c = i % width, token = i / width % (count + 1), b = i / width / (count + 1);
    float v[pack], added[pack];
    if (token == 0) {
      load_floats<pack>(class_token + c, v);
    } else {
      load<pack>(projected + (b * count + token - 1) * width + c, v);
      load_floats<pack>(bias + c, added);
#pragma unroll
      for (int j = 0; j < pack; ++j) v[j] += added[j];
    }
    load_floats<pack>(positions + token * width + c, added);
#pragma unroll
    for (int j = 0; j < pack; ++j) v[j] += added[j];
    store<pack>(v, y + i);
  }
}

}  // namespace
}  // namespace cuda

namespace ops {

template <class T>
void patchify(CudaContext context, PatchGrid grid, const T* images, T* patches) {
  cuda::start_patchify<false>(context, "patchify", grid, images, patches);
}

template <class T>
void unpatchify(CudaContext context, PatchGrid grid, const T* patches, T* images) {
  cuda::start_patchify<true>(context, "unpatchify", grid, patches, images);
}

template <class T>
void assemble_tokens(CudaContext context, int64_t batch, int64_t count, int64_t width, const T* projected,
                     const Wide<T>* bias, const Wide<T>* class_token, const Wide<T>* positions, T* y) {
  const auto run = [&](auto pack) {
    cuda::launch(context, "assemble_tokens", cuda::assemble_tokens_kernel<T, pack>,
                 cuda::blocks_for(batch * (count + 1) * width / pack, 256), dim3(256), batch, count, width, projected,
                 bias, class_token, positions, y);
  };
  if (width % cuda::full_pack<T> == 0 && cuda::aligned16(projected, bias, class_token, positions, y))
    run(std::integral_constant<int, cuda::full_pack<T>>{});
  else
    run(std::integral_constant<int, 1>{});
}

#define DUET_INSTANTIATE(T)                                                                                          \
  template void patchify<T>(CudaContext, PatchGrid, const T*, T*);                                                   \
  template void unpatchify<T>(CudaContext, PatchGrid, const T*, T*);                                                 \
  template void assemble_tokens<T>(CudaContext, int64_t, int64_t, int64_t, const T*, const Wide<T>*, const Wide<T>*, \
                                   const Wide<T>*, T*);
DUET_INSTANTIATE(float)
DUET_INSTANTIATE(bf16)

}  // namespace ops
}  // namespace duet
