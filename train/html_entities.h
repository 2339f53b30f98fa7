#pragma once

#include <string_view>

namespace duet::train {

// The named character references of HTML as one string of words, "eacute!E9 " or "nvlt:3C,20D2 ": the name without
// ampersand and semicolon; "!" when HTML also takes it without the semicolon, ":" when not; one or two code points in
// hexadecimal. Read it through html_unescape.
extern const std::string_view html_entities;

}  // namespace duet::train
