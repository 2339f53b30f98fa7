#include <cmath>
#include <vector>

#include "duet/tests/fuzz/fuzz.h"
#include "duet/train/image_processor.h"

// preprocessor_config.json: what is accepted must survive being written, and work on an image.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace duet;
  fuzz::allow_errors([&] {
    const train::ImageSteps steps =
        train::read_image_processor(parse_json(fuzz::as_text(data, size), "preprocessor_config.json"), "test");
    const Json written = train::write_image_processor(steps, 8);
    fuzz::require(train::write_image_processor(train::read_image_processor(written, "again"), 8) == written,
                  "a processor reads back as it was written");
    const auto at_most = [](const std::optional<train::ImageInfo>& s) {
      return !s || int64_t{s->width} * s->height <= 1 << 14;
    };
    if (!at_most(steps.size) || !at_most(steps.crop) || steps.shortest_edge > 128) return;  // right, but slow
    train::Image image{5, 3, {}};
    for (int i = 0; i < 5 * 3 * 3; ++i) image.rgb.push_back(static_cast<uint8_t>(i * 37));
    image = train::fit_image(image, steps, 8);
    const auto expected = train::output_size(steps, 8);
    fuzz::require(!expected || (expected->width == image.width && expected->height == image.height),
                  "the result has the size that was foretold");
    std::vector<float> out(image.rgb.size());
    train::to_chw(image, steps, out.data());
    for (const float value : out) fuzz::require(std::isfinite(value), "every value is finite");
  });
  return 0;
}
