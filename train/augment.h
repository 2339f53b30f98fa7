#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "duet/core/philox.h"
#include "duet/train/image.h"

namespace duet::train {

// `basic`: a random crop and a mirror image, made for drawings on a white ground. The image is padded with white by a
// sixteenth of each side, a window of 80 to 100 % of the unpadded size (the same share of both sides, so shapes keep
// their ratio) is cut out anywhere within, scaled back to the original size (bilinear), and with probability 1/2
// flipped left to right. So the subject moves, grows up to 1.25 times, and loses an edge now and then. Lettering in the
// image is mirrored as well.
enum class Augment { none, basic };

// Throws Error listing the known names.
Augment parse_augment(const std::string& name);

// A function of the image, the kind and the key alone. The size stays.
Image augment(const Image& image, Augment kind, RandomKey key);

// The same for the token ids of a text, whose first ([CLS]) and last ([SEP]) stay. `basic`: with probability 1/2 only
// one of the parts between breaks remains (of "goose : a water bird" either "goose" or "a water bird"); then each token
// is left out with probability 0.1, but never the last one there is. So a model trained on dictionary entries learns
// what the bare words mean, which is what titles consist of, and no single word decides. `breaks` tells of each token
// id whether it ends a part.
std::vector<int32_t> augment_tokens(std::span<const int32_t> ids, Augment kind, RandomKey key,
                                    const std::vector<bool>& breaks);

// Whether a token ends a part of a text: one of . , : ; ! ? ( )
bool is_break(std::string_view token);

}  // namespace duet::train
