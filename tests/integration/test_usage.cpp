#include <gtest/gtest.h>

#include <algorithm>

#include "duet/core/cpu.h"
#include "duet/tests/integration/tiny_data.h"

namespace duet::testing {
namespace {

// Status 2 and one line that names what is wrong.
void expect_usage(const std::vector<std::string>& arguments, const std::string& named) {
  const Finished f = run(arguments);
  EXPECT_EQ(f.status, 2) << f.err;
  EXPECT_EQ(f.error_lines().size(), 1u) << f.err;
  EXPECT_EQ(std::count(f.err.begin(), f.err.end(), '\n'), 1) << f.err;
  EXPECT_NE(f.err.find(named), std::string::npos) << f.err << "lacks " << named;
}

TEST(Usage, HelpOfEveryCommand) {
  const Finished top = run({"--help"});
  ASSERT_EQ(top.status, 0);
  EXPECT_EQ(top.err, "");
  EXPECT_NE(top.out.find("Usage: duet [OPTIONS] SUBCOMMAND"), std::string::npos) << top.out;
  for (const std::vector<std::string>& command : std::vector<std::vector<std::string>>{{"info"},
                                                                                       {"pretrain"},
                                                                                       {"pretrain", "vision"},
                                                                                       {"pretrain", "text"},
                                                                                       {"pretrain", "joint"},
                                                                                       {"finetune"},
                                                                                       {"compare"},
                                                                                       {"export"},
                                                                                       {"evaluate"},
                                                                                       {"predict"},
                                                                                       {"vocab"},
                                                                                       {"tokenize"}}) {
    EXPECT_NE(top.out.find("\n  " + command[0]), std::string::npos) << command[0];
    std::vector<std::string> arguments = command;
    arguments.push_back("--help");
    const Finished f = run(arguments);
    EXPECT_EQ(f.status, 0) << command.back();
    EXPECT_EQ(f.err, "");
    EXPECT_NE(f.out.find("--help"), std::string::npos) << f.out;
    std::string usage = "Usage: duet";
    for (const std::string& word : command) usage += " " + word;
    EXPECT_NE(f.out.find(usage + " [OPTIONS]"), std::string::npos) << f.out;
  }
  // Defaults are shown.
  const std::string help = run({"finetune", "--help"}).out;
  for (const auto& [option, value] : std::vector<std::pair<std::string, std::string>>{
           {"--lr ", "0.001"}, {"--size ", "mini"}, {"--schedule ", "linear"}, {"--workers ", "=auto"}}) {
    const size_t at = help.find("\n  " + option);
    ASSERT_NE(at, help.npos) << help;
    EXPECT_NE(help.substr(at, 32).find(value), std::string::npos) << option << " is not said to be " << value;
  }
}

// A GPU that is asked for and is not there ends every command; nothing runs on the CPU instead.
TEST(Usage, AMissingDeviceIsAnErrorOfEveryCommand) {
  const TemporaryDirectory directory;
  const std::string none = directory / "none";
  for (const std::vector<std::string>& command :
       std::vector<std::vector<std::string>>{{"predict", "--model", none, "--text", "x"},
                                             {"embed", "--model", none, "--text", "x"},
                                             {"evaluate", "--model", none, "--data", none},
                                             {"bench", "step"},
                                             {"pretrain", "vision", "--data", none, "--out", none}}) {
    std::vector<std::string> arguments = command;
    arguments.insert(arguments.end(), {"--device", "cuda:63"});
    const Finished f = run(arguments);
    EXPECT_EQ(f.status, 1) << command[0];
    EXPECT_TRUE(f.err.find("duet: [cuda]") != f.err.npos || f.err.find("duet: [device]") != f.err.npos) << f.err;
    arguments.back() = "banana";
    const Finished wrong = run(arguments);
    EXPECT_EQ(wrong.status, 2) << command[0];
    EXPECT_NE(wrong.err.find("unknown device \"banana\""), std::string::npos) << wrong.err;
  }
}

// DUET_CPU_ISA forces narrower kernels.
TEST(Usage, InstructionsForKernelsCanBeForced) {
  const auto with = [](const std::string& instructions) {
    return run({"DUET_CPU_ISA=" + instructions, DUET_BINARY, "info"}, {.program = "/usr/bin/env"});
  };
  for (const CpuInstructions set : {CpuInstructions::baseline, CpuInstructions::avx2, CpuInstructions::avx512}) {
    const std::string name(name_of(set));
    const Finished f = with(name);
    EXPECT_EQ(f.status, cpu_has(set) ? 0 : 1) << f.err;
    EXPECT_EQ(f.out.find("kernels         " + name + "\n") != f.out.npos, cpu_has(set)) << f.out;
    EXPECT_EQ(f.err.find("this processor lacks the instructions") != f.err.npos, !cpu_has(set)) << f.err;
  }
  const Finished unknown = with("sse9");
  EXPECT_EQ(unknown.status, 1) << unknown.err;
  EXPECT_NE(unknown.err.find("DUET_CPU_ISA=sse9 is unknown; use avx512, avx2 or baseline"), unknown.err.npos);
}

// A processor without the instructions computes in float32 and says so, in one line; what is written names what was
// used.
TEST(Usage, WithoutBfloat16InstructionsFloat32IsUsed) {
  const TinyData data;
  const std::string wide = data / "wide", fallen_back = data / "fallen_back", narrow = data / "narrow";
  const auto without = [](std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"DUET_CPU_BFLOAT16=0", DUET_BINARY});
    const Finished f = run(arguments, {.program = "/usr/bin/env"});
    EXPECT_EQ(f.status, 0) << f.err;
    const size_t at = f.err.find("this CPU has no bfloat16 instructions (AVX512-BF16); float32 is used");
    EXPECT_NE(at, f.err.npos) << f.err;
    EXPECT_EQ(f.err.find("bfloat16 instructions", at + 30), f.err.npos) << f.err;
    return f;
  };
  const std::vector<std::string> bfloat16{"--dtype", "bfloat16", "--steps", "4"};
  ASSERT_EQ(run(data.finetuning(wide, {"--steps", "4"})).status, 0);
  without(data.finetuning(fallen_back, bfloat16));
  EXPECT_TRUE(weights(fallen_back) == weights(wide));
  EXPECT_EQ(read_json(fallen_back + "/config.json").at("options").at("dtype"), "float32");
  const Finished f = run(data.finetuning(narrow, bfloat16));
  ASSERT_EQ(f.status, 0) << f.err;
  EXPECT_EQ(f.err.find("instructions") == f.err.npos, cpu_has_bfloat16()) << f.err;
  EXPECT_EQ(weights(narrow) == weights(wide), !cpu_has_bfloat16());

