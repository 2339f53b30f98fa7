#include <exception>
#include <iostream>

#include "duet/core/error.h"
#include "duet/tools/commands.h"

// Exit status: 0 success, 1 failure with one line on stderr, 2 usage, 130 after an interrupt.
int main(int argc, char** argv) {
  CLI::App app{
      "duet: fine-tune a jointly pretrained image+text model as a whole, or pretrain the parts and combine them?"};
  app.require_subcommand(1);
  app.set_version_flag("--version", "duet 0.1.0");
  duet::tools::add_info_command(app);
  duet::tools::add_vocab_command(app);
  duet::tools::add_tokenize_command(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::ParseError& e) {
    const int status = app.exit(e);
    return status == 0 ? 0 : 2;
  } catch (const std::exception& e) {
    std::cerr << "duet: " << e.what() << '\n';
    return 1;
  }
}
