#include <iostream>

#include "duet/tools/training_options.h"
#include "duet/train/progress.h"

namespace duet::tools {
namespace {

void print_result(const train::StageConfig& stage, const train::StageResult& result) {
  std::cout << "trained   " << result.steps << " steps, " << result.samples_seen << " samples, "
            << train::format_duration(result.seconds) << ", best at step " << result.best_step << '\n'
            << "model     " << stage.out << "/model\n";
}

void add_common(CLI::App* command, const std::shared_ptr<TrainingCommand>& options) {
  command->add_option("--data", options->stage.data, "Dataset directory with manifest.jsonl")->required();
  command->add_option("--out", options->stage.out, "Run directory to write")->required();
  options->add_to(*command);
}

// Where the encoders of a first stage may start.
void add_sources(CLI::App* command, const std::shared_ptr<TrainingCommand>& options, bool vision, bool text) {
  if (vision)
    command->add_option("--vision", options->stage.from.vision,
                        "Start from this vision model: a run's, or ViT as Transformers, torchvision or timm save it");
  if (text)
    command->add_option("--text", options->stage.from.text,
                        "Start from this text model: a run's, or BERT as Transformers saves it");
}

void find_sources(TrainingCommand& options) {
  for (std::string* source : {&options.stage.from.vision, &options.stage.from.text})
    if (!source->empty()) *source = models::find_model_directory(*source);
}

}  // namespace

void add_pretrain_command(CLI::App& app) {
  CLI::App* pretrain =
      app.add_subcommand("pretrain", "Stage 1: pretrain a vision encoder, a text encoder, or both jointly");
  pretrain->require_subcommand(1);
  const auto options = std::make_shared<TrainingCommand>();
  const auto objective = std::make_shared<std::string>("label");

  CLI::App* vision = pretrain->add_subcommand("vision", "ViT on labelled images (cross entropy)");
  add_common(vision, options);
  add_sources(vision, options, true, false);
  vision->callback([options] {
    options->stage.label = "pretrain vision";
    find_sources(*options);
    options->prepare();
    print_result(options->stage, train::pretrain_vision(options->stage));
  });

  CLI::App* text = pretrain->add_subcommand("text", "BERT on text: labels, or masked-language modelling");
  add_common(text, options);
  add_sources(text, options, false, true);
  text->add_option("--objective", *objective, "label or mlm")->capture_default_str();
  text->callback([options, objective] {
    options->stage.label = "pretrain text";
    find_sources(*options);
    options->prepare();
    print_result(options->stage, train::pretrain_text(options->stage, *objective));
  });

  CLI::App* joint = pretrain->add_subcommand("joint", "Both on image-text pairs without labels (symmetric InfoNCE)");
  add_common(joint, options);
  add_sources(joint, options, true, true);
  joint->callback([options] {
    options->stage.label = "pretrain joint";
    find_sources(*options);
    options->prepare();
    print_result(options->stage, train::pretrain_joint(options->stage));
  });
}

}  // namespace duet::tools
