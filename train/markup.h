#pragma once

#include <string>
#include <string_view>

// Turning the text of real-world XML and HTML files into plain UTF-8.
namespace duet::train {

// Replaces what is not well-formed UTF-8 by U+FFFD, one for each maximal beginning of a sequence, as the Unicode
// Standard recommends (and Python's errors="replace" does).
std::string replace_invalid_utf8(std::string_view bytes);

// Decodes character references as browsers do: names, with the longest known beginning where the semicolon is missing
// ("&notit;" is U+00AC and "it;"), and numbers, where 0x80..0x9F mean Windows-1252, code points that are no characters
// vanish, and surrogates and numbers past U+10FFFF give U+FFFD. Unknown references stay. Equal to Python's
// html.unescape. `text` must be UTF-8.
std::string html_unescape(std::string_view text);

// Undoes UTF-8 that somebody read as Latin-1 ("LÃ©zard" becomes "Lézard"): when every character is below U+0100, and
// these as bytes are well-formed UTF-8, the result is what they spell; otherwise the text itself.
std::string repair_utf8_read_as_latin1(std::string_view text);

// Runs of white space become one space; none is left at either end. White space is Unicode's, and U+001C..U+001F.
std::string fold_white_space(std::string_view text);

}  // namespace duet::train
