#pragma once

#include <string>

#include "duet/train/image_steps.h"

namespace duet::train {

// Images out of IDX files (the MNIST family's format: magic, sizes, then raw bytes), gzip-compressed or not. A
// reference is `FILE#INDEX`; the part after the last '#' is an index when it is 1 to 9 digits and no file of the whole
// name exists. Anything else is a path to load_image. The pixels of IDX images are grey and become RGB.
//
// Files are decompressed once and kept, the least recently used going first when they exceed idx_cache_bytes;
// rewritten files are read anew. Thread-safe. Throws Error naming the file when it is missing, no IDX file of images,
// truncated, damaged, too large, or has no image of that index.
Image load_image_reference(const std::string& path, const DecodeOptions& options = {});

// fit_image(load_image_reference(path), ...), bit for bit, without holding a large image whole: see load_fitted.
Image load_fitted_reference(const std::string& path, const ImageSteps& steps, int side,
                            const DecodeOptions& options = {});

constexpr int64_t idx_cache_bytes = int64_t{256} << 20;
constexpr int64_t idx_largest_file_bytes = int64_t{1} << 30;  // decompressed

// For tests and diagnostics: what the cache holds now.
int64_t idx_cached_bytes();

}  // namespace duet::train
