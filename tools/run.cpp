#include "duet/tools/run.h"

#include <algorithm>
#include <exception>
#include <iostream>

#include "duet/core/error.h"
#include "duet/tools/arguments.h"
#include "duet/tools/commands.h"
#include "duet/train/interrupt.h"

namespace duet::tools {
namespace {

int failed(int status, std::string reason);

// A full disk or a closed pipe behind standard output shows at the latest now.
int flushed(int status) {
  std::cout.flush();
  return std::cout.good() ? status : failed(1, "[output] cannot write to standard output");
}

// The reason on one line of stderr, whatever a library put into its message.
int failed(int status, std::string reason) {
  while (reason.ends_with('\n')) reason.pop_back();
  for (size_t at = 0; (at = reason.find_first_of("\r\n", at)) != std::string::npos; ++at) reason[at] = ' ';
  std::cerr << "duet: " << reason << std::endl;
  return status;
}

// What a missing option or command is about; CLI11 would only say that there is one.
std::string what_is_missing(const CLI::App& app, const CLI::RequiredError& e) {
  const CLI::App* given = &app;
  while (!given->get_subcommands().empty()) given = given->get_subcommands().front();
  const auto all = given->get_subcommands([](const CLI::App*) { return true; });
  if (all.empty()) return e.what();
  std::string names;
  for (const CLI::App* command : all) names += (names.empty() ? "" : ", ") + command->get_name();
  return given->get_name() + " needs a command: " + names;
}

}  // namespace

int run_duet(int argc, char** argv) {
  CLI::App app{
      "duet: fine-tune a jointly pretrained image+text model as a whole, or pretrain the parts and combine them?\n"
      "Every option can also be given as --set key=value, or for all at once as --config FILE.json.",
      "duet"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "duet " DUET_VERSION);
  add_info_command(app);
  add_data_command(app);
  add_pretrain_command(app);
  add_finetune_command(app);
  add_compare_command(app);
  add_evaluate_command(app);
  add_predict_command(app);
  add_vocab_command(app);
  add_tokenize_command(app);
  add_bench_command(app);
  add_inspect_command(app);
  add_embed_command(app);
  add_preprocess_command(app);
  add_export_command(app);
  try {
    std::vector<std::string> arguments = expand_arguments(argc, argv);
    // CLI11 would only say that a command is missing.
    if (!arguments.empty() && !arguments[0].starts_with('-')) {
      const auto commands = app.get_subcommands([&](const CLI::App* c) { return c->check_name(arguments[0]); });
      check_usage(!commands.empty(), "duet", "unknown command \"", arguments[0], "\"; --help lists them");
    }
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(arguments);
    return flushed(0);
  } catch (const CLI::Success& e) {  // --help and --version
    return flushed(app.exit(e));
  } catch (const CLI::RequiredError& e) {
    return failed(2, what_is_missing(app, e) + "; --help lists the options");
  } catch (const CLI::ParseError& e) {
    return failed(2, std::string(e.what()) + "; --help lists the options");
  } catch (const UsageError& e) {
    return failed(2, e.what());
  } catch (const train::Interrupted& e) {
    return failed(130, e.what());
  } catch (const std::bad_alloc&) {
    return failed(1, "out of memory; try a smaller --batch, --accumulate or --recompute");
  } catch (const std::exception& e) {
    return failed(1, e.what());
  }
}

}  // namespace duet::tools
