#include "duet/tools/run.h"

int main(int argc, char** argv) {
  return duet::tools::run_duet(argc, argv);
}
