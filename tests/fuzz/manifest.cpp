#include <set>

#include "duet/tests/fuzz/fuzz.h"
#include "duet/train/dataset.h"

// dataset.json, a zero byte, and manifest.jsonl; without a zero byte the manifest alone.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace duet;
  const std::string_view input = fuzz::as_text(data, size);
  const size_t zero = input.find('\0');
  train::DatasetText source{.directory = "data"};
  if (zero != input.npos) source.description = input.substr(0, zero);
  source.manifest = zero == input.npos ? input : input.substr(zero + 1);
  source.image_bytes = [](const std::string& image, const std::string& at) -> uint64_t {
    check(image.size() % 7 != 0, "dataset", at, ": cannot find image ", image);
    return image.size();
  };
  for (const auto on_bad_sample : {train::BadSample::stop, train::BadSample::skip})
    fuzz::allow_errors([&] {
      const train::Dataset dataset = train::Dataset::parse(source, {.on_bad_sample = on_bad_sample});
      const auto labels = static_cast<int>(dataset.labels().size());
      std::set<std::string> ids;
      for (const train::Sample& sample : dataset.samples()) {
        fuzz::require(ids.insert(sample.id).second, "ids are unique");
        fuzz::require(sample.label >= -1 && sample.label < labels, "labels are in range");
        fuzz::require(sample.has_text || sample.has_image(), "a sample has a part");
        fuzz::require(train::is_split_name(sample.split), "the split has a name");
        if (sample.has_image()) (void)dataset.image_path(sample);
      }
    });
  return 0;
}
