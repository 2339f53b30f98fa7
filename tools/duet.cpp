#include <algorithm>
#include <exception>
#include <iostream>

#include "duet/core/error.h"
#include "duet/tools/arguments.h"
#include "duet/tools/commands.h"
#include "duet/train/interrupt.h"

// Exit status: 0 success, 1 failure with one line on stderr, 2 usage, 130 after an interrupt.
int main(int argc, char** argv) {
  using namespace duet;
  CLI::App app{
      "duet: fine-tune a jointly pretrained image+text model as a whole, or pretrain the parts and combine them?\n"
      "Every option can also be given as --set key=value, or for all at once as --config FILE.json."};
  app.require_subcommand(1);
  app.set_version_flag("--version", "duet " DUET_VERSION);
  tools::add_info_command(app);
  tools::add_data_command(app);
  tools::add_pretrain_command(app);
  tools::add_finetune_command(app);
  tools::add_compare_command(app);
  tools::add_evaluate_command(app);
  tools::add_predict_command(app);
  tools::add_vocab_command(app);
  tools::add_tokenize_command(app);
  tools::add_bench_command(app);
  tools::add_inspect_command(app);
  tools::add_embed_command(app);
  try {
    std::vector<std::string> arguments = tools::expand_arguments(argc, argv);
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes them from the back
    app.parse(arguments);
    return 0;
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const train::Interrupted& e) {
    std::cerr << "duet: " << e.what() << '\n';
    return 130;
  } catch (const std::exception& e) {
    std::cerr << "duet: " << e.what() << '\n';
    return 1;
  }
}
