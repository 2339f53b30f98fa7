#include <gtest/gtest.h>

#include "duet/core/file.h"
#include "duet/core/json.h"
#include "duet/core/safetensors.h"
#include "duet/tests/tools/run_duet.h"

namespace duet::tools {
namespace {

void save_example(const std::string& path) {
  save_safetensors(path,
                   {{"weight", Tensor::zeros({3, 4}, DType::f32)},
                    {"ids", Tensor::zeros({5}, DType::i64)},
                    {"scale", Tensor::zeros({}, DType::f32)}},
                   {{"format", "pt"}, {"author", "nobody"}});
}

TEST(Inspect, FileAsJson) {
  const TemporaryDirectory directory;
  save_example(directory / "a.safetensors");
  const auto run = run_duet("inspect --json " + directory / "a.safetensors");
  ASSERT_EQ(run.status, 0) << run.err;
  const Json result = parse_json(run.out, "standard output");
  EXPECT_EQ(result["parameters"], 3 * 4 + 5 + 1);
  EXPECT_EQ(result["bytes"], 13 * 4 + 5 * 8);
  ASSERT_EQ(result["files"].size(), 1u);
  EXPECT_EQ(result["files"][0]["metadata"], (Json{{"author", "nobody"}, {"format", "pt"}}));
  // In the order of the data: larger elements first, then by name.
  EXPECT_EQ(result["files"][0]["tensors"],
            (Json{{{"name", "ids"}, {"dtype", "I64"}, {"shape", {5}}, {"bytes", 40}},
                  {{"name", "scale"}, {"dtype", "F32"}, {"shape", Json::array()}, {"bytes", 4}},
                  {{"name", "weight"}, {"dtype", "F32"}, {"shape", {3, 4}}, {"bytes", 48}}}));
}

TEST(Inspect, FileAsTable) {
  const TemporaryDirectory directory;
  save_example(directory / "a.safetensors");
  const auto run = run_duet("inspect " + directory / "a.safetensors");
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* part : {"weight  F32            48 bytes  (3, 4)\n", "scale   F32             4 bytes  ()\n",
                           "metadata author = nobody\n", "total 3 tensors, 18 parameters, 92 bytes\n"})
    EXPECT_NE(run.out.find(part), std::string::npos) << part << "\n" << run.out;
}

TEST(Inspect, ModelDirectoryWithConfigAndShards) {
  const TemporaryDirectory directory;
  save_safetensors(directory / "model-1.safetensors", {{"a", Tensor::zeros({2, 2}, DType::f32)}});
  save_safetensors(directory / "model-2.safetensors", {{"b", Tensor::zeros({3}, DType::bf16)}});
  write_file_atomically(directory / "model.safetensors.index.json",
                        R"({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}})");
  write_file_atomically(directory / "config.json",
                        R"({"model_type": "x", "text_config": {"hidden_size": 8}, "id2label": {"0": "p", "1": "q"}})");
  const auto run = run_duet("inspect " + directory.path());
  ASSERT_EQ(run.status, 0) << run.err;
  for (const char* part : {"model_type \"x\", 2 labels\n", "text_config:\n    hidden_size 8\n", "BF16",
                           "total 2 tensors, 7 parameters, 22 bytes\n"})
    EXPECT_NE(run.out.find(part), std::string::npos) << part << "\n" << run.out;
  const Json result = parse_json(run_duet("inspect --json " + directory.path()).out, "standard output");
  EXPECT_EQ(result["config"]["text_config"]["hidden_size"], 8);
  EXPECT_EQ(result["files"][1]["tensors"][0]["name"], "b");
}

// A run has a config.json too, of another kind.
TEST(Inspect, RunDirectory) {
  const TemporaryDirectory directory;
  make_directories(directory / "model");
  save_example(directory / "model/model.safetensors");
  write_file_atomically(directory / "model/config.json", R"({"model_type": "x"})");
  write_file_atomically(directory / "config.json", R"({"options": {}})");
  const auto run = run_duet("inspect --json " + directory.path());
  ASSERT_EQ(run.status, 0) << run.err;
  const Json result = parse_json(run.out, "standard output");
  EXPECT_EQ(result["path"], directory.path());
  EXPECT_EQ(result["config"], (Json{{"model_type", "x"}}));
  EXPECT_EQ(result["files"][0]["file"], directory / "model/model.safetensors");
  EXPECT_EQ(result["parameters"], 18);
}

TEST(Inspect, Errors) {
  const TemporaryDirectory directory;
  const auto expect_failure = [](const std::string& path, const std::string& message) {
    const auto run = run_duet("inspect " + path);
    EXPECT_EQ(run.status, 1) << path;
    EXPECT_EQ(run.err.find("duet: "), 0u) << run.err;
    EXPECT_NE(run.err.find(path), std::string::npos) << run.err;
    EXPECT_NE(run.err.find(message), std::string::npos) << run.err;
    EXPECT_EQ(run.out, "");
  };
  expect_failure(directory / "absent", "no such file or directory");
  expect_failure(directory.path(), "is no model directory");
  expect_failure("/dev/null", "is neither a file nor a directory");
  write_file_atomically(directory / "short", "abc");
  expect_failure(directory / "short", "HeaderTooSmall");
  save_example(directory / "cut");
  const std::string bytes = read_file(directory / "cut");
  write_file_atomically(directory / "cut", bytes.substr(0, bytes.size() - 1));
  expect_failure(directory / "cut", "MetadataIncompleteBuffer");
  write_file_atomically(directory / "model.safetensors.index.json", R"({"weight_map": {"a": "../elsewhere"}})");
  const auto run = run_duet("inspect " + directory.path());
  EXPECT_EQ(run.status, 1);
  EXPECT_NE(run.err.find("the file of tensor a must be a name within the directory, got \"../elsewhere\""),
            std::string::npos)
      << run.err;
  EXPECT_EQ(run_duet("inspect").status, 2);
}

}  // namespace
}  // namespace duet::tools
