#include <iostream>

#include "duet/models/hub.h"
#include "duet/tools/arguments.h"
#include "duet/tools/training_options.h"
#include "duet/train/progress.h"

namespace duet::tools {
namespace {

struct FinetuneCommand : TrainingCommand {
  std::string strategy, joint, vision, text_model, data;
  double fraction = 1;
};

// Which parts a strategy has and, in c.stage.from, where they start; missing or surplus options are errors, never
// ignored.
train::FinetuneParts parts_of(FinetuneCommand& c) {
  const auto refuse = [&](const std::string& value, const char* option) {
    check_usage(value.empty(), "finetune", option, " does not go with --strategy ", c.strategy);
  };
  train::FinetuneParts parts;
  if (c.strategy == "whole") {
    check_usage(!c.joint.empty(), "finetune", "--strategy whole needs --joint DIR, a jointly pretrained model");
    refuse(c.vision, "--vision");
    refuse(c.text_model, "--text");
    c.stage.from.vision = c.stage.from.text = models::find_model_directory(c.joint);
    return parts;
  }
  refuse(c.joint, "--joint");
  if (c.strategy == "component") {
    check_usage(!c.vision.empty() && !c.text_model.empty(), "finetune",
                "--strategy component needs --vision DIR and --text DIR, separately pretrained models");
  } else if (c.strategy == "concat-scratch") {
    refuse(c.vision, "--vision");
    refuse(c.text_model, "--text");
  } else if (c.strategy == "image-only") {
    refuse(c.text_model, "--text");
    parts.text = false;
  } else if (c.strategy == "text-only") {
    refuse(c.vision, "--vision");
    parts.image = false;
  } else {
    check_usage(false, "finetune", "unknown --strategy \"", c.strategy,
                "\"; use whole, component, image-only, text-only or concat-scratch");
  }
  if (!c.vision.empty()) c.stage.from.vision = models::find_model_directory(c.vision);
  if (!c.text_model.empty()) c.stage.from.text = models::find_model_directory(c.text_model);
  return parts;
}

}  // namespace

void add_finetune_command(CLI::App& app) {
  CLI::App* command = app.add_subcommand("finetune", "Stage 2: fine-tune on the labelled task");
  const auto c = std::make_shared<FinetuneCommand>();
  command
      ->add_option("--strategy", c->strategy, "whole, component, or a baseline: image-only, text-only, concat-scratch")
      ->required();
  command->add_option("--data", c->data, "Dataset directory of the task")->required();
  command->add_option("--out", c->stage.out, "Run directory to write")->required();
  command->add_option("--joint", c->joint,
                      "Jointly pretrained model directory, a run's or a VisionTextDualEncoder (strategy whole)");
  command->add_option(
      "--vision", c->vision,
      "Pretrained vision model directory: a run's, or ViT as Transformers, torchvision or timm save it");
  command->add_option("--text", c->text_model,
                      "Pretrained text model directory: a run's, or BERT as Transformers saves it");
  command->add_option("--fraction", c->fraction, "Share of the training labels to use, per class")
      ->capture_default_str();
  c->add_to(*command);
  command->callback([c] {
    check_usage(c->fraction > 0 && c->fraction <= 1, "finetune", "--fraction ", c->fraction, ": must be in (0, 1]");
    const train::FinetuneParts parts = parts_of(*c);
    check_usage(c->stage.from.vision.empty() || c->fit_option->count() == 0, "finetune",
                "--fit does not go with a pretrained vision model, whose images are prepared as it learned them");
    check_usage(c->stage.from.image_size == 0 || !c->stage.from.vision.empty(), "finetune",
                "--image-size is for a pretrained vision encoder; from scratch use --vision-config");
    // Notes and no errors: scripts pass both to all their stages.
    const bool text_scratch = parts.text && c->stage.from.text.empty();
    const bool sized = (parts.image && c->stage.from.vision.empty() && c->vision_config.empty()) ||
                       (text_scratch && c->text_config.empty());
    if (!c->stage.vocab.empty() && !text_scratch)
      std::cerr << "note: --vocab is not used, it is for a text encoder from scratch\n";
    if (c->size_option->count() > 0 && !sized)
      std::cerr << "note: --size is not used, it is for encoders from scratch without a configuration file\n";
    c->stage.data = {c->data};
    c->stage.label = "finetune " + c->strategy;
    c->prepare();
    const train::FinetuneResult result = train::finetune(c->stage, parts, c->fraction);
    std::cout << "trained   " << result.training.steps << " steps in "
              << train::format_duration(result.training.seconds) << '\n';
    if (!result.test.is_null())
      std::cout << "test      accuracy " << result.test["accuracy"] << ", macro F1 " << result.test["macro_f1"] << '\n';
    std::cout << "model     " << c->stage.out << "/model\n";
  });
}

}  // namespace duet::tools
