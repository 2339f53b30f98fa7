#pragma once

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>

#include "duet/train/dataset_writer.h"

// What the `duet data` subcommands share.
namespace duet::tools {

void add_data_import_command(CLI::App& data);

void add_image_options(CLI::App& command, train::ImageOptions& images);

// `bad` is what train::write_images returns: reasons by source file.
void report_bad_images(const std::map<std::string, std::string>& bad);
std::vector<train::SourceRow> without_sources(const std::vector<train::SourceRow>& rows,
                                              const std::map<std::string, std::string>& bad);

void print_summary(const std::vector<train::SourceRow>& rows, size_t skipped, const std::string& directory);

}  // namespace duet::tools
