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

}  // namespace

void add_pretrain_command(CLI::App& app) {
  CLI::App* pretrain =
      app.add_subcommand("pretrain", "Stage 1: pretrain a vision encoder, a text encoder, or both jointly");
  pretrain->require_subcommand(1);
  const auto options = std::make_shared<TrainingCommand>();
  const auto objective = std::make_shared<std::string>("label");

  CLI::App* vision = pretrain->add_subcommand("vision", "ViT on labelled images (cross entropy)");
  add_common(vision, options);
  vision->callback([options] {
    options->stage.label = "pretrain vision";
    options->prepare();
    print_result(options->stage, train::pretrain_vision(options->stage));
  });

  CLI::App* text = pretrain->add_subcommand("text", "BERT on text: labels, or masked-language modelling");
  add_common(text, options);
  text->add_option("--objective", *objective, "label or mlm")->capture_default_str();
  text->callback([options, objective] {
    options->stage.label = "pretrain text";
    options->prepare();
    print_result(options->stage, train::pretrain_text(options->stage, *objective));
  });

  CLI::App* joint = pretrain->add_subcommand("joint", "Both on image-text pairs without labels (symmetric InfoNCE)");
  add_common(joint, options);
  joint->callback([options] {
    options->stage.label = "pretrain joint";
    options->prepare();
    print_result(options->stage, train::pretrain_joint(options->stage));
  });
}

}  // namespace duet::tools
