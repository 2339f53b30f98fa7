#!/usr/bin/env python3
"""Writes train/unicode_tables.cpp, the character data that BERT's text normalisation needs, from Python's unicodedata.

    python3 tools/make_unicode_tables.py train/unicode_tables.cpp

The Unicode version is the interpreter's and is recorded in the file. Which characters are newer than Unicode 8 comes
from DerivedAge.txt of Debian's unicode-data."""
import sys
import unicodedata

END = 0x110000
AGES = "/usr/share/unicode/DerivedAge.txt"
WIDTH = 140
# The White_Space property (PropList.txt). str.isspace differs: it also takes U+001C..U+001F.
WHITE_SPACE = {9, 10, 11, 12, 13, 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000}
# The one character whose context-free lowercase is longer than one code point (i + U+0307); the reader handles it.
EXPANDING = 0x130


def category(code):
    return unicodedata.category(chr(code))


def ranges(contains):
    """Maximal runs (first, last) of code points for which `contains` holds."""
    runs = []
    for code in range(END):
        if contains(code):
            if runs and runs[-1][1] == code - 1:
                runs[-1][1] = code
            else:
                runs.append([code, code])
    return runs


def combining_classes():
    """Runs (first, last, class) of equal, non-zero canonical combining class."""
    runs = []
    for code in range(END):
        ccc = unicodedata.combining(chr(code))
        if ccc and runs and runs[-1][1] == code - 1 and runs[-1][2] == ccc:
            runs[-1][1] = code
        elif ccc:
            runs.append([code, code, ccc])
    return runs


def decompositions():
    """(code, first, second) of canonical mappings, one level deep; second is 0 for singletons. Hangul is algorithmic."""
    rows = []
    for code in range(END):
        mapping = unicodedata.decomposition(chr(code))
        if mapping and not mapping.startswith("<"):
            parts = [int(p, 16) for p in mapping.split()]
            assert len(parts) <= 2
            rows.append([code, *parts, *[0] * (2 - len(parts))])
    return rows


def is_word(code):
    """The \\w of Unicode regular expressions (Technical Standard 18): Alphabetic, marks, decimal digits, connectors, joiners.
    Python has no Alphabetic property; beyond letters, marks and letter numbers it holds these circled and squared letters."""
    other_alphabetic = 0x24B6 <= code <= 0x24E9 or 0x1F130 <= code <= 0x1F149 or 0x1F150 <= code <= 0x1F169 or 0x1F170 <= code <= 0x1F189
    kind = category(code)
    return kind[0] in "LM" or kind in ("Nd", "Nl", "Pc") or code in (0x200C, 0x200D) or other_alphabetic


def newer_than(version):
    """All code points that this version of Unicode did not have."""
    newer = set()
    with open(AGES, encoding="utf-8") as f:
        for line in f:
            fields = [field.strip() for field in line.split("#")[0].split(";")]
            if len(fields) == 2 and float(fields[1]) > version:
                first, *last = (int(code, 16) for code in fields[0].split(".."))
                newer.update(range(first, (last or [first])[0] + 1))
    return newer


def excluded_from_composition():
    """Characters with a mapping to two code points that NFC does not put together again."""
    return [row[0] for row in decompositions() if row[2] and unicodedata.normalize("NFC", chr(row[0])) != chr(row[0])]


def lowercase():
    """Runs (first, last, step, target of first) of characters whose lowercase lies at a constant distance."""
    runs = []
    for code in range(END):
        lower = chr(code).lower()
        if lower == chr(code) or code == EXPANDING:
            continue
        assert len(lower) == 1, hex(code)
        target = ord(lower)
        if runs:
            first, last, step, to = runs[-1]
            gap = code - last
            if target - code == to - first and gap <= 2 and (first == last or gap == step):
                runs[-1] = [first, code, gap, to]
                continue
        runs.append([code, code, 1, target])
    return runs


def number(value):
    return str(value) if value < 10 else f"0x{value:X}"


def table(kind, name, rows):
    """A constexpr array of `kind` and a span over it, as many rows to the line as fit."""
    lines, line = [], ""
    for row in rows:
        item = number(row) + "," if isinstance(row, int) else "{" + ",".join(number(v) for v in row) + "},"
        if len(line) + len(item) > WIDTH:
            lines.append(line)
            line = ""
        line += item
    body = "\n".join([*lines, line])
    return f"constexpr {kind} {name}_rows[] = {{\n{body}\n}};\nconst std::span<const {kind}> {name} = {name}_rows;\n"


def main():
    zs = {c for c in range(END) if category(c) in ("Zs", "Zl", "Zp")}
    assert zs <= WHITE_SPACE and len(WHITE_SPACE - zs) == 6, "White_Space changed; see PropList.txt"
    newer_8 = {c for c in newer_than(8) if category(c) in ("Mn", "Cf") or category(c)[0] == "P"}
    newer_9 = {c for c in newer_than(9) if unicodedata.combining(chr(c)) or unicodedata.decomposition(chr(c))[:1].isalnum()}
    parts = [
        table("CodeRange", "nonspacing_marks", ranges(lambda c: category(c) == "Mn")),
        table("CodeRange", "punctuation", ranges(lambda c: category(c)[0] == "P")),
        table("CodeRange", "controls", ranges(lambda c: category(c) in ("Cc", "Cf", "Co"))),
        table("CodeRange", "white_space", ranges(lambda c: c in WHITE_SPACE)),
        table("ClassRange", "combining_classes", combining_classes()),
        table("LowercaseRange", "lowercase_ranges", lowercase()),
        table("Decomposition", "decompositions", decompositions()),
        table("uint32_t", "composition_exclusions", excluded_from_composition()),
        table("CodeRange", "unassigned", ranges(lambda c: category(c) == "Cn")),
        table("CodeRange", "word_characters", ranges(is_word)),
        table("CodeRange", "newer_than_8", ranges(lambda c: c in newer_8)),
        table("CodeRange", "newer_than_9", ranges(lambda c: c in newer_9)),
    ]
    text = f"""// Generated by tools/make_unicode_tables.py from Unicode {unicodedata.unidata_version}; do not edit.
#include "duet/train/unicode_tables.h"

// clang-format off
namespace duet::train::unicode {{

{chr(10).join(parts)}
}}  // namespace duet::train::unicode
"""
    assert text.count("\n") < 1000
    with open(sys.argv[1], "w", encoding="ascii") as f:
        f.write(text)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main()
