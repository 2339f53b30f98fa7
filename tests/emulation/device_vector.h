// Device memory for tests.
#pragma once

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include <vector>

#include "duet/tests/emulation/emulation.h"

namespace duet::emulation {

template <class T>
class DeviceVector {
 public:
  explicit DeviceVector(size_t size) : size_(size) {
    EXPECT_EQ(cudaMalloc(reinterpret_cast<void**>(&data_), size * sizeof(T)), cudaSuccess);
  }
  DeviceVector(const std::vector<T>& values) : DeviceVector(values.size()) {
    EXPECT_EQ(cudaMemcpy(data_, values.data(), size_ * sizeof(T), cudaMemcpyHostToDevice), cudaSuccess);
  }
  DeviceVector(const DeviceVector&) = delete;
  ~DeviceVector() { cudaFree(data_); }
  T* get() const { return data_; }
  size_t size() const { return size_; }
  std::vector<T> values() const {
    std::vector<T> result(size_);
    EXPECT_EQ(cudaMemcpy(result.data(), data_, size_ * sizeof(T), cudaMemcpyDeviceToHost), cudaSuccess);
    return result;
  }

 private:
  T* data_ = nullptr;
  size_t size_;
};

// The fault that `call` must have caused, and that the call returned `code`.
#define EXPECT_FAULT(call, code, part)                             \
  do {                                                             \
    EXPECT_EQ(call, code);                                         \
    const std::string message_ = duet::emulation::take_error();    \
    EXPECT_NE(message_.find(part), std::string::npos) << message_; \
  } while (false)

}  // namespace duet::emulation
