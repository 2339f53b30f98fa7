#pragma once

#include <functional>
#include <map>
#include <string>

#include "duet/core/json.h"
#include "duet/core/safetensors.h"
#include "duet/models/bert.h"
#include "duet/models/param_store.h"
#include "duet/tests/device.h"

// Comparison of whole models with fixtures/NAME, which make_fixtures.py made from PyTorch and Hugging Face
// Transformers: config.json and model.safetensors as they write them, expected.safetensors with inputs and results.
namespace duet::golden {

class Fixture {
 public:
  explicit Fixture(const std::string& name);

  const std::string& directory() const { return directory_; }
  const Json& config() const { return config_; }
  const Json& settings() const { return settings_; }  // of the training steps
  const SafetensorsFile& expected() const { return expected_; }
  // On the device under test.
  Tensor input(const std::string& name) const { return expected_.load("input." + name).to(testing::device()); }
  Variable images(DType dtype) const { return Variable(input("pixel_values").to(dtype)); }
  models::TextInput text() const;  // ids, type ids and the padding mask

 private:
  std::string directory_;
  Json config_, settings_;
  SafetensorsFile expected_;
};

// What a forward pass yields by the fixture's names; "loss" must be among them.
using Outputs = std::map<std::string, Variable>;

// The largest difference must not exceed tolerance * scale, where scale 0 stands for the largest expected magnitude.
void expect_close(const Tensor& actual, const Tensor& expected, double tolerance, const std::string& what,
                  double scale = 0);

// Loads the fixture's weights by Hugging Face key; none may be missing or left over. Moves them to the device under
// test.
void load_weights(models::ParamStore& store, const Fixture& fixture);

// Compares all outputs, all gradients by Hugging Face key, and the losses and gradient norms of AdamW steps with
// no-decay groups, clipping and a linear warmup.
void compare(models::ParamStore& store, const Fixture& fixture, double tolerance,
             const std::function<Outputs()>& forward);

}  // namespace duet::golden
