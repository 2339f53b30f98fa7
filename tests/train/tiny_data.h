#pragma once

#include <cstring>
#include <fstream>
#include <memory>

#include "duet/core/json.h"
#include "duet/core/philox.h"
#include "duet/models/dual_encoder.h"
#include "duet/tests/train/expect.h"
#include "duet/train/loader.h"

// A generated dataset small enough to train on in milliseconds, and encoders to match.
namespace duet::train {

// Images of 16 by 16 pixels, left half one colour and right half another, with some noise, and texts of two words.
// Colours and first words tell the three classes apart; class 2 is half as frequent as the others.
inline const std::vector<std::string> tiny_vocabulary{"[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "red",  "green",
                                                      "blue",  "round", "flat",  "old",   "new",    "thin", "wide"};

inline void write_tiny_dataset(const std::string& directory, int train, int val, int test) {
  std::filesystem::create_directories(directory + "/images");
  std::ofstream manifest(directory + "/manifest.jsonl");
  std::ofstream(directory + "/dataset.json") << R"({"name": "tiny", "labels": ["a", "b", "c"]})";
  std::ofstream vocabulary(directory + "/vocab.txt");
  for (const std::string& token : tiny_vocabulary) vocabulary << token << '\n';
  Random random(RandomKey{1, 0});
  const char* labels[] = {"a", "b", "c", "a", "b"};
  for (int i = 0; i < train + val + test; ++i) {
    const std::string label = labels[i % 5];
    const auto c = static_cast<size_t>(label[0] - 'a');
    Image image{16, 16, {}};
    for (int p = 0; p < 16 * 16; ++p)
      for (size_t channel = 0; channel < 3; ++channel) {
        const bool bright = channel == (p % 16 < 8 ? c : (c + 1) % 3);
        image.rgb.push_back(static_cast<uint8_t>((bright ? 180 : 20) + random.below(60)));
      }
    const std::string id = text("s", i), name = "images/" + id + ".png";
    std::ofstream(directory + "/" + name, std::ios::binary) << encode_png(image);
    const Json line{{"id", id},
                    {"image", name},
                    {"text", tiny_vocabulary[5 + c] + " " + tiny_vocabulary[8 + random.below(6)]},
                    {"label", label},
                    {"split", i < train         ? "train"
                              : i < train + val ? "val"
                                                : "test"}};
    manifest << line.dump() << '\n';
  }
}

inline std::shared_ptr<const Tokenizer> tiny_tokenizer() {
  return std::make_shared<const Tokenizer>(Tokenizer::from_vocab(tiny_vocabulary));
}

inline models::DualEncoderConfig tiny_size() {
  models::DualEncoderConfig c;
  const auto shrink = [](models::EncoderConfig& e) {
    e.hidden_size = 16;
    e.num_hidden_layers = 2;
    e.num_attention_heads = 2;
    e.intermediate_size = 24;
    e.initializer_range = 0.2;
    e.hidden_dropout_prob = e.attention_probs_dropout_prob = 0;
  };
  shrink(c.vision);
  shrink(c.text);
  c.vision.image_size = 16;
  c.vision.patch_size = 8;
  c.text.vocab_size = static_cast<int64_t>(tiny_vocabulary.size());
  c.text.max_position_embeddings = 32;
  c.projection_dim = 8;
  return c;
}

inline std::shared_ptr<const SampleSource> tiny_source(const std::string& directory, const std::string& split,
                                                       InputConfig input = {}, int64_t cache_bytes = 1 << 20) {
  input.image_size = 16;
  const Dataset dataset = Dataset::open(directory);
  return std::make_shared<const SampleSource>(dataset, dataset.split(split), tiny_tokenizer(), input, cache_bytes);
}

inline bool same_bits(const Tensor& a, const Tensor& b) {
  return a.defined() == b.defined() &&
         (!a.defined() || (a.dtype() == b.dtype() && a.bytes() == b.bytes() && text(a.shape()) == text(b.shape()) &&
                           (a.bytes() == 0 || std::memcmp(a.raw(), b.raw(), a.bytes()) == 0)));
}

}  // namespace duet::train
