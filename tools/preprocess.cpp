#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>

#include "duet/core/safetensors.h"
#include "duet/models/hub.h"
#include "duet/tools/arguments.h"
#include "duet/tools/commands.h"
#include "duet/train/idx.h"
#include "duet/train/image_processor.h"
#include "duet/train/processors.h"

namespace duet::tools {
namespace {

struct PreprocessCommand {
  std::string model, processor, list, output;
  std::vector<std::string> images;
  bool bytes = false;
  train::DecodeOptions decode;
};

// The files on the command line, then those of the list.
std::vector<std::string> image_paths(const PreprocessCommand& c) {
  std::vector<std::string> paths = c.images;
  if (!c.list.empty()) {
    std::error_code unreadable;  // the stream below tells
    check(!std::filesystem::is_directory(c.list, unreadable), "preprocess", c.list,
          " is a directory; --list takes a file with the path of an image on every line");
    std::ifstream lines(c.list);
    check(lines.is_open(), "preprocess", "cannot open ", c.list);
    for (std::string line; std::getline(lines, line);)
      if (!line.empty()) paths.push_back(line);
  }
  check(!paths.empty(), "preprocess", "there is no image in ", c.list);
  return paths;
}

void run_preprocess(const PreprocessCommand& c) {
  // A model without the file has its kind's way of preparing images.
  const train::ImageSteps steps = c.model.empty()
                                      ? train::read_image_processor(read_json(c.processor), c.processor)
                                      : train::Processors::load(models::find_model_directory(c.model)).input.steps;
  const std::vector<std::string> paths = image_paths(c);
  std::vector<std::pair<std::string, Tensor>> tensors;
  for (size_t i = 0; i < paths.size(); ++i) {
    // The processor's file names a size for every step that needs one.
    const train::Image image = train::load_fitted_reference(paths[i], steps, 0, c.decode);
    const Tensor pixels = Tensor::empty({3, image.height, image.width}, DType::f32);
    train::to_chw(image, steps, pixels.data<float>());
    tensors.emplace_back(text("pixels.", i), pixels);
    if (!c.bytes) continue;
    const Tensor bytes = Tensor::empty({image.height, image.width, 3}, DType::u8);
    std::copy(image.rgb.begin(), image.rgb.end(), bytes.data<uint8_t>());
    tensors.emplace_back(text("bytes.", i), bytes);
  }
  save_safetensors(c.output, tensors);
  std::cout << "images    " << paths.size() << "\nwritten   " << c.output << '\n';
}

}  // namespace

void add_preprocess_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand(
      "preprocess",
      "What a model sees of images: the tensors that a preprocessor_config.json makes of them, as safetensors\n"
      "with pixels.I, float32 (3, H, W), for the I-th image from 0 on");
  const auto c = std::make_shared<PreprocessCommand>();
  CLI::App* from = command->add_option_group("processor", "What to do");
  from->add_option("--model", c->model, "Model directory with preprocessor_config.json");
  from->add_option("--processor", c->processor, "A preprocessor_config.json");
  from->require_option(1);
  CLI::App* inputs = command->add_option_group("images", "Which images");
  inputs->add_option("--image", c->images, "PNG or JPEG files, or FILE.idx#INDEX");
  inputs->add_option("--list", c->list, "File with one path a line");
  inputs->require_option(1, 2);
  command->add_option("--output", c->output, "The .safetensors file to write")->required();
  command->add_flag("--bytes", c->bytes, "Also bytes.I, uint8 (H, W, 3): the image after resize and crop");
  command->add_flag("--white,!--no-white", c->decode.composite_on_white,
                    "Put transparent images on white (default), or drop alpha as Pillow's convert(\"RGB\") does");
  command->add_flag("--orient,!--no-orient", c->decode.apply_orientation, "Follow the EXIF orientation (default)");
  command->callback([c] { run_preprocess(*c); });
}

}  // namespace duet::tools
