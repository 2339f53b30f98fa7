#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <vector>

#include "duet/tests/fuzz/fuzz.h"

// Runs a target on every file of the given directories, in place of libFuzzer's main: what was found once stays fixed.
int main(int argc, char** argv) {
  size_t count = 0;
  for (int i = 1; i < argc; ++i) {
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator(argv[i])) files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
      std::cout << file.string() << std::endl;  // before it runs, for it may crash
      std::ifstream in(file, std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(in), {}};
      // A copy of the exact size, so that AddressSanitizer sees a read past the end.
      const std::vector<uint8_t> data(bytes.begin(), bytes.end());
      LLVMFuzzerTestOneInput(data.data(), data.size());
      ++count;
    }
  }
  if (count == 0) {
    std::cerr << "replay: there is no input to replay\n";
    return 1;
  }
  std::cout << "replayed  " << count << " inputs\n";
}
