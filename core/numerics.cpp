#include "duet/core/numerics.h"

namespace duet {

Numerics& numerics() {
  static Numerics settings;
  return settings;
}

}  // namespace duet
