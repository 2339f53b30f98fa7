#include "duet/train/options.h"

#include <cmath>

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
  f("dtype", o.dtype);
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
    if (!json.contains(name) || json[name].is_null()) return;
    // The JSON library also turns true into a number, which is not meant.
    check(Json(value) == json[name], "options", "--", name, " does not take the value ", json[name].dump());
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
  for_each_option(*this, [&]<class T>(const char* name, const T& value) {
    if constexpr (std::is_floating_point_v<T>) want(std::isfinite(value), name, value, "must be a finite number");
  });
  constexpr int64_t most = 1'000'000'000;  // keeps every product of two counts within 64 bits
  want((epochs > 0 || steps > 0) && epochs <= 1e6, "epochs", epochs, "must be positive, and at most a million");
  want(steps >= 0 && steps <= most, "steps", steps, "must be in [0, 1e9]");
  want(batch > 0 && batch <= most, "batch", batch, "must be in [1, 1e9]");
  want(accumulate > 0 && accumulate <= most, "accumulate", accumulate, "must be in [1, 1e9]");
  want(lr >= 0 && lr < 100, "lr", lr, "must be in [0, 100)");
  want(head_lr >= 0 && head_lr < 100, "head-lr", head_lr, "must be in [0, 100)");
  want(weight_decay >= 0, "weight-decay", weight_decay, "must not be negative");
  want(beta2 >= 0 && beta2 < 1, "beta2", beta2, "must be in [0, 1)");
  want(warmup >= 0 && warmup <= static_cast<double>(most), "warmup", warmup, "must be in [0, 1e9]");
  want(clip >= 0, "clip", clip, "must not be negative");
  want(label_smoothing >= 0 && label_smoothing < 1, "label-smoothing", label_smoothing, "must be in [0, 1)");
  const int count = workers.count.value_or(0);
  want(count >= 0 && count <= most_workers, "workers", count, "must be auto or in [0, 256]");
  want(keep >= 1, "keep", keep, "must be at least 1");
  want(save_every >= 0, "save-every", save_every, "must not be negative");
  want(eval_every >= 0, "eval-every", eval_every, "must not be negative");
  want(patience >= 0, "patience", patience, "must not be negative");
  want(mask_probability > 0 && mask_probability < 1, "mask-probability", mask_probability, "must be in (0, 1)");
  want(dtype == "float32" || dtype == "bfloat16", "dtype", dtype, "must be float32 or bfloat16");
  parse_schedule(schedule);
  parse_augment(augment);
}

}  // namespace duet::train