  const std::string model = wide + "/model";
  const std::vector<std::string> predict{"predict", "--model", model, "--data", data.path()};
  std::vector<std::string> predict_narrow = predict;
  predict_narrow.insert(predict_narrow.end(), bfloat16.begin(), bfloat16.begin() + 2);
  EXPECT_EQ(without(predict_narrow).out, run(predict).out);
  EXPECT_EQ(run(predict_narrow).out == run(predict).out, !cpu_has_bfloat16());
  without({"evaluate", "--model", model, "--data", data.path(), "--dtype", "bfloat16"});
  without({"embed", "--model", model, "--text", "red", "--dtype", "bfloat16"});
  const Finished bench = without({"bench", "step", "--dtype", "bfloat16", "--batch", "1", "--seq", "4", "--steps", "1",
                                  "--warmup-steps", "0", "--threads", "1", "--json"});
  EXPECT_EQ(parse_json(bench.out, "standard output").at("dtype"), "float32");
}

TEST(Usage, WrongCommandLinesAreStatusTwo) {
  expect_usage({}, "duet needs a command: info, data, pretrain, ");
  expect_usage({"train"}, "train");
  expect_usage({"pretrain"}, "pretrain needs a command: vision, text, joint");
  expect_usage({"bench"}, "bench needs a command: peak, step");
  expect_usage({"finetune", "--data", "x", "--out", "y"}, "--strategy");
  expect_usage({"finetune", "--strategy", "whole", "--out", "y"}, "--data");
  expect_usage({"evaluate", "--model", "x"}, "--data");
  const std::vector<std::string> base{"finetune", "--strategy", "concat-scratch", "--data", "x", "--out", "y"};
  const auto plus = [&](const std::vector<std::string>& more) {
    std::vector<std::string> all = base;
    all.insert(all.end(), more.begin(), more.end());
    return all;
  };
  expect_usage(plus({"--colour", "red"}), "--colour");
  expect_usage(plus({"--batch", "many"}), "--batch");
  expect_usage(plus({"--batch", "1.5"}), "--batch");
  expect_usage(plus({"--batch"}), "--batch");
  expect_usage(plus({"--lr", "fast"}), "--lr");
  expect_usage(plus({"--seed", "-1"}), "--seed: -1 must not be negative");
  expect_usage(plus({"--set", "batch=many"}), "--batch");
  expect_usage(plus({"--set", "colour=red"}), "colour");
  expect_usage(plus({"--set", "batch"}), "key=value");
  expect_usage(plus({"--set"}), "--set");
  // Values that no run could have.
  expect_usage(plus({"--batch", "0"}), "--batch 0");
  expect_usage(plus({"--lr", "-1"}), "--lr -1");
  expect_usage(plus({"--schedule", "steps"}), "steps");
  expect_usage(plus({"--augment", "heavy"}), "heavy");
  expect_usage(plus({"--device", "tpu"}), "tpu");
  expect_usage(plus({"--dtype", "float8"}), "float8");
  expect_usage(plus({"--size", "huge"}), "huge");
  expect_usage(plus({"--fit", "crop"}), "crop");
  expect_usage(plus({"--threads", "-2"}), "--threads -2");
  expect_usage(plus({"--max-length", "2"}), "--max-length 2");
  expect_usage(plus({"--on-bad-sample", "ignore"}), "ignore");
  expect_usage(plus({"--fraction", "2"}), "--fraction 2");
  expect_usage(plus({"--fraction", "0"}), "--fraction 0");
  expect_usage(plus({"--config", "missing.json"}), "missing.json");
  expect_usage({"bench", "step", "--batch", "0"}, "--batch 0");
  expect_usage({"bench", "step", "--size", "foo"}, "foo");
  expect_usage({"bench", "step", "--dtype", "float16"}, "float16");
  expect_usage({"bench", "step", "--device", "tpu"}, "tpu");
  expect_usage({"evaluate", "--model", "x", "--data", "y", "--split", "dev"}, "dev");
  expect_usage({"predict", "--model", "x", "--data", "y", "--split", "dev"}, "dev");
  expect_usage({"embed", "--model", "x", "--data", "y", "--split", "dev"}, "dev");
  expect_usage({"predict", "--model", "x"}, "--image");
  expect_usage({"data", "import", "--folder", "x", "--out", "y", "--seed", "-1"}, "--seed: -1 must not be negative");
  // Options that do not belong together.
  expect_usage({"finetune", "--strategy", "half", "--data", "x", "--out", "y"}, "half");
  expect_usage({"finetune", "--strategy", "whole", "--data", "x", "--out", "y"}, "--joint");
  expect_usage({"finetune", "--strategy", "component", "--vision", "v", "--data", "x", "--out", "y"}, "--text");
  expect_usage(plus({"--joint", "j"}), "--joint");
  expect_usage({"predict", "--model", "x", "--data", "y", "--text", "z"}, "--data");
}

