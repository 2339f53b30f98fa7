#include <cublasLt.h>
#include <gtest/gtest.h>

#include <fstream>
#include <string>

#include "duet/core/error.h"
#include "duet/cuda/cublaslt_library.h"

namespace duet::cuda {
namespace {

bool loaded(const std::string& library) {
  std::ifstream maps("/proc/self/maps");
  for (std::string line; std::getline(maps, line);)
    if (line.find(library) != std::string::npos) return true;
  return false;
}

// 150 MB and a tenth of a second that a command on the CPU does without.
TEST(CublasLt, IsLoadedWithTheFirstCall) {
  EXPECT_FALSE(loaded("libcublasLt"));
  EXPECT_EQ(cublasLtGetVersion() / 10000, static_cast<size_t>(CUBLAS_VER_MAJOR));
  EXPECT_TRUE(loaded("libcublasLt"));
  EXPECT_NE(std::string(cublasLtGetStatusString(CUBLAS_STATUS_NOT_SUPPORTED)), "");
}

TEST(CublasLt, SaysWhyItCannotBeLoaded) {
  std::string message;
  try {
    open_library({"libnone-of-this-name.so", "/nowhere/libcublasLt.so.13"});
  } catch (const Error& error) {
    message = error.what();
  }
  for (const char* part : {"libnone-of-this-name.so", "/nowhere/libcublasLt.so.13", "LD_LIBRARY_PATH", "--device cpu"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
}

}  // namespace
}  // namespace duet::cuda
