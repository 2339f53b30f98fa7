#pragma once

namespace duet::train {

// The report's style sheet: light, dark and print, phone to desktop.
extern const char* const report_style;

}  // namespace duet::train