TEST(Usage, ConfigFilesStandForOptions) {
  const TinyData data;
  const std::string out = data / "run", config = data / "options.json";
  const auto with = [&](const std::string& json, std::vector<std::string> more = {}) {
    write_file_atomically(config, json);
    more.insert(more.end(), {"--config", config});
    return data.finetuning(out, more);
  };
  const Finished f = run(with(R"({"steps": 3, "lr": 0.01, "shuffle": false, "freeze": ["vision_model.*"], "seed": 7})",
                              {"--lr", "0.02", "--set", "warmup=0"}));
  ASSERT_EQ(f.status, 0) << f.err;
  const Json options = read_json(out + "/config.json").at("options");
  EXPECT_EQ(options["steps"], 3);
  EXPECT_EQ(options["lr"], 0.02);  // the command line wins
  EXPECT_EQ(options["warmup"], 0);
  EXPECT_EQ(options["shuffle"], false);
  EXPECT_EQ(options["seed"], 7);
  EXPECT_EQ(options["freeze"], Json({"vision_model.*"}));

  expect_usage(with(R"({"colour": "red"})"), "colour");
  expect_usage(with(R"({"steps": "many"})"), "steps");
  for (const auto& [json, named] : std::vector<std::pair<std::string, std::string>>{
           {R"({"steps": {"a": 1}})", "steps"}, {R"({"steps": null})", "steps"}, {"[1]", "object"}, {"{", "JSON"}}) {
    const Finished bad = run(with(json));
    EXPECT_EQ(bad.status, 1) << json;
    ASSERT_EQ(bad.error_lines().size(), 1u) << bad.err;
    EXPECT_NE(bad.err.find("options.json"), std::string::npos) << bad.err;
    EXPECT_NE(bad.err.find(named), std::string::npos) << bad.err;
  }
  std::filesystem::remove(config);
  const Finished missing = run(data.finetuning(out, {"--config", config}));
  EXPECT_EQ(missing.status, 2);
  EXPECT_NE(missing.err.find("options.json"), std::string::npos) << missing.err;
}

}  // namespace
}  // namespace duet::testing
