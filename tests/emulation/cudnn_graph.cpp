// Reads cuDNN's operation graphs and computes them, one operation after the other.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <set>
#include <unordered_map>

#include "duet/core/dtype.h"
#include "duet/core/error.h"
#include "duet/tests/emulation/cudnn_backend.h"
#include "duet/tests/emulation/runtime.h"

namespace duet::emulation {
namespace {

using Dims = std::array<int64_t, 4>;
using Values = std::vector<double>;  // of a tensor, row-major

void require(bool ok, const std::string& reason) {
  if (!ok) refuse(CUDNN_STATUS_BAD_PARAM, reason);
}

GraphTensor tensor(const Backend& b) {
  require(b.type == CUDNN_BACKEND_TENSOR_DESCRIPTOR && b.finalized, "a tensor is no finalized tensor descriptor");
  GraphTensor t;
  t.id = b.get<int64_t>(CUDNN_ATTR_TENSOR_UNIQUE_ID);
  t.type = b.get<cudnnDataType_t>(CUDNN_ATTR_TENSOR_DATA_TYPE);
  const auto dims = b.all<int64_t>(CUDNN_ATTR_TENSOR_DIMENSIONS), strides = b.all<int64_t>(CUDNN_ATTR_TENSOR_STRIDES);
  if (dims.size() != 4 || strides.size() != 4) refuse(CUDNN_STATUS_NOT_SUPPORTED, "tensors of other than 4 dimensions");
  for (size_t i = 0; i < 4; ++i) {
    require(dims[i] > 0, text("tensor ", t.id, " has dimension ", dims[i]));
    t.dims[i] = dims[i];
    t.strides[i] = strides[i];
  }
  t.inside = b.has(CUDNN_ATTR_TENSOR_IS_VIRTUAL) && b.get<bool>(CUDNN_ATTR_TENSOR_IS_VIRTUAL);
  t.by_value = b.has(CUDNN_ATTR_TENSOR_IS_BY_VALUE) && b.get<bool>(CUDNN_ATTR_TENSOR_IS_BY_VALUE);
  return t;
}

GraphOperation operation(const Backend& b) {
  GraphOperation op{b.type};
  const auto input = [&](int name) { op.inputs.push_back(tensor(b.backend(name))); };
  const auto output = [&](int name) { op.outputs.push_back(tensor(b.backend(name))); };
  switch (b.type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR: {
      const Backend& setting = b.backend(CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR);
      op.mode = setting.get<cudnnPointwiseMode_t>(CUDNN_ATTR_POINTWISE_MODE);
      if (op.mode == CUDNN_POINTWISE_GEN_INDEX) op.axis = setting.get<int64_t>(CUDNN_ATTR_POINTWISE_AXIS);
      input(CUDNN_ATTR_OPERATION_POINTWISE_XDESC);
      for (const int name : {CUDNN_ATTR_OPERATION_POINTWISE_BDESC, CUDNN_ATTR_OPERATION_POINTWISE_TDESC})
        if (b.has(name)) input(name);
      output(CUDNN_ATTR_OPERATION_POINTWISE_YDESC);
      for (const GraphTensor& x : op.inputs)
        for (size_t i = 0; i < 4; ++i)
          require(x.dims[i] == op.outputs[0].dims[i] || x.dims[i] == 1,
                  text("pointwise tensor ", x.id, " does not fit tensor ", op.outputs[0].id));
      break;
    }
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: {
      input(CUDNN_ATTR_OPERATION_MATMUL_ADESC);
      input(CUDNN_ATTR_OPERATION_MATMUL_BDESC);
      output(CUDNN_ATTR_OPERATION_MATMUL_CDESC);
      int place = 0;
      for (const int name :
           {CUDNN_ATTR_OPERATION_MATMUL_GEMM_M_OVERRIDE_DESC, CUDNN_ATTR_OPERATION_MATMUL_GEMM_N_OVERRIDE_DESC,
            CUDNN_ATTR_OPERATION_MATMUL_GEMM_K_OVERRIDE_DESC}) {
        if (b.has(name)) {
          op.extents[static_cast<size_t>(place)] = static_cast<int>(op.inputs.size());
          input(name);
          require(
              op.inputs.back().dims == Dims{op.inputs[0].dims[0], 1, 1, 1} && op.inputs.back().type == CUDNN_DATA_INT32,
              "an extent of a matmul must be int32 (B, 1, 1, 1)");
        }
        ++place;
      }
      const Dims &x = op.inputs[0].dims, &y = op.inputs[1].dims, &z = op.outputs[0].dims;
      require(x[0] == y[0] && x[1] == y[1] && x[3] == y[2] && z == Dims{x[0], x[1], x[2], y[3]},
              text("matmul of tensors ", op.inputs[0].id, " and ", op.inputs[1].id, " does not fit"));
      break;
    }
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR:
      op.mode =
          b.backend(CUDNN_ATTR_OPERATION_REDUCTION_DESC).get<cudnnReduceTensorOp_t>(CUDNN_ATTR_REDUCTION_OPERATOR);
      input(CUDNN_ATTR_OPERATION_REDUCTION_XDESC);
      output(CUDNN_ATTR_OPERATION_REDUCTION_YDESC);
      for (size_t i = 0; i < 4; ++i)
        require(op.outputs[0].dims[i] == op.inputs[0].dims[i] || op.outputs[0].dims[i] == 1, "a reduction's shape");
      break;
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR:
      input(CUDNN_ATTR_OPERATION_RESHAPE_XDESC);
      output(CUDNN_ATTR_OPERATION_RESHAPE_YDESC);
      require(op.inputs[0].count() == op.outputs[0].count(), "a reshape changes the number of elements");
      break;
    case CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR:
      require(b.get<cudnnBackendNormMode_t>(CUDNN_ATTR_OPERATION_NORM_FWD_MODE) == CUDNN_LAYER_NORM &&
                  b.get<cudnnBackendNormFwdPhase_t>(CUDNN_ATTR_OPERATION_NORM_FWD_PHASE) == CUDNN_NORM_FWD_TRAINING,
              "norms other than layer norm in training are not emulated");
      for (const int name : {CUDNN_ATTR_OPERATION_NORM_FWD_XDESC, CUDNN_ATTR_OPERATION_NORM_FWD_SCALE_DESC,
                             CUDNN_ATTR_OPERATION_NORM_FWD_BIAS_DESC, CUDNN_ATTR_OPERATION_NORM_FWD_EPSILON_DESC})
        input(name);
      for (const int name : {CUDNN_ATTR_OPERATION_NORM_FWD_YDESC, CUDNN_ATTR_OPERATION_NORM_FWD_MEAN_DESC,
                             CUDNN_ATTR_OPERATION_NORM_FWD_INV_VARIANCE_DESC})
        output(name);
      break;
    case CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR:
      require(b.get<cudnnBackendNormMode_t>(CUDNN_ATTR_OPERATION_NORM_BWD_MODE) == CUDNN_LAYER_NORM,
              "norms other than layer norm are not emulated");
      for (const int name : {CUDNN_ATTR_OPERATION_NORM_BWD_XDESC, CUDNN_ATTR_OPERATION_NORM_BWD_SCALE_DESC,
                             CUDNN_ATTR_OPERATION_NORM_BWD_MEAN_DESC, CUDNN_ATTR_OPERATION_NORM_BWD_INV_VARIANCE_DESC,
                             CUDNN_ATTR_OPERATION_NORM_BWD_DYDESC})
        input(name);
      for (const int name : {CUDNN_ATTR_OPERATION_NORM_BWD_DXDESC, CUDNN_ATTR_OPERATION_NORM_BWD_DSCALE_DESC,
                             CUDNN_ATTR_OPERATION_NORM_BWD_DBIAS_DESC})
        output(name);
      break;
    default:
      refuse(CUDNN_STATUS_NOT_SUPPORTED, text("operations of descriptor type ", static_cast<int>(b.type)));
  }
  if (b.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR ||
      b.type == CUDNN_BACKEND_OPERATION_NORM_BACKWARD_DESCRIPTOR) {
    const Dims &x = op.inputs[0].dims, parameter{1, x[1], x[2], x[3]}, statistic{x[0], 1, 1, 1};
    const bool forward = b.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR;
    const std::vector<Dims> in = forward ? std::vector<Dims>{x, parameter, parameter, {1, 1, 1, 1}}
                                         : std::vector<Dims>{x, parameter, statistic, statistic, x};
    const std::vector<Dims> out =
        forward ? std::vector<Dims>{x, statistic, statistic} : std::vector<Dims>{x, parameter, parameter};
    for (size_t i = 0; i < in.size(); ++i) require(op.inputs[i].dims == in[i], "the shapes of a layer norm");
    for (size_t i = 0; i < out.size(); ++i) require(op.outputs[i].dims == out[i], "the shapes of a layer norm");
  }
  return op;
}

size_t bytes_of(cudnnDataType_t type) {
  if (type == CUDNN_DATA_BFLOAT16) return 2;
  require(type == CUDNN_DATA_FLOAT || type == CUDNN_DATA_INT32, "tensors in memory are float, bfloat16 or int32");
  return 4;
}

double rounded(cudnnDataType_t type, double value) {
  if (type == CUDNN_DATA_BFLOAT16) return static_cast<double>(static_cast<float>(bf16(static_cast<float>(value))));
  return type == CUDNN_DATA_FLOAT ? static_cast<double>(static_cast<float>(value)) : value;
}

// Calls f(place, index): an element's place in row-major order and in memory.
template <class F>
void for_elements(const GraphTensor& t, F f) {
  int64_t place = 0;
  for (int64_t a = 0; a < t.dims[0]; ++a)
    for (int64_t b = 0; b < t.dims[1]; ++b)
      for (int64_t c = 0; c < t.dims[2]; ++c)
        for (int64_t d = 0; d < t.dims[3]; ++d)
          f(static_cast<size_t>(place++), a * t.strides[0] + b * t.strides[1] + c * t.strides[2] + d * t.strides[3]);
}

// Checks the elements of memory that `wanted` holds, neighbours together.
bool access(const GraphTensor& t, const void* memory, bool write, const std::function<bool(size_t)>& wanted) {
  std::vector<int64_t> places;
  for_elements(t, [&](size_t place, int64_t index) {
    if (wanted(place)) places.push_back(index);
  });
  std::sort(places.begin(), places.end());
  const auto size = static_cast<int64_t>(bytes_of(t.type));
  for (size_t i = 0; i < places.size();) {
    size_t end = i + 1;
    while (end < places.size() && places[end] == places[end - 1] + 1) ++end;
    const char* from = static_cast<const char*>(memory) + places[i] * size;
    if (!access_range(from, (end - i) * static_cast<size_t>(size), write)) return false;
    i = end;
  }
  return true;
}

bool read(const GraphTensor& t, const void* memory, Values& values) {
  if (!access(t, memory, false, [](size_t) { return true; })) return false;
  values.resize(static_cast<size_t>(t.count()));
  for_elements(t, [&](size_t place, int64_t index) {
    if (t.type == CUDNN_DATA_BFLOAT16)
      values[place] = static_cast<double>(static_cast<float>(static_cast<const bf16*>(memory)[index]));
    else if (t.type == CUDNN_DATA_FLOAT)
      values[place] = static_cast<double>(static_cast<const float*>(memory)[index]);
    else
      values[place] = static_cast<double>(static_cast<const int32_t*>(memory)[index]);
  });
  return true;
}

// Elements that `computed` leaves out keep what the memory holds.
bool write(const GraphTensor& t, void* memory, const Values& values, const std::vector<bool>& computed) {
  const auto wanted = [&](size_t place) { return computed.empty() || computed[place]; };
  if (!access(t, memory, true, wanted)) return false;
  for_elements(t, [&](size_t place, int64_t index) {
    if (!wanted(place)) return;
    if (t.type == CUDNN_DATA_BFLOAT16)
      static_cast<bf16*>(memory)[index] = bf16(static_cast<float>(values[place]));
    else
      static_cast<float*>(memory)[index] = static_cast<float>(values[place]);
  });
  return true;
}

double pointwise(int mode, double x, double b, double t) {
  switch (mode) {
    case CUDNN_POINTWISE_ADD:
      return x + b;
    case CUDNN_POINTWISE_SUB:
      return x - b;
    case CUDNN_POINTWISE_MUL:
      return x * b;
    case CUDNN_POINTWISE_DIV:
      return x / b;
    case CUDNN_POINTWISE_EXP:
      return std::exp(x);
    case CUDNN_POINTWISE_LOG:
      return std::log(x);
    case CUDNN_POINTWISE_IDENTITY:
      return x;
    case CUDNN_POINTWISE_CMP_LT:
      return x < b;
    case CUDNN_POINTWISE_LOGICAL_AND:
      return x != 0 && b != 0;
    case CUDNN_POINTWISE_BINARY_SELECT:
      return t != 0 ? x : b;
    default:
      refuse(CUDNN_STATUS_NOT_SUPPORTED, text("pointwise mode ", mode));
  }
}

// Where a tensor of dimensions `dims` has the element (a, b, c, d), repeated along dimensions of one.
size_t place_in(const Dims& dims, int64_t a, int64_t b, int64_t c, int64_t d) {
  const auto at = [&](size_t i, int64_t index) { return dims[i] == 1 ? 0 : index; };
  return static_cast<size_t>(((at(0, a) * dims[1] + at(1, b)) * dims[2] + at(2, c)) * dims[3] + at(3, d));
}

template <class F>
void for_indices(const Dims& n, F f) {
  for (int64_t a = 0; a < n[0]; ++a)
    for (int64_t b = 0; b < n[1]; ++b)
      for (int64_t c = 0; c < n[2]; ++c)
        for (int64_t d = 0; d < n[3]; ++d) f(a, b, c, d);
}

// The operation's outputs from its inputs; `computed` stays empty where every element is.
std::vector<Values> compute(const GraphOperation& op, const std::vector<const Values*>& in,
                            std::vector<bool>& computed) {
  std::vector<Values> out;
  for (const GraphTensor& y : op.outputs) out.emplace_back(static_cast<size_t>(y.count()));
  const Dims& x = op.inputs[0].dims;
  switch (op.type) {
    case CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR:
      for_indices(op.outputs[0].dims, [&](int64_t a, int64_t b, int64_t c, int64_t d) {
        const auto value = [&](size_t i) {
          return i < in.size() ? (*in[i])[place_in(op.inputs[i].dims, a, b, c, d)] : 0;
        };
        const std::array<int64_t, 4> index{a, b, c, d};
        out[0][place_in(op.outputs[0].dims, a, b, c, d)] =
            op.mode == CUDNN_POINTWISE_GEN_INDEX ? static_cast<double>(index[static_cast<size_t>(op.axis)])
                                                 : pointwise(op.mode, value(0), value(1), value(2));
      });
      break;
    case CUDNN_BACKEND_OPERATION_MATMUL_DESCRIPTOR: {
      const int64_t m = x[2], k = x[3], n = op.inputs[1].dims[3];
      std::fill(out[0].begin(), out[0].end(), std::numeric_limits<double>::quiet_NaN());
      computed.assign(out[0].size(), false);
      for (int64_t batch = 0; batch < x[0] * x[1]; ++batch) {
        const auto valid = [&](size_t which, int64_t whole) {
          const int extent = op.extents[which];
          if (extent < 0) return whole;
          const double value = (*in[static_cast<size_t>(extent)])[static_cast<size_t>(batch / x[1])];
          return std::clamp(static_cast<int64_t>(value), int64_t{0}, whole);
        };
        const int64_t rows = valid(0, m), columns = valid(1, n), depth = valid(2, k);
        for (int64_t i = 0; i < rows; ++i) {
          double* to = out[0].data() + (batch * m + i) * n;
          std::fill_n(to, columns, 0.0);
          std::fill_n(computed.begin() + (batch * m + i) * n, columns, true);
          for (int64_t l = 0; l < depth; ++l) {
            const double left = (*in[0])[static_cast<size_t>((batch * m + i) * k + l)];
            const double* right = in[1]->data() + (batch * k + l) * n;
            for (int64_t j = 0; j < columns; ++j) to[j] += left * right[j];
          }
        }
      }
      break;
    }
    case CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR: {
      const bool largest = op.mode == CUDNN_REDUCE_TENSOR_MAX;
      if (!largest && op.mode != CUDNN_REDUCE_TENSOR_ADD) refuse(CUDNN_STATUS_NOT_SUPPORTED, "the reduction");
      if (largest) std::fill(out[0].begin(), out[0].end(), -std::numeric_limits<double>::infinity());
      for_indices(x, [&](int64_t a, int64_t b, int64_t c, int64_t d) {
        double& total = out[0][place_in(op.outputs[0].dims, a, b, c, d)];
        const double value = (*in[0])[place_in(x, a, b, c, d)];
        total = largest ? std::max(total, value) : total + value;
      });
      break;
    }
    case CUDNN_BACKEND_OPERATION_RESHAPE_DESCRIPTOR: {
      std::unordered_map<int64_t, double> memory;
      for_elements(op.inputs[0], [&](size_t place, int64_t index) { memory[index] = (*in[0])[place]; });
      for_elements(op.outputs[0], [&](size_t place, int64_t index) { out[0][place] = memory.at(index); });
      break;
    }
    default: {
      const bool forward = op.type == CUDNN_BACKEND_OPERATION_NORM_FORWARD_DESCRIPTOR;
      const auto rows = static_cast<size_t>(x[0]), width = static_cast<size_t>(x[1] * x[2] * x[3]);
      const Values &values = *in[0], &scale = *in[1];
      for (size_t r = 0; r < rows; ++r) {
        const double* row = values.data() + r * width;
        if (forward) {
          const double mean = std::accumulate(row, row + width, 0.0) / static_cast<double>(width);
          double squares = 0;
          for (size_t c = 0; c < width; ++c) squares += (row[c] - mean) * (row[c] - mean);
          const double rstd = 1 / std::sqrt(squares / static_cast<double>(width) + (*in[3])[0]);
          for (size_t c = 0; c < width; ++c) out[0][r * width + c] = (row[c] - mean) * rstd * scale[c] + (*in[2])[c];
          out[1][r] = mean;
          out[2][r] = rstd;
          continue;
        }
        const double mean = (*in[2])[r], rstd = (*in[3])[r];
        const double* dy = in[4]->data() + r * width;
        double sum = 0, products = 0;
        for (size_t c = 0; c < width; ++c) {
          const double normal = (row[c] - mean) * rstd;
          sum += dy[c] * scale[c];
          products += dy[c] * scale[c] * normal;
          out[1][c] += dy[c] * normal;
          out[2][c] += dy[c];
        }
        for (size_t c = 0; c < width; ++c)
          out[0][r * width + c] =
              rstd * (dy[c] * scale[c] - (sum + (row[c] - mean) * rstd * products) / static_cast<double>(width));
      }
    }
  }
  return out;
}

}  // namespace

std::vector<GraphOperation> read_graph(const Backend& graph) {
  std::vector<GraphOperation> operations;
  std::set<int64_t> known;
  for (const auto& node : graph.at(CUDNN_ATTR_OPERATIONGRAPH_OPS).backends) {
    require(node->finalized, "an operation is not finalized");
    operations.push_back(operation(*node));
    for (const GraphTensor& x : operations.back().inputs)
      require(!x.inside || known.contains(x.id), text("tensor ", x.id, " is read before an operation makes it"));
    for (const GraphTensor& y : operations.back().outputs)
      require(known.insert(y.id).second, text("two operations make tensor ", y.id));
  }
  return operations;
}

void run_graph(const std::vector<GraphOperation>& operations, const std::map<int64_t, void*>& pointers,
               const std::map<int64_t, float>& scalars) {
  std::map<int64_t, Values> values;
  for (const GraphOperation& op : operations) {
    std::vector<const Values*> in;
    for (const GraphTensor& x : op.inputs) {
      auto found = values.find(x.id);
      if (found == values.end()) {
        Values& fresh = values[x.id];
        if (x.by_value)
          fresh = {static_cast<double>(scalars.at(x.id))};
        else if (!read(x, pointers.at(x.id), fresh))
          return;
        found = values.find(x.id);
      }
      in.push_back(&found->second);
    }
    std::vector<bool> computed;
    std::vector<Values> out = compute(op, in, computed);
    for (size_t i = 0; i < out.size(); ++i) {
      const GraphTensor& y = op.outputs[i];
      for (double& value : out[i]) value = rounded(y.type, value);
      if (!y.inside && !write(y, pointers.at(y.id), out[i], computed)) return;
      values[y.id] = std::move(out[i]);
    }
  }
}

}  // namespace duet::emulation
