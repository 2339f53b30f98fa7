#include "duet/core/op_scope.h"

namespace duet {

thread_local const char* OpScope::current_ = "";

}  // namespace duet
