#include "duet/tools/training_options.h"

#include <iostream>

#include "duet/core/numerics.h"
#include "duet/tools/arguments.h"
#include "duet/tools/machine.h"
#include "duet/tools/workers_option.h"
#include "duet/train/interrupt.h"

namespace duet::tools {

void TrainingCommand::add_to(CLI::App& command) {
  train::TrainOptions& o = stage.options;
  size_option = command.add_option("--size", size, "Size of encoders that start from scratch: mini, tiny or base")
                    ->capture_default_str();
  command.add_option("--vision-config", vision_config, "JSON file with ViT settings, instead of --size");
  command.add_option("--text-config", text_config, "JSON file with BERT settings, instead of --size");
  command
      .add_option("--image-size", stage.from.image_size,
                  "Side of the images of a pretrained vision encoder, whose position embeddings are resampled; 0 = its "
                  "own")
      ->capture_default_str()
      ->check(not_negative);
  command
      .add_option("--interpolation", interpolation,
                  "How --image-size resamples positions: hf (as Transformers) or timm (antialiased)")
      ->capture_default_str();
  command
      .add_option("--text-pooling", text_pooling,
                  "What a fine-tuned classifier over images and texts takes from BERT: its pooler, or the mean of the "
                  "tokens, which suits sentence encoders")
      ->capture_default_str();
  command.add_option("--vocab", stage.vocab, "WordPiece vocabulary for a text encoder from scratch (see duet vocab)");
  command.add_flag("--resume", stage.resume,
                   "Continue from the newest good checkpoint under --out, or start if there is none");
  command.add_option("--epochs", o.epochs, "Passes over the training split")->capture_default_str();
  command.add_option("--steps", o.steps, "Optimizer steps, instead of --epochs");
  command.add_option("--batch", o.batch, "Samples per micro-batch")->capture_default_str();
  command.add_option("--accumulate", o.accumulate, "Micro-batches per optimizer step")->capture_default_str();
  command.add_option("--lr", o.lr, "Peak learning rate (AdamW)")->capture_default_str();
  command.add_option("--head-lr", o.head_lr, "Peak learning rate of the new head; 0 = --lr")->capture_default_str();
  command.add_option("--weight-decay", o.weight_decay, "Decoupled; not on biases and norms")->capture_default_str();
  command.add_option("--beta2", o.beta2, "Adam's second decay rate")->capture_default_str();
  command.add_option("--warmup", o.warmup, "Steps of linear warmup, or a fraction of all steps when below 1")
      ->capture_default_str();
  command.add_option("--schedule", o.schedule, "constant, linear or cosine")->capture_default_str();
  command.add_option("--clip", o.clip, "Largest gradient norm; 0 = off")->capture_default_str();
  command.add_option("--label-smoothing", o.label_smoothing, "In [0, 1)")->capture_default_str();
  command.add_flag("--class-weights", o.class_weights, "Weigh classes by inverse frequency");
  command.add_option("--freeze", o.freeze, "Do not train parameters matching these patterns, e.g. 'vision_model.*'");
  command.add_option("--dropout", stage.dropout, "For both encoders and the head; negative = as their config says")
      ->capture_default_str();
  command
      .add_option("--augment", o.augment, "none, or basic: images cropped and flipped at random, texts cut to parts")
      ->capture_default_str();
  command.add_option("--shuffle", o.shuffle, "Shuffle the training split in every epoch")->capture_default_str();
  add_workers_option(command, o.workers);
  command.add_option("--save-every", o.save_every, "Steps between checkpoints; 0 = with each evaluation")
      ->capture_default_str();
  command.add_option("--keep", o.keep, "Newest checkpoints to keep, besides the best")->capture_default_str();
  command.add_option("--eval-every", o.eval_every, "Steps between validations; 0 = each epoch")->capture_default_str();
  command.add_option("--patience", o.patience, "Stop after this many validations without gain; 0 = never")
      ->capture_default_str();
  command.add_flag("--recompute", o.recompute, "Recompute activations in the backward pass: less memory, more time");
  command.add_option("--mask-probability", o.mask_probability, "Share of tokens masked for --objective mlm")
      ->capture_default_str();
  command.add_option("--seed", o.seed, "Of initial weights, order, dropout and augmentation")
      ->check(not_negative)  // otherwise -1 would become 2^64 - 1
      ->capture_default_str();
  command.add_option("--max-length", stage.input.max_length, "Tokens per text, special ones included")
      ->capture_default_str();
  fit_option = command.add_option("--fit", fit, "Make images square by pad (white) or stretch")->capture_default_str();
  command.add_option("--max-pixels", max_pixels, "Refuse larger images; 0 = one gigapixel");
  command.add_option("--on-bad-sample", on_bad_sample, "stop, or skip: leave it out, count it and name it")
      ->capture_default_str();
  command.add_option("--device", device, "cpu, cuda or cuda:INDEX")->capture_default_str();
  command.add_option("--dtype", o.dtype, "Of activations: float32 or bfloat16")->capture_default_str();
  command.add_option("--threads", threads, "Compute threads; 0 = one per core")->capture_default_str();
  command.add_flag("--graphs,!--no-graphs", stage.graphs,
                   "On a GPU: record a step and repeat it while the shapes of batches stay the same");
  command.add_option("--trace", trace,
                     "File to write a time line of the second to fifth step (of the first stage) to, as JSON for "
                     "Perfetto or chrome://tracing");
  command.add_flag("--tf32", numerics().tf32, "On a GPU: round the operands of float32 products to 10 bits, for speed");
  command.add_flag("--deterministic,!--no-deterministic", deterministic, "Same seed, same bits (always so on the CPU)");
}

void TrainingCommand::check_values() const {
  stage.options.validate();
  device_named(device);
  check(fit == "pad" || fit == "stretch", "options", "--fit ", fit, ": use pad or stretch");
  check(interpolation == "hf" || interpolation == "timm", "options", "--interpolation ", interpolation,
        ": use hf or timm");
  check(text_pooling == "pooler" || text_pooling == "mean", "options", "--text-pooling ", text_pooling,
        ": use pooler or mean");
  check(on_bad_sample == "stop" || on_bad_sample == "skip", "options", "--on-bad-sample ", on_bad_sample,
        ": use stop or skip");
  check(threads >= 0 && threads <= 4096, "options", "--threads ", threads, ": must be in [0, 4096]");
  check(max_pixels >= 0, "options", "--max-pixels ", max_pixels, ": must not be negative");
  check(stage.input.max_length >= 3, "options", "--max-length ", stage.input.max_length, ": must be at least 3");
  train::preset_size(size);
}

void TrainingCommand::prepare() {
  try {
    check_values();
  } catch (const Error& e) {
    throw UsageError(e.what());
  }
  stage.device = parse_device(device);  // a missing device is no usage error
  stage.options.dtype = usable_dtype(stage.device, stage.options.dtype);
  numerics().deterministic = deterministic;
  use_threads(threads);
  stage.input.steps.fit = fit == "pad" ? train::Fit::pad : train::Fit::stretch;
  stage.input.on_bad_sample = on_bad_sample == "stop" ? train::BadSample::stop : train::BadSample::skip;
  if (max_pixels > 0) stage.input.decode.max_pixels = max_pixels;
  stage.from.positions = interpolation == "timm" ? models::Interpolation::timm : models::Interpolation::hugging_face;
  if (text_pooling == "mean") stage.text_pooling = models::ClassifierConfig::TextPooling::mean;
  stage.size = train::preset_size(size);
  if (!vision_config.empty()) stage.size.vision = models::VitConfig::from_json(read_json(vision_config));
  if (!text_config.empty()) stage.size.text = models::BertConfig::from_json(read_json(text_config));
  stage.command = command_line();
  std::cerr << "device    " << device_description(stage.device) << '\n';
  if (!trace.empty()) stage.trace = std::make_shared<TraceFile>(trace, stage.device);
  train::catch_interrupts();
}

}  // namespace duet::tools
