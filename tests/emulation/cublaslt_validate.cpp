// What cublasLt refuses, after the cuBLAS 13 manual and the comments of cublasLt.h.
#include <cstdlib>
#include <utility>

#include "duet/core/error.h"
#include "duet/tests/emulation/cublaslt_product.h"

namespace duet::emulation {

namespace {

std::string describe(const char* name, const Layout& x) {
  return text(name, " (", x.rows, ", ", x.columns, "), leading dimension ", x.leading, ", type ", x.type, ", ",
              x.batches, " batches");
}

cublasStatus_t validate_layout(const char* name, const Layout& x) {
  if (x.order != CUBLASLT_ORDER_COL && x.order != CUBLASLT_ORDER_ROW) return unsupported(text("order of ", name));
  if (x.type != CUDA_R_32F && x.type != CUDA_R_16BF) return unsupported(describe(name, x));
  const uint64_t inner = x.order == CUBLASLT_ORDER_COL ? x.rows : x.columns;
  const uint64_t outer = x.order == CUBLASLT_ORDER_COL ? x.columns : x.rows;
  if (inner == 0 || outer == 0 || x.batches < 1 || x.leading < static_cast<int64_t>(inner)) {
    return invalid(describe(name, x));
  }
  const bool overlap =
      std::abs(x.batch_stride) < x.leading * static_cast<int64_t>(outer - 1) + static_cast<int64_t>(inner);
  if (x.batches > 1 && overlap && name[0] == 'd') return invalid(text(describe(name, x), ", which overlap"));
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t validate_epilogue(const Product& p) {
  const Description& o = p.operation;
  switch (o.epilogue) {
    case CUBLASLT_EPILOGUE_DEFAULT:
      return CUBLAS_STATUS_SUCCESS;
    case CUBLASLT_EPILOGUE_BIAS:
    case CUBLASLT_EPILOGUE_GELU:
    case CUBLASLT_EPILOGUE_GELU_BIAS:
    case CUBLASLT_EPILOGUE_GELU_AUX:
    case CUBLASLT_EPILOGUE_GELU_AUX_BIAS:
    case CUBLASLT_EPILOGUE_DGELU:
    case CUBLASLT_EPILOGUE_DGELU_BGRAD:
    case CUBLASLT_EPILOGUE_BGRADA:
    case CUBLASLT_EPILOGUE_BGRADB:
      break;
    default:
      return unsupported(text("epilogue ", o.epilogue));
  }
  if (p.a.order != CUBLASLT_ORDER_COL || p.b.order != CUBLASLT_ORDER_COL || p.d.order != CUBLASLT_ORDER_COL) {
    return unsupported("an epilogue with row-major matrices");
  }
  if (uses_bias_pointer(o.epilogue)) {
    if (!o.bias) return invalid("the epilogue needs BIAS_POINTER");
    if (o.bias_type != -1 && o.bias_type != p.d.type) return unsupported("a bias of another type than D");
    if (reinterpret_cast<uintptr_t>(o.bias) % bytes_of(p.d.type) != 0) return invalid("the bias is misaligned");
    if (o.bias_batch_stride != 0 || (p.d.batches > 1 && !adds_bias(o.epilogue)))
      return unsupported("a bias for each batch");
  }
  if (stores_aux(o.epilogue) || is_dgelu(o.epilogue)) {
    if (!o.aux) return invalid("the epilogue needs EPILOGUE_AUX_POINTER");
    if (o.aux_type != -1 && o.aux_type != p.d.type) return unsupported("an aux matrix of another type than D");
    if (reinterpret_cast<uintptr_t>(o.aux) % 16 != 0)
      return invalid("EPILOGUE_AUX_POINTER is not a multiple of 16 bytes");
    if (o.aux_leading % 8 != 0 || o.aux_leading < p.m) {
      return invalid(text("EPILOGUE_AUX_LD ", o.aux_leading, " is not a multiple of 8 of at least ", p.m, " rows"));
    }
    if (p.d.batches > 1 && (o.aux_batch_stride % 8 != 0 || o.aux_batch_stride < o.aux_leading * p.n)) {
      return invalid(text("EPILOGUE_AUX_BATCH_STRIDE ", o.aux_batch_stride));
    }
  }
  return CUBLAS_STATUS_SUCCESS;
}

}  // namespace

cublasStatus_t validate(Product& p) {
  const Description& o = p.operation;
  if (o.scale != CUDA_R_32F) return unsupported("scale types other than f32");
  const bool tf32 = o.compute == CUBLAS_COMPUTE_32F_FAST_TF32;
  if (o.compute != CUBLAS_COMPUTE_32F && !tf32) return unsupported(text("compute type ", o.compute));
  for (const auto& [name, layout] :
       {std::pair{"a", &p.a}, std::pair{"b", &p.b}, std::pair{"c", &p.c}, std::pair{"d", &p.d}}) {
    if (const auto status = validate_layout(name, *layout); status != CUBLAS_STATUS_SUCCESS) return status;
  }
  for (int32_t op : {o.transpose_a, o.transpose_b}) {
    if (op != CUBLAS_OP_N && op != CUBLAS_OP_T && op != CUBLAS_OP_C) return invalid(text("transposition ", op));
  }
  const std::string all =
      text(describe("a", p.a), "; ", describe("b", p.b), "; ", describe("c", p.c), "; ", describe("d", p.d));
  const bool ta = o.transpose_a != CUBLAS_OP_N, tb = o.transpose_b != CUBLAS_OP_N;
  p.m = static_cast<int64_t>(ta ? p.a.columns : p.a.rows);
  p.k = static_cast<int64_t>(ta ? p.a.rows : p.a.columns);
  p.n = static_cast<int64_t>(tb ? p.b.rows : p.b.columns);
  const auto k_of_b = static_cast<int64_t>(tb ? p.b.columns : p.b.rows);
  if (p.k != k_of_b || p.d.rows != static_cast<uint64_t>(p.m) || p.d.columns != static_cast<uint64_t>(p.n) ||
      p.c.rows != p.d.rows || p.c.columns != p.d.columns) {
    return invalid(text("sizes differ: ", all, ", transposed ", ta, " ", tb));
  }
  if (p.a.batches != p.d.batches || p.b.batches != p.d.batches || p.c.batches != p.d.batches) {
    return invalid(text("batch counts differ: ", all));
  }
  if (p.c.order != p.d.order) return unsupported("C and D of different order");
  const bool types =
      p.a.type == p.b.type && p.c.type == p.d.type && (p.a.type == CUDA_R_16BF ? !tf32 : p.d.type == CUDA_R_32F);
  if (!types) return unsupported(text("types: ", all));
  return validate_epilogue(p);
}

}  // namespace duet::emulation
