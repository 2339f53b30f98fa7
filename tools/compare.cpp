#include "duet/train/compare.h"

#include <iostream>

#include "duet/tools/arguments.h"
#include "duet/tools/machine.h"
#include "duet/tools/training_options.h"
#include "duet/train/report.h"

namespace duet::tools {
namespace {

struct CompareCommand : TrainingCommand {
  train::CompareConfig compare;
  std::string data;
};

// Stage-1 options that often differ from the fine-tuning ones; everything else is shared.
void add_stage_options(CLI::App& app, const std::string& name, const std::string& what, train::TrainOptions& o,
                       std::optional<double>& dropout) {
  app.add_option("--" + name + "-epochs", o.epochs, what + ": epochs")->capture_default_str();
  app.add_option("--" + name + "-steps", o.steps, what + ": optimizer steps, instead of epochs");
  app.add_option("--" + name + "-batch", o.batch, what + ": batch size")->capture_default_str();
  app.add_option("--" + name + "-lr", o.lr, what + ": peak learning rate")->capture_default_str();
  app.add_option("--" + name + "-eval-every", o.eval_every, what + ": steps between validations; 0 = each epoch")
      ->capture_default_str();
  app.add_option("--" + name + "-augment", o.augment, what + ": none or basic")->capture_default_str();
  app.add_option("--" + name + "-dropout", dropout, what + ": dropout; default: --dropout");
}

// Takes over from the shared options what has no option of its own per stage.
void share(const train::TrainOptions& from, train::TrainOptions& to) {
  const train::TrainOptions own = to;
  to = from;
  to.epochs = own.epochs;
  to.steps = own.steps;
  to.batch = own.batch;
  to.lr = own.lr;
  to.eval_every = own.eval_every;
  to.augment = own.augment;
  to.accumulate = 1;
  to.head_lr = 0;
  to.freeze.clear();
  to.patience = 0;
  to.label_smoothing = 0;
  to.class_weights = false;
}

}  // namespace

void add_compare_command(CLI::App& app) {
  CLI::App* command =
      app.add_subcommand("compare", "Both strategies and their baselines over seeds: report.html and report.json");
  const auto c = std::make_shared<CompareCommand>();
  command->add_option("--data", c->data, "Dataset directory of the task: image + text -> label")->required();
  command
      ->add_option("--out", c->compare.out, "Directory to write; finished parts in it are not repeated with --resume")
      ->required();
  command->add_option("--seeds", c->compare.seeds, "Number of seeds")->capture_default_str()->check(positive);
  command->add_option("--fractions", c->compare.fractions, "Shares of the training labels, e.g. 0.1,0.3,1")
      ->delimiter(',')
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  command->add_option("--methods", c->compare.methods, "Subset of whole,component,image-only,text-only,concat-scratch")
      ->delimiter(',')
      ->check(CLI::IsMember(train::all_methods));
  command->add_flag("--share-pretraining", c->compare.share_pretraining,
                    "Pretrain once instead of once per seed; the report says so");
  command->add_option("--vision-data", c->compare.vision_data,
                      "Labelled images for component pretraining; default: the task's");
  command->add_option("--text-data", c->compare.text_data, "Texts for component pretraining; default: the task's");
  command->add_option("--joint-data", c->compare.joint_data,
                      "Image-text pairs for joint pretraining; default: the task's, without labels");
  command->add_option("--text-objective", c->compare.text_objective, "label or mlm")
      ->capture_default_str()
      ->check(CLI::IsMember({"label", "mlm"}));
  command->add_option("--vision", c->compare.vision_from,
                      "component: take this pretrained vision model instead of pretraining one");
  command->add_option("--text", c->compare.text_from,
                      "component: take this pretrained text model instead of pretraining one");
  command->add_option("--joint", c->compare.joint_from,
                      "whole: take this jointly pretrained model instead of pretraining one");
  command->add_flag("--keep-checkpoints", c->compare.keep_checkpoints, "Keep the checkpoints of finished parts");
  add_stage_options(*command, "vision", "vision pretraining", c->compare.vision, c->compare.vision_dropout);
  add_stage_options(*command, "text", "text pretraining", c->compare.text, c->compare.text_dropout);
  add_stage_options(*command, "joint", "joint pretraining", c->compare.joint, c->compare.joint_dropout);
  c->add_to(*command);
  command->callback([c] {
    for (std::string* source : {&c->compare.vision_from, &c->compare.text_from, &c->compare.joint_from})
      if (!source->empty()) *source = models::find_model_directory(*source);
    c->prepare();
    c->stage.data = {c->data};
    c->compare.finetune = c->stage;
    for (train::TrainOptions* o : {&c->compare.vision, &c->compare.text, &c->compare.joint})
      share(c->stage.options, *o);
    c->compare.machine = device_description(c->stage.device);
    c->compare.size_name = c->size;
    c->compare.version = DUET_VERSION;
    const Json report = train::compare(c->compare, c->stage.resume);
    std::cout << train::comparison_table(report) << "\nreport    " << c->compare.out << "/report.html\n"
              << "data      " << c->compare.out << "/report.json\n";
  });
}

}  // namespace duet::tools
