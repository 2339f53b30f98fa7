#pragma once

#include "duet/core/json.h"
#include "duet/train/image_steps.h"

namespace duet::train {

// What a preprocessor_config.json of Hugging Face's ViTImageProcessor or CLIPImageProcessor asks for, old and new
// spellings; absent keys have the defaults of the class that the file names, ViTImageProcessor's without a name. Our
// own key duet_fit says "pad" or "stretch". Everything that would change a pixel and is not supported is refused by
// name, so that a model never gets other inputs than it learned. `source` names the file in errors.
//
// Images always become RGB, whatever do_convert_rgb says: the classes that leave it off fail for anything else.
ImageSteps read_image_processor(const Json& config, const std::string& source);

// What timm's evaluation transform does, from the pretrained_cfg in its config.json: the shorter side to
// floor(side / crop_pct), then the middle.
ImageSteps read_timm_processor(const Json& pretrained_cfg, const std::string& source);

// What torchvision's ImageNet weights (V1) of a model for `side` pixels expect: the shorter side to side * 256 / 224,
// bilinear, then the middle, with ImageNet's mean and deviation.
ImageSteps torchvision_processor(int side);

// The file that read_image_processor turns into these steps again; `side` is the size of pad and stretch where the
// steps name none.
Json write_image_processor(const ImageSteps& steps, int side);

}  // namespace duet::train
