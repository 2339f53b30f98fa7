#pragma once

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/tests/integration/process.h"
#include "duet/train/image.h"

namespace duet::testing {

// A data set that trains in a second: 42 images of 16 x 16 pixels in three colours with two words each, a vocabulary,
// and settings for encoders with a few thousand weights.
class TinyData {
 public:
  TinyData() {
    make_directories(path() + "/images");
    for (const auto& [split, per_class] : std::map<std::string, int>{{"train", 8}, {"val", 2}, {"test", 4}})
      for (int i = 0; i < per_class; ++i)
        for (size_t label = 0; label < labels.size(); ++label) add(split, label, i);
    write_manifest();
    write("dataset.json", R"({"name": "tiny", "labels": ["red", "green", "blue"]})");
    write_file_atomically(vision_config(), R"({"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "image_size": 16, "patch_size": 8})");
    write_file_atomically(text_config(), R"({"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
        "intermediate_size": 32, "max_position_embeddings": 16})");
    const Finished f = run({"vocab", "--data", path(), "--out", vocab(), "--vocab-size", "100"});
    check(f.status == 0, "test", "duet vocab failed: ", f.err);
  }

  std::string path() const { return root_ / "data"; }
  std::string vocab() const { return root_ / "vocab.txt"; }
  std::string vision_config() const { return root_ / "vision.json"; }
  std::string text_config() const { return root_ / "text.json"; }
  std::string operator/(const std::string& name) const { return root_ / name; }

  void write(const std::string& name, const std::string& bytes) const {
    write_file_atomically(path() + "/" + name, bytes);
  }
  // The manifest's rows, to be changed and written again.
  std::vector<Json> rows;
  void write_manifest() const {
    std::string bytes;
    for (const Json& row : rows) bytes += row.dump() + "\n";
    write("manifest.jsonl", bytes);
  }

  // `command` with all that a tiny run needs but does not find in `more`, which comes last.
  std::vector<std::string> training(std::vector<std::string> command, const std::string& out,
                                    const std::vector<std::string>& more = {}) const {
    const std::vector<std::pair<std::string, std::string>> settings{{"--data", path()},
                                                                    {"--out", out},
                                                                    {"--vision-config", vision_config()},
                                                                    {"--text-config", text_config()},
                                                                    {"--vocab", vocab()},
                                                                    {"--max-length", "8"},
                                                                    {"--batch", "4"},
                                                                    {"--threads", "1"},
                                                                    {"--workers", "1"}};
    for (const auto& [option, value] : settings)
      if (std::find(more.begin(), more.end(), option) == more.end()) command.insert(command.end(), {option, value});
    command.insert(command.end(), more.begin(), more.end());
    return command;
  }
  // Fine-tuning of both parts from scratch.
  std::vector<std::string> finetuning(const std::string& out, const std::vector<std::string>& more = {}) const {
    return training({"finetune", "--strategy", "concat-scratch"}, out, more);
  }

  const std::vector<std::string> labels{"red", "green", "blue"};

 private:
  void add(const std::string& split, size_t label, int i) {
    static const std::vector<std::string> things{"cup", "hat", "box", "car"};
    train::Image image{16, 16, std::vector<uint8_t>(16 * 16 * 3, static_cast<uint8_t>(20 * i))};
    for (size_t p = 0; p < 16 * 16; ++p) image.rgb[3 * p + label] = static_cast<uint8_t>(200 + i + p % 16);
    const std::string id = split + "-" + labels[label] + "-" + std::to_string(i), file = "images/" + id + ".png";
    write(file, train::encode_png(image));
    rows.push_back({{"id", id},
                    {"image", file},
                    {"text", labels[label] + " " + things[static_cast<size_t>(i) % things.size()]},
                    {"label", labels[label]},
                    {"split", split}});
  }

  TemporaryDirectory root_;
};

// The JSON objects of a file or output with one a line.
inline std::vector<Json> json_lines(const std::string& bytes) {
  std::vector<Json> all;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = std::min(bytes.find('\n', begin), bytes.size());
    all.push_back(parse_json(std::string_view(bytes).substr(begin, end - begin), "line"));
    begin = end + 1;
  }
  return all;
}

// metrics.jsonl without the wall-clock values.
inline std::string timeless_metrics(const std::string& run) {
  std::string bytes;
  for (Json& line : json_lines(read_file(run + "/metrics.jsonl"))) {
    line.erase("time");
    bytes += line.dump() + "\n";
  }
  return bytes;
}

inline std::string weights(const std::string& run) {
  return read_file(run + "/model/model.safetensors");
}

}  // namespace duet::testing
