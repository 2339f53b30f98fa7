#include "duet/core/safetensors.h"

#include "duet/tests/fuzz/fuzz.h"

// A .safetensors file. What opens must be consistent: every tensor lies within the data, and loads or is refused.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace duet;
  fuzz::allow_errors([&] {
    const auto file = SafetensorsFile::parse(std::string(fuzz::as_text(data, size)), "model.safetensors");
    size_t bytes = 0;
    for (const std::string& name : file.names()) {
      const std::string_view content = file.bytes(name);
      bytes += content.size();
      fuzz::allow_errors([&] {
        const Tensor tensor = file.load(name);
        // Half precision is widened; everything else keeps its bytes.
        const size_t factor = file.entry(name).dtype == "F16" ? 2 : 1;
        fuzz::require(tensor.bytes() == factor * content.size(), "a tensor has the bytes of its entry");
      });
    }
    fuzz::require(bytes <= size, "tensors do not overlap");
  });
  return 0;
}
