#include "duet/train/options.h"

#include "duet/train/augment.h"

namespace duet::train {
namespace {

// One list of the options serves both directions.
template <class Options, class F>
void for_each_option(Options& o, F&& f) {
  f("seed", o.seed);
  f("epochs", o.epochs);
  f("steps", o.steps);
  f("batch", o.batch);
  f("accumulate", o.accumulate);
  f("lr", o.lr);
  f("head-lr", o.head_lr);
  f("weight-decay", o.weight_decay);
  f("beta2", o.beta2);
  f("warmup", o.warmup);
  f("schedule", o.schedule);
  f("clip", o.clip);
  f("label-smoothing", o.label_smoothing);
  f("class-weights", o.class_weights);
  f("freeze", o.freeze);
  f("augment", o.augment);
  f("shuffle", o.shuffle);
  f("workers", o.workers);
  f("save-every", o.save_every);
  f("keep", o.keep);
  f("eval-every", o.eval_every);
  f("patience", o.patience);
  f("recompute", o.recompute);
  f("mask-probability", o.mask_probability);
}

}  // namespace

Json TrainOptions::to_json() const {
  Json json = Json::object();
  for_each_option(*this, [&](const char* name, const auto& value) { json[name] = value; });
  return json;
}

void TrainOptions::update(const Json& json) {
  check(json.is_object(), "options", "training options must be an object, got ", json.dump());
  size_t known = 0;
  for_each_option(*this, [&](const char* name, auto& value) {
    known += json.count(name);
    value = json_get(json, name, value);
  });
  if (known != json.size()) {
    const Json all = to_json();
    for (const auto& [key, value] : json.items()) check(all.contains(key), "options", "unknown option \"", key, "\"");
  }
  validate();
}

void TrainOptions::validate() const {
  const auto want = [](bool ok, const char* option, const auto& value, const char* rule) {
    check(ok, "options", "--", option, " ", value, ": ", rule);
  };
  want(epochs > 0 || steps > 0, "epochs", epochs, "must be positive");
  want(steps >= 0, "steps", steps, "must not be negative");
  want(batch > 0, "batch", batch, "must be positive");
  want(accumulate > 0, "accumulate", accumulate, "must be positive");
  want(lr >= 0 && lr < 100, "lr", lr, "must be in [0, 100)");
  want(head_lr >= 0 && head_lr < 100, "head-lr", head_lr, "must be in [0, 100)");
  want(weight_decay >= 0, "weight-decay", weight_decay, "must not be negative");
  want(beta2 >= 0 && beta2 < 1, "beta2", beta2, "must be in [0, 1)");
  want(warmup >= 0, "warmup", warmup, "must not be negative");
  want(clip >= 0, "clip", clip, "must not be negative");
  want(label_smoothing >= 0 && label_smoothing < 1, "label-smoothing", label_smoothing, "must be in [0, 1)");
  want(workers >= 0 && workers <= 256, "workers", workers, "must be in [0, 256]");
  want(keep >= 1, "keep", keep, "must be at least 1");
  want(save_every >= 0 && eval_every >= 0 && patience >= 0, "save-every", save_every, "must not be negative");
  want(mask_probability > 0 && mask_probability < 1, "mask-probability", mask_probability, "must be in (0, 1)");
  parse_schedule(schedule);
  parse_augment(augment);
}

}  // namespace duet::train
