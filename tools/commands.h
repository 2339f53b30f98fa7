#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

namespace duet::tools {

// Each adds one subcommand with its options to `app`; the subcommand's callback runs it and throws duet::Error on
// failure. One function per file: tools/<name>.cpp.
void add_info_command(CLI::App& app);
void add_data_command(CLI::App& app);
void add_pretrain_command(CLI::App& app);
void add_finetune_command(CLI::App& app);
void add_compare_command(CLI::App& app);
void add_evaluate_command(CLI::App& app);
void add_predict_command(CLI::App& app);
void add_vocab_command(CLI::App& app);
void add_tokenize_command(CLI::App& app);
void add_bench_command(CLI::App& app);
void add_inspect_command(CLI::App& app);
void add_embed_command(CLI::App& app);
void add_preprocess_command(CLI::App& app);
void add_export_command(CLI::App& app);

}  // namespace duet::tools
