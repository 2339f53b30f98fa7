#include "duet/ops/patch_embedding.h"

#include "duet/core/dispatch.h"
#include "duet/core/op_scope.h"
#include "duet/ops/concat.h"
#include "duet/ops/gemm.h"
#include "duet/ops/linear.h"

namespace duet::ops {

Variable patch_embedding(const Variable& images, const Variable& weight, const Variable& bias,
                         const Variable& class_token, const Variable& positions) {
  const OpScope scope("patch_embedding");
  check(images.rank() == 4 && weight.rank() == 4 && weight.dim(1) == images.dim(1) && weight.dim(2) == weight.dim(3),
        "patch_embedding", "images ", images, " do not fit weight ", weight);
  const PatchGrid grid{images.dim(0), images.dim(1), images.dim(2), images.dim(3), weight.dim(2)};
  const int64_t width = weight.dim(0), count = grid.patch > 0 ? grid.count() : 0;
  check(grid.patch > 0 && grid.height % grid.patch == 0 && grid.width % grid.patch == 0, "patch_embedding", "images ",
        images, " do not divide into patches of ", grid.patch);
  check(bias.shape() == Shape{width} && class_token.shape() == Shape{1, 1, width} &&
            positions.shape() == Shape{1, count + 1, width},
        "patch_embedding", "for ", count, " patches of width ", width, ": bias ", bias, ", class token ", class_token,
        ", positions ", positions);
  for (const Variable* parameter : {&weight, &bias, &class_token, &positions})
    check(parameter->dtype() == wide(images.dtype()), "patch_embedding", "dtypes do not fit: images ", images,
          ", parameter ", *parameter);
  check_same_device("patch_embedding",
                    {images.data(), weight.data(), bias.data(), class_token.data(), positions.data()});
  const Tensor x = images.data(), w = weight.data().to(images.dtype());
  const Tensor patches = Tensor::empty({grid.batch * count, grid.size()}, x.dtype(), x.device());
  const Tensor y = Tensor::empty({grid.batch, count + 1, width}, x.dtype(), x.device());
  const int64_t flops = 2 * grid.batch * count * grid.size() * width;
  OpScope::computes(flops);
  OpScope::touches(patches);
  dispatch("patch_embedding", x, [&]<class T>(auto context, Type<T>) {
    patchify<T>(context, grid, x.data<T>(), patches.data<T>());
    const Tensor projected = Tensor::empty({grid.batch * count, width}, x.dtype(), x.device());
    gemm<T>(context, grid.batch * count, width, grid.size(), 1, {patches.data<T>(), grid.size()},
            {w.data<T>(), grid.size(), true}, 0, {projected.data<T>(), width});
    assemble_tokens<T>(context, grid.batch, count, width, projected.data<T>(), bias.data().data<Wide<T>>(),
                       class_token.data().data<Wide<T>>(), positions.data().data<Wide<T>>(), y.data<T>());
  });
  return Variable::from_op(
      "patch_embedding", y, {images, weight, bias, class_token, positions},
      [patches, w, grid, width, count, flops](const Tensor& dy, GradientSink& sink) {
        dispatch(dy, [&]<class T>(auto context, Type<T>) {
          const int64_t token_row = (count + 1) * width, m = grid.batch * count;
          Tensor dpositions = Tensor::empty({1, count + 1, width}, wide(dy.dtype()), dy.device());
          bias_backward<T>(context, {dy.data<T>(), grid.batch, token_row}, dpositions.data<Wide<T>>());
          // The class token is added once per sample at row 0, so its gradient is that row of the position gradient.
          sink.add(3, dpositions.reshape({count + 1, 1, width}).rows_view(0, 1).reshape({1, 1, width}).clone());
          sink.add(4, dpositions);
          Tensor dprojected = Tensor::empty({m, width}, dy.dtype(), dy.device());
          const auto block = static_cast<size_t>(count * width) * sizeof(T);
          copy_blocks(context, dy.raw() + static_cast<size_t>(width) * sizeof(T),
                      static_cast<size_t>(token_row) * sizeof(T), dprojected.raw(), block, block, grid.batch);
          if (sink.needs(0)) {
            OpScope::computes(flops);
            OpScope::touches(w);
            const Tensor dpatches = empty_like(patches);
            gemm<T>(context, m, grid.size(), width, 1, {dprojected.data<T>(), width}, {w.data<T>(), grid.size()}, 0,
                    {dpatches.data<T>(), grid.size()});
            Tensor dx = Tensor::empty({grid.batch, grid.channels, grid.height, grid.width}, dy.dtype(), dy.device());
            unpatchify<T>(context, grid, dpatches.data<T>(), dx.data<T>());
            sink.add(0, std::move(dx));
          }
          Tensor db;
          if (sink.needs(2)) db = Tensor::empty({width}, wide(dy.dtype()), dy.device());
          if (sink.needs(1)) {
            OpScope::computes(flops);
            OpScope::touches(patches);
            Tensor dw = Tensor::empty(w.shape(), wide(dy.dtype()), dy.device());
            weight_backward<T>(context, m, grid.size(), width, dprojected.data<T>(), patches.data<T>(),
                               dw.data<Wide<T>>(), sink.needs(2) ? db.data<Wide<T>>() : nullptr);
            sink.add(1, std::move(dw));
          } else if (sink.needs(2)) {
            bias_backward<T>(context, {dprojected.data<T>(), m, width}, db.data<Wide<T>>());
          }
          if (sink.needs(2)) sink.add(2, std::move(db));
        });
      });
}

}  // namespace duet::ops
